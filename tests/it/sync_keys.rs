//! Two keys: what a device does whose key the cloud refuses, with and without the next one beside it.

use std::path::Path;
use std::time::Duration;

use sentrycam::agent::uploader::Pass;
use sentrycam::cloud::{Client, Keys};
use sentrycam::model::RecordId;
use sentrycam::wire::keys::KeySlot;
use sentrycam_cloud::faults::{Rule, What};
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::device::Device;
use crate::sync::all_arrived;

const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What is wrong with a key.
#[derive(Debug, Clone, Copy)]
enum Bad {
    Unknown,
    Secret,
}

fn spoiled(right: &Value, how: Bad) -> String {
    let mut wrong = right.clone();
    match how {
        Bad::Unknown => wrong["edge_key"] = json!("ek_retired"),
        Bad::Secret => wrong["edge_secret"] = json!(SECRET),
    }
    wrong.to_string()
}

/// A home with the cloud's credentials of a new device.
async fn home(cloud: &Cloud) -> (TempDir, Value) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("next.json");
    cloud.write_credentials("box", &path).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    (home, serde_json::from_str(&text).unwrap())
}

/// Started, with the time known and seven records waiting.
async fn started(cloud: &Cloud, home: TempDir) -> (Device<Client>, Vec<RecordId>) {
    let mut device = Device::with_keys(cloud, home, "current.json");
    device.start();
    assert_eq!(device.pass().await, Pass::More);
    let ids = device.notes(7).await;
    (device, ids)
}

fn key_in(dir: &Path) -> (String, bool) {
    let keys = Keys::load(&dir.join("current.json")).unwrap();
    let key = keys.of(KeySlot::Current).key.key_id().to_owned();
    (key, keys.has_next())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_current_key_is_refused_the_next_one_is_tried_and_becomes_current() {
    let cloud = Cloud::start().await.unwrap();
    for how in [Bad::Unknown, Bad::Secret] {
        let (home, right) = home(&cloud).await;
        std::fs::write(home.path().join("current.json"), spoiled(&right, how)).unwrap();
        let (mut device, ids) = started(&cloud, home).await;
        // Refused, at once again with the other key, and all are there.
        assert_eq!(device.pass().await, Pass::More, "{how:?}");
        assert_eq!(device.outbox(), ids, "{how:?}");
        assert_eq!(device.pass().await, Pass::More, "{how:?}");
        all_arrived(&cloud, &device, &ids, &[]).await;
        assert_eq!(device.status().state, "ok");
        let dir = device.db_path().parent().unwrap().to_owned();
        let promoted = (right["edge_key"].as_str().unwrap().to_owned(), false);
        assert_eq!(key_in(&dir), promoted, "{how:?}");
        let more = device.notes(3).await;
        device.drain(2).await;
        all_arrived(&cloud, &device, &[ids, more].concat(), &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_key_is_kept_and_the_next_one_left_alone() {
    let cloud = Cloud::start().await.unwrap();
    let (home, right) = home(&cloud).await;
    std::fs::write(home.path().join("current.json"), right.to_string()).unwrap();
    std::fs::write(home.path().join("next.json"), spoiled(&right, Bad::Unknown)).unwrap();
    let (mut device, ids) = started(&cloud, home).await;
    device.drain(2).await;
    all_arrived(&cloud, &device, &ids, &[]).await;
    assert!(key_in(device.db_path().parent().unwrap()).1);
}

/// An answer without a signature settles records, as the protocol has it, but proves no key.
#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_answer_moves_no_key_on_disk() {
    let cloud = Cloud::start().await.unwrap();
    let (home, right) = home(&cloud).await;
    std::fs::write(
        home.path().join("current.json"),
        spoiled(&right, Bad::Unknown),
    )
    .unwrap();
    let (mut device, mut ids) = started(&cloud, home).await;
    let dir = device.db_path().parent().unwrap().to_owned();
    cloud
        .faults()
        .set(vec![Rule::always("/edge", What::UnsignedAnswer)]);
    device.drain(4).await;
    all_arrived(&cloud, &device, &ids, &[]).await;
    assert_eq!(key_in(&dir), ("ek_retired".to_owned(), true));
    cloud.faults().clear();
    ids.extend(device.notes(1).await);
    assert_eq!(device.pass().await, Pass::More);
    assert!(!key_in(&dir).1);
    all_arrived(&cloud, &device, &ids, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_both_are_refused_it_pauses_and_wipes_neither() {
    let cloud = Cloud::start().await.unwrap();
    let (home, right) = home(&cloud).await;
    let files = [("current.json", Bad::Unknown), ("next.json", Bad::Secret)];
    for (name, how) in files {
        std::fs::write(home.path().join(name), spoiled(&right, how)).unwrap();
    }
    let (mut device, ids) = started(&cloud, home).await;
    let dir = device.db_path().parent().unwrap().to_owned();
    for minutes in [5, 10, 20, 40, 60, 60] {
        cloud.faults().forget();
        assert_eq!(device.pass().await, Pass::More);
        let pause = device.pass_and_wait().await;
        let wanted = Duration::from_secs(minutes * 60);
        assert!(
            pause.abs_diff(wanted) < Duration::from_secs(30),
            "{pause:?}"
        );
        assert_eq!(cloud.faults().seen().len(), 2, "each key once");
        assert_eq!(device.status().state, "auth_lost");
        assert_eq!(device.outbox(), ids);
    }
    for (name, how) in files {
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(text, spoiled(&right, how));
    }
}
