//! A second organization sees nothing of the first and cannot write into it, whatever the server asks.

use crate::device::Device;
use crate::uploads::recording;
use sentrycam_cloud::db::{self, Db, DbError};
use sentrycam_cloud::testing::Cloud;
use serde_json::json;
use uuid::Uuid;

/// Every table with a tenant.
const TABLES: [&str; 26] = [
    "snapshots",
    "uploads",
    "stream_sessions",
    "notification_endpoints",
    "notifications",
    "notification_deliveries",
    "device_claiming_queue",
    "claim_codes",
    "licenses",
    "mqtt_clients",
    "organizations",
    "users",
    "user_roles",
    "api_keys",
    "devices",
    "edge_credentials",
    "edge_epochs",
    "edge_records",
    "idempotency_keys",
    "cameras",
    "events",
    "recordings",
    "alerts",
    "commands",
    "twins",
    "ai_policies",
];

/// One row in every table, for the first organization.
async fn fill(cloud: &Cloud) -> Device {
    let device = Device::new(cloud, "porch").await;
    // Nobody listens there: its deliveries stay.
    cloud
        .create_webhook("http://127.0.0.1:9/", "warning")
        .await
        .unwrap();
    let start = "2026-11-21T02:00:00Z";
    let records = [
        device.record("motion.started", 1, json!({ "event_id": Uuid::now_v7(), "camera_id": "cam-1", "started_at": start, "rev": 1 })),
        device.record("recording.opened", 2, json!({ "recording_id": Uuid::now_v7(), "camera_id": "cam-1", "started_at": start, "rev": 1 })),
        device.record("camera.down", 3, json!({ "camera_id": "cam-1", "rev": 1 })),
        device.record("snapshot.taken", 4, json!({ "snapshot_id": Uuid::now_v7(), "camera_id": "cam-1" })),
    ];
    let mut batch = device.batch(&records);
    batch.idempotency_key = Some("k".into());
    assert_eq!(device.send(batch).await.statuses(), ["accepted"; 4]);
    cloud.create_api_key("viewer").await.unwrap();
    cloud
        .create_claim_code(cloud.organization(), "gate")
        .await
        .unwrap();
    let organization = cloud.organization();
    let user = Uuid::now_v7();
    cloud
        .execute(&format!(
            "insert into users (id, organization_id, email) values ('{user}', '{organization}', 'a@example.com');
             insert into user_roles (user_id, organization_id, role_id)
             select '{user}', '{organization}', id from roles where name = 'admin';
             insert into licenses (id, organization_id, plan_id, license_key)
             select '{user}', '{organization}', id, 'lic_of_the_test' from subscription_plans where name = 'basic';
             insert into mqtt_clients (device_id, organization_id, edge_id, wanted)
             select id, organization_id, edge_id, 'absent' from devices;
             insert into device_claiming_queue (claim_id, token_hash, kem_pk, methods, ip_address, network,
                    user_code_hash, state, created_at, expires_at, interval_s, organization_id, method)
             select gen_random_uuid(), repeat(c, 64), decode(repeat('00', 32), 'hex'), '{{U}}', '127.0.0.1', '127.0.0.1',
                    repeat(c, 64), s, now(), now() + interval '600 seconds', 5, o, m
             from (values ('1', 'bound', '{organization}'::uuid, 'U'), ('2', 'open', null, null)) as v (c, s, o, m)"
        ))
        .await
        .unwrap();
    let wanted = sentrycam_cloud::command::Wanted::new("snapshot", json!({}));
    let sent = cloud.send_command(&device.credentials.edge_id, wanted);
    sent.await.unwrap();
    cloud.set_policy(json!({ "name": "x" })).await.unwrap();
    if cloud.objects().is_some() {
        let file = b"a clip";
        device.plan(&recording(Uuid::now_v7(), file)).await;
    }
    let stream =
        json!({ "camera_id": "cam-1", "protocol": "srt", "publish_endpoint": "srt://x.example:9" });
    let stream = serde_json::from_value(stream).unwrap();
    let started = cloud.start_stream(&device.credentials.edge_id, stream);
    started.await.unwrap();
    device
}

async fn visible(app: &Db, organization: Option<Uuid>) -> Vec<(&'static str, i64)> {
    let mut client = app.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    if let Some(organization) = organization {
        db::set_tenant(&tx, organization).await.unwrap();
    }
    let mut counts = Vec::new();
    for table in TABLES.into_iter().chain(["audit_logs"]) {
        let row = tx
            .query_one(&format!("select count(*) from {table}"), &[])
            .await
            .unwrap();
        counts.push((table, row.get(0)));
    }
    counts
}

#[tokio::test]
async fn a_second_organization_sees_nothing() {
    let cloud = Cloud::builder().storage().start().await.unwrap();
    fill(&cloud).await;
    let second = cloud.create_organization("Second").await.unwrap();
    let app = Db::connect(&cloud.app_url()).await.unwrap();
    for (table, count) in visible(&app, Some(cloud.organization())).await {
        assert!(
            count > 0,
            "{table} is empty, so the test would prove nothing"
        );
    }
    for (table, count) in visible(&app, None).await {
        assert_eq!(count, 0, "{table} without a tenant");
    }
    for (table, count) in visible(&app, Some(second)).await {
        // Its own row, and the entry of its making.
        let own = i64::from(matches!(table, "organizations" | "audit_logs"));
        assert_eq!(count, own, "{table}");
    }
}

#[tokio::test]
async fn a_second_organization_cannot_write_into_the_first() {
    let cloud = Cloud::start().await.unwrap();
    let device = fill(&cloud).await;
    let second = cloud.create_organization("Second").await.unwrap();
    let (first, own) = (cloud.organization(), second);
    let id = cloud.query("select id from devices").await.unwrap()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let app = Db::connect(&cloud.app_url()).await.unwrap();
    let attempt = async |sql: String| -> Result<u64, String> {
        let mut client = app.client().await.unwrap();
        let tx = client.transaction().await.unwrap();
        db::set_tenant(&tx, second).await.unwrap();
        let result = tx.execute(&sql, &[]).await;
        result.map_err(|error| {
            error
                .as_db_error()
                .map_or(String::new(), |e| e.message().to_owned())
        })
    };
    // Rows of the first are not there to be changed.
    for table in [
        "devices",
        "edge_credentials",
        "cameras",
        "events",
        "recordings",
        "alerts",
        "commands",
        "twins",
        "ai_policies",
    ] {
        let sql = format!("update {table} set organization_id = '{own}'");
        assert_eq!(attempt(sql).await, Ok(0), "{table}");
    }
    assert_eq!(attempt("delete from idempotency_keys".into()).await, Ok(0));
    // New rows for the first are refused by policy.
    let refused = |result: Result<u64, String>, what: &str| {
        let message = result.unwrap_err();
        assert!(
            message.contains("row-level security") || message.contains("permission denied"),
            "{what}: {message}"
        );
    };
    let new = Uuid::now_v7();
    for (what, sql) in [
        (
            "device",
            format!(
                "insert into devices (id, organization_id, edge_id, name) values ('{new}', '{first}', 'e-x', 'x')"
            ),
        ),
        (
            "camera",
            format!(
                "insert into cameras (device_id, organization_id, camera_id, id) values ('{id}', '{first}', 'x', '{new}')"
            ),
        ),
        (
            "record",
            format!(
                "insert into edge_records (device_id, organization_id, id, type, time, epoch, sequence, severity, record) values ('{id}', '{first}', '{new}', 't', now(), '{new}', 1, 'info', '{{}}')"
            ),
        ),
        (
            "command",
            format!(
                "insert into commands (id, organization_id, device_id, n, command_type, payload, issued_at, expires_at) values ('{new}', '{first}', '{id}', 9, 'reboot', '{{}}', now(), now() + interval '1 hour')"
            ),
        ),
        (
            "audit",
            format!(
                "insert into audit_logs (id, organization_id, action, created_at) values ('{new}', '{first}', 'X', now())"
            ),
        ),
        (
            "organization",
            format!("insert into organizations (id, name) values ('{new}', 'x')"),
        ),
        (
            "rewriting records",
            "update edge_records set type = 'x'".to_owned(),
        ),
        ("rewriting audit", "delete from audit_logs".to_owned()),
        ("schema", "drop table events".to_owned()),
    ] {
        let result = attempt(sql).await;
        if what == "schema" {
            assert!(result.unwrap_err().contains("must be owner"));
        } else {
            refused(result, what);
        }
    }
    // Under its own name it cannot hang rows on the first's device either: the key says whose it is.
    let smuggled = attempt(format!(
        "insert into cameras (device_id, organization_id, camera_id, id) values ('{id}', '{own}', 'x', '{new}')"
    ));
    assert!(smuggled.await.unwrap_err().contains("foreign key"));
    assert_eq!(device.get("/edge/v1/time").await.status, 200);
}

#[tokio::test]
async fn a_record_id_used_by_another_tenant_is_not_taken() {
    let cloud = Cloud::start().await.unwrap();
    let first = Device::new(&cloud, "porch").await;
    let second = cloud.create_organization("Second").await.unwrap();
    let squatter = cloud.create_device_of(second, "squatter").await.unwrap();
    let squatter = Device::with(&cloud, squatter);
    let record = first.record("agent.heartbeat", 1, json!({}));
    let mut same = squatter.record("agent.heartbeat", 1, json!({}));
    same["id"] = record["id"].clone();
    assert_eq!(squatter.events(&[same]).await.statuses(), ["accepted"]);
    assert_eq!(first.events(&[record]).await.statuses(), ["accepted"]);
}

#[tokio::test]
async fn the_server_refuses_a_role_without_row_level_security() {
    let cloud = Cloud::start().await.unwrap();
    let refused = Db::connect(&cloud.owner_url()).await.unwrap_err();
    assert!(matches!(refused, DbError::Role(_)), "{refused}");
}

#[tokio::test]
async fn every_table_with_a_tenant_is_protected() {
    let cloud = Cloud::start().await.unwrap();
    let open = cloud
        .query(
            "select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid
             where a.attname = 'organization_id' and c.relkind = 'r'
               and not (c.relrowsecurity and c.relforcerowsecurity)",
        )
        .await
        .unwrap();
    assert!(open.is_empty(), "{open:?}");
    let secrets = cloud
        .query("select column_name from information_schema.columns where table_schema = 'public' and column_name ~ 'plain|edge_secret|mqtt_password'")
        .await
        .unwrap();
    assert!(secrets.is_empty(), "{secrets:?}");
}
