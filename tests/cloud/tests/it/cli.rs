//! The command line of commands and twins, as an operator types it.

use std::process::Output;
use std::time::Duration;

use crate::blank::Blank;
use crate::device::Device;
use base64::prelude::{BASE64_STANDARD, Engine};
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use uuid::Uuid;

fn admin(cloud: &Cloud, arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sentrycam-cloud"));
    command
        .args(["admin", "--database", &cloud.owner_url()])
        .args(arguments)
        .env("SENTRYCAM_CLOUD_KEY", BASE64_STANDARD.encode([3; 32]))
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(cloud: &Cloud, arguments: &[&str]) -> Output {
    let ran = tokio::time::timeout(Duration::from_secs(60), admin(cloud, arguments).output());
    ran.await.unwrap().unwrap()
}

async fn said(cloud: &Cloud, arguments: &[&str]) -> Value {
    let output = run(cloud, arguments).await;
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {err}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Takes the next command of the device, says these states, and returns its claims.
async fn answer(device: &Device, states: &[(&str, Value)]) -> Value {
    let claims = loop {
        if let Some(claims) = device.commands("").await.pop() {
            break claims;
        }
    };
    let id: Uuid = serde_json::from_value(claims["jti"].clone()).unwrap();
    for (rev, (state, more)) in (1..).zip(states) {
        let said = device.status(rev as u64, id, rev, state, more.clone());
        device.events(&[said]).await.statuses();
    }
    claims
}

#[tokio::test]
async fn send_waits_for_the_end_and_its_exit_says_how_it_was() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = device.credentials.edge_id.as_str();
    let send = [
        "send",
        edge_id,
        "snapshot",
        "--args",
        "{\"camera_id\": \"a\"}",
        "--expires-in",
        "2m",
        "--wait",
        "--json",
    ];
    let steps = [
        ("acknowledged", json!({})),
        ("in_progress", json!({ "progress": "half" })),
        ("succeeded", json!({ "result": { "bytes": 7 } })),
    ];
    let (sent, claims) = tokio::join!(run(&cloud, &send), answer(&device, &steps));
    let err = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(sent.status.success(), "{err}");
    let args = &claims["cmd"]["args"];
    let named: Uuid = serde_json::from_value(args["snapshot_id"].clone()).unwrap();
    assert!(err.contains(&format!("snapshot_id {named}")), "{err}");
    assert_eq!(args["camera_id"], "a");
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        120
    );
    assert!(err.contains("succeeded"), "{err}");
    let shown: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(
        (&shown["status"], &shown["result"]["bytes"]),
        (&json!("succeeded"), &json!(7))
    );

    // A device whose words begin anew in a new epoch.
    let mut device = device.clone();
    device.epoch = Uuid::now_v7();
    let rejected = [(
        "rejected",
        json!({ "code": "unsupported", "detail": "no such type" }),
    )];
    let send = [
        "send",
        device.credentials.edge_id.as_str(),
        "dance",
        "--wait",
    ];
    let (sent, _) = tokio::join!(run(&cloud, &send), answer(&device, &rejected));
    let err = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(
        !sent.status.success() && err.contains("ended rejected"),
        "{err}"
    );
    assert!(err.contains("unsupported no such type"), "{err}");

    let edge_id = device.credentials.edge_id.as_str();
    let queued = said(&cloud, &["send", edge_id, "reboot", "--json"]).await;
    let id = queued["id"].as_str().unwrap();
    let again = said(&cloud, &["command", id, "--json"]).await;
    assert_eq!(again["status"], "queued");
    assert_eq!(
        said(&cloud, &["cancel", id, "--json"]).await["status"],
        "canceled"
    );
    assert!(!run(&cloud, &["cancel", id]).await.status.success());
    let listed = run(&cloud, &["commands"]).await;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        ["dance", "reboot", "canceled", "rejected"]
            .iter()
            .all(|word| listed.contains(word)),
        "{listed}"
    );
    for wrong in [
        vec!["send", "e-nobody", "reboot"],
        vec!["send", edge_id, "Re boot"],
        vec!["send", edge_id, "reboot", "--args", "{"],
        vec!["send", edge_id, "reboot", "--args", "[]"],
        vec!["send", edge_id, "reboot", "--expires-in", "9 weeks"],
        vec!["send", edge_id, "reboot", "--expires-in", "0s"],
        vec!["command", "019af5d8-7a00-7000-8000-0000000000d1"],
    ] {
        let output = run(&cloud, &wrong).await;
        assert!(!output.status.success(), "{wrong:?}");
        assert!(
            !output.stderr.is_empty() && output.stdout.is_empty(),
            "{wrong:?}"
        );
    }
}

#[tokio::test]
async fn twins_and_policies_are_set_and_shown() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = device.credentials.edge_id.as_str();
    let set = said(
        &cloud,
        &["set-twin", edge_id, "{\"motion\": {\"fps\": 7}}", "--json"],
    )
    .await;
    assert_eq!(
        (&set["version"], &set["doc"]["motion"]["fps"]),
        (&json!(1), &json!(7))
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "canary-of-the-gate\n").unwrap();
    let camera = "{\"url\": \"rtsp://192.0.2.7/\", \"user\": \"admin\"}";
    let path = file.to_string_lossy().into_owned();
    let output = run(
        &cloud,
        &[
            "set-camera",
            edge_id,
            "gate",
            camera,
            "--password-file",
            &path,
        ],
    )
    .await;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && shown.contains("***") && !shown.contains("canary"),
        "{shown}"
    );
    let policy =
        "{\"name\": \"night\", \"modules\": [\"motion\"], \"thresholds\": {\"motion\": 0.5}}";
    let made = said(
        &cloud,
        &["set-policy", "--organization", "Test", policy, "--json"],
    )
    .await;
    assert_eq!(
        said(&cloud, &["policies", "--json"]).await[0]["name"],
        "night"
    );
    let twin = said(&cloud, &["twin", edge_id, "--json"]).await;
    assert_eq!(
        (&twin["version"], &twin["doc"]["policies"][0]["id"]),
        (&json!(3), &made["id"])
    );
    said(
        &cloud,
        &["remove-policy", made["id"].as_str().unwrap(), "--json"],
    )
    .await;
    let twin = said(&cloud, &["remove-camera", edge_id, "gate", "--json"]).await;
    assert_eq!(
        twin["doc"],
        json!({ "motion": { "fps": 7 }, "cameras": [] })
    );
    assert!(
        !run(&cloud, &["set-twin", edge_id, "{\"shell\": {}}"])
            .await
            .status
            .success()
    );
}

#[tokio::test]
async fn an_operator_goes_from_code_to_unclaim_in_json() {
    let cloud = Cloud::start().await.unwrap();
    let code = [
        "create-claim-code",
        "--organization",
        "Test",
        "--device-name",
        "porch",
        "--json",
    ];
    let code = said(&cloud, &code).await["claim_code"].clone();
    assert_eq!(code.as_str().unwrap().len(), 9);
    let codes = said(&cloud, &["claim-codes", "--json"]).await;
    assert_eq!(codes[0]["status"], "active");
    assert!(!codes.to_string().contains(code.as_str().unwrap()));
    assert_eq!(said(&cloud, &["claims", "--json"]).await, json!([]));
    let nothing = run(&cloud, &["claims"]).await;
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("button"));

    let blank = Blank::new(&cloud, "10000000abcd1234");
    let window = blank.open().await;
    let id = window.id.to_string();
    let windows = said(&cloud, &["claims", "--json"]).await;
    assert_eq!(
        (&windows[0]["claim_id"], &windows[0]["serial_ends_with"]),
        (&json!(id), &json!("1234"))
    );
    let bound = said(&cloud, &["bind", &id, "--organization", "Test", "--json"]).await;
    let press = u8::try_from(bound["press"].as_u64().unwrap()).unwrap();
    let challenge = blank.poll(&window).await.body["challenge_id"].clone();
    assert_eq!(blank.count(&window, &challenge, press).await.status, 200);
    let device = blank.finish(&window).await;
    let edge_id = device.credentials.edge_id.as_str();
    let devices = said(&cloud, &["devices", "--json"]).await;
    assert_eq!(
        (&devices[0]["edge_id"], &devices[0]["unclaim_due"]),
        (&json!(edge_id), &Value::Null)
    );
    let license = run(&cloud, &["license", "--organization", "Test"]).await;
    let license = String::from_utf8_lossy(&license.stdout).into_owned();
    assert!(
        license.starts_with("no licence: 1 of 1000 boxes"),
        "{license}"
    );

    let rotate = said(&cloud, &["rotate", edge_id, "--json"]).await;
    assert_eq!(rotate["command_type"], "key.rotate");
    let sent = said(&cloud, &["unclaim", edge_id, "--wipe", "all", "--json"]).await;
    assert_eq!(
        (&sent["command_type"], &sent["payload"]["wipe"]),
        (&json!("unclaim"), &json!("all"))
    );
    let devices = said(&cloud, &["devices", "--json"]).await;
    assert!(devices[0]["unclaim_due"].is_string());
    let now = said(&cloud, &["unclaim", edge_id, "--now", "--json"]).await;
    assert_eq!(now["status"], "unclaimed");
    let revoked = said(&cloud, &["revoke", edge_id, "--json"]).await;
    assert_eq!(revoked["keys"], "revoked");
    let suspended = said(&cloud, &["suspend", "--organization", "Test", "--json"]).await;
    assert_eq!(suspended["status"], "suspended");

    // One line that says what is wrong, whatever the environment asks for.
    let wrong = admin(&cloud, &["unclaim", "e-nobody"])
        .env("RUST_BACKTRACE", "1")
        .output();
    let wrong = wrong.await.unwrap();
    assert_eq!(
        (
            wrong.status.code(),
            String::from_utf8_lossy(&wrong.stderr).as_ref()
        ),
        (Some(1), "error: there is no such device\n")
    );
    // A reader that has seen enough is no error.
    let mut gone = admin(&cloud, &["audit", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(gone.stdout.take());
    let gone = gone.wait_with_output().await.unwrap();
    assert!(gone.status.success() && gone.stderr.is_empty());
}

#[tokio::test]
async fn evidence_is_listed_with_its_address_and_sessions_are_started_and_stopped() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let id = Uuid::now_v7();
    let opened = json!({ "recording_id": id, "camera_id": "a", "started_at": "2026-11-21T02:00:00Z", "rev": 1 });
    device
        .events(&[device.record("recording.opened", 1, opened)])
        .await
        .statuses();
    cloud
        .execute("update recordings set status = 'available', object_key = 'o/d/recordings/x.mp4', available_at = now()")
        .await
        .unwrap();
    let listed = said(&cloud, &["recordings", "--json"]).await;
    assert_eq!(
        (&listed[0]["status"], &listed[0]["url"]),
        (&json!("available"), &Value::Null)
    );
    let mut command = admin(&cloud, &["recordings", "--json"]);
    command
        .env("SENTRYCAM_CLOUD_S3_ENDPOINT", "https://media.example.com")
        .env("SENTRYCAM_CLOUD_S3_ACCESS_KEY", "AK")
        .env("SENTRYCAM_CLOUD_S3_SECRET_KEY", "canary-secret");
    let output = command.output().await.unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let url = listed[0]["url"].as_str().unwrap();
    assert!(
        url.starts_with("https://media.example.com/sentrycam/o/d/recordings/x.mp4?X-Amz-"),
        "{url}"
    );
    assert!(!url.contains("canary"));

    let edge_id = device.credentials.edge_id.as_str();
    let start = [
        "start-stream",
        edge_id,
        "a",
        "srt://live.example.com:9000",
        "--lease",
        "1m",
        "--json",
    ];
    let started = said(&cloud, &start).await;
    assert_eq!(
        (&started["status"], &started["protocol"]),
        (&json!("requested"), &json!("srt"))
    );
    assert!(!run(&cloud, &start).await.status.success());
    let session = started["id"].as_str().unwrap();
    said(
        &cloud,
        &["renew-stream", session, "--lease", "2m", "--json"],
    )
    .await;
    said(&cloud, &["stop-stream", session, "--json"]).await;
    let listed = said(&cloud, &["streams", "--json"]).await;
    assert_eq!(listed[0]["id"], session);

    let url = "https://hooks.example.com/";
    let make = [
        "create-webhook",
        "--organization",
        "Test",
        "--url",
        url,
        "--json",
    ];
    let made = said(&cloud, &make).await;
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    assert!(
        run(&cloud, &["disable-webhook", made["id"].as_str().unwrap()])
            .await
            .status
            .success()
    );
    let listed = said(&cloud, &["webhooks", "--json"]).await;
    assert_eq!(
        (&listed[0]["url"], &listed[0]["is_active"]),
        (&json!(url), &json!(false))
    );
    for listing in [
        "uploads",
        "snapshots",
        "notifications",
        "deliveries",
        "alerts",
    ] {
        assert_eq!(
            said(&cloud, &[listing, "--json"]).await,
            json!([]),
            "{listing}"
        );
        assert!(run(&cloud, &[listing]).await.status.success());
    }
}

#[tokio::test]
async fn serve_starts_a_private_storage_and_tells_the_shell() {
    let cloud = Cloud::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let tls = cloud.ca_path().parent().unwrap().to_owned();
    let (objects, ready) = (directory.path().join("s3"), directory.path().join("ready"));
    let mut server = tokio::process::Command::new(env!("CARGO_BIN_EXE_sentrycam-cloud"))
        .args(["serve", "--database", &cloud.app_url()])
        .arg("--tls-cert")
        .arg(tls.join("cert.pem"))
        .arg("--tls-key")
        .arg(tls.join("key.pem"))
        .arg("--s3-ca")
        .arg(cloud.ca_path())
        .arg("--s3-dir")
        .arg(&objects)
        .arg("--ready-file")
        .arg(&ready)
        .env("SENTRYCAM_CLOUD_KEY", BASE64_STANDARD.encode([3; 32]))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while !ready.exists() {
        assert!(tokio::time::Instant::now() < until && server.try_wait().unwrap().is_none());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let text = std::fs::read_to_string(objects.join("env")).unwrap();
    let endpoint = text
        .lines()
        .find_map(|line| line.strip_prefix("export SENTRYCAM_CLOUD_S3_ENDPOINT="));
    let (endpoint, http) = (endpoint.unwrap(), crate::device::client(&cloud));
    // Nobody without a signature.
    let refused = http
        .get(format!("{endpoint}/sentrycam/"))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status().as_u16(), 403);
    assert!(objects.join("objects/sentrycam").is_dir());
    let hosts = cloud
        .query("select upload_hosts from storage_settings")
        .await
        .unwrap();
    assert_eq!(hosts[0]["upload_hosts"], json!(["localhost"]));
    server.start_kill().unwrap();
    server.wait().await.unwrap();
}
