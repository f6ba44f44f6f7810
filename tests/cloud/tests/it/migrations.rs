//! Up, down, up again, with rows in the tables; twice at once; and not over a changed history.

use crate::device::Device;
use sentrycam_cloud::db::Db;
use sentrycam_cloud::migrate;
use sentrycam_cloud::testing::{Cloud, Cluster};
use serde_json::json;

const SCHEMA: &str = "
    select string_agg(line, E'\n' order by line) as schema from (
      select 'column ' || table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable
             || ' ' || coalesce(column_default, '') as line
      from information_schema.columns where table_schema = 'public'
      union all
      select 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid) from pg_constraint
      where connamespace = 'public'::regnamespace
      union all
      select 'index ' || indexdef from pg_indexes where schemaname = 'public'
      union all
      select 'policy ' || tablename || ' ' || policyname || ' ' || coalesce(qual, '') from pg_policies
      union all
      select 'grant ' || table_name || ' ' || privilege_type from information_schema.role_table_grants
      where grantee = 'sentrycam_cloud_app'
    ) lines";

async fn schema(db: &Db) -> String {
    let row = db
        .client()
        .await
        .unwrap()
        .query_one(SCHEMA, &[])
        .await
        .unwrap();
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

#[tokio::test]
async fn up_down_and_up_again_with_rows_gives_the_same_schema() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let records = [
        device.record("camera.down", 1, json!({ "camera_id": "cam-1", "rev": 1 })),
        device.record("audit.entry", 2, json!({ "action": "X" })),
    ];
    device.events(&records).await.statuses();
    let db = Db::connect_as_owner(&cloud.owner_url()).unwrap();
    let fresh = schema(&db).await;
    assert!(fresh.contains("column events rev bigint NO"));
    assert_eq!(migrate::up(&db).await.unwrap(), Vec::<i32>::new());

    // One step back keeps what was before it.
    assert_eq!(
        migrate::down(&db, migrate::latest() - 1).await.unwrap(),
        [migrate::latest()]
    );
    let kept = db
        .client()
        .await
        .unwrap()
        .query_one("select count(*) from edge_records", &[])
        .await;
    assert_eq!(kept.unwrap().get::<_, i64>(0), 2);
    assert_eq!(migrate::up(&db).await.unwrap(), [migrate::latest()]);
    assert_eq!(schema(&db).await, fresh);

    let known = migrate::status(&db).await.unwrap();
    let all: Vec<i32> = known.iter().rev().map(|status| status.version).collect();
    assert_eq!(migrate::down(&db, 0).await.unwrap(), all);
    let left = schema(&db).await;
    assert!(
        left.lines().all(|line| line.contains("schema_migrations")),
        "{left}"
    );
    assert!(
        migrate::status(&db)
            .await
            .unwrap()
            .iter()
            .all(|status| status.applied_at.is_none())
    );
    assert_eq!(migrate::up(&db).await.unwrap().len(), all.len());
    assert_eq!(schema(&db).await, fresh);
}

#[tokio::test]
async fn two_at_once_apply_each_migration_once() {
    let cluster = Cluster::shared().unwrap();
    let url = cluster.owner_url(&cluster.create_empty_database().await.unwrap());
    let db = Db::connect_as_owner(&url).unwrap();
    let (one, other) = tokio::join!(migrate::up(&db), migrate::up(&db));
    assert_eq!(
        one.unwrap().len() + other.unwrap().len(),
        migrate::status(&db).await.unwrap().len()
    );
}

#[tokio::test]
async fn a_changed_history_stops() {
    let cluster = Cluster::shared().unwrap();
    let url = cluster.owner_url(&cluster.create_database().await.unwrap());
    let db = Db::connect_as_owner(&url).unwrap();
    let client = db.client().await.unwrap();
    client
        .execute(
            "update schema_migrations set checksum = repeat('0', 64) where version = 2",
            &[],
        )
        .await
        .unwrap();
    let stopped = migrate::up(&db).await.unwrap_err();
    assert!(
        matches!(stopped, migrate::MigrateError::Changed { version: 2 }),
        "{stopped}"
    );
}

/// The status words of the schema page, and the invariants, are the database's to keep.
#[tokio::test]
async fn the_database_checks_words_and_invariants() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let start = "2026-11-21T02:00:00Z";
    let id = "019af5d8-7a00-7000-8000-0000000000d1";
    let records = [
        device.record("camera.down", 1, json!({ "camera_id": "cam-1", "rev": 1 })),
        device.record(
            "motion.started",
            2,
            json!({ "event_id": id, "camera_id": "cam-1", "started_at": start, "rev": 1 }),
        ),
        device.record(
            "recording.opened",
            3,
            json!({ "recording_id": id, "camera_id": "cam-1", "started_at": start, "rev": 1 }),
        ),
    ];
    assert_eq!(device.events(&records).await.statuses(), ["accepted"; 3]);
    let wanted = sentrycam_cloud::command::Wanted::new("snapshot", json!({}));
    let sent = cloud.send_command(&device.credentials.edge_id, wanted);
    sent.await.unwrap();
    for sql in [
        "update devices set status = 'sleeping'",
        "update devices set status = 'unclaimed'",
        "update cameras set status = 'up'",
        "update cameras set rtsp_url = 'rtsp://user:secret@192.0.2.1/'",
        "update events set status = 'new'",
        "update events set status = 'ended'",
        "update events set severity = 'high'",
        "update recordings set status = 'done'",
        "update commands set status = 'done'",
        "update commands set status = 'succeeded'",
        "update commands set payload = '[]'",
        "update commands set expires_at = issued_at",
        "update recordings set size_bytes = -1",
        "update recordings set sha256 = 'AB'",
        "update alerts set status = 'open'",
        "update alerts set status = 'resolved'",
        "update edge_credentials set state = 'old'",
        "update edge_credentials set state = 'revoked'",
        "update edge_credentials set secret_wrapped = 'clear'",
        "update edge_records set severity = 'high'",
        "update edge_records set sequence = -1",
        "update organizations set status = 'gone'",
    ] {
        let error = cloud.execute(sql).await.unwrap_err();
        assert!(
            format!("{error:?}").contains("check constraint"),
            "{sql}: {error:?}"
        );
    }
}
