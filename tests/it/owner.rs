//! What the owner does to a device that was claimed: commands it through broker and poll, changes its key, takes it back.
//! The real agent against the reference cloud with its broker, cut at every step.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sentrycam::db::schema;
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::faults::{Rule, What};
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::edge::Edge;
use crate::fixture::wait_until;

const SOON: Duration = Duration::from_secs(60);

pub async fn send(cloud: &Cloud, edge_id: &str, kind: &str, args: Value) -> Uuid {
    let sent = cloud.send_command(edge_id, Wanted::new(kind, args));
    sent.await.unwrap()["id"].as_str().unwrap().parse().unwrap()
}

pub async fn end_of(cloud: &Cloud, edge: &Edge, id: Uuid) -> Value {
    let end = cloud.wait_command(id, SOON).await;
    end.unwrap_or_else(|e| panic!("{e:?}\n{}", edge.log()))
}

fn key_of(edge: &Edge) -> String {
    let text = std::fs::read_to_string(edge.credentials("current.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    value["edge_key"].as_str().unwrap().to_owned()
}

async fn state_of(cloud: &Cloud, key: &str) -> String {
    let sql = format!("select state from edge_credentials where edge_key = '{key}'");
    let rows = cloud.query(&sql).await.unwrap();
    rows[0]["state"].as_str().unwrap().to_owned()
}

/// A command that the broker brings. The answer to a batch may tell of one first, and the poll is then as right; not
/// for five in a row.
async fn command_by_broker(cloud: &Cloud, edge: &Edge) {
    let edge_id = edge.edge_id();
    let mut ways = Vec::new();
    for _ in 0..5 {
        let id = send(cloud, &edge_id, "sync.now", json!({})).await;
        assert_eq!(end_of(cloud, edge, id).await["status"], "succeeded");
        let sql = format!("select way from commands where id = x'{}'", id.simple());
        ways.push(edge.text(&sql));
        if ways.last().and_then(Option::as_deref) == Some("mqtt") {
            return;
        }
    }
    panic!("the broker brings none: {ways:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claimed_device_is_commanded_by_the_broker_gets_another_key_and_is_taken_back() {
    let cloud = Cloud::builder().broker().start().await.unwrap();
    let edge = Edge::start(&cloud);
    edge.claim_for(&cloud).await;
    edge.wait("its login at the broker works", |s| {
        s["link"]["state"] == "up"
    });
    let edge_id = edge.edge_id();
    let (began, sessions) = (key_of(&edge), edge.status()["link"]["sessions"].clone());
    command_by_broker(&cloud, &edge).await;

    let id = send(&cloud, &edge_id, "key.rotate", json!({})).await;
    let end = end_of(&cloud, &edge, id).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    let key = key_of(&edge);
    assert_ne!(key, began);
    assert_eq!(end["result"]["edge_key"], key.as_str());
    assert_eq!(state_of(&cloud, &key).await, "current");
    assert!(edge.is_claimed(), "nothing is left of the rotation");
    // Documents are signed with the new key from now on, and the link did not notice.
    command_by_broker(&cloud, &edge).await;
    assert_eq!(edge.status()["link"]["sessions"], sessions);

    let id = send(
        &cloud,
        &edge_id,
        "unclaim",
        json!({ "wipe": "credentials" }),
    )
    .await;
    assert_eq!(end_of(&cloud, &edge, id).await["status"], "succeeded");
    edge.wait_for("unclaimed");
    assert!(!edge.is_claimed());
    edge.wait("nothing is sent any more", |s| {
        s["sync"]["state"] == "unclaimed" && s["link"]["state"] == "stopped"
    });

    // The same owner takes it again: what was recorded meanwhile arrives, and commands do.
    edge.claim_for(&cloud).await;
    edge.wait("the link is up again", |s| s["link"]["state"] == "up");
    let told =
        "(select count(*) from edge_records where type = 'io.sentrycam.claim.unclaimed.v1') = 1";
    cloud.wait_for(told, SOON).await.unwrap();
    let id = send(&cloud, &edge.edge_id(), "sync.now", json!({})).await;
    assert_eq!(end_of(&cloud, &edge, id).await["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_at_any_step_of_a_rotation_leaves_a_key_that_works_and_one_end() {
    let cloud = Cloud::start().await.unwrap();
    let mut edge = Edge::start(&cloud);
    edge.claim_for(&cloud).await;
    let edge_id = edge.edge_id();
    for step in [
        "command.begun",
        "rotate.stored",
        "rotate.confirmed",
        "rotate.promoted",
        "command.acted",
        "command.ended",
    ] {
        edge.stop();
        let before = key_of(&edge);
        let id = send(&cloud, &edge_id, "key.rotate", json!({})).await;
        edge.run_to_its_end(step);
        edge.run(None);
        let end = end_of(&cloud, &edge, id).await;
        assert_eq!(end["status"], "succeeded", "{step}: {end}");
        edge.wait("records arrive", |s| s["sync"]["state"] == "ok");
        assert!(edge.is_claimed(), "{step}");
        let key = key_of(&edge);
        assert_ne!(key, before, "{step}");
        assert_eq!(state_of(&cloud, &key).await, "current", "{step}");
        let ends = format!(
            "select count(*) = 1 from edge_records where type = 'io.sentrycam.command.status.v1'
             and record -> 'data' ->> 'command_id' = '{id}' and record -> 'data' ->> 'state' = 'succeeded'"
        );
        cloud.wait_for(&ends, SOON).await.unwrap();
    }
}

/// The cloud counts the new key, the device does not know: a day later, when the old one is refused, it finds out.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_whose_confirmation_was_not_heard_of_ends_well_without_a_restart() {
    let cloud = Cloud::start().await.unwrap();
    let edge = Edge::start(&cloud);
    edge.claim_for(&cloud).await;
    edge.wait("records arrive", |s| s["sync"]["state"] == "ok");
    let before = key_of(&edge);
    let lost = Rule::always("/edge/v1/credentials/confirm", What::CutAfterCommit);
    cloud.faults().set(vec![lost]);
    let id = send(&cloud, &edge.edge_id(), "key.rotate", json!({})).await;
    let end = end_of(&cloud, &edge, id).await;
    assert_eq!(
        (&end["status"], &end["code"]),
        (&json!("failed"), &json!("no-answer")),
        "{end}"
    );
    assert_eq!(
        (key_of(&edge), state_of(&cloud, &before).await),
        (before.clone(), "retired".into())
    );
    cloud.faults().clear();
    let day = "update edge_credentials set state = 'revoked' where state = 'retired'";
    cloud.execute(day).await.unwrap();
    wait_until(40, "the next key took over", || key_of(&edge) != before);
    assert_eq!(state_of(&cloud, &key_of(&edge)).await, "current");
    let id = send(&cloud, &edge.edge_id(), "sync.now", json!({})).await;
    assert_eq!(end_of(&cloud, &edge, id).await["status"], "succeeded");
    assert!(edge.is_claimed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_at_any_step_of_an_unclaim_by_command_ends_unclaimed_and_told() {
    let cloud = Cloud::start().await.unwrap();
    for (wipe, step) in [
        ("credentials", "command.begun"),
        ("credentials", "command.acted"),
        ("credentials", "command.ended"),
        ("credentials", "unclaim.current"),
        ("all", "command.ended"),
        ("all", "unclaim.ordered"),
        ("all", "wipe.begun"),
    ] {
        let mut edge = Edge::start(&cloud);
        edge.claim_for(&cloud).await;
        let edge_id = edge.edge_id();
        edge.stop();
        let clip = clip_in(&edge);
        let id = send(&cloud, &edge_id, "unclaim", json!({ "wipe": wipe })).await;
        edge.run_to_its_end(step);
        edge.run(None);
        edge.wait_for("unclaimed");
        assert!(!edge.is_claimed(), "{wipe} {step}");
        let end = end_of(&cloud, &edge, id).await;
        assert_eq!(end["status"], "succeeded", "{wipe} {step}: {end}");
        if wipe == "all" {
            wait_until_wiped(&edge, &clip);
        } else {
            assert!(clip.exists() && edge.credentials("owner.json").exists());
        }
        edge.stop();
    }
}

/// A recording that the device has.
fn clip_in(edge: &Edge) -> PathBuf {
    let dir = edge.home.path("state/clips/door");
    std::fs::create_dir_all(&dir).unwrap();
    let clip = dir.join("019af5d8-7a00-7000-8000-000000000001.mp4");
    std::fs::write(&clip, "film").unwrap();
    clip
}

fn wait_until_wiped(edge: &Edge, clip: &Path) {
    let store = edge.home.path("state/sentrycam.db");
    let is_empty = || {
        let conn = schema::open_reader(&store).ok()?;
        let count = conn.query_row("select count(*) from commands", [], |r| r.get(0));
        count.ok().map(|n: i64| n == 0)
    };
    wait_until(30, "the owner's data is gone", || {
        let there = [&edge.credentials("owner.json"), clip].map(|p| p.exists());
        there == [false, false] && is_empty() == Some(true)
    });
}

/// The cloud revokes the keys with the record `succeeded`, and its answer is lost: the next thing that the device hears
/// is the signed 410. It may not take that for an unclaim that leaves the data.
#[tokio::test(flavor = "multi_thread")]
async fn an_unclaim_of_everything_wipes_everything_when_the_refusal_comes_first() {
    let cloud = Cloud::start().await.unwrap();
    let mut edge = Edge::start(&cloud);
    edge.claim_for(&cloud).await;
    edge.wait("records arrive", |s| s["sync"]["state"] == "ok");
    let (edge_id, clip) = (edge.edge_id(), clip_in(&edge));
    edge.stop();
    cloud
        .faults()
        .set(vec![Rule::always("/edge/v1/events", What::fail(503))]);
    let id = send(&cloud, &edge_id, "unclaim", json!({ "wipe": "all" })).await;
    edge.run_to_its_end("command.ended");
    // All of the command in one batch, whose answer is lost.
    let store = rusqlite::Connection::open(edge.home.path("state/sentrycam.db")).unwrap();
    store.execute("update outbox set batch = null", []).unwrap();
    drop(store);
    let lost = Rule::times("/edge/v1/events", What::CutAfterCommit, 1);
    cloud.faults().set(vec![lost]);
    edge.run(None);
    edge.wait_for("unclaimed");
    wait_until_wiped(&edge, &clip);
    assert_eq!(end_of(&cloud, &edge, id).await["status"], "succeeded");
    let log = std::fs::read_to_string(edge.home.path("err")).unwrap();
    assert!(log.contains("the owner has unclaimed this device"), "{log}");
}
