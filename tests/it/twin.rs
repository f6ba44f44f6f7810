//! Twins on running cameras: only what changed is touched, nothing is lost by a power cut, what cuts the cloud off
//! comes back.

use std::time::Duration;

use sentrycam::agent::twin::Verdict;
use sentrycam::model::BootId;
use sentrycam::twin::Secrets;
use sentrycam::twin::state::{Document, State};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::twin_bench::Bench;

fn cameras(list: &[Value]) -> Value {
    json!({ "cameras": list })
}

/// A camera of the twin alone.
fn pattern(id: &str) -> Value {
    json!({ "id": id, "test": true, "width": 160, "height": 120, "fps": 5, "recording": { "mode": "off" } })
}

/// A camera whose source is the configuration file's.
fn own(id: &str) -> Value {
    json!({ "id": id, "recording": { "mode": "off" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_touches_only_the_cameras_that_it_changes() {
    let mut bench = Bench::new();
    bench.start().await;
    bench.wait_for(&["a", "b", "c"]).await;
    let before = bench.sessions();
    let mut tuned = own("b");
    tuned["motion"] = json!({ "sensitivity": 9 });
    tuned["name"] = "Back".into();
    let doc = cameras(&[own("a"), tuned, pattern("d")]);
    assert_eq!(
        bench.offer(1, doc.clone()).await.unwrap(),
        Verdict::Accepted
    );
    bench.wait_for(&["a", "b", "d"]).await;
    assert_eq!(bench.status().cameras["b"].name, "Back");
    let after = bench.sessions();
    assert_eq!(after[..2], before[..2], "a and b go on in their sessions");
    // The journal commits it by itself.
    bench
        .wait("c's end is told", |_| !bench.told("camera.down").is_empty())
        .await;
    let removed = bench.told("camera.down");
    assert_eq!(
        (&removed[0]["camera_id"], &removed[0]["reason"]),
        (&json!("c"), &json!("removed"))
    );
    // Another size is another capture: that camera alone starts anew.
    let mut wider = pattern("d");
    wider["width"] = 320.into();
    let doc = cameras(&[own("a"), own("b"), wider]);
    assert_eq!(
        bench.offer(2, doc.clone()).await.unwrap(),
        Verdict::Accepted
    );
    bench
        .wait("d is wider", |s| {
            s.cameras["d"].format.as_deref() == Some("h264 320x120")
        })
        .await;
    let last = bench.sessions();
    assert_eq!(last[..2], before[..2]);
    assert_ne!(last[2], after[2]);
    let told = bench.told("twin.reported");
    let want = |v| json!({ "desired": v, "applied": v, "status": "applied", "errors": [] });
    assert_eq!(told, [want(1), want(2)]);
    bench.stop().await;
    // The next run begins with it, and the broker's retained copy changes nothing.
    bench.start().await;
    bench.wait_for(&["a", "b", "d"]).await;
    assert_eq!(bench.offer(2, doc).await.unwrap(), Verdict::Known);
    assert_eq!(bench.offer(1, json!({})).await.unwrap(), Verdict::Known);
    assert_eq!(bench.told("twin.reported").len(), 2);
    // Back to the file.
    assert_eq!(bench.offer(3, json!({})).await.unwrap(), Verdict::Accepted);
    bench.wait_for(&["a", "b", "c"]).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_cut_the_cloud_off_is_taken_back_after_300_s() {
    let mut bench = Bench::new();
    bench.start().await;
    bench.wait_for(&["a", "b", "c"]).await;
    let mut doc = cameras(&[own("a")]);
    doc["cloud"] = json!({ "api_base": "https://nowhere.invalid" });
    assert_eq!(bench.offer(1, doc).await.unwrap(), Verdict::Accepted);
    bench.wait_for(&["a"]).await;
    assert_eq!(bench.report()["status"], "provisional");
    assert_eq!(
        bench.told("twin.reported"),
        [json!(null); 0],
        "not before it is decided"
    );
    // A minute is left for this machine's own time.
    bench.clock.rehearse_passing(Duration::from_secs(240));
    // An answer under another version proves nothing.
    bench.twin().proved(7).await;
    assert_eq!(bench.offer(1, json!({})).await.unwrap(), Verdict::Known);
    assert_eq!(bench.report()["status"], "provisional");
    bench.clock.rehearse_passing(Duration::from_secs(61));
    bench.wait_for(&["a", "b", "c"]).await;
    let told = bench.told("twin.reported");
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0]["applied"], &told[0]["status"]),
        (&json!(0), &json!("reverted"))
    );
    assert_eq!(told[0]["errors"][0]["code"], "unconfirmed");
    assert_eq!(
        bench.offer(1, json!({})).await.unwrap(),
        Verdict::Known,
        "not tried again"
    );
    // One that proves itself stays.
    let doc = json!({ "upload": { "hosts": ["media.example.com"] }, "cameras": [own("b")] });
    bench.offer(2, doc).await.unwrap();
    bench.twin().proved(2).await;
    bench.offer(2, json!({})).await.unwrap();
    assert_eq!(bench.report()["status"], "applied");
    bench.clock.rehearse_passing(Duration::from_secs(1000));
    bench.stop().await;
    bench.start().await;
    bench.wait_for(&["b"]).await;
    assert_eq!(bench.told("twin.reported")[1]["applied"], 2);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provisional_twin_that_is_found_after_its_time_is_taken_back() {
    let mut bench = Bench::new();
    bench.start().await;
    bench.offer(1, cameras(&[own("a")])).await.unwrap();
    let mut doc = cameras(&[own("b")]);
    doc["upload"] = json!({ "hosts": ["media.example.com"] });
    bench.offer(2, doc.clone()).await.unwrap();
    bench.cut().await;
    // Within its time: it is in force again, and still has to prove itself.
    bench.start().await;
    bench.wait_for(&["b"]).await;
    assert_eq!(bench.report()["status"], "provisional");
    bench.cut().await;
    bench.clock.rehearse_passing(Duration::from_secs(301));
    bench.start().await;
    bench.wait_for(&["a"]).await;
    assert_eq!(
        (&bench.report()["applied"], &bench.report()["status"]),
        (&json!(1), &json!("reverted"))
    );
    assert_eq!(bench.told("twin.reported").len(), 2, "it is told at once");
    // Power cuts one after the other do not keep it alive for ever.
    bench.offer(3, doc).await.unwrap();
    for _ in 0..2 {
        bench.cut().await;
        bench.boot = BootId(Uuid::now_v7());
        bench.start().await;
    }
    bench.wait_for(&["a"]).await;
    assert_eq!(bench.report()["desired"], 3);
    bench.stop().await;
}

/// Each step of taking a twin over, with the power cut right behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_step_leaves_the_old_twin_or_the_new_one() {
    let camera = |id: &str, password: &str| {
        json!({ "cameras": [{ "id": id, "url": "rtsp://127.0.0.1:9/x", "user": "u",
                              "password": { "$secret": password }, "recording": { "mode": "off" } }] })
    };
    let mut bench = Bench::new();
    bench.start().await;
    bench.offer(1, camera("old", "canary-1")).await.unwrap();
    // Said once the cameras are as they shall be.
    bench.offer(1, json!({})).await.unwrap();
    // 1: the secrets of the next twin are on disk, its row is not.
    let Value::Object(mut doc) = camera("new", "canary-2") else {
        unreachable!()
    };
    let secrets = Secrets::take(&mut doc, &mut Vec::new());
    bench.store().keep_secrets(2, secrets).await.unwrap();
    bench.cut().await;
    bench.start().await;
    bench
        .wait("the old one runs", |s| s.cameras.keys().eq(["old"]))
        .await;
    assert_eq!(bench.report()["desired"], 1);
    // 2: its row is, the cameras are as before.
    let state = bench.store().load().await.unwrap();
    let text = Value::Object(doc).to_string();
    assert!(!text.contains("canary"));
    let document = Document {
        version: 2,
        text: Some(text),
    };
    let state: State = state.accepted(document, None, "test");
    bench
        .store()
        .commit(state.clone(), sentrycam::time::Mono(0))
        .await
        .unwrap();
    bench.cut().await;
    bench.start().await;
    bench
        .wait("the new one runs", |s| s.cameras.keys().eq(["new"]))
        .await;
    let found = bench
        .store()
        .effective(&state.applied, &bench.config)
        .unwrap();
    assert!(format!("{found:?}").contains("***"));
    // 3: the secrets of the old one are still on disk; the next twin takes them away.
    bench.offer(3, camera("new", "canary-3")).await.unwrap();
    bench.offer(3, json!({})).await.unwrap();
    let old = Document {
        version: 1,
        ..state.applied
    };
    assert!(bench.store().effective(&old, &bench.config).is_err());
    let bytes = bench.bytes_on_disk();
    assert!(
        !bytes.windows(6).any(|w| w == b"canary"),
        "a secret is in the database"
    );
    assert!(!bench.report().to_string().contains("canary"));
    bench.stop().await;
}
