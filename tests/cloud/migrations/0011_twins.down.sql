drop trigger twins_sign_again on edge_credentials;
drop trigger twins_sign_for_new_key on edge_credentials;
drop function twins_sign_again();
drop table twins;
alter table cameras drop column desired, drop column password_wrapped;
drop table ai_policies;
