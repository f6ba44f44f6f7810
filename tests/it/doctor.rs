//! `sentrycam doctor` on devices with one thing broken each: the right check fails, and says what to do.

use std::net::TcpListener;
use std::process::Command;

use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

use crate::edge::Edge;
use crate::fixture::wait_until;
use crate::process::{Agent, Home};

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
    ] {
        assert_eq!(verdict(&findings, check), "ok", "{findings:#}");
    }
    // A disk that others use, too, may be slow for the moment.
    for check in ["disk speed", "database disk"] {
        assert!(
            ["ok", "warning"].contains(&verdict(&findings, check)),
            "{findings:#}"
        );
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
    failed(&findings, "camera", "", code);
    assert_eq!(verdict(&findings, "claim"), "warning");
    assert!(
        finding(&findings, "claim")["todo"]
            .as_str()
            .unwrap()
            .contains("api_base")
    );
    std::fs::write(home.path("edge.json"), "{}").unwrap();
    let (findings, code) = doctor(&home);
    failed(&findings, "credentials", "claim", code);
}

/// The device's own account at a real broker: tried while no agent runs, read from the agent while one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_account_at_the_broker_is_tried_without_taking_it_from_the_agent() {
    let cloud = Cloud::builder().broker().start().await.unwrap();
    let home = device(&cloud, "box").await;
    let broker = cloud.broker().unwrap();
    let read = || -> Value {
        serde_json::from_slice(&std::fs::read(home.path("edge.json")).unwrap()).unwrap()
    };
    let edge_id = read()["edge_id"].as_str().unwrap().to_owned();
    const PASSWORD: &str = "CANARY-the-password-of-this-device-at-the-broker";
    let control = broker.control();
    control.add_device(&edge_id, PASSWORD).await.unwrap();
    edit(&home, |c| {
        c["mqtt"] = json!({ "host": "localhost", "port": broker.port(), "client_id": edge_id, "username": edge_id,
                            "password": PASSWORD });
    });
    let (findings, _) = doctor(&home);
    assert_eq!(verdict(&findings, "broker login"), "ok", "{findings:#}");
    assert_eq!(verdict(&findings, "claim"), "ok", "{findings:#}");
    assert!(!findings.to_string().contains("CANARY"));

    let agent = Agent::start(&home, "info");
    wait_until(30, "the link is up", || {
        let out = Command::new(env!("CARGO_BIN_EXE_sentrycam"))
            .arg("--config")
            .arg(home.path("sentrycam.toml"))
            .args(["status", "--json"])
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&out.stdout).is_ok_and(|s| s["link"]["state"] == "up")
    });
    let (findings, _) = doctor(&home);
    let login = finding(&findings, "broker login");
    assert_eq!(login["verdict"], "ok", "{findings:#}");
    assert!(login["detail"].as_str().unwrap().contains("link"));
    assert!(agent.stop().success());
    let log = std::fs::read_to_string(home.path("err")).unwrap();
    assert!(!log.contains("the link to the broker is down"), "{log}");

    edit(&home, |c| c["mqtt"]["password"] = "another".into());
    let (findings, code) = doctor(&home);
    let login = finding(&findings, "broker login");
    assert_eq!((login["verdict"].as_str(), code), (Some("failure"), 2));
    assert!(login["todo"].as_str().unwrap().contains("claim"), "{login}");
}

#[tokio::test(flavor = "multi_thread")]
async fn button_and_light_and_the_owner_are_looked_at() {
    let cloud = Cloud::start().await.unwrap();
    let mut edge = Edge::of(&cloud);
    std::fs::write(edge.home.path("led/trigger"), "none timer").unwrap();
    let (findings, _) = doctor(&edge.home);
    assert_eq!(verdict(&findings, "button"), "ok", "{findings:#}");
    assert!(!edge.home.path("button").exists(), "doctor makes nothing");
    assert_eq!(verdict(&findings, "led"), "ok", "{findings:#}");
    let trigger = std::fs::read_to_string(edge.home.path("led/trigger")).unwrap();
    assert_eq!(trigger, "none timer", "doctor lights nothing");

    edge.run(None);
    let (findings, code) = doctor(&edge.home);
    assert_eq!(verdict(&findings, "button"), "ok", "{findings:#}");
    assert_eq!((verdict(&findings, "claim"), code), ("warning", 1));
    let todo = finding(&findings, "claim")["todo"].as_str().unwrap();
    assert!(todo.contains("sentrycam claim"), "{todo}");
    assert_eq!(verdict(&findings, "tls"), "ok", "the cloud to be asked");
    edge.claim_for(&cloud).await;
    edge.wait_for("claimed");
    let (findings, _) = doctor(&edge.home);
    assert_eq!(verdict(&findings, "claim"), "ok", "{findings:#}");
    edge.stop();

    std::fs::remove_dir_all(edge.home.path("led")).unwrap();
    let config = std::fs::read_to_string(edge.home.path("sentrycam.toml")).unwrap();
    let other = config.replace("button = \"pipe:", "button = \"gpio:NOSUCHLINE\" # ");
    std::fs::write(edge.home.path("sentrycam.toml"), other).unwrap();
    let (findings, code) = doctor(&edge.home);
    for check in ["button", "led"] {
        assert_eq!((verdict(&findings, check), code), ("failure", 2));
        assert!(finding(&findings, check)["todo"].is_string());
    }
}

/// The cameras come from the cloud; what they are is known while the agent does not run, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_camera_of_the_twin_is_looked_at_while_the_agent_is_stopped() {
    let cloud = Cloud::start().await.unwrap();
    let home = device(&cloud, "box").await;
    home.configure("");
    let id: Value =
        serde_json::from_slice(&std::fs::read(home.path("edge.json")).unwrap()).unwrap();
    let camera = json!({ "test": true, "width": 160, "height": 120, "fps": 5, "recording": { "mode": "off" } });
    let edge_id = id["edge_id"].as_str().unwrap();
    let twin = cloud.set_camera(edge_id, "porch", camera).await.unwrap();
    let agent = Agent::start(&home, "info");
    let applied = format!(
        "exists (select 1 from twins where reported_status = 'applied' and reported_desired = {})",
        twin["version"]
    );
    let soon = std::time::Duration::from_secs(60);
    cloud.wait_for(&applied, soon).await.unwrap();
    assert!(agent.stop().success());
    let (findings, _) = doctor(&home);
    let found = finding(&findings, "camera");
    let detail = found["detail"].as_str().unwrap();
    assert_eq!(found["verdict"], "ok", "{found}");
    assert!(detail.starts_with("porch: a picture"), "{detail}");
}
