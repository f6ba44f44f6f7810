//! Canaries: the real agent with secrets that occur nowhere else, at the most talkative log level; then everything it
//! wrote or showed is searched for them, raw, in base64 and percent-encoded.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use sentrycam::agent::status;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Auth, Options, TestCamera};

use crate::fixture::wait_until;
use crate::mqtt_site::Site;
use crate::process::{Agent, Home, last_words};

/// Has characters that every encoding changes.
const RIGHT: &str = "Canary+right/0f3a9c=&?pw";
const WRONG: &str = "Canary+wrong/7be41d=&?pw";
const INLINE: &str = "Canary+inline/c0ffee";
const BROKER: &str = "Canary+broker/5ea1ed=&?pw";

/// Everything that can be searched, by name.
type Haystack = Vec<(String, Vec<u8>)>;

fn percent(text: &str) -> String {
    let keep = |b: &u8| b.is_ascii_alphanumeric();
    text.bytes()
        .map(|b| {
            if keep(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// The forms of a secret that must not be found.
fn forms(name: &str, secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![(format!("{name} raw"), secret.to_vec())];
    let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    forms.push((format!("{name} hex"), hex.into_bytes()));
    for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
        forms.push((format!("{name} base64"), engine.encode(secret).into_bytes()));
    }
    // Basic authentication encodes user and password as one.
    let basic = [b"viewer:", secret].concat();
    forms.push((format!("{name} basic"), STANDARD.encode(basic).into_bytes()));
    if let Ok(text) = std::str::from_utf8(secret) {
        forms.push((format!("{name} percent"), percent(text).into_bytes()));
        forms.push((format!("{name} debug"), format!("{text:?}").into_bytes()));
    }
    forms
}

fn hits(haystack: &Haystack, needles: &[(String, Vec<u8>)]) -> Vec<String> {
    let mut hits = Vec::new();
    for (place, bytes) in haystack {
        for (name, needle) in needles {
            if bytes.windows(needle.len()).any(|window| window == needle) {
                hits.push(format!("{name} in {place}"));
            }
        }
    }
    hits
}

/// Every file below `dir` but those that hold the secrets on purpose.
fn collect(dir: &Path, except: &[&str], into: &mut Haystack) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            collect(&path, except, into);
        } else if path.is_file() && !except.iter().any(|e| name.to_string_lossy() == *e) {
            into.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_or_shown_anywhere() {
    let cloud = Cloud::start().await.unwrap();
    let home = Home::new();
    let credentials = cloud
        .write_credentials("box", &home.path("edge.json"))
        .await
        .unwrap();
    let site = Site::new().await;
    let id = &credentials.edge_id;
    let control = site.broker.control();
    control.add_device(id, BROKER).await.unwrap();
    let edge = std::fs::read(home.path("edge.json")).unwrap();
    let mut edge: serde_json::Value = serde_json::from_slice(&edge).unwrap();
    edge["mqtt"] = serde_json::json!({ "host": "localhost", "port": site.broker.port(), "client_id": id,
                                       "username": id, "password": BROKER });
    std::fs::write(home.path("edge.json"), edge.to_string()).unwrap();
    let roots = cloud.ca_pem().to_owned() + &std::fs::read_to_string(site.ca()).unwrap();
    std::fs::write(home.path("ca.pem"), roots).unwrap();
    for (file, secret) in [("right.password", RIGHT), ("wrong.password", WRONG)] {
        std::fs::write(home.path(file), format!("{secret}\n")).unwrap();
        std::fs::set_permissions(home.path(file), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let camera = |auth| {
        let auth = Some(auth);
        TestCamera::start(Options {
            auth,
            ..Options::default()
        })
        .unwrap()
    };
    let digest = camera(Auth::Digest("viewer".into(), RIGHT.into()));
    let basic = camera(Auth::Basic("viewer".into(), RIGHT.into()));
    let block = |id: &str, url: &str, login: &str| {
        format!("[[camera]]\nid = \"{id}\"\nurl = \"{url}\"\n{login}\n")
    };
    let file = |name: &str| {
        format!(
            "user = \"viewer\"\npassword_file = \"{}\"",
            home.path(name).display()
        )
    };
    let in_url = digest
        .url()
        .replace("rtsp://", &format!("rtsp://viewer:{}@", percent(INLINE)));
    home.configure(
        &[
            block("digest", &digest.url(), &file("right.password")),
            block("basic", &basic.url(), &file("right.password")),
            block("wrong", &digest.url(), &file("wrong.password")),
            block("wrong-basic", &basic.url(), &file("wrong.password")),
            block("in-url", &in_url, ""),
        ]
        .concat(),
    );

    let mut agent = Agent::start(&home, "trace");
    wait_until(
        40,
        "cameras are up or refused, and the cloud knows it",
        || {
            assert!(
                agent.runs(),
                "the agent ended:\n{}",
                last_words(&home.path("err"))
            );
            let log = std::fs::read_to_string(home.path("err")).unwrap_or_default();
            log.contains("the link to the broker is up")
                && log.matches("camera is up").count() >= 2
                && log.matches("camera is down").count() >= 3
                && home.number("select count(*) from outbox where class < 3") == Some(0)
        },
    );
    let mut seen = Haystack::new();
    for name in ["cmdline", "environ", "status", "limits"] {
        let path = format!("/proc/{}/{name}", agent.pid());
        seen.push((path.clone(), std::fs::read(&path).unwrap()));
    }
    let document = status::ask(home.0.path())
        .await
        .unwrap()
        .expect("it answers");
    assert!(document.cameras.len() == 5, "{document:?}");
    seen.push(("status".into(), serde_json::to_vec(&document).unwrap()));
    let cli = std::process::Command::new(env!("CARGO_BIN_EXE_sentrycam"))
        .arg("-c")
        .arg(home.path("sentrycam.toml"))
        .args(["status", "--json"])
        .output()
        .unwrap();
    seen.push(("sentrycam status".into(), [cli.stdout, cli.stderr].concat()));
    // Killed, so that the WAL stays as it is too.
    agent.kill();
    let own = [
        "edge.json",
        "right.password",
        "wrong.password",
        "sentrycam.toml",
    ];
    collect(home.0.path(), &own, &mut seen);
    for table in ["edge_records", "devices", "cameras", "alerts", "audit_logs"] {
        let rows = cloud
            .query(&format!("select * from {table}"))
            .await
            .unwrap();
        assert!(!rows.is_empty() || table == "audit_logs", "{table}");
        seen.push((format!("cloud {table}"), serde_json::to_vec(&rows).unwrap()));
    }
    let places = seen.len();
    let bytes: usize = seen.iter().map(|(_, b)| b.len()).sum();
    println!("searched {bytes} bytes in {places} places");
    assert!(
        seen.iter()
            .any(|(p, b)| p.ends_with("/err") && b.len() > 1_500),
        "it logged"
    );
    assert!(seen.iter().any(|(p, _)| p.ends_with("sentrycam.db-wal")));

    let secret = credentials.edge_secret.expose();
    let mut needles = forms("edge_secret", secret);
    for (name, canary) in [
        ("right", RIGHT),
        ("wrong", WRONG),
        ("inline", INLINE),
        ("broker", BROKER),
    ] {
        needles.extend(forms(name, canary.as_bytes()));
    }
    // The search finds what is there: the files that hold the secrets on purpose.
    let mut control = Haystack::new();
    for name in own {
        control.push((name.into(), std::fs::read(home.path(name)).unwrap()));
    }
    let found = hits(&control, &needles);
    for name in own {
        assert!(
            found.iter().any(|hit| hit.ends_with(name)),
            "nothing found in {name}: {found:?}"
        );
    }
    assert_eq!(hits(&seen, &needles), Vec::<String>::new());
}
