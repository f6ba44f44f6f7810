//! Live sessions: asked for, told by the device, ended by a lease if by nothing else.

use std::time::Duration;

use crate::device::{Device, client};
use crate::mqtt::Mqtt;
use sentrycam_cloud::admin::Listing;
use sentrycam_cloud::command::Wanted as Command;
use sentrycam_cloud::stream::Wanted;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(40);
const KEY: &str = "canary-stream-key";

fn wanted(camera_id: &str, stream_key: Option<&str>) -> Wanted {
    Wanted {
        camera_id: camera_id.into(),
        protocol: "rtmps".into(),
        publish_endpoint: "rtmps://live.example.com/app".into(),
        stream_key: stream_key.map(str::to_owned),
        lease_s: 300,
    }
}

fn id(session: &Value) -> Uuid {
    session["id"].as_str().unwrap().parse().unwrap()
}

async fn session(cloud: &Cloud, id: Uuid) -> Value {
    let rows = cloud.list(Listing::Streams).await.unwrap();
    rows.into_iter().find(|row| row["id"] == json!(id)).unwrap()
}

async fn becomes(cloud: &Cloud, id: Uuid, status: &str) -> Value {
    let sql = format!("(select status from stream_sessions where id = '{id}') = '{status}'");
    cloud.wait_for(&sql, SOON).await.unwrap();
    session(cloud, id).await
}

#[tokio::test]
async fn a_session_is_requested_live_and_ended() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = &device.credentials.edge_id;
    let started = cloud
        .start_stream(edge_id, wanted("cam-1", Some(KEY)))
        .await
        .unwrap();
    let session_id = id(&started);
    assert_eq!(
        (&started["status"], &started["has_key"]),
        (&json!("requested"), &json!(true))
    );
    let again = cloud
        .start_stream(edge_id, wanted("cam-1", None))
        .await
        .unwrap_err();
    assert!(again.to_string().contains("stop or renew"), "{again}");

    let claims = &device.commands("").await[0];
    assert_eq!(claims["cmd"]["type"], "stream.start");
    let args = &claims["cmd"]["args"];
    assert_eq!(args["session_id"], json!(session_id));
    assert_eq!(args["stream_key"], KEY);
    assert_eq!(
        args["expires_at"],
        started["expires_at"]
            .as_str()
            .unwrap()
            .replace("+00:00", "Z")
    );
    // Nowhere else: not in a row, a listing or the audit chain.
    for table in ["stream_sessions", "commands", "audit_logs"] {
        let sql = format!("select count(*) from {table} t where t::text like '%{KEY}%'");
        assert_eq!(cloud.query(&sql).await.unwrap()[0]["count"], 0, "{table}");
    }
    let plain = Command::new("stream.start", json!({ "stream_key": KEY }));
    assert!(cloud.send_command(edge_id, plain).await.is_err());

    let at = "2026-11-21T02:00:00Z";
    let live = json!({ "session_id": session_id, "camera_id": "cam-1", "started_at": at, "bytes": 10, "rev": 1 });
    let ended = json!({
        "session_id": session_id, "ended_at": "2026-11-21T02:01:00Z", "reason": "stopped", "bytes": 4096, "rev": 3,
    });
    device
        .events(&[device.record("stream.live", 1, live.clone())])
        .await
        .statuses();
    let shown = session(&cloud, session_id).await;
    assert_eq!(
        (&shown["status"], &shown["bytes"]),
        (&json!("live"), &json!(10))
    );
    let renewed = cloud.change_stream(session_id, Some(600)).await.unwrap();
    assert!(renewed["expires_at"].as_str() > started["expires_at"].as_str());
    cloud.change_stream(session_id, None).await.unwrap();
    let types: Vec<Value> = device
        .commands("?after=1")
        .await
        .iter()
        .map(|c| c["cmd"]["type"].clone())
        .collect();
    assert_eq!(types, ["stream.renew", "stream.stop"]);

    device
        .events(&[device.record("stream.ended", 3, ended)])
        .await
        .statuses();
    // An older word that comes late changes nothing.
    device
        .events(&[device.record("stream.live", 2, live)])
        .await
        .statuses();
    let shown = session(&cloud, session_id).await;
    for (name, value) in [
        ("status", json!("ended")),
        ("reason", json!("stopped")),
        ("bytes", json!(4096)),
        ("started_at", json!("2026-11-21T02:00:00+00:00")),
        ("ended_at", json!("2026-11-21T02:01:00+00:00")),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    assert!(cloud.change_stream(session_id, Some(600)).await.is_err());
    cloud
        .start_stream(edge_id, wanted("cam-1", None))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_the_device_refuses_fails_and_what_nobody_fetched_is_canceled() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = &device.credentials.edge_id;
    let refused = cloud
        .start_stream(edge_id, wanted("cam-1", None))
        .await
        .unwrap();
    let command: Uuid = refused["command_id"].as_str().unwrap().parse().unwrap();
    let said = device.status(1, command, 1, "rejected", json!({ "code": "unsupported" }));
    device.events(&[said]).await.statuses();
    let shown = becomes(&cloud, id(&refused), "failed").await;
    assert_eq!(shown["reason"], "unsupported");

    let unheard = cloud
        .start_stream(edge_id, wanted("cam-1", None))
        .await
        .unwrap();
    let command = unheard["command_id"].as_str().unwrap();
    cloud
        .execute(&format!(
            "update commands set issued_at = issued_at - interval '1 hour', expires_at = expires_at - interval '1 hour'
             where id = '{command}'"
        ))
        .await
        .unwrap();
    let shown = becomes(&cloud, id(&unheard), "canceled").await;
    assert_eq!(shown["reason"], "expired");
}

#[tokio::test]
async fn a_silent_device_loses_its_session_until_it_speaks() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = &device.credentials.edge_id;
    let started = cloud
        .start_stream(edge_id, wanted("cam-1", None))
        .await
        .unwrap();
    let session_id = id(&started);
    let live = json!({ "session_id": session_id, "camera_id": "cam-1", "rev": 1 });
    device
        .events(&[device.record("stream.live", 1, live)])
        .await
        .statuses();
    let over = |seconds| {
        format!("update stream_sessions set expires_at = now() - interval '{seconds} seconds'")
    };
    cloud.execute(&over(61)).await.unwrap();
    let shown = becomes(&cloud, session_id, "ended").await;
    assert_eq!(shown["reason"], "lease");
    let failed = json!({ "session_id": session_id, "reason": "unreachable", "detail": "no route", "rev": 2 });
    device
        .events(&[device.record("stream.failed", 2, failed)])
        .await
        .statuses();
    let shown = session(&cloud, session_id).await;
    assert_eq!(
        (&shown["status"], &shown["reason"]),
        (&json!("failed"), &json!("unreachable"))
    );
    // Another device's word about it is nothing.
    let other = Device::new(&cloud, "gate").await;
    let forged = json!({ "session_id": session_id, "reason": "stopped", "rev": 9 });
    other
        .events(&[other.record("stream.ended", 1, forged)])
        .await
        .statuses();
    assert_eq!(session(&cloud, session_id).await["status"], "failed");
}

#[tokio::test]
async fn a_broker_never_sees_a_streams_key() {
    let cloud = Cloud::builder().broker().start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = device.credentials.edge_id.clone();
    let broker = cloud.broker().unwrap();
    broker.control().add_device(&edge_id, "pw").await.unwrap();
    let login = Some((edge_id.as_str(), "pw"));
    let mut mqtt = Mqtt::connect(&broker.ca_file(), broker.port(), &edge_id, login)
        .await
        .unwrap();
    mqtt.subscribe(&format!("edge/v1/{edge_id}/down/#")).await;
    cloud
        .start_stream(&edge_id, wanted("cam-1", Some(KEY)))
        .await
        .unwrap();
    let message = mqtt.message().await;
    assert!(message.topic.ends_with(b"/down/poke"), "{message:?}");
    assert_eq!(message.payload.as_ref(), b"{}");
    assert_eq!(
        device.commands("").await[0]["cmd"]["args"]["stream_key"],
        KEY
    );
    // One without a key may pass.
    cloud
        .start_stream(&edge_id, wanted("cam-2", None))
        .await
        .unwrap();
    assert!(mqtt.message().await.topic.ends_with(b"/down/cmd"));
}

#[tokio::test]
async fn the_admin_api_starts_renews_and_stops() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let http = client(&cloud);
    let (user, viewer) = (
        cloud.create_api_key("user").await.unwrap(),
        cloud.create_api_key("viewer").await.unwrap(),
    );
    let base = cloud.api_base();
    let post = async |key: &str, path: &str, body: Value| {
        let request = http
            .post(format!("{base}{path}"))
            .bearer_auth(key)
            .body(body.to_string());
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_slice::<Value>(&response.bytes().await.unwrap()).unwrap(),
        )
    };
    let start = format!("/admin/v1/devices/{}/streams", device.credentials.edge_id);
    let body = json!({
        "camera_id": "cam-1", "protocol": "srt", "publish_endpoint": "srt://live.example.com:9000", "stream_key": KEY,
    });
    assert_eq!(post(&viewer, &start, body.clone()).await.0, 403);
    let (status, session) = post(&user, &start, body.clone()).await;
    assert_eq!((status, &session["status"]), (201, &json!("requested")));
    assert!(!session.to_string().contains(KEY));
    assert_eq!(post(&user, &start, body.clone()).await.0, 409);
    let mut wrong = body;
    wrong["publish_endpoint"] = json!("http://10.0.0.1/");
    assert_eq!(post(&user, &start, wrong).await.0, 400);
    let path = format!("/admin/v1/streams/{}", session["id"].as_str().unwrap());
    assert_eq!(
        post(&user, &format!("{path}/renew"), json!({ "lease_s": 600 }))
            .await
            .0,
        200
    );
    assert_eq!(post(&user, &format!("{path}/stop"), json!({})).await.0, 200);
    let listed = http
        .get(format!("{base}/admin/v1/streams"))
        .bearer_auth(&viewer)
        .send()
        .await
        .unwrap();
    assert_eq!(listed.status().as_u16(), 200);
    let listed: Value = serde_json::from_slice(&listed.bytes().await.unwrap()).unwrap();
    assert_eq!(listed["streams"].as_array().unwrap().len(), 1);
}
