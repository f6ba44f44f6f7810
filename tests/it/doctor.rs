//! `sentrycam doctor` on devices with one thing broken each: the right check fails, and says what to do.

use std::net::TcpListener;
use std::process::Command;

use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

use crate::process::Home;

const CAMERA: &str = "[[camera]]\nid = \"a\"\ntest = true\nwidth = 160\nheight = 120\nfps = 5\n";

/// Its findings and exit code.
fn doctor(home: &Home) -> (Value, i32) {
    let out = Command::new(env!("CARGO_BIN_EXE_sentrycam"))
        .arg("--config")
        .arg(home.path("sentrycam.toml"))
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    (answer["findings"].clone(), out.status.code().unwrap())
}

fn finding<'f>(findings: &'f Value, check: &str) -> &'f Value {
    let mut all = findings.as_array().unwrap().iter();
    let found = all.find(|f| f["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} in {findings:#}"))
}

fn verdict<'f>(findings: &'f Value, check: &str) -> &'f str {
    finding(findings, check)["verdict"].as_str().unwrap()
}

async fn device(cloud: &Cloud, name: &str) -> Home {
    let home = Home::new();
    let path = home.path("edge.json");
    cloud.write_credentials(name, &path).await.unwrap();
    std::fs::write(home.path("ca.pem"), cloud.ca_pem()).unwrap();
    home.configure(CAMERA);
    home
}

/// Changes the credentials file.
fn edit(home: &Home, f: impl FnOnce(&mut Value)) {
    let path = home.path("edge.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    f(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_well_is_well_and_nothing_is_left_behind() {
    let cloud = Cloud::start().await.unwrap();
    let home = device(&cloud, "box").await;
    edit(&home, |c| {
        c.as_object_mut().unwrap().remove("mqtt");
    });
    std::fs::create_dir(home.path("clips")).unwrap();
    let (findings, code) = doctor(&home);
    for check in [
        "camera",
        "dns",
        "tcp",
        "tls",
        "signature",
        "clock",
        "disk space",
        "disk speed",
        "database disk",
    ] {
        assert_eq!(verdict(&findings, check), "ok", "{findings:#}");
    }
    assert!(
        finding(&findings, "camera")["detail"]
            .as_str()
            .unwrap()
            .contains("a picture")
    );
    assert_eq!(verdict(&findings, "broker"), "skipped");
    // That no agent runs is a warning.
    assert_eq!((verdict(&findings, "agent"), code), ("warning", 1));
    assert_eq!(std::fs::read_dir(home.path("clips")).unwrap().count(), 0);
    let secret: Value =
        serde_json::from_slice(&std::fs::read(home.path("edge.json")).unwrap()).unwrap();
    assert!(
        !findings
            .to_string()
            .contains(secret["edge_secret"].as_str().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_found_at_its_place_and_says_what_to_do() {
    let cloud = Cloud::start().await.unwrap();
    let failed = |findings: &Value, check: &str, todo: &str, code: i32| {
        let found = finding(findings, check);
        assert_eq!(
            (found["verdict"].as_str(), code),
            (Some("failure"), 2),
            "{findings:#}"
        );
        assert!(found["todo"].as_str().unwrap().contains(todo), "{found}");
    };
    // Another root.
    let home = device(&cloud, "a").await;
    home.configure("");
    let config = std::fs::read_to_string(home.path("sentrycam.toml")).unwrap();
    let without = config
        .lines()
        .filter(|l| !l.starts_with("ca_file"))
        .collect::<Vec<_>>();
    std::fs::write(home.path("sentrycam.toml"), without.join("\n")).unwrap();
    let (findings, code) = doctor(&home);
    failed(&findings, "tls", "cloud.ca_file", code);
    assert_eq!(
        verdict(&findings, "camera"),
        "warning",
        "none is configured"
    );
    // A key that the cloud does not know any more.
    let home = device(&cloud, "b").await;
    let id: Value =
        serde_json::from_slice(&std::fs::read(home.path("edge.json")).unwrap()).unwrap();
    cloud.revoke(id["edge_id"].as_str().unwrap()).await.unwrap();
    let (findings, code) = doctor(&home);
    failed(&findings, "signature", "claim", code);
    assert_eq!(verdict(&findings, "tls"), "ok");
    // A name that does not exist; a broker that does not speak TLS.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let speaker = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 not for you\r\n").unwrap();
    });
    edit(&home, |c| {
        c["api_base"] = "https://nowhere.invalid".into();
        c["mqtt"] = json!({ "host": "127.0.0.1", "port": port, "client_id": id["edge_id"], "username": id["edge_id"],
                            "password": "CANARYpassword" });
    });
    let (findings, code) = doctor(&home);
    speaker.join().unwrap();
    failed(&findings, "dns", "name server", code);
    assert_eq!(verdict(&findings, "broker tcp"), "ok");
    failed(&findings, "broker tls", "", code);
    assert!(!findings.to_string().contains("CANARY"));
    // Nobody at the port; no credentials; a camera that is not there.
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    edit(&home, |c| c["api_base"] = format!("https://{gone}").into());
    let (findings, code) = doctor(&home);
    failed(&findings, "tcp", "firewall", code);
    std::fs::remove_file(home.path("edge.json")).unwrap();
    home.configure("[[camera]]\nid = \"a\"\nfile = \"/nowhere.mp4\"\n");
    let (findings, code) = doctor(&home);
    failed(&findings, "credentials", "claim", code);
    failed(&findings, "camera", "", code);
}
