-- Which cameras take a place of the licence, and which place: first come, first served, across an organization's
-- devices. A camera that was removed or switched off takes none, nor one that a twin with cameras does not name.
create view camera_places with (security_invoker = true) as
  select c.organization_id, c.device_id, c.camera_id,
         row_number() over (partition by c.organization_id order by c.created_at, c.id) as place
  from cameras c
  join devices d on d.id = c.device_id
  left join twins t on t.device_id = c.device_id
  where c.is_active and c.deleted_at is null and d.status <> 'unclaimed' and d.deleted_at is null
    and (c.desired is not null or not coalesce(t.manages_cameras, false));
grant select on camera_places to sentrycam_cloud_app;

-- Whether twins were compiled again since the licence ran out.
alter table licenses add column end_noted boolean not null default false;
create index licenses_ending on licenses (expires_at) where not end_noted and status = 'active';
create policy dispatcher_select on licenses for select using (current_setting('app.dispatcher', true) = 'on');
grant update (end_noted) on licenses to sentrycam_cloud_app;
