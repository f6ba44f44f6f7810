//! Batches: bounds, per-record results, idempotency, and what concurrency must not break.

use std::io::Write;

use crate::device::{Device, Wrong};
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

async fn setup() -> (Cloud, Device) {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    (cloud, device)
}

async fn count(cloud: &Cloud, table: &str) -> i64 {
    let rows = cloud
        .query(&format!("select count(*) as n from {table}"))
        .await
        .unwrap();
    rows[0]["n"].as_i64().unwrap()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn heartbeats(device: &Device, count: u64) -> Vec<Value> {
    (0..count)
        .map(|n| device.record("agent.heartbeat", n, json!({ "version": "1.0.0" })))
        .collect()
}

#[tokio::test]
async fn each_record_has_its_own_result() {
    let (cloud, device) = setup().await;
    let good = device.record("agent.heartbeat", 1, json!({}));
    let unknown = device.record("something.else", 2, json!({ "deep": [1, { "a": null }] }));
    let mut foreign = device.record("agent.heartbeat", 3, json!({}));
    foreign["source"] = json!("urn:sentrycam:edge:e-other");
    let score = device.record(
        "motion.started",
        4,
        json!({ "event_id": "019af5d8-7a00-7000-8000-000000000001", "camera_id": "cam-1", "rev": 1,
                "started_at": "2026-11-21T02:00:00Z", "score": 1.5 }),
    );
    let answer = device
        .events(&[
            good.clone(),
            json!(17),
            unknown.clone(),
            good.clone(),
            foreign,
            score,
        ])
        .await;
    assert_eq!(
        answer.statuses(),
        [
            "accepted",
            "rejected",
            "accepted",
            "duplicate",
            "rejected",
            "rejected"
        ]
    );
    let results = answer.json()["results"].clone();
    assert_eq!(results[0]["id"], good["id"]);
    assert_eq!(results[1]["id"], Value::Null);
    assert_eq!(
        (&results[4]["code"], &results[5]["code"]),
        (&json!("source"), &json!("schema"))
    );
    assert!(results[5]["detail"].as_str().unwrap().contains("score"));
    assert_eq!(
        (
            answer.json()["commands_pending"].clone(),
            count(&cloud, "edge_records").await
        ),
        (json!(0), 2)
    );
    let stored = cloud
        .query("select record from edge_records where sequence = 2")
        .await
        .unwrap();
    assert_eq!(stored[0]["record"], unknown);
    assert_eq!(
        device.events(&[good, unknown]).await.statuses(),
        ["duplicate", "duplicate"]
    );
}

#[tokio::test]
async fn gzip_is_decoded_and_bombs_are_not() {
    let (cloud, device) = setup().await;
    let plain = serde_json::to_vec(&heartbeats(&device, 200)).unwrap();
    let send = |body: Vec<u8>| {
        let request = device.request("POST", "/edge/v1/events", body);
        device.send(Wrong {
            gzip: true,
            ..request
        })
    };
    assert_eq!(send(gzip(&plain)).await.statuses().len(), 200);
    assert_eq!(count(&cloud, "edge_records").await, 200);
    assert_eq!(send(gzip(&vec![b' '; 100 << 20])).await.code(), "too-large");
    assert_eq!(send(b"not gzip".to_vec()).await.code(), "malformed");
}

#[tokio::test]
async fn a_batch_is_bounded_in_bytes_and_records() {
    let (_cloud, device) = setup().await;
    let code = async |body: Vec<u8>| {
        let answer = device
            .send(device.request("POST", "/edge/v1/events", body))
            .await;
        (answer.status, answer.code())
    };
    let too_large = (413, "too-large".to_owned());
    assert_eq!(code(vec![b' '; 520 * 1024]).await, too_large);
    assert_eq!(code(vec![b' '; 5 << 20]).await, too_large);
    let many = serde_json::to_vec(&vec![json!({}); 257]).unwrap();
    assert_eq!(code(many).await, too_large);
    let malformed = (400, "malformed".to_owned());
    assert_eq!(code(b"{}".to_vec()).await, malformed);
    assert_eq!(code("[".repeat(100_000).into_bytes()).await, malformed);
    let json = Wrong {
        content_type: "application/json",
        ..device.batch(&[])
    };
    assert_eq!(device.send(json).await.code(), "malformed");
    let large = device.record("x", 1, json!("x".repeat(66_000)));
    let fits = device.record("x", 2, json!("x".repeat(60_000)));
    assert_eq!(
        device.events(&[large, fits]).await.statuses(),
        ["rejected", "accepted"]
    );
}

#[tokio::test]
async fn a_record_that_the_database_refuses_costs_only_itself() {
    let (cloud, device) = setup().await;
    cloud
        .execute("alter table edge_records add check (type <> 'io.sentrycam.poison.v1')")
        .await
        .unwrap();
    let mut batch = heartbeats(&device, 20);
    batch.insert(7, device.record("poison", 100, json!({})));
    let statuses = device.events(&batch).await.statuses();
    assert_eq!(
        statuses
            .iter()
            .filter(|status| *status == "accepted")
            .count(),
        20
    );
    assert_eq!(statuses[7], "rejected");
    assert_eq!(count(&cloud, "edge_records").await, 20);
}

#[tokio::test]
async fn a_database_that_fails_answers_503_and_commits_nothing() {
    let (cloud, device) = setup().await;
    cloud
        .execute("alter table devices rename to devices_gone")
        .await
        .unwrap();
    assert_eq!(device.events(&heartbeats(&device, 3)).await.status, 503);
    cloud
        .execute("alter table devices_gone rename to devices")
        .await
        .unwrap();
    cloud
        .execute("alter table edge_epochs rename to epochs_gone")
        .await
        .unwrap();
    let answer = device.events(&heartbeats(&device, 3)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "2"));
    cloud
        .execute("alter table epochs_gone rename to edge_epochs")
        .await
        .unwrap();
    assert_eq!(count(&cloud, "edge_records").await, 0);
    assert_eq!(
        device.events(&heartbeats(&device, 3)).await.statuses(),
        ["accepted"; 3]
    );
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_and_another_body_422() {
    let (cloud, device) = setup().await;
    let batch = heartbeats(&device, 5);
    let keyed = |records: &[Value]| Wrong {
        idempotency_key: Some("batch-1".into()),
        ..device.batch(records)
    };
    let first = device.send(keyed(&batch)).await;
    let second = device.send(keyed(&batch)).await;
    assert_eq!(first.statuses(), ["accepted"; 5]);
    assert_eq!(first.body, second.body);
    assert!(second.is_signed(&device.credentials));
    // The same batch compressed is the same batch.
    let plain = serde_json::to_vec(&batch).unwrap();
    let zipped = Wrong {
        gzip: true,
        body: gzip(&plain),
        ..keyed(&batch)
    };
    assert_eq!(device.send(zipped).await.body, first.body);
    let other = device.send(keyed(&batch[1..])).await;
    assert_eq!(
        (other.status, other.code().as_str()),
        (422, "idempotency-mismatch")
    );
    // A key is the device's own.
    let neighbour = Device::new(&cloud, "door").await;
    let theirs = heartbeats(&neighbour, 1);
    let answer = Wrong {
        idempotency_key: Some("batch-1".into()),
        ..neighbour.batch(&theirs)
    };
    assert_eq!(neighbour.send(answer).await.statuses(), ["accepted"]);
    // After a day it is forgotten; the records are not.
    cloud
        .execute("update idempotency_keys set created_at = now() - interval '25 hours'")
        .await
        .unwrap();
    assert_eq!(
        device.send(keyed(&batch)).await.statuses(),
        ["duplicate"; 5]
    );
    assert_eq!(count(&cloud, "idempotency_keys").await, 2);
}

#[tokio::test]
async fn a_key_in_progress_answers_409() {
    let (cloud, device) = setup().await;
    let mut holder = cloud.owner().client().await.unwrap();
    let tx = holder.transaction().await.unwrap();
    tx.execute(
        "select pg_advisory_xact_lock(hashtextextended((select id::text from devices) || ' busy', 2))",
        &[],
    )
    .await
    .unwrap();
    let request = || Wrong {
        idempotency_key: Some("busy".into()),
        ..device.batch(&[])
    };
    let answer = device.send(request()).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (409, "in-progress")
    );
    assert_eq!(answer.header("retry-after"), "1");
    tx.rollback().await.unwrap();
    assert_eq!(device.send(request()).await.status, 200);
}

#[tokio::test]
async fn a_batch_sent_by_many_at_once_is_stored_once() {
    let (cloud, device) = setup().await;
    let batch = heartbeats(&device, 100);
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (device, batch) = (device.clone(), batch.clone());
        sending.spawn(async move { device.events(&batch).await.statuses() });
    }
    let answers = sending.join_all().await;
    let accepted = answers
        .iter()
        .flatten()
        .filter(|status| *status == "accepted")
        .count();
    let duplicate = answers
        .iter()
        .flatten()
        .filter(|status| *status == "duplicate")
        .count();
    assert_eq!((accepted, duplicate), (100, 700));
    assert_eq!(count(&cloud, "edge_records").await, 100);
}
