//! Notifications, delivered to a real HTTP receiver that fails as receivers do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::prelude::{BASE64_STANDARD, Engine};
use ring::hmac;

use crate::device::{Device, client};
use crate::uploads::{bytes, sha256, upload};
use sentrycam_cloud::admin::Listing;
use sentrycam_cloud::notify::Settings;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(40);

/// What a receiver got: headers, body.
type Got = (HeaderMap, Vec<u8>);

#[derive(Clone, Default)]
struct Receiver {
    /// Answers to give first; then 204.
    answers: Arc<Mutex<VecDeque<u16>>>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    /// Starts it; its address.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let app = axum::Router::new()
            .route("/hook", axum::routing::post(receive))
            .with_state(self.clone());
        let config = axum_server::from_tcp(listener.into_std().unwrap()).unwrap();
        tokio::spawn(config.serve(app.into_make_service()));
        url
    }

    fn answering(answers: &[u16]) -> Self {
        let receiver = Self::default();
        receiver.answers.lock().unwrap().extend(answers);
        receiver
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    receiver.got.lock().unwrap().push((headers, body.to_vec()));
    let answer = receiver.answers.lock().unwrap().pop_front();
    StatusCode::from_u16(answer.unwrap_or(204)).unwrap()
}

/// As a receiver does it, by the text of the standard.
fn is_signed((headers, body): &Got, secret: &str) -> bool {
    let header = |name: &str| headers[name].to_str().unwrap();
    let key = BASE64_STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let mut signed =
        format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).into_bytes();
    signed.extend(body);
    let mac = header("webhook-signature").strip_prefix("v1,").unwrap();
    let age =
        jiff::Timestamp::now().as_second() - header("webhook-timestamp").parse::<i64>().unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    hmac::verify(&key, &signed, &BASE64_STANDARD.decode(mac).unwrap()).is_ok()
        && (-5..60).contains(&age)
}

fn message((_, body): &Got) -> Value {
    serde_json::from_slice(body).unwrap()
}

fn quick(attempts: usize) -> Settings {
    Settings {
        pauses: vec![Duration::from_millis(100); attempts - 1],
        timeout: Duration::from_secs(20),
        ..Settings::default()
    }
}

async fn down(device: &Device, sequence: u64) {
    let data =
        json!({ "camera_id": "cam-1", "name": "Porch", "reason": "timeout", "rev": sequence });
    let record = device.record("camera.down", sequence, data);
    assert_eq!(device.events(&[record]).await.statuses(), ["accepted"]);
}

#[tokio::test]
async fn a_receiver_that_fails_twice_is_told_the_third_time() {
    let cloud = Cloud::builder().notify(quick(5)).start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let receiver = Receiver::answering(&[500, 503]);
    let made = cloud
        .create_webhook(&receiver.start().await, "warning")
        .await
        .unwrap();
    let secret = made["secret"].as_str().unwrap();
    // One that wants the critical only hears nothing of it.
    let other = Receiver::default();
    cloud
        .create_webhook(&other.start().await, "critical")
        .await
        .unwrap();

    down(&device, 1).await;
    let delivered = "(select status from notification_deliveries) = 'delivered'";
    cloud.wait_for(delivered, SOON).await.unwrap();
    let got = receiver.got();
    assert_eq!(got.len(), 3);
    assert!(got.iter().all(|got| is_signed(got, secret)));
    let mut forged = got[0].clone();
    forged.1[10] ^= 1;
    assert!(!is_signed(&forged, secret));
    assert!(
        got.iter()
            .all(|(headers, _)| headers["webhook-id"] == got[0].0["webhook-id"])
    );
    let told = message(&got[2]);
    assert_eq!(told["type"], "alert.raised");
    let data = &told["data"];
    assert_eq!(
        (&data["alert_type"], &data["severity"]),
        (&json!("camera_down"), &json!("warning"))
    );
    assert_eq!(
        (&data["title"], &data["message"]),
        (&json!("Porch is down"), &json!("timeout"))
    );
    assert_eq!(
        (&data["camera_name"], &data["device_name"]),
        (&json!("Porch"), &json!("porch"))
    );
    assert_eq!(other.got().len(), 0);
    let row = &cloud.list(Listing::Deliveries).await.unwrap()[0];
    assert_eq!(
        (&row["attempts"], &row["last_status"]),
        (&json!(3), &json!(204))
    );
    assert!(row["last_error"].is_null() && row["next_attempt_at"].is_null());
    let notified = &cloud.list(Listing::Notifications).await.unwrap()[0]["notified_at"];
    assert!(notified.is_string());
    let secrets = cloud
        .query("select count(*) from audit_logs where changes::text like '%whsec%'")
        .await
        .unwrap();
    assert_eq!(secrets[0]["count"], 0);
}

#[tokio::test]
async fn a_delivery_is_given_up_after_its_last_attempt_and_a_receiver_that_is_gone_at_once() {
    let cloud = Cloud::builder().notify(quick(3)).start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let never = Receiver::answering(&[500; 100]);
    cloud
        .create_webhook(&never.start().await, "info")
        .await
        .unwrap();
    let gone = Receiver::answering(&[410]);
    cloud
        .create_webhook(&gone.start().await, "info")
        .await
        .unwrap();
    // Nobody listens there.
    cloud
        .create_webhook("http://127.0.0.1:9/hook", "info")
        .await
        .unwrap();
    down(&device, 1).await;
    let failed = "(select count(*) from notification_deliveries where status = 'failed') = 3";
    cloud.wait_for(failed, SOON).await.unwrap();
    assert_eq!((never.got().len(), gone.got().len()), (3, 1));
    let rows = cloud.list(Listing::Deliveries).await.unwrap();
    let nobody = rows
        .iter()
        .find(|row| row["url"] == "http://127.0.0.1:9/hook")
        .unwrap();
    assert_eq!(nobody["attempts"], 3);
    assert!(nobody["last_error"].as_str().unwrap().len() > 10 && nobody["last_status"].is_null());
    let webhooks = cloud.list(Listing::Webhooks).await.unwrap();
    let off: Vec<&Value> = webhooks
        .iter()
        .filter(|row| row["is_active"] == false)
        .collect();
    assert_eq!(off.len(), 1);
    assert_eq!(off[0]["disabled_reason"], "the receiver answered 410");
}

#[tokio::test]
async fn an_alarm_carries_its_thumbnail() {
    let cloud = Cloud::builder()
        .storage()
        .notify(quick(3))
        .start()
        .await
        .unwrap();
    cloud.wait_long_for_thumbnails().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let receiver = Receiver::default();
    let made = cloud
        .create_webhook(&receiver.start().await, "critical")
        .await
        .unwrap();
    let (event, snapshot, picture) = (Uuid::now_v7(), Uuid::now_v7(), bytes(20_000));
    let start = "2026-11-21T02:00:00Z";
    let motion = json!({ "event_id": event, "camera_id": "cam-1", "started_at": start, "title": "Somebody", "rev": 1 });
    let mut motion = device.record("motion.started", 1, motion);
    motion["severity"] = json!("critical");
    let taken = json!({
        "snapshot_id": snapshot, "camera_id": "cam-1", "taken_at": start, "event_id": event, "rev": 1,
        "content_type": "image/jpeg", "size_bytes": picture.len(), "sha256": sha256(&picture),
    });
    device
        .events(&[motion, device.record("snapshot.taken", 2, taken)])
        .await
        .statuses();
    let began = std::time::Instant::now();
    let wanted = json!({
        "snapshot_id": snapshot, "size": picture.len(), "sha256": sha256(&picture), "content_type": "image/jpeg",
    });
    assert_eq!(upload(&cloud, &device, &wanted, &picture).await.status, 200);
    let delivered = "(select status from notification_deliveries) = 'delivered'";
    cloud.wait_for(delivered, SOON).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(50),
        "it goes when the thumbnail is there, not after the wait"
    );
    let got = receiver.got();
    assert!(is_signed(&got[0], made["secret"].as_str().unwrap()));
    let data = &message(&got[0])["data"];
    assert_eq!(
        (&data["title"], &data["event"]["event_id"]),
        (&json!("Somebody"), &json!(event))
    );
    let url = data["thumbnail_url"].as_str().unwrap();
    let fetched = client(&cloud).get(url).send().await.unwrap();
    assert_eq!(fetched.status().as_u16(), 200);
    assert_eq!(fetched.bytes().await.unwrap().as_ref(), picture);
    let events = cloud.query("select notified_at from events").await.unwrap();
    assert!(events[0]["notified_at"].is_string());

    // A person's way to the same bytes.
    let base = cloud.api_base();
    let path = format!("{base}/admin/v1/snapshots/{snapshot}/content");
    let viewer = cloud.create_api_key("viewer").await.unwrap();
    let refused = client(&cloud)
        .get(&path)
        .bearer_auth(&viewer)
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status().as_u16(), 403);
    let user = cloud.create_api_key("user").await.unwrap();
    let played = client(&cloud)
        .get(&path)
        .bearer_auth(&user)
        .send()
        .await
        .unwrap();
    assert_eq!(played.bytes().await.unwrap().as_ref(), picture);
}

#[tokio::test]
async fn a_device_that_nobody_hears_of_raises_an_alert_until_it_is_back() {
    let cloud = Cloud::builder().notify(quick(3)).start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let receiver = Receiver::default();
    cloud
        .create_webhook(&receiver.start().await, "warning")
        .await
        .unwrap();
    let beat = |n| device.record("agent.heartbeat", n, json!({}));
    device.events(&[beat(1)]).await.statuses();
    let silent = "update devices set last_seen_at = now() - interval '4 minutes'";
    cloud.execute(silent).await.unwrap();
    let delivered = "(select count(*) from notification_deliveries where status = 'delivered') = 1";
    cloud.wait_for(delivered, SOON).await.unwrap();
    let data = &message(&receiver.got()[0])["data"];
    assert_eq!(
        (&data["alert_type"], &data["title"]),
        (&json!("device_offline"), &json!("porch is offline"))
    );
    device.events(&[beat(2)]).await.statuses();
    let resolved = "(select status from alerts) = 'resolved'";
    cloud.wait_for(resolved, SOON).await.unwrap();
    // The next time is another alert.
    cloud.execute(silent).await.unwrap();
    let twice = "(select count(*) from alerts where alert_type = 'device_offline') = 2";
    cloud.wait_for(twice, SOON).await.unwrap();
}
