//! The whole agent with a broker: its will, its good-bye, its status, and its cameras while the broker is frozen.

use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::wait_until;
use crate::mqtt_site::{EDGE, PASSWORD, Peer, Site};
use crate::process::{Agent, Home, last_words};

/// A home whose credentials name the broker; its cloud is never there.
fn home(site: &Site, cameras: &str) -> Home {
    let home = Home::new();
    let edge = json!({ "v": 1, "edge_id": EDGE, "edge_key": "ek_box",
        "edge_secret": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "api_base": "https://localhost:1",
        "mqtt": { "host": "localhost", "port": site.broker.port(), "client_id": EDGE, "username": EDGE,
                  "password": PASSWORD } });
    std::fs::write(home.path("edge.json"), edge.to_string()).unwrap();
    std::fs::copy(site.ca(), home.path("ca.pem")).unwrap();
    home.configure(&format!("[mqtt]\nkeep_alive = \"6 s\"\n{cameras}"));
    home
}

fn ask(home: &Home, command: &[&str]) -> Value {
    let out = Command::new(env!("CARGO_BIN_EXE_sentrycam"))
        .arg("--config")
        .arg(home.path("sentrycam.toml"))
        .args(command)
        .arg("--json")
        .output()
        .unwrap();
    serde_json::from_slice(&out.stdout).unwrap_or(Value::Null)
}

fn wait_status(home: &Home, seconds: u64, what: &str, done: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let waited = std::panic::AssertUnwindSafe(|| {
        wait_until(seconds, what, || {
            last = ask(home, &["status"]);
            done(&last)
        });
    });
    if std::panic::catch_unwind(waited).is_err() {
        panic!(
            "{what}; the agent's log:\n{}",
            last_words(&home.path("err"))
        );
    }
    last
}

/// A killed agent is missed after the will's delay; a stopped one says good-bye at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_will_speaks_for_a_killed_agent_and_not_for_a_stopped_one() {
    let site = Site::new().await;
    let cloud = Peer::cloud(&site.broker);
    let home = home(&site, "");
    let agent = Agent::start(&home, "info");
    wait_until(20, "online is said", || cloud.presence().len() == 1);
    let status = wait_status(&home, 30, "status says so", |s| s["link"]["state"] == "up");
    assert!(status["link"]["since_s"].is_u64(), "{status}");
    assert!(agent.stop().success());
    wait_until(30, "good-bye is said", || cloud.presence().len() == 2);

    let agent = Agent::start(&home, "info");
    wait_until(20, "online again", || cloud.presence().len() == 3);
    agent.kill();
    // 15 s of delay. The first agent's will must not come: it took it along.
    wait_until(25, "the will is published", || cloud.presence().len() == 4);
    let said = cloud.presence();
    let online: Vec<&Value> = said.iter().map(|p| &p["online"]).collect();
    assert_eq!(online, [true, false, true, false]);
    assert_eq!(said[0]["session"], said[1]["session"]);
    assert_eq!(said[2]["session"], said[3]["session"]);
    let log = std::fs::read_to_string(home.path("err")).unwrap();
    assert!(!log.contains(PASSWORD), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recording_never_notices_what_the_broker_does() {
    let site = Site::new().await;
    let home = home(
        &site,
        "[[camera]]\nid = \"a\"\ntest = true\n[camera.recording]\nmode = \"continuous\"\nsegment = \"5 s\"\n\
         [camera.motion]\nenabled = false\n",
    );
    let agent = Agent::start(&home, "info");
    wait_status(&home, 20, "it records and is linked", |s| {
        s["link"]["state"] == "up" && s["cameras"]["a"]["recording"] == true
    });
    site.broker.freeze().unwrap();
    wait_status(&home, 30, "the frozen broker is noticed", |s| {
        s["link"]["state"] != "up"
    });
    let kept = || {
        let clips = ask(&home, &["clips"]);
        let clips = clips.as_array().cloned().unwrap_or_default();
        clips.iter().filter(|c| c["state"] == "kept").count()
    };
    let before = kept();
    wait_until(30, "segments go on being kept", || kept() >= before + 2);
    let status = ask(&home, &["status"]);
    let camera = &status["cameras"]["a"];
    assert_eq!(
        (&camera["dropped"], &camera["reconnects"]),
        (&json!(0), &json!(0)),
        "{status}"
    );
    site.broker.kill();
    site.broker.start_again().unwrap();
    wait_status(&home, 40, "it is linked again", |s| {
        s["link"]["state"] == "up"
    });
    assert!(agent.stop().success());
}
