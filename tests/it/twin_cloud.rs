//! Twins of the reference cloud: signed, fetched, applied, and reported into PostgreSQL; through kills at every step, and
//! when the twin itself cuts the cloud off.

use std::process::Command;
use std::time::Duration;

use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

use crate::fixture::wait_until;
use crate::process::{Agent, Home, last_words};
use crate::twin_bench::Bench;

const SOON: Duration = Duration::from_secs(60);

fn reported(edge_id: &str, version: u64, status: &str) -> String {
    format!(
        "exists (select 1 from twins t join devices d on d.id = t.device_id where d.edge_id = '{edge_id}'
         and t.reported_status = '{status}' and t.reported_desired = {version})"
    )
}

/// The real agent. At each step of taking a twin over it is killed once; each version is reported once.
#[tokio::test(flavor = "multi_thread")]
async fn a_twin_arrives_through_a_kill_at_every_step() {
    let cloud = Cloud::start().await.unwrap();
    let home = Home::new();
    let credentials = cloud
        .write_credentials("box", &home.path("edge.json"))
        .await
        .unwrap();
    std::fs::write(home.path("ca.pem"), cloud.ca_pem()).unwrap();
    let edge_id = credentials.edge_id.clone();
    home.configure("[[camera]]\nid = \"file\"\ntest = true\n");
    let camera = |width: u32| json!({ "test": true, "width": width, "height": 120, "fps": 5, "recording": { "mode": "off" } });
    let mut version = 0;
    for (i, place) in [
        "twin.judged",
        "twin.secrets",
        "twin.committed",
        "twin.applied",
    ]
    .into_iter()
    .enumerate()
    {
        let wanted = camera(160 + 16 * i as u32);
        let twin = cloud.set_camera(&edge_id, "porch", wanted).await.unwrap();
        version = twin["version"].as_u64().unwrap();
        let mut agent = Agent::start_to_die(&home, place);
        wait_until(60, &format!("the agent dies at {place}"), || !agent.runs());
        drop(agent);
        let agent = Agent::start(&home, "info");
        let arrived = cloud
            .wait_for(&reported(&edge_id, version, "applied"), SOON)
            .await;
        assert!(
            arrived.is_ok(),
            "{place}: {}",
            last_words(&home.path("err"))
        );
        let width = format!(
            "exists (select 1 from cameras where camera_id = 'porch' and width = {})",
            160 + 16 * i
        );
        cloud.wait_for(&width, SOON).await.unwrap();
        agent.kill();
    }
    // The last one runs on and hears of another by the answer to its heartbeat.
    let agent = Agent::start(&home, "info");
    let online = "exists (select 1 from cameras where camera_id = 'porch' and status = 'online')";
    cloud.wait_for(online, SOON).await.unwrap();
    let wrong = json!({ "motion": { "sensitivity": 99 } });
    let twin = cloud.set_twin(&edge_id, wrong).await.unwrap();
    let refused = reported(&edge_id, twin["version"].as_u64().unwrap(), "rejected");
    cloud.wait_for(&refused, SOON).await.unwrap();
    let errors: Value =
        cloud.query("select reported from twins").await.unwrap()[0]["reported"].clone();
    assert_eq!(errors["errors"][0]["path"], "/motion/sensitivity");
    assert_eq!(errors["errors"][0]["code"], "range");
    assert_eq!(errors["applied"], version);
    assert_eq!(agent.stop().code(), Some(0));
    let told = "select record->'data'->>'desired' as v, count(*) as n from edge_records
                where type like '%twin.reported%' group by 1 having count(*) > 1";
    assert_eq!(cloud.query(told).await.unwrap(), [Value::Null; 0]);
}

/// The configuration names no camera: GStreamer starts with the first one of the twin.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_and_collected_is_what_is_in_force() {
    let cloud = Cloud::start().await.unwrap();
    let home = Home::new();
    let file = home.path("edge.json");
    let edge_id = cloud.write_credentials("box", &file).await.unwrap().edge_id;
    std::fs::write(home.path("ca.pem"), cloud.ca_pem()).unwrap();
    home.configure("");
    let agent = Agent::start(&home, "info");
    let hidden = json!({ "url": "rtsp://127.0.0.1:9/x", "user": "CANARYuser", "password": { "$secret": "CANARYword" } });
    cloud.set_camera(&edge_id, "hidden", hidden).await.unwrap();
    let porch = json!({ "test": true, "width": 160, "height": 120, "fps": 5, "recording": { "mode": "off" } });
    let twin = cloud.set_camera(&edge_id, "porch", porch).await.unwrap();
    let version = twin["version"].as_u64().unwrap();
    let applied = reported(&edge_id, version, "applied");
    cloud.wait_for(&applied, SOON).await.unwrap();
    let online = "exists (select 1 from cameras where camera_id = 'porch' and status = 'online')";
    cloud.wait_for(online, SOON).await.unwrap();

    let wanted = Wanted::new("diag.collect", json!({ "parts": ["config"] }));
    let sent = cloud.send_command(&edge_id, wanted).await.unwrap();
    let id = sent["id"].as_str().unwrap().parse().unwrap();
    let end = cloud.wait_command(id, SOON).await.unwrap();
    assert_eq!(end["status"], "succeeded", "{end}");
    let bundle = home
        .path("clips")
        .join(end["result"]["path_name"].as_str().unwrap());
    let unpacked = Command::new("gzip")
        .arg("-dc")
        .arg(bundle)
        .output()
        .unwrap();
    let text = String::from_utf8(unpacked.stdout).unwrap();
    let bundle: Value = serde_json::from_str(&text).unwrap();
    let cameras = bundle["config"]["cameras"].as_array().unwrap();
    let ids: Vec<&Value> = cameras.iter().map(|c| &c["id"]).collect();
    assert_eq!(ids, ["hidden", "porch"], "{text}");
    assert!(!text.contains("CANARY"), "{text}");

    assert_eq!(agent.stop().code(), Some(0));
    let agent = Agent::start(&home, "info");
    let started = "exists (select 1 from edge_records where type like '%agent.started%'
                   and record -> 'data' ->> 'cameras' = '2')";
    cloud.wait_for(started, SOON).await.unwrap();
    assert_eq!(agent.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_that_cuts_the_cloud_off_is_taken_back_and_the_next_one_arrives() {
    let cloud = Cloud::start().await.unwrap();
    let mut bench = Bench::of(&cloud).await;
    let edge_id = bench.edge_id();
    let nowhere = json!({ "cloud": { "api_base": "https://127.0.0.1:9" } });
    cloud.set_twin(&edge_id, nowhere).await.unwrap();
    bench.start().await;
    bench.learn_time();
    let is = |status: &'static str| {
        move |s: &sentrycam::agent::status::Status| s.twin["status"] == status
    };
    bench
        .wait("the bad one is in force", is("provisional"))
        .await;
    bench.clock.rehearse_passing(Duration::from_secs(301));
    bench.wait("it is taken back", is("reverted")).await;
    bench.learn_time();
    // The cloud is where it was, and where the next twin says: that proves itself.
    let here = json!({ "cloud": { "api_base": cloud.api_base() } });
    cloud.set_twin(&edge_id, here).await.unwrap();
    bench.twin().refresh();
    bench
        .wait("the good one proves itself", |s| {
            s.twin["status"] == "applied" && s.twin["applied"] == 2
        })
        .await;
    let told = bench.told("twin.reported");
    assert_eq!(told.len(), 2);
    assert_eq!(
        (&told[0]["status"], &told[1]["status"]),
        (&json!("reverted"), &json!("applied"))
    );
    bench.stop().await;
}
