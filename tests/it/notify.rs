//! From motion to somebody's telephone: a critical event of the real agent becomes alert, notification and delivery, and
//! the webhook, which trusts nothing but its secret, fetches the picture of what happened.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use ring::hmac;
use sentrycam_cloud::notify::Settings;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Scene, TestCamera};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::agent::{EXCLUDE_COUNTER, pattern};
use crate::process::Agent;
use crate::upload_agent::{device, wait};

/// A request: head, lower case names, and body.
type Got = (Vec<(String, String)>, Vec<u8>);

/// Fails once, then takes everything.
async fn receive(listener: TcpListener, got: Arc<Mutex<Vec<Got>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let (mut head, mut line) = (Vec::new(), String::new());
        while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
            if let Some((name, value)) = line.trim().split_once(": ") {
                head.push((name.to_ascii_lowercase(), value.to_owned()));
            }
            line.clear();
        }
        let length = header(&head, "content-length").parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let times = {
            let mut got = got.lock().unwrap();
            got.push((head, body));
            got.len()
        };
        let status = if times == 1 { "500 No" } else { "204 Yes" };
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

fn header<'h>(head: &'h [(String, String)], name: &str) -> &'h str {
    let found = head.iter().find(|(n, _)| n == name);
    found.map_or("", |(_, value)| value)
}

/// As the standard says it (standardwebhooks.com, "Verifying signatures").
fn is_signed((head, body): &Got, secret: &str) -> bool {
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.unwrap());
    let [id, at] = ["webhook-id", "webhook-timestamp"].map(|n| header(head, n));
    let signed = [format!("{id}.{at}.").as_bytes(), body].concat();
    let age = jiff::Timestamp::now().as_second() - at.parse::<i64>().unwrap();
    let macs = header(head, "webhook-signature");
    let right = macs.split(' ').any(|mac| {
        let mac = mac
            .strip_prefix("v1,")
            .and_then(|m| BASE64_STANDARD.decode(m).ok());
        mac.is_some_and(|mac| hmac::verify(&key, &signed, &mac).is_ok())
    });
    right && (-5..120).contains(&age)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_critical_event_reaches_a_webhook_with_its_picture() {
    let quick = Settings {
        pauses: vec![Duration::from_millis(200); 4],
        timeout: Duration::from_secs(20),
        ..Settings::default()
    };
    let cloud = Cloud::builder().storage().notify(quick);
    let cloud = cloud.start().await.unwrap();
    cloud.wait_long_for_thumbnails().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let got = Arc::<Mutex<Vec<Got>>>::default();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(receive(listener, Arc::clone(&got)));
    let made = cloud.create_webhook(&url, "critical").await.unwrap();
    let secret = made["secret"].as_str().unwrap();
    let scene = Scene {
        quiet: 6,
        motion: 2,
    };
    let camera = TestCamera::start(pattern(scene)).unwrap();
    let section = format!(
        "[[camera]]\nid = \"door\"\nname = \"Front door\"\nurl = \"{}\"\n[camera.recording]\npre_roll = \"1 s\"\n\
         post_roll = \"1 s\"\n[camera.motion]\nseverity = \"critical\"\n{EXCLUDE_COUNTER}",
        camera.url()
    );
    let (home, _) = device(&cloud, &section).await;
    let agent = Agent::start(&home, "info");
    wait(
        &cloud,
        &home,
        "select count(*) >= 1 from notification_deliveries where status = 'delivered'",
    )
    .await;
    let got = got.lock().unwrap().clone();
    assert!(got.len() >= 2, "one that failed, one that did not");
    assert!(got.iter().all(|g| is_signed(g, secret)));
    let mut forged = got[1].clone();
    forged.1[20] ^= 1;
    assert!(!is_signed(&forged, secret));
    assert_eq!(
        header(&got[0].0, "webhook-id"),
        header(&got[1].0, "webhook-id")
    );
    let told: Value = serde_json::from_slice(&got[1].1).unwrap();
    let data = &told["data"];
    assert_eq!(
        (&data["alert_type"], &data["severity"], &data["title"]),
        (
            &json!("motion"),
            &json!("critical"),
            &json!("Motion on Front door")
        )
    );

    // The event is the device's, and the picture is the one that it made.
    let event = data["event"]["event_id"].as_str().unwrap().to_owned();
    let reader = home.reader().unwrap();
    let path: String = reader
        .query_row(
            "select path from snapshots where kind = 'thumbnail' and event_id = ?1",
            [uuid::Uuid::parse_str(&event).unwrap()],
            |r| r.get(0),
        )
        .unwrap();
    let picture = std::fs::read(home.path("clips").join(path)).unwrap();
    let fetched = Command::new("curl")
        .args(["-sS", "--fail", "--cacert"])
        .arg(cloud.ca_path())
        .arg(
            data["thumbnail_url"]
                .as_str()
                .expect("the address of its picture"),
        )
        .output()
        .unwrap();
    assert!(fetched.status.success(), "{fetched:?}");
    assert!(fetched.stdout == picture && picture.starts_with(&[0xff, 0xd8]));
    let rows = cloud
        .query(&format!(
            "select a.severity as alert, n.severity as notification, d.status, d.attempts, e.notified_at
             from alerts a join notifications n on n.alert_id = a.id
             join notification_deliveries d on d.notification_id = n.id
             join events e on e.event_uid = a.event_uid where a.event_uid = '{event}'"
        ))
        .await
        .unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (
            &rows[0]["alert"],
            &rows[0]["notification"],
            &rows[0]["status"]
        ),
        (&json!("critical"), &json!("critical"), &json!("delivered"))
    );
    assert!(rows[0]["attempts"] == 2 && rows[0]["notified_at"].is_string());
    assert_eq!(agent.stop().code(), Some(0));
}
