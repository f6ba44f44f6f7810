drop table api_keys, user_roles, roles, users, organizations;
drop function app_organization();
revoke usage on schema public from sentrycam_cloud_app;
