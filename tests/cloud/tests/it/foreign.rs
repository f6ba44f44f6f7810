//! Documents that this cloud signs, judged by a library that we did not write: PyPI `pyjwt` verifies them, and
//! refuses them after any change.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::device::Device;
use base64::prelude::{BASE64_STANDARD, Engine};
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::testing::Cloud;
use serde_json::json;

fn foreign() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../foreign")
}

/// A Python with the pinned library, made once beside the build.
fn python() -> PathBuf {
    let wanted = foreign().join("requirements-jwt.txt");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let venv = target.join("foreign-venv-jwt");
    let (python, done) = (venv.join("bin/python"), venv.join("requirements.txt"));
    let pinned = std::fs::read(&wanted).unwrap();
    if std::fs::read(&done).ok().as_ref() != Some(&pinned) {
        let make = ["-m", "venv", "--clear"];
        run(Command::new("python3").args(make).arg(&venv));
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ];
        run(Command::new(&python).args(install).arg(&wanted));
        std::fs::write(&done, &pinned).unwrap();
    }
    python
}

fn run(command: &mut Command) {
    let out = command.output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_library_verifies_what_the_cloud_signs() {
    let python = tokio::task::spawn_blocking(python).await.unwrap();
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = device.credentials.edge_id.clone();
    for args in [
        json!({}),
        json!({ "camera_id": "tür-ü", "max_width": 640, "list": [1, null, 2.5] }),
    ] {
        cloud
            .send_command(&edge_id, Wanted::new("snapshot", args))
            .await
            .unwrap();
    }
    let camera = json!({ "url": "rtsp://192.0.2.7/", "user": "u", "password": "pässword" });
    cloud.set_camera(&edge_id, "gate", camera).await.unwrap();
    let twin = device.get("/edge/v1/twin").await;
    let case = json!({
        "secret": BASE64_STANDARD.encode(device.credentials.edge_secret.expose()), "aud": edge_id,
        "commands": device.get("/edge/v1/commands").await.json()["commands"],
        "twin": String::from_utf8(twin.body).unwrap(),
    });
    let mut child = Command::new(&python)
        .arg(foreign().join("verify_documents.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    to.write_all(case.to_string().as_bytes()).unwrap();
    drop(to);
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}{err}");
    assert_eq!(
        said.lines()
            .filter(|line| line.starts_with("verified: "))
            .count(),
        3,
        "{said}"
    );
}
