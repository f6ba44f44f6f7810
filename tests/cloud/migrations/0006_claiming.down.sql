drop policy by_serial on devices;
drop table claim_attempts, device_claiming_queue, claim_codes;
alter table organizations drop column claim_methods;
