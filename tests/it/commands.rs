//! Commands end to end: the cloud's operator sends one, the real agent fetches it by poll, and its end is in PostgreSQL;
//! and whatever moment the agent is killed at, each has exactly one end.

use std::process::Command;
use std::time::Duration;

use sentrycam::model::Sha256;
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{ffprobe, wait_until};
use crate::process::{Agent, Home, last_words};

const CAMERA: &str = "[[camera]]\nid = \"cam\"\ntest = true\n[camera.recording]\nmode = \"off\"\n\
                      [camera.motion]\nenabled = false\n";
const SECONDS: Duration = Duration::from_secs(40);

struct Site {
    cloud: Cloud,
    home: Home,
    edge_id: String,
}

impl Site {
    async fn new() -> Site {
        let cloud = Cloud::start().await.unwrap();
        let home = Home::new();
        let file = home.path("edge.json");
        let credentials = cloud.write_credentials("box", &file).await.unwrap();
        std::fs::write(home.path("ca.pem"), cloud.ca_pem()).unwrap();
        home.configure(CAMERA);
        Site {
            cloud,
            home,
            edge_id: credentials.edge_id,
        }
    }

    async fn send(&self, word: &str, args: Value) -> Uuid {
        let wanted = Wanted::new(word, args);
        let sent = self
            .cloud
            .send_command(&self.edge_id, wanted)
            .await
            .unwrap();
        sent["id"].as_str().unwrap().parse().unwrap()
    }

    /// The end of a command in PostgreSQL.
    async fn end(&self, id: Uuid) -> Value {
        let ended = self.cloud.wait_command(id, SECONDS).await;
        ended.unwrap_or_else(|e| panic!("{e:?}\n{}", last_words(&self.home.path("err"))))
    }

    async fn run(&self, word: &str, args: Value) -> Value {
        let id = self.send(word, args).await;
        self.end(id).await
    }

    async fn camera_is_up(&self, times: usize) {
        let up =
            format!("select count(*) >= {times} from edge_records where type like '%camera.up%'");
        self.cloud.wait_for(&up, SECONDS).await.unwrap();
    }

    /// The ends of a command that the device told of, and the states of its row there.
    async fn told_ends(&self, id: Uuid) -> Vec<String> {
        let sql = format!(
            "select record -> 'data' ->> 'state' as state from edge_records
             where type like '%command.status%' and record -> 'data' ->> 'command_id' = '{id}'
             and record -> 'data' ->> 'state' not in ('acknowledged', 'in_progress')"
        );
        let rows = self.cloud.query(&sql).await.unwrap();
        rows.iter()
            .map(|r| r["state"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cloud_asks_is_done_and_its_end_is_in_postgres() {
    let site = Site::new().await;
    let agent = Agent::start(&site.home, "info");
    site.camera_is_up(1).await;

    let snapshot = Uuid::now_v7();
    let args = json!({ "camera_id": "cam", "snapshot_id": snapshot, "max_width": 160 });
    let done = site.run("snapshot", args.clone()).await;
    assert_eq!(
        (&done["status"], &done["error"]),
        (&json!("succeeded"), &Value::Null),
        "{done}"
    );
    assert_eq!(done["result"]["width"], 160);
    let picture = site
        .home
        .path("clips")
        .join(done["result"]["path_name"].as_str().unwrap());
    let (sha256, size) = Sha256::of_reader(std::fs::File::open(&picture).unwrap()).unwrap();
    assert_eq!(done["result"]["sha256"], sha256.to_string());
    assert_eq!(done["result"]["size_bytes"], size);
    assert!(std::fs::read(&picture).unwrap().starts_with(&[0xff, 0xd8]));
    let taken = format!(
        "select count(*) = 1 from edge_records where type like '%snapshot.taken%'
                         and record -> 'data' ->> 'snapshot_id' = '{snapshot}'"
    );
    site.cloud.wait_for(&taken, SECONDS).await.unwrap();
    let small = json!({ "camera_id": "cam", "snapshot_id": Uuid::now_v7(), "max_width": 160, "quality": 5 });
    let small = site.run("snapshot", small).await;
    assert_eq!(
        (&small["status"], &small["result"]["width"]),
        (&json!("succeeded"), &json!(160))
    );
    assert!(
        small["result"]["size_bytes"].as_u64() < Some(size),
        "{small}"
    );

    let recording = Uuid::now_v7();
    let args = json!({ "camera_id": "cam", "recording_id": recording, "max_duration_s": 3600 });
    assert_eq!(
        site.run("recording.start", args).await["status"],
        "succeeded"
    );
    let second = json!({ "camera_id": "cam", "recording_id": Uuid::now_v7(), "max_duration_s": 9 });
    let busy = site.run("recording.start", second).await;
    assert_eq!(
        (&busy["status"], &busy["code"]),
        (&json!("failed"), &json!("busy")),
        "{busy}"
    );
    let stopped = site
        .run("recording.stop", json!({ "recording_id": recording }))
        .await;
    assert_eq!(
        (&stopped["status"], &stopped["result"]["closed"]),
        (&json!("succeeded"), &json!(true)),
        "{stopped}"
    );
    let kept = format!(
        "(select status = 'awaiting_upload' and mode = 'manual' from recordings where recording_uid = '{recording}')"
    );
    site.cloud.wait_for(&kept, SECONDS).await.unwrap();
    let clip = ffprobe(&site.home.path(&format!("clips/cam/{recording}.mp4")));
    assert!(clip.frames > 5 && clip.first_is_key, "{clip:?}");

    // One that ends by itself.
    let short = Uuid::now_v7();
    let args = json!({ "camera_id": "cam", "recording_id": short, "max_duration_s": 1 });
    assert_eq!(
        site.run("recording.start", args).await["status"],
        "succeeded"
    );
    let kept = format!(
        "(select duration_ms between 900 and 10000 from recordings where recording_uid = '{short}')"
    );
    site.cloud.wait_for(&kept, SECONDS).await.unwrap();

    let mut sent = Vec::new();
    for (word, args, status, code) in [
        ("sync.now", json!({}), "succeeded", Value::Null),
        (
            "diag.collect",
            json!({ "parts": ["status", "log", "db"] }),
            "succeeded",
            Value::Null,
        ),
        (
            "recording.stop",
            json!({ "recording_id": Uuid::now_v7() }),
            "failed",
            json!("not-found"),
        ),
        (
            "recording.lock",
            json!({ "recording_id": recording }),
            "succeeded",
            Value::Null,
        ),
        (
            "recording.lock",
            json!({ "recording_id": Uuid::now_v7() }),
            "failed",
            json!("not-found"),
        ),
        (
            "snapshot",
            json!({ "camera_id": "cam", "snapshot_id": snapshot }),
            "rejected",
            json!("duplicate"),
        ),
        (
            "snapshot",
            json!({ "camera_id": "no", "snapshot_id": Uuid::now_v7() }),
            "failed",
            json!("no-camera"),
        ),
        (
            "reboot",
            json!({ "delay_s": 301 }),
            "rejected",
            json!("args"),
        ),
        (
            "exec",
            json!({ "cmd": "id" }),
            "rejected",
            json!("unsupported"),
        ),
    ] {
        sent.push((site.send(word, args).await, word, status, code));
    }
    for (id, word, status, code) in sent {
        let ended = site.end(id).await;
        assert_eq!(
            (&ended["status"], &ended["code"]),
            (&json!(status), &code),
            "{word}: {ended}"
        );
    }

    let out = Command::new(env!("CARGO_BIN_EXE_sentrycam"))
        .arg("--config")
        .arg(site.home.path("sentrycam.toml"))
        .args(["commands", "--json"])
        .output()
        .unwrap();
    let listed: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(listed.len(), 15);
    assert_eq!(
        (&listed[0]["state"], &listed[0]["way"]),
        (&json!("rejected"), &json!("poll"))
    );
    assert!(agent.stop().success());
}

/// The places of the way at which the agent dies, and what becomes then of a command that may run twice, and of one
/// that may not.
const PLACES: [(&str, &str, &str); 5] = [
    ("command.before-row", "succeeded", "succeeded"),
    ("command.after-row", "succeeded", "succeeded"),
    ("command.begun", "succeeded", "failed"),
    ("command.acted", "succeeded", "succeeded"),
    ("command.ended", "succeeded", "succeeded"),
];

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_transition_a_command_has_exactly_one_end() {
    let site = Site::new().await;
    let mut lives = 0;
    for (place, twice, once) in PLACES {
        for (word, expected) in [
            ("snapshot", twice),
            ("sync.now", twice),
            ("recording.start", once),
        ] {
            let target = Uuid::now_v7();
            let args = match word {
                "snapshot" => json!({ "camera_id": "cam", "snapshot_id": target }),
                "recording.start" => {
                    json!({ "camera_id": "cam", "recording_id": target, "max_duration_s": 2 })
                }
                _ => json!({}),
            };
            let mut dying = Agent::start_with(&site.home, "info", &[("SENTRYCAM_FAIL_AT", place)]);
            lives += 1;
            site.camera_is_up(lives).await;
            let id = site.send(word, args).await;
            wait_until(40, "the agent dies", || !dying.runs());
            let agent = Agent::start(&site.home, "info");
            lives += 1;
            site.camera_is_up(lives).await;
            let ended = site.end(id).await;
            let found = ended["status"].as_str().unwrap();
            // A recording's row may not be on disk yet when the process dies after the act.
            assert_eq!(found, expected, "{word} at {place}: {ended}");
            if found == "failed" {
                assert_eq!(ended["code"], "interrupted");
            }
            assert!(agent.stop().success());
            assert_eq!(site.told_ends(id).await, [expected], "{word} at {place}");
            let rows = format!(
                "select count(*) from commands where lower(hex(id)) = '{}'",
                id.simple()
            );
            assert_eq!(site.home.number(&rows), Some(1));
            let late = site.cloud.command(id).await.unwrap()["late_status"].clone();
            assert_eq!(late, Value::Null);
        }
    }
}
