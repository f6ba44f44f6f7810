//! The cloud's end of the broker, played by a library that we did not write: PyPI `paho-mqtt`, over TLS.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use sentrycam::model::Class;
use serde_json::{Value, json};

use crate::fixture::wait_until;
use crate::foreign::python;
use crate::mqtt_site::{EDGE, Site, device, put_state};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_foreign_cloud_commands_and_hears_the_device() {
    let python = tokio::task::spawn_blocking(python).await.unwrap();
    let site = Site::new().await;
    let mut child = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/mqtt_cloud.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let login = site.broker.cloud();
    let about = json!({ "port": site.broker.port(), "ca": site.ca(), "username": login.username,
                        "password": login.password, "edge_id": EDGE });
    writeln!(child.stdin.take().unwrap(), "{about}").unwrap();
    let said: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (lines, sink) = (
        BufReader::new(child.stdout.take().unwrap()),
        Arc::clone(&said),
    );
    let reader = std::thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            sink.lock()
                .unwrap()
                .push(serde_json::from_str(&line).unwrap());
        }
    });
    let heard = |end: &str| -> Vec<Value> {
        let said = said.lock().unwrap();
        let on = |v: &&Value| v["topic"].as_str().is_some_and(|t| t.ends_with(end));
        said.iter().filter(on).cloned().collect()
    };
    wait_until(30, "paho listens", || !said.lock().unwrap().is_empty());

    let device = device();
    let link = site.link(&device);
    link.reported
        .send_modify(|r| r.body = serde_json::json!({ "desired": 1, "applied": 1 }));
    link.up(1);
    wait_until(30, "its commands came", || link.commands.texts().len() == 3);
    let wanted = [0, 1, 2].map(|n| format!("header.command-{n}.mac"));
    assert_eq!(link.commands.texts(), wanted);
    wait_until(30, "its twin came", || {
        link.twin.texts() == ["header.twin.mac"]
    });
    let poke = tokio::time::timeout(std::time::Duration::from_secs(30), link.poke.notified());
    poke.await.expect("its poke came");

    let (id, topic) = put_state(&device, EDGE).await;
    wait_until(30, "it heard the state", || heard("/status").len() == 1);
    let alarm = device.put(Class::Alarm, "motion.started", json!({})).await;
    wait_until(30, "it heard the alarm", || heard("/up/hint").len() == 1);
    wait_until(30, "it heard the twin", || heard("/up/twin").len() == 1);
    assert!(link.stop().await);
    let mut ended = None;
    wait_until(30, "it heard the good-bye", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success());
    reader.join().unwrap();

    let state = &heard("/status")[0];
    assert_eq!((&state["topic"], &state["qos"]), (&json!(topic), &json!(1)));
    assert_eq!(state["payload"]["id"], id.to_string());
    let hint = &heard("/up/hint")[0];
    assert_eq!(
        (&hint["payload"]["id"], &hint["qos"]),
        (&json!(alarm.to_string()), &json!(0))
    );
    assert_eq!(heard("/up/twin")[0]["payload"]["applied"], 1);
    let presence: Vec<Value> = heard("/up/state");
    assert_eq!(presence.len(), 2);
    assert_eq!(presence[1]["payload"]["online"], false);
}
