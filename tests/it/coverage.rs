//! Every column that a device is the source of is filled by a real run: claimed, motion, clip, pictures, live view,
//! commands that succeed and fail, a camera that goes. What is not filled here is named here, with who writes it.

use std::time::Duration;

use sentrycam_cloud::stream;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Ingest, MediaServer, Scene, TestCamera};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::agent::{EXCLUDE_COUNTER, pattern};
use crate::edge::Edge;
use crate::owner::{end_of, send};

const SOON: Duration = Duration::from_secs(90);

/// Tables that a device's records end in, and their columns that something else fills or that stay empty here.
const TABLES: [(&str, &[&str]); 10] = [
    // A board with a serial number; a person; leaving the owner (owner.rs).
    (
        "devices",
        &[
            "serial_number",
            "location",
            "unclaimed_at",
            "unclaim_due",
            "deleted_at",
        ],
    ),
    ("edge_credentials", &[]),
    // The viewer's address, a person, the twin's wish (twin_cloud.rs).
    (
        "cameras",
        &[
            "stream_url",
            "location",
            "desired",
            "password_wrapped",
            "deleted_at",
        ],
    ),
    // Persons; notices of critical events (the cloud's own tests).
    (
        "events",
        &[
            "notified_at",
            "acknowledged_at",
            "resolved_at",
            "deleted_at",
        ],
    ),
    // What fails and what is deleted (upload.rs, retention.rs).
    ("recordings", &["error", "device_deleted_at"]),
    ("snapshots", &["error", "device_deleted_at"]),
    ("uploads", &["storage_upload_id", "error"]),
    // Sessions with a key, that nobody renews or that fail (live.rs).
    (
        "stream_sessions",
        &["stream_key_wrapped", "lapsed_at", "detail"],
    ),
    // Persons; what ends after its time; no command of today takes so long that it tells of progress.
    (
        "commands",
        &[
            "source_user_id",
            "source_device_id",
            "late_status",
            "progress",
        ],
    ),
    // Persons; events that are critical.
    (
        "alerts",
        &["event_uid", "acknowledged_at", "resolved_at", "deleted_at"],
    ),
];

async fn wait(cloud: &Cloud, edge: &Edge, condition: &str) {
    if let Err(e) = cloud.wait_for(condition, SOON).await {
        panic!("{e:#}\n{}", edge.log());
    }
}

/// A claimed agent with a camera in which something moves, allowed to upload and publish to this machine.
async fn claimed(cloud: &Cloud, camera: &TestCamera, port: u16) -> Edge {
    let mut edge = Edge::of(cloud);
    let path = edge.home.path("sentrycam.toml");
    let allowed = "announce = false\nallow_private = [\"127.0.0.0/8\", \"::1/128\"]\n";
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("announce = false\n", allowed);
    let camera = format!(
        "[[camera]]\nid = \"cam\"\nname = \"Door\"\nurl = \"{}\"\n[camera.recording]\npre_roll = \"1 s\"\npost_roll = \"1 s\"\n\
         [camera.motion]\n{EXCLUDE_COUNTER}",
        camera.url()
    );
    std::fs::write(&path, text + &camera).unwrap();
    edge.run(None);
    edge.claim_for(cloud).await;
    let policy = json!({ "stream": { "hosts": ["localhost"], "ports": [port] } });
    cloud.set_twin(&edge.edge_id(), policy).await.unwrap();
    edge.wait("the twin is in force and the camera is up", |s| {
        s["twin"]["applied"].as_u64().is_some_and(|v| v > 0) && s["cameras"]["cam"]["state"] == "up"
    });
    edge
}

/// Columns of a table without a single value.
async fn empty_columns(cloud: &Cloud, table: &str) -> Vec<String> {
    let named = format!(
        "select column_name::text as name from information_schema.columns
         where table_schema = 'public' and table_name = '{table}' order by ordinal_position"
    );
    let mut empty = Vec::new();
    let columns = cloud.query(&named).await.unwrap();
    assert!(!columns.is_empty(), "there is no table {table}");
    for column in columns {
        let name = column["name"].as_str().unwrap();
        let count = format!("select count({name})::bigint as n from {table}");
        if cloud.query(&count).await.unwrap()[0]["n"] == 0 {
            empty.push(name.to_owned());
        }
    }
    empty
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_real_run_fills_every_column_that_a_device_is_the_source_of() {
    let cloud = Cloud::builder().broker().storage().start().await.unwrap();
    let scene = Scene {
        quiet: 6,
        motion: 3,
    };
    let camera = TestCamera::start(pattern(scene)).unwrap();
    let server = MediaServer::start(Ingest::Rtsp, 640, 360).unwrap();
    let edge = claimed(&cloud, &camera, server.port()).await;
    let edge_id = edge.edge_id();

    let session = stream::Wanted {
        camera_id: "cam".into(),
        protocol: "rtsp".into(),
        publish_endpoint: server.endpoint(),
        stream_key: None,
        lease_s: 120,
    };
    let session = cloud.start_stream(&edge_id, session).await.unwrap();
    let session: Uuid = session["id"].as_str().unwrap().parse().unwrap();
    let status = format!("(select status from stream_sessions where id = '{session}')");
    wait(&cloud, &edge, &format!("{status} = 'live'")).await;

    let picture = json!({ "camera_id": "cam", "snapshot_id": Uuid::now_v7() });
    let taken = send(&cloud, &edge_id, "snapshot", picture).await;
    assert_eq!(end_of(&cloud, &edge, taken).await["status"], "succeeded");
    let nowhere = json!({ "camera_id": "attic", "snapshot_id": Uuid::now_v7() });
    let refused = send(&cloud, &edge_id, "snapshot", nowhere).await;
    assert_ne!(end_of(&cloud, &edge, refused).await["status"], "succeeded");
    for rows in [
        "select count(*) >= 1 from recordings where status = 'available' and event_uid is not null",
        "select count(*) >= 1 from snapshots where status = 'available' and event_uid is not null",
        "select count(*) >= 1 from snapshots where status = 'available' and command_id is not null",
        "select count(*) >= 1 from events where status = 'ended'",
    ] {
        wait(&cloud, &edge, rows).await;
    }
    let rotated = send(&cloud, &edge_id, "key.rotate", json!({})).await;
    assert_eq!(end_of(&cloud, &edge, rotated).await["status"], "succeeded");
    cloud.change_stream(session, None).await.unwrap();
    wait(&cloud, &edge, &format!("{status} = 'ended'")).await;
    drop(camera);
    wait(
        &cloud,
        &edge,
        "select count(*) >= 1 from alerts where camera_id = 'cam'",
    )
    .await;

    let mut wrong: Vec<(&str, Vec<String>)> = Vec::new();
    for (table, others) in TABLES {
        let mut empty = empty_columns(&cloud, table).await;
        empty.retain(|column| !others.contains(&column.as_str()));
        if !empty.is_empty() {
            wrong.push((table, empty));
        }
    }
    assert!(wrong.is_empty(), "nobody fills {wrong:#?}");
}

/// Keeps the lists above honest: what they name exists.
#[tokio::test]
async fn every_exception_is_a_column() {
    let cloud = Cloud::start().await.unwrap();
    for (table, others) in TABLES {
        for column in others {
            let found = format!(
                "select 1 as one from information_schema.columns where table_name = '{table}' and column_name = '{column}'"
            );
            assert_eq!(
                cloud.query(&found).await.unwrap(),
                [json!({ "one": 1 })] as [Value; 1],
                "{table}.{column}"
            );
        }
    }
}
