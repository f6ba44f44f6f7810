//! The admin API and the command line.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::device::{Device, client};
use base64::prelude::{BASE64_STANDARD, Engine};
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

async fn get(cloud: &Cloud, key: &str, path: &str) -> (u16, Value) {
    let url = format!("{}{path}", cloud.api_base());
    let response = client(cloud)
        .get(url)
        .bearer_auth(key)
        .send()
        .await
        .unwrap();
    let status = response.status().as_u16();
    (
        status,
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap(),
    )
}

async fn post(cloud: &Cloud, key: &str, body: &str) -> (u16, Value) {
    let url = format!("{}/admin/v1/devices", cloud.api_base());
    let request = client(cloud)
        .post(url)
        .bearer_auth(key)
        .body(body.to_owned());
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (
        status,
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap(),
    )
}

#[tokio::test]
async fn a_key_lists_its_own_organization() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    device
        .events(&[device.record("camera.up", 1, json!({ "camera_id": "cam-1", "rev": 1 }))])
        .await;
    let second = cloud.create_organization("Second").await.unwrap();
    cloud.create_device_of(second, "theirs").await.unwrap();
    let key = cloud.create_api_key("viewer").await.unwrap();
    let (status, listed) = get(&cloud, &key, "/admin/v1/devices").await;
    assert_eq!(
        (status, listed["devices"].as_array().unwrap().len()),
        (200, 1)
    );
    assert_eq!(listed["devices"][0]["edge_id"], device.credentials.edge_id);
    for listing in [
        "cameras",
        "events",
        "recordings",
        "alerts",
        "records",
        "audit",
    ] {
        let (status, listed) = get(&cloud, &key, &format!("/admin/v1/{listing}?limit=5")).await;
        assert!(
            status == 200 && listed[listing].is_array(),
            "{listing}: {listed}"
        );
    }
    assert_eq!(get(&cloud, &key, "/admin/v1/users").await.0, 404);
    assert_eq!(get(&cloud, "ca_wrong", "/admin/v1/devices").await.0, 401);
    assert_eq!(post(&cloud, &key, r#"{"name": "x"}"#).await.0, 403);
    let used = cloud
        .query("select last_used_at, key_hash from api_keys")
        .await
        .unwrap();
    assert!(used[0]["last_used_at"].is_string());
    assert!(!used[0]["key_hash"].as_str().unwrap().contains(&key));
    cloud
        .execute("update api_keys set expires_at = now()")
        .await
        .unwrap();
    assert_eq!(get(&cloud, &key, "/admin/v1/devices").await.0, 401);
}

#[tokio::test]
async fn an_admin_key_makes_a_device_that_works() {
    let cloud = Cloud::start().await.unwrap();
    let key = cloud.create_api_key("admin").await.unwrap();
    assert_eq!(post(&cloud, &key, r#"{"name": ""}"#).await.0, 400);
    let (status, made) = post(&cloud, &key, r#"{"name": "garage"}"#).await;
    assert_eq!(status, 201);
    let secret = BASE64_STANDARD
        .decode(made["edge_secret"].as_str().unwrap())
        .unwrap();
    let mut device = Device::new(&cloud, "other").await;
    device.credentials.edge_id = made["edge_id"].as_str().unwrap().to_owned();
    device.credentials.edge_key = made["edge_key"].as_str().unwrap().to_owned();
    device.credentials.edge_secret =
        sentrycam_cloud::secret::Secret::new(secret.try_into().unwrap());
    let answer = device.get("/edge/v1/time").await;
    assert!(answer.status == 200 && answer.is_signed(&device.credentials));
}

fn run(arguments: &[&str], key: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sentrycam-cloud"))
        .args(arguments)
        .env("SENTRYCAM_CLOUD_KEY", key)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone())
        .unwrap()
        .trim()
        .to_owned()
}

/// Everything by hand: certificate, organization, device, server, SIGTERM.
#[tokio::test]
async fn the_program_serves_and_administers() {
    let cloud = Cloud::start().await.unwrap();
    let (owner, app) = (cloud.owner_url(), cloud.app_url());
    let key = BASE64_STANDARD.encode([3; 32]);
    let directory = tempfile::TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    said(&run(&["dev-cert", "--dir", &path("tls")], &key));
    let mode = std::fs::metadata(path("tls/key.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let status = said(&run(&["migrate", "--database", &owner, "status"], &key));
    assert!(
        status.contains("0004 projections") && !status.contains("pending"),
        "{status}"
    );

    let mut server = Command::new(env!("CARGO_BIN_EXE_sentrycam-cloud"))
        .args([
            "serve",
            "--database",
            &app,
            "--faults",
            "--ready-file",
            &path("ready"),
        ])
        .args([
            "--tls-cert",
            &path("tls/cert.pem"),
            "--tls-key",
            &path("tls/key.pem"),
        ])
        .env("SENTRYCAM_CLOUD_KEY", &key)
        .env("RUST_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(path("log")).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(server.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let base = line
        .strip_prefix("listening ")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    assert!(base.starts_with("https://localhost:"), "{line}");

    let admin = |arguments: &[&str]| {
        said(&run(
            &[&["admin", "--database", &owner], arguments].concat(),
            &key,
        ))
    };
    admin(&["create-organization", "--name", "Acme"]);
    let edge_id = admin(&[
        "create-device",
        "--organization",
        "Acme",
        "--name",
        "porch",
        "--api-base",
        &base,
        "--out",
        &path("edge.json"),
    ]);
    let mode = std::fs::metadata(path("edge.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let file: Value = serde_json::from_slice(&std::fs::read(path("edge.json")).unwrap()).unwrap();
    assert_eq!(
        (&file["v"], &file["edge_id"], &file["api_base"]),
        (&json!(1), &json!(edge_id), &json!(base))
    );
    assert_eq!(
        (&file["tenant"]["name"], &file["device_name"]),
        (&json!("Acme"), &json!("porch"))
    );
    assert_eq!(
        BASE64_STANDARD
            .decode(file["edge_secret"].as_str().unwrap())
            .unwrap()
            .len(),
        32
    );

    let text = |name: &str| file[name].as_str().unwrap().to_owned();
    let secret = BASE64_STANDARD.decode(text("edge_secret")).unwrap();
    let ca = std::fs::read_to_string(path("tls/ca.pem")).unwrap();
    let credentials = sentrycam_cloud::credentials::Credentials {
        edge_id: text("edge_id"),
        edge_key: text("edge_key"),
        edge_secret: sentrycam_cloud::secret::Secret::new(secret.try_into().unwrap()),
        api_base: base.clone(),
        tenant_id: cloud.organization(),
        tenant_name: "Acme".into(),
        device_name: "porch".into(),
    };
    let device = Device::trusting(&ca, credentials);
    let heartbeat = device.record("agent.heartbeat", 1, json!({}));
    assert_eq!(device.events(&[heartbeat]).await.statuses(), ["accepted"]);

    let devices: Value =
        serde_json::from_str(&admin(&["devices", "--json", "--edge-id", &edge_id])).unwrap();
    assert_eq!(devices[0]["name"], "porch");
    assert!(admin(&["devices"]).contains("porch"));
    admin(&["suspend", "--organization", "Acme"]);
    admin(&["suspend", "--organization", "Acme", "--undo"]);
    admin(&["revoke", &edge_id]);
    admin(&["unclaim", &edge_id, "--now"]);
    assert!(admin(&["create-api-key", "--organization", "Acme", "--name", "k"]).starts_with("ca_"));
    let audit = admin(&["audit"]);
    assert!(
        ["SUSPEND", "RESUME", "REVOKE", "UNCLAIM"]
            .iter()
            .all(|word| audit.contains(word))
    );
    let refused = run(&["admin", "--database", &owner, "revoke", "e-nobody"], &key);
    assert!(!refused.status.success());
    assert!(
        !run(&["serve", "--database", &owner], &key).status.success(),
        "served as superuser"
    );
    assert!(
        !run(&["serve", "--database", &app], "short")
            .status
            .success(),
        "served without a key"
    );

    let kill = Command::new("kill")
        .args(["-TERM", &server.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    assert!(server.wait().unwrap().success());

    // The secret is in the device's file and nowhere else in clear.
    let secret = file["edge_secret"].as_str().unwrap();
    let bytes = BASE64_STANDARD.decode(secret).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut written = std::fs::read_to_string(path("log")).unwrap();
    for table in ["devices", "edge_credentials", "audit_logs", "api_keys"] {
        written.push_str(&format!(
            "{:?}",
            cloud
                .query(&format!("select * from {table}"))
                .await
                .unwrap()
        ));
    }
    assert!(written.contains(&edge_id) && written.contains("secret_wrapped"));
    for canary in [secret, &hex, &key] {
        assert!(!written.contains(canary), "a secret was written");
    }
}
