//! The round trip over MQTT: the cloud commands through its broker, the real agent answers, the end is in PostgreSQL;
//! twins come the same way; and without the broker everything still arrives.

use std::time::Duration;

use sentrycam::agent::status;
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

use crate::fixture::wait_until;
use crate::process::{Agent, Home, last_words};

pub const SOON: Duration = Duration::from_secs(40);
const PASSWORD: &str = "the-password-of-this-device-at-the-broker-1";

/// Credentials with a login at the cloud's broker.
pub async fn claimed(cloud: &Cloud, home: &Home) -> String {
    let file = home.path("edge.json");
    let edge_id = cloud.write_credentials("box", &file).await.unwrap().edge_id;
    let broker = cloud.broker().unwrap();
    broker
        .control()
        .add_device(&edge_id, PASSWORD)
        .await
        .unwrap();
    let mut credentials: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    credentials["mqtt"] = json!({ "host": "localhost", "port": broker.port(), "client_id": edge_id,
                                  "username": edge_id, "password": PASSWORD });
    std::fs::write(&file, credentials.to_string()).unwrap();
    std::fs::write(home.path("ca.pem"), cloud.ca_pem()).unwrap();
    home.configure("[[camera]]\nid = \"cam\"\ntest = true\n[camera.recording]\nmode = \"off\"\n");
    edge_id
}

/// What the agent says of its link.
pub fn link(home: &Home) -> Value {
    let dir = home.path("");
    let ask = status::ask(&dir);
    let asked = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(ask));
    asked.ok().flatten().map_or(Value::Null, |s| s.link)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_and_twins_come_by_the_broker_and_by_https_where_it_is_gone() {
    let cloud = Cloud::builder().broker().start().await.unwrap();
    let home = Home::new();
    let edge_id = claimed(&cloud, &home).await;
    let agent = Agent::start(&home, "info");
    let up = "select count(*) >= 1 from edge_records where type like '%camera.up%'";
    cloud.wait_for(up, SOON).await.unwrap();
    wait_until(30, "the link to be up", || link(&home)["state"] == "up");

    for n in 0..10 {
        let args =
            json!({ "camera_id": "cam", "snapshot_id": uuid::Uuid::now_v7(), "max_width": 64 });
        let sent = cloud.send_command(&edge_id, Wanted::new("snapshot", args));
        let id = sent.await.unwrap()["id"].as_str().unwrap().parse().unwrap();
        let end = cloud.wait_command(id, SOON).await;
        let end = end.unwrap_or_else(|e| panic!("{e:?}\n{}", last_words(&home.path("err"))));
        assert_eq!(end["status"], "succeeded", "{n}: {end}");
        // An answer to the sync would say of the next that something waits, and the poll be first.
        wait_until(30, "everything to be sent", || {
            home.number("select count(*) from outbox where class < 3") == Some(0)
        });
    }
    let by_broker = home.number("select count(*) from commands where way = 'mqtt'");
    assert!(by_broker >= Some(5), "{by_broker:?} of 10");

    let wish = json!({ "motion": { "sensitivity": 7 } });
    let version = cloud.set_twin(&edge_id, wish).await.unwrap()["version"].clone();
    let applied = format!("select reported ->> 'applied' = '{version}' from twins");
    cloud.wait_for(&applied, SOON).await.unwrap();

    // Without the broker the cloud's answers say that something waits.
    cloud.broker().unwrap().kill();
    let sent = cloud.send_command(&edge_id, Wanted::new("sync.now", json!({})));
    let id = sent.await.unwrap()["id"].as_str().unwrap().parse().unwrap();
    let end = cloud.wait_command(id, SOON).await;
    let end = end.unwrap_or_else(|e| panic!("{e:?}\n{}", last_words(&home.path("err"))));
    assert_eq!(end["status"], "succeeded", "{end}");
    assert_eq!(agent.stop().code(), Some(0));
}
