//! From records to rows, in every order.

use crate::device::Device;
use sentrycam_cloud::admin::Listing;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use uuid::Uuid;

const START: &str = "2026-11-21T02:00:00Z";
const END: &str = "2026-11-21T02:00:09.5Z";

async fn setup() -> (Cloud, Device) {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    (cloud, device)
}

/// An event's records; the sequence numbers are their places.
fn motion(device: &Device, event: Uuid) -> Vec<Value> {
    let records = [
        (
            "motion.started",
            json!({ "event_id": event, "camera_id": "cam-1", "started_at": START,
            "title": "Motion at the door", "triggered_by": "motion", "score": 0.4,
            "regions": [{ "x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4 }], "zones": ["door"],
            "preroll_s": 5, "rev": 1 }),
        ),
        (
            "motion.updated",
            json!({ "event_id": event, "camera_id": "cam-1", "score": 0.8,
            "peak_score": 0.9, "regions": [], "rev": 2 }),
        ),
        (
            "motion.updated",
            json!({ "event_id": event, "camera_id": "cam-1", "score": 0.6,
            "peak_score": 0.9, "regions": [{ "x": 0.0, "y": 0.0, "w": 1.0, "h": 1.0 }], "rev": 3 }),
        ),
        (
            "motion.ended",
            json!({ "event_id": event, "camera_id": "cam-1", "started_at": START,
            "ended_at": END, "duration_ms": 9500, "peak_score": 0.9, "rev": 4,
            "recording_id": "019af5d8-7a00-7000-8000-0000000000d1" }),
        ),
    ];
    let mut records: Vec<Value> = (1..)
        .zip(records)
        .map(|(sequence, (kind, data))| device.record(kind, sequence, data))
        .collect();
    records[0]["severity"] = json!("warning");
    records
}

fn permutations(items: &[Value]) -> Vec<Vec<Value>> {
    if items.len() <= 1 {
        return vec![items.to_vec()];
    }
    let mut all = Vec::new();
    for at in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(at);
        for mut order in permutations(&rest) {
            order.insert(0, first.clone());
            all.push(order);
        }
    }
    all
}

/// A listed row without what must differ between two events.
fn essence(mut row: Value) -> Value {
    for name in ["event_uid", "recording_uid"] {
        row.as_object_mut().unwrap().remove(name);
    }
    row
}

#[tokio::test]
async fn an_event_converges_in_every_order_and_grouping() {
    let (cloud, device) = setup().await;
    for order in permutations(&motion(&device, Uuid::nil())) {
        for together in [true, false] {
            let event = Uuid::now_v7();
            let records: Vec<Value> = order
                .iter()
                .map(|record| {
                    let mut record = record.clone();
                    record["id"] = json!(Uuid::now_v7());
                    record["data"]["event_id"] = json!(event);
                    record
                })
                .collect();
            let size = if together { records.len() } else { 1 };
            for batch in records.chunks(size) {
                let statuses = device.events(batch).await.statuses();
                assert!(statuses.iter().all(|status| status == "accepted"));
            }
        }
    }
    let rows: Vec<Value> = cloud
        .list(Listing::Events)
        .await
        .unwrap()
        .into_iter()
        .map(essence)
        .collect();
    assert_eq!(rows.len(), 48);
    assert!(rows.iter().all(|row| *row == rows[0]), "{:#?}", rows);
    let row = &rows[0];
    assert_eq!(row["status"], "ended");
    assert_eq!(row["severity"], "warning");
    assert_eq!(row["title"], "Motion at the door");
    assert_eq!(
        (&row["rev"], &row["sequence"], &row["duration_ms"]),
        (&json!(4), &json!(4), &json!(9500))
    );
    assert_eq!(row["occurred_at"], "2026-11-21T02:00:00+00:00");
    assert_eq!(row["ended_at"], "2026-11-21T02:00:09.5+00:00");
    assert_eq!(row["meta"]["peak_score"], 0.9);
    assert_eq!(row["meta"]["score"], 0.6);
    assert_eq!(row["meta"]["zones"], json!(["door"]));
    assert_eq!(row["recording_id"], "019af5d8-7a00-7000-8000-0000000000d1");
}

#[tokio::test]
async fn a_recording_converges_and_deleted_is_final() {
    let (cloud, device) = setup().await;
    let sha = "ab".repeat(32);
    let records = [
        (
            "recording.opened",
            json!({ "camera_id": "cam-1", "started_at": START, "mode": "motion",
            "codec": "h264", "width": 1920, "height": 1080, "rev": 1 }),
        ),
        (
            "recording.closed",
            json!({ "camera_id": "cam-1", "started_at": START, "ended_at": END,
            "duration_ms": 9500, "size_bytes": 5_000_000_000_i64, "sha256": sha, "truncated": false,
            "path_name": "a.mp4", "has_audio": true, "codec": "h264", "width": 1920, "height": 1080,
            "status": "awaiting_upload", "rev": 2 }),
        ),
        (
            "recording.deleted",
            json!({ "reason": "retention", "rev": 3 }),
        ),
    ];
    let records: Vec<Value> = (1..)
        .zip(records)
        .map(|(sequence, (kind, data))| device.record(kind, sequence, data))
        .collect();
    for order in permutations(&records) {
        let recording = Uuid::now_v7();
        for mut record in order {
            record["id"] = json!(Uuid::now_v7());
            record["data"]["recording_id"] = json!(recording);
            assert_eq!(device.events(&[record]).await.statuses(), ["accepted"]);
        }
    }
    let rows: Vec<Value> = cloud
        .list(Listing::Recordings)
        .await
        .unwrap()
        .into_iter()
        .map(essence)
        .collect();
    assert_eq!(rows.len(), 6);
    assert!(rows.iter().all(|row| *row == rows[0]), "{:#?}", rows);
    assert_eq!(
        (&rows[0]["status"], &rows[0]["error"]),
        (&json!("deleted"), &json!("retention"))
    );
    assert_eq!(rows[0]["size_bytes"], 5_000_000_000_i64);

    let recording = Uuid::now_v7();
    for (kind, rev, status) in [
        ("recording.opened", 1, "recording"),
        ("recording.closed", 2, "awaiting_upload"),
        ("recording.lost", 3, "failed"),
    ] {
        let data = json!({ "recording_id": recording, "camera_id": "cam-1", "started_at": START, "rev": rev });
        device
            .events(&[device.record(kind, rev, data)])
            .await
            .statuses();
        let sql = format!("select status from recordings where recording_uid = '{recording}'");
        assert_eq!(cloud.query(&sql).await.unwrap()[0]["status"], status);
    }
}

fn camera(device: &Device, kind: &str, rev: i64) -> Value {
    let data = json!({ "camera_id": "cam-1", "name": "Front door", "reason": format!("{kind} {rev}"),
        "codec": "h264", "width": 1280, "height": 720, "fps": 15.0, "source_kind": "rtsp", "rev": rev });
    device.record(kind, rev as u64, data)
}

#[tokio::test]
async fn a_camera_goes_down_with_an_alert_and_up_resolves_it() {
    let (cloud, device) = setup().await;
    let state = async || {
        let cameras = cloud.list(Listing::Cameras).await.unwrap();
        let alerts = cloud.list(Listing::Alerts).await.unwrap();
        let alerts: Vec<_> = alerts
            .iter()
            .map(|alert| alert["status"].as_str().unwrap().to_owned())
            .collect();
        (cameras[0]["status"].as_str().unwrap().to_owned(), alerts)
    };
    device.events(&[camera(&device, "camera.up", 1)]).await;
    assert_eq!(state().await, ("online".into(), vec![]));
    device.events(&[camera(&device, "camera.down", 2)]).await;
    assert_eq!(state().await, ("offline".into(), vec!["new".into()]));
    // An old one changes nothing.
    device.events(&[camera(&device, "camera.up", 1)]).await;
    assert_eq!(state().await, ("offline".into(), vec!["new".into()]));
    device.events(&[camera(&device, "camera.up", 3)]).await;
    assert_eq!(state().await, ("online".into(), vec!["resolved".into()]));
    // A down that arrives after its up is resolved at once and leaves the camera up.
    device.events(&[camera(&device, "camera.up", 6)]).await;
    device
        .events(&[
            camera(&device, "camera.down", 5),
            camera(&device, "camera.degraded", 4),
        ])
        .await;
    assert_eq!(state().await, ("online".into(), vec!["resolved".into(); 2]));
    let rows = cloud.list(Listing::Cameras).await.unwrap();
    assert_eq!(
        (&rows[0]["name"], &rows[0]["fps"], &rows[0]["rev"]),
        (&json!("Front door"), &json!(15), &json!(6))
    );
}

#[tokio::test]
async fn a_new_epoch_counts_from_one_again() {
    let (cloud, mut device) = setup().await;
    device.events(&[camera(&device, "camera.up", 900)]).await;
    device.epoch = Uuid::nil();
    device.events(&[camera(&device, "camera.down", 1)]).await;
    let rows = cloud.list(Listing::Cameras).await.unwrap();
    assert_eq!(
        (&rows[0]["status"], &rows[0]["rev"]),
        (&json!("offline"), &json!(1))
    );
}

#[tokio::test]
async fn agents_report_their_device() {
    let (cloud, device) = setup().await;
    let started = device.record(
        "agent.started",
        1,
        json!({ "version": "1.4.2", "platform": "aarch64; debian 12", "hostname": "pi", "ip": "192.0.2.7" }),
    );
    // The heartbeat overtakes the start, which then only fills what is missing.
    let heartbeat = device.record("agent.heartbeat", 2, json!({ "version": "1.4.3" }));
    device.events(&[heartbeat]).await;
    device.events(&[started]).await;
    let row = cloud.list(Listing::Devices).await.unwrap().remove(0);
    assert_eq!(
        (&row["status"], &row["app_version"]),
        (&json!("online"), &json!("1.4.3"))
    );
    assert_eq!(
        (&row["hostname"], &row["ip_address"]),
        (&json!("pi"), &json!("192.0.2.7"))
    );
    assert!(row["last_seen_at"].is_string());
    device
        .events(&[device.record("agent.health", 3, json!({ "status": "degraded" }))])
        .await;
    assert_eq!(
        cloud.list(Listing::Devices).await.unwrap()[0]["status"],
        "degraded"
    );
    device
        .events(&[device.record("agent.stopping", 4, json!({ "ip": "not an address" }))])
        .await;
    assert_eq!(
        cloud.list(Listing::Devices).await.unwrap()[0]["status"],
        "offline"
    );
}

#[tokio::test]
async fn gaps_recoveries_and_whatever_is_critical_raise_alerts_once() {
    let (cloud, device) = setup().await;
    let mut events = motion(&device, Uuid::now_v7());
    events
        .iter_mut()
        .for_each(|record| record["severity"] = json!("critical"));
    let mut tamper = device.record("camera.tamper", 20, json!({}));
    tamper["severity"] = json!("critical");
    let gap = device.record(
        "sync.gap",
        21,
        json!({ "class": 3, "from_seq": 1, "to_seq": 9, "count": 9 }),
    );
    let recovered = device.record(
        "db.recovered",
        22,
        json!({ "salvaged": 5, "lost_estimate": 1 }),
    );
    events.extend([tamper, gap, recovered]);
    device.events(&events).await;
    device.events(&events).await;
    let alerts = cloud.list(Listing::Alerts).await.unwrap();
    let mut kinds: Vec<_> = alerts
        .iter()
        .map(|alert| alert["alert_type"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        ["camera_tamper", "db_recovered", "motion", "sync_gap"]
    );
}

#[tokio::test]
async fn audit_entries_keep_their_chain() {
    let (cloud, device) = setup().await;
    let prev = "0f".repeat(32);
    let entry = device.record(
        "audit.entry",
        1,
        json!({ "actor": { "uid": 0 }, "action": "UPDATE", "entity_type": "config", "entity_id": "recording",
                "changes": { "before": 1, "after": 2 }, "ip": "127.0.0.1", "ua": "cli", "at": START, "prev": prev }),
    );
    let odd = device.record(
        "audit.entry",
        2,
        json!({ "clone_suspected": true, "prev": "zz" }),
    );
    assert_eq!(
        device.events(&[entry, odd]).await.statuses(),
        ["accepted"; 2]
    );
    let rows = cloud
        .query("select * from audit_logs where actor_device_id is not null order by source_uid")
        .await
        .unwrap();
    assert_eq!(
        (&rows[0]["action"], &rows[0]["previous_hash"]),
        (&json!("UPDATE"), &json!(prev))
    );
    assert_eq!(
        (&rows[1]["action"], &rows[1]["previous_hash"]),
        (&json!("NOTE"), &Value::Null)
    );
    // The cloud's own chain: each entry names the one before.
    let own = cloud
        .query(
            "select previous_hash, row_hash from audit_logs where row_hash is not null order by id",
        )
        .await
        .unwrap();
    assert_eq!(own.len(), 2);
    assert_eq!(own[0]["previous_hash"], Value::Null);
    assert_eq!(own[1]["previous_hash"], own[0]["row_hash"]);
}

/// Nulls for what is not known, zeros for what a camera does not say, 32-bit floats.
#[tokio::test]
async fn what_is_not_known_is_left_out() {
    let (cloud, device) = setup().await;
    let (event, recording) = (Uuid::now_v7(), Uuid::now_v7());
    let up = json!({ "camera_id": "cam-1", "name": "Door", "source_kind": "rtsp", "codec": "h264",
        "width": 0, "height": 0, "fps": 0.0, "has_audio": false, "rev": 1 });
    let down = json!({ "camera_id": "cam-1", "name": "Door", "reason": "unreachable",
        "detail": "connection refused", "rev": 2 });
    let started = json!({ "event_id": event, "camera_id": "cam-1", "started_at": START, "title": "Motion",
        "triggered_by": "motion", "score": 0.3_f32, "peak_score": 1.0_f32, "zones": [], "preroll_s": 4.5,
        "regions": [{ "x": 0.0, "y": 0.0, "w": 1.000_000_1_f32, "h": 0.1_f32 }], "rev": 1 });
    let ended = json!({ "event_id": event, "camera_id": "cam-1", "started_at": START, "ended_at": END,
        "duration_ms": 9500, "peak_score": 1.0, "zones": [], "reason": "quiet", "recording_id": null,
        "rev": 2 });
    let opened = json!({ "recording_id": recording, "camera_id": "cam-1", "event_id": null,
        "started_at": START, "mode": "continuous", "codec": "h264", "width": 0, "height": 0,
        "has_audio": false, "status": "recording", "rev": 1 });
    let lost = json!({ "recording_id": recording, "camera_id": "cam-1", "reason": "lost",
        "status": "failed", "rev": 2 });
    let records = [
        device.record("camera.up", 1, up),
        device.record("camera.down", 2, down),
        device.record("motion.started", 3, started),
        device.record("motion.ended", 4, ended),
        device.record("recording.opened", 5, opened),
        device.record("recording.deleted", 6, lost),
    ];
    assert_eq!(device.events(&records).await.statuses(), ["accepted"; 6]);
    let camera = cloud.list(Listing::Cameras).await.unwrap().remove(0);
    assert_eq!(
        (&camera["width"], &camera["fps"]),
        (&Value::Null, &Value::Null)
    );
    let alert = cloud.list(Listing::Alerts).await.unwrap().remove(0);
    assert_eq!(alert["message"], "unreachable: connection refused");
    let event = cloud.list(Listing::Events).await.unwrap().remove(0);
    assert_eq!(
        (&event["meta"]["reason"], &event["recording_id"]),
        (&json!("quiet"), &Value::Null)
    );
    let recording = cloud.list(Listing::Recordings).await.unwrap().remove(0);
    assert_eq!(
        (&recording["status"], &recording["error"]),
        (&json!("failed"), &json!("lost"))
    );
}

/// Evidence that stays on the device alone wants a person, and the row says why; a verified upload takes it back.
#[tokio::test]
async fn a_recording_that_will_not_be_uploaded_is_failed_and_an_alert() {
    let (cloud, device) = setup().await;
    let recording = Uuid::now_v7();
    let failed =
        json!({ "recording_id": recording, "camera_id": "cam-1", "reason": "changed", "rev": 3 });
    let opened = json!({ "recording_id": recording, "camera_id": "cam-1", "event_id": null,
        "started_at": START, "mode": "motion", "status": "recording", "rev": 1 });
    // The alarm overtakes the rest.
    let records = [
        device.record("recording.failed", 2, failed),
        device.record("recording.opened", 1, opened),
    ];
    assert_eq!(device.events(&records).await.statuses(), ["accepted"; 2]);
    let row = cloud.list(Listing::Recordings).await.unwrap().remove(0);
    assert_eq!(
        (&row["status"], &row["error"]),
        (&json!("failed"), &json!("changed"))
    );
    let alert = cloud.list(Listing::Alerts).await.unwrap().remove(0);
    assert_eq!(
        (&alert["alert_type"], &alert["message"]),
        (&json!("upload_failed"), &json!("changed"))
    );
}
