//! The real agent: motion seen by a real camera becomes an object that plays; kill -9 while parts are under way; commands.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::faults::Rule;
use sentrycam_cloud::faults::storage::What;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Scene, TestCamera};
use serde_json::json;

use crate::agent::{EXCLUDE_COUNTER, pattern};
use crate::fixture::{ffprobe, wait_until};
use crate::process::{Agent, Home, last_words};
use crate::upload_site::prepare;

const SOON: Duration = Duration::from_secs(90);
const ALLOWED: &str = "allow_private = [\"127.0.0.0/8\", \"::1\"]\n";

pub async fn device(cloud: &Cloud, cameras: &str) -> (Home, String) {
    let home = Home::new();
    let file = home.path("edge.json");
    let edge_id = cloud.write_credentials("box", &file).await.unwrap().edge_id;
    std::fs::write(home.path("ca.pem"), cloud.ca_pem()).unwrap();
    home.configure(&format!("{ALLOWED}{cameras}"));
    (home, edge_id)
}

pub async fn wait(cloud: &Cloud, home: &Home, condition: &str) {
    if let Err(e) = cloud.wait_for(condition, SOON).await {
        panic!("{e:#}\n{}", last_words(&home.path("err")));
    }
}

/// The first clip that is available, fetched from the storage.
async fn fetched(cloud: &Cloud, home: &Home) -> std::path::PathBuf {
    let sql = "select bucket, object_key, sha256, size_bytes from recordings where status = 'available' limit 1";
    let row = cloud.query(sql).await.unwrap().remove(0);
    let (bucket, key) = (
        row["bucket"].as_str().unwrap(),
        row["object_key"].as_str().unwrap(),
    );
    let bytes = cloud.objects().unwrap().read(bucket, key).unwrap().unwrap();
    assert_eq!(row["size_bytes"], bytes.len());
    let path = home.path("fetched.mp4");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn motion_becomes_a_row_that_is_available_and_an_object_that_plays() {
    let cloud = Cloud::builder().storage().start().await.unwrap();
    let scene = Scene {
        quiet: 6,
        motion: 3,
    };
    let camera = TestCamera::start(pattern(scene)).unwrap();
    let (home, edge_id) = device(
        &cloud,
        &format!(
            "[[camera]]\nid = \"cam\"\nurl = \"{}\"\n[camera.recording]\npre_roll = \"1 s\"\npost_roll = \"1 s\"\n[camera.motion]\n{EXCLUDE_COUNTER}",
            camera.url()
        ),
    )
    .await;
    let agent = Agent::start(&home, "info");
    wait(&cloud, &home, "select count(*) >= 1 from recordings where status = 'available' and mode = 'motion' and available_at is not null").await;
    let probe = ffprobe(&fetched(&cloud, &home).await);
    assert!(probe.frames > 15, "{} frames", probe.frames);

    // Pictures go the same way.
    let id = uuid::Uuid::now_v7();
    let args = json!({ "camera_id": "cam", "snapshot_id": id, "max_width": 320 });
    cloud
        .send_command(&edge_id, Wanted::new("snapshot", args))
        .await
        .unwrap();
    wait(&cloud, &home, &format!("select count(*) = 1 from snapshots where snapshot_uid = '{id}' and status = 'available'")).await;
    assert_eq!(agent.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_policy_keeps_is_fetched_by_command_and_a_lock_is_told() {
    let cloud = Cloud::builder().storage().start().await.unwrap();
    let (home, edge_id) = device(
        &cloud,
        "[[camera]]\nid = \"cam\"\ntest = true\n[camera.recording]\nmode = \"continuous\"\nsegment = \"5 s\"\nupload = \"on_demand\"\n",
    )
    .await;
    let agent = Agent::start(&home, "info");
    wait(
        &cloud,
        &home,
        "select count(*) >= 1 from recordings where status = 'awaiting_upload'",
    )
    .await;
    let local = "select count(*) from recordings where upload = 'local'";
    wait_until(30, "policy keeps it here", || home.number(local) >= Some(1));
    let sql =
        "select recording_uid::text as id from recordings where status = 'awaiting_upload' limit 1";
    let id = cloud.query(sql).await.unwrap()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let command = async |kind: &str, args| {
        let sent = cloud
            .send_command(&edge_id, Wanted::new(kind, args))
            .await
            .unwrap();
        let end = cloud
            .wait_command(sent["id"].as_str().unwrap().parse().unwrap(), SOON)
            .await;
        end.unwrap_or_else(|e| panic!("{e:?}\n{}", last_words(&home.path("err"))))
    };
    let end = command("recording.upload", json!({ "recording_id": id })).await;
    assert_eq!(
        (&end["status"], &end["result"]["status"]),
        (&json!("succeeded"), &json!("queued")),
        "{end}"
    );
    wait(&cloud, &home, &format!("select count(*) = 1 from recordings where recording_uid = '{id}' and status = 'available'")).await;
    ffprobe(&fetched(&cloud, &home).await);
    for locked in [true, false] {
        let end = command(
            "recording.lock",
            json!({ "recording_id": id, "locked": locked }),
        )
        .await;
        assert_eq!(end["status"], "succeeded", "{end}");
        wait(&cloud, &home, &format!("select count(*) = 1 from recordings where recording_uid = '{id}' and is_locked = {locked}")).await;
    }
    // A person at the machine is heard of, too.
    for (word, locked) in [("lock", true), ("unlock", false)] {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_sentrycam"))
            .arg("--config")
            .arg(home.path("sentrycam.toml"))
            .args(["clips", word, &id])
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        wait(&cloud, &home, &format!("select count(*) = 1 from recordings where recording_uid = '{id}' and is_locked = {locked}")).await;
    }
    assert_eq!(agent.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_while_parts_are_under_way_it_sends_at_most_one_part_again() {
    let cloud = Cloud::builder().storage().start().await.unwrap();
    let (home, _) = device(&cloud, "[upload]\nmax_kbps = \"off\"\n").await;
    let clip = prepare(home.0.path(), &[33 << 20]).await.remove(0);
    let faults = cloud.objects().unwrap().faults().clone();
    faults.set(vec![Rule::always("PUT /", What::Slow { rate: 3 << 20 })]);
    let mut agent = Agent::start(&home, "info");
    let parts = || {
        faults
            .seen()
            .iter()
            .filter(|s| s.part.is_some() && s.status == Some(200))
            .count()
    };
    for kill in 0..3 {
        let before = parts();
        wait_until(90, "parts arrive", || parts() > before);
        kill_process(Pid::from_raw(agent.pid() as i32).unwrap(), Signal::KILL).unwrap();
        agent.kill();
        println!("killed {kill}");
        agent = Agent::start(&home, "info");
    }
    faults.clear();
    wait(
        &cloud,
        &home,
        "select count(*) = 1 from uploads where status = 'available'",
    )
    .await;
    let rows = cloud
        .query("select bucket, object_key from uploads where status = 'available'")
        .await
        .unwrap();
    let (bucket, key) = (
        rows[0]["bucket"].as_str().unwrap(),
        rows[0]["object_key"].as_str().unwrap(),
    );
    assert!(cloud.objects().unwrap().read(bucket, key).unwrap().unwrap() == clip.bytes);
    let mut taken = std::collections::BTreeMap::new();
    for put in faults
        .seen()
        .iter()
        .filter(|s| s.part.is_some() && s.status == Some(200))
    {
        *taken.entry((put.path.clone(), put.part)).or_insert(0) += 1;
    }
    let twice = taken.values().filter(|n| **n > 1).count();
    // A part that was taken while the process died is there all the same.
    assert_eq!(twice, 0, "{taken:?}");
    assert_eq!(agent.stop().code(), Some(0));
}
