//! The whole agent where things fail: cameras that refuse, stall and come back, a clip disk that is not there.

use sentrycam_testcam::{BadCamera, Misbehaviour, Proxy, Scene, TestCamera};
use serde_json::Value;

use crate::agent::pattern;
use crate::running::Running;

#[test]
fn cameras_that_fail_are_reported_and_come_back_and_the_other_one_never_notices() {
    let good = TestCamera::start(pattern(Scene {
        quiet: 600,
        motion: 1,
    }))
    .unwrap();
    let behind = TestCamera::start(pattern(Scene {
        quiet: 600,
        motion: 1,
    }))
    .unwrap();
    let proxy = Proxy::start(behind.address()).unwrap();
    let (locked, refusing) = (
        BadCamera::start(Misbehaviour::Unauthorized).unwrap(),
        BadCamera::start(Misbehaviour::Refuse).unwrap(),
    );
    let mut config = String::new();
    for (id, url) in [
        ("good", good.url()),
        ("stalls", behind.url_at(proxy.address())),
        ("locked", locked.url()),
        ("refuses", refusing.url()),
    ] {
        config += &format!(
            "[[camera]]\nid = \"{id}\"\nurl = \"{url}\"\nstall_timeout = \"8 s\"\n[camera.recording]\nmode = \"off\"\n\
             [camera.motion]\nenabled = false\n"
        );
    }
    let agent = Running::start(&config);
    let state = |s: &Value, id: &str| s["cameras"][id]["state"].as_str().unwrap_or("").to_owned();
    let wait = |id: &'static str, wanted: &'static str| {
        agent.wait(40, &["status"], &format!("{id} is {wanted}"), |s| {
            (state(s, id) == wanted).then(|| s.clone())
        })
    };
    wait("good", "up");
    wait("stalls", "up");
    wait("locked", "down");
    wait("refuses", "down");
    proxy.stall();
    let status = wait("stalls", "down");
    assert!(
        status["cameras"]["stalls"]["reason"]
            .as_str()
            .unwrap()
            .contains("no frame"),
        "{status}"
    );
    proxy.resume();
    proxy.reset();
    wait("stalls", "up");
    let status = agent.ask(&["status"]);
    assert_eq!(status["cameras"]["good"]["reconnects"], 0);
    assert_eq!(status["cameras"]["good"]["dropped"], 0);
    assert!(
        status["cameras"]["good"]["last_frame_age_s"]
            .as_f64()
            .unwrap()
            < 8.0
    );
    assert!(
        status["cameras"]["locked"]["reason"]
            .as_str()
            .unwrap()
            .contains("password")
    );
    let count = |records: &Value, id: &str, kind: &str| {
        let kind = format!("camera.{kind}.v1");
        let of = |r: &&Value| r["subject"] == id && r["kind"] == kind;
        records.as_array().unwrap().iter().filter(of).count()
    };
    let ls = ["outbox", "ls", "-n", "500"];
    let records = agent.wait(20, &ls, "it is told that all is well", |records| {
        (count(records, "stalls", "up") == 2).then(|| records.clone())
    });
    let told = |id: &str, kind: &str| count(&records, id, kind);
    assert_eq!((told("good", "up"), told("good", "down")), (1, 0));
    // A try that the reset cut short has a reason of its own.
    assert!((1..=2).contains(&told("stalls", "down")), "{records}");
    assert_eq!(
        (told("locked", "up"), told("locked", "down")),
        (0, 1),
        "a reason is told once"
    );
}

#[test]
fn a_sub_stream_that_stalls_gives_detection_to_the_main_stream() {
    let mut options = pattern(Scene::default());
    options.sub = Some((320, 180));
    let camera = TestCamera::start(options).unwrap();
    let proxy = Proxy::start(camera.address()).unwrap();
    let sub = camera.url_at(proxy.address()).replace("/main", "/sub");
    let agent = Running::start(&format!(
        "[[camera]]\nid = \"a\"\nurl = \"{}\"\nsub_url = \"{sub}\"\nstall_timeout = \"8 s\"\n",
        camera.url()
    ));
    let moving = |s: &Value| (s["cameras"]["a"]["detection"] == "motion").then_some(());
    agent.wait(30, &["status"], "the sub-stream shows motion", moving);
    assert!(!agent.log().contains("watching the main stream"));
    proxy.stall();
    agent.wait(20, &["status"], "the main stream is watched", |_| {
        agent
            .log()
            .contains("watching the main stream")
            .then_some(())
    });
    agent.wait(20, &["status"], "the main stream shows motion", moving);
    assert_eq!(agent.ask(&["status"])["cameras"]["a"]["reconnects"], 0);
}

#[test]
fn a_clip_disk_that_is_not_mounted_is_refused_and_not_filled_under_the_mount_point() {
    let camera = TestCamera::start(pattern(Scene::default())).unwrap();
    let disk = tempfile::Builder::new()
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let point = disk.path().join("usb-stick");
    std::fs::create_dir(&point).unwrap();
    let mut agent = Running::start(&format!(
        "[spool]\ndir = \"{}\"\nrequire_mount = true\n[[camera]]\nid = \"a\"\nurl = \"{}\"\n",
        point.display(),
        camera.url()
    ));
    agent.wait(40, &["events"], "the event is reported all the same", |e| {
        e.as_array()?.first().map(|_| ())
    });
    agent.wait(20, &["status"], "the status says so", |s| {
        (s["storage"]["state"] == "missing").then_some(())
    });
    let told = |o: &Value| {
        let health = o
            .as_array()?
            .iter()
            .find(|r| r["kind"] == "agent.health.v1")?;
        assert_eq!(health["body"]["data"]["storage"]["state"], "missing");
        Some(())
    };
    agent.wait(20, &["outbox", "ls", "-n", "500"], "somebody is told", told);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(
        std::fs::read_dir(&point).unwrap().count(),
        0,
        "nothing was written under the mount point"
    );
}
