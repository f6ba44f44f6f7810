//! The cloud and its broker: commands and twins down, hints up, with a real Mosquitto.

use std::time::Duration;

use crate::device::{Device, Wrong};
use crate::mqtt::Mqtt;
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::jws;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(40);

struct Linked {
    cloud: Cloud,
    device: Device,
    mqtt: Mqtt,
}

impl Linked {
    async fn start() -> Self {
        let cloud = Cloud::builder().broker().start().await.unwrap();
        let device = Device::new(&cloud, "porch").await;
        let broker = cloud.broker().unwrap();
        let control = broker.control();
        control.add_device(device.edge_id(), "pw").await.unwrap();
        let mqtt = connect(&cloud, &device).await;
        Self {
            cloud,
            device,
            mqtt,
        }
    }

    fn up(&self, rest: &str) -> String {
        format!("edge/v1/{}/up/{rest}", self.device.edge_id())
    }

    async fn send(&self, command_type: &str) -> Uuid {
        let wanted = Wanted::new(command_type, json!({}));
        let sent = self.cloud.send_command(self.device.edge_id(), wanted).await;
        serde_json::from_value(sent.unwrap()["id"].clone()).unwrap()
    }

    async fn says(&mut self, rest: &str, what: &Value) {
        let topic = self.up(rest);
        self.mqtt
            .publish(&topic, rest != "hint", what.to_string().as_bytes())
            .await;
    }

    async fn device_is(&self, condition: &str) {
        let sql = format!("select bool_and({condition}) from devices");
        self.cloud.wait_for(&sql, SOON).await.unwrap();
    }
}

async fn connect(cloud: &Cloud, device: &Device) -> Mqtt {
    let (broker, id) = (cloud.broker().unwrap(), device.edge_id());
    let mut mqtt = Mqtt::connect(&broker.ca_file(), broker.port(), id, Some((id, "pw")))
        .await
        .unwrap();
    mqtt.subscribe(&format!("edge/v1/{id}/down/#")).await;
    mqtt
}

impl Device {
    fn edge_id(&self) -> &str {
        &self.credentials.edge_id
    }
}

#[tokio::test]
async fn a_command_travels_by_mqtt_and_its_record_by_https() {
    let mut it = Linked::start().await;
    let id = it.send("snapshot").await;
    let message = it.mqtt.message().await;
    assert!(message.topic.ends_with(b"/down/cmd") && !message.retain);
    let expiry = message.properties.and_then(|p| p.message_expiry_interval);
    assert!((290..=300).contains(&expiry.unwrap()), "{expiry:?}");
    let jws = String::from_utf8(message.payload.to_vec()).unwrap();
    let claims = it.device.open(jws::COMMAND, &jws);
    assert_eq!(claims["jti"], json!(id));
    // The same bytes both ways.
    let polled = it.device.get("/edge/v1/commands").await.json();
    assert_eq!(polled["commands"], json!([jws]));

    // A hint is shown at once, twice is once; the record makes it true.
    let done = it
        .device
        .status(2, id, 2, "succeeded", json!({ "result": { "n": 1 } }));
    let topic = format!("cmd/{id}/status");
    it.says(&topic, &done).await;
    it.says(&topic, &done).await;
    let found = it.cloud.wait_command(id, SOON).await.unwrap();
    assert_eq!(
        (&found["status"], &found["hinted"]),
        (&json!("succeeded"), &json!(true))
    );
    assert!(
        it.cloud
            .query("select 1 as one from edge_records")
            .await
            .unwrap()
            .is_empty()
    );
    it.device.events(&[done]).await.statuses();
    let found = it.cloud.command(id).await.unwrap();
    assert_eq!(
        (&found["status"], &found["hinted"]),
        (&json!("succeeded"), &json!(false))
    );
}

#[tokio::test]
async fn a_batchs_answer_names_what_mqtt_has_brought_and_nobody_acknowledged() {
    let mut it = Linked::start().await;
    let id = it.send("snapshot").await;
    it.mqtt.message().await;
    let mut batch = it.device.batch(&[]);
    batch.idempotency_key = Some("one".into());
    let pending = async |batch: &Wrong| {
        let answer = it.device.send(batch.clone().again()).await;
        assert_eq!(answer.status, 200);
        answer.json()["commands_pending"].as_i64().unwrap()
    };
    assert_eq!(pending(&batch).await, 1);
    let taken = it.device.status(1, id, 1, "acknowledged", json!({}));
    it.device.events(&[taken]).await.statuses();
    // The same key: the same results, but what waits is what waits now.
    assert_eq!(pending(&batch).await, 0);
    it.send("reboot").await;
    assert_eq!(pending(&batch).await, 1);
}

#[tokio::test]
async fn progress_goes_forward_and_stands_at_the_end() {
    let mut it = Linked::start().await;
    let id = it.send("diag.collect").await;
    it.mqtt.message().await;
    let say = |rev: i64, state: &str, more: Value| {
        let sequence = u64::try_from(rev).unwrap();
        it.device.status(sequence, id, rev, state, more)
    };
    let percent = |n: i64| json!({ "progress": { "percent": n } });
    let (early, half, most) = (
        say(2, "in_progress", percent(10)),
        say(3, "in_progress", percent(50)),
        say(4, "in_progress", percent(90)),
    );
    let shown = async |status: &str, n: i64| {
        let found = it.cloud.command(id).await.unwrap();
        assert_eq!(
            (&found["status"], &found["progress"]),
            (&json!(status), &json!({ "percent": n }))
        );
    };
    // The newer arrives first; the older, late and twice, changes nothing.
    it.device
        .events(std::slice::from_ref(&half))
        .await
        .statuses();
    it.device.events(&[early.clone(), half]).await.statuses();
    shown("in_progress", 50).await;
    let topic = it.up(&format!("cmd/{id}/status"));
    it.mqtt
        .publish(&topic, false, most.to_string().as_bytes())
        .await;
    let hinted = format!("(select hinted from commands where id = '{id}')");
    it.cloud.wait_for(&hinted, SOON).await.unwrap();
    shown("in_progress", 90).await;
    // The end says nothing of it: the last word about it stands.
    it.device
        .events(&[
            most,
            say(5, "succeeded", json!({ "result": { "bytes": 7 } })),
        ])
        .await
        .statuses();
    shown("succeeded", 90).await;
    let found = it.cloud.command(id).await.unwrap();
    assert_eq!(
        (&found["result"], &found["hinted"]),
        (&json!({ "bytes": 7 }), &json!(false))
    );
    assert!(found["started_at"].is_string() && found["completed_at"].is_string());
}

#[tokio::test]
async fn a_forged_end_gives_way_to_the_record_and_nonsense_does_nothing() {
    let mut it = Linked::start().await;
    let other = Device::new(&it.cloud, "other").await;
    let id = it.send("reboot").await;
    let topic = format!("cmd/{id}/status");
    let forged = it.device.status(9, id, 999, "succeeded", json!({}));
    for nonsense in [
        json!("x"),
        json!({ "online": true }),
        other.status(1, id, 5, "failed", json!({})),
        it.device.record("agent.heartbeat", 1, json!({})),
        it.device.status(1, Uuid::now_v7(), 5, "failed", json!({})),
        it.device.status(1, id, 5, "queued", json!({})),
    ] {
        it.says(&topic, &nonsense).await;
        it.says("state", &nonsense).await;
        it.says("twin", &nonsense).await;
    }
    it.says(&topic, &forged).await;
    let found = it.cloud.wait_command(id, SOON).await.unwrap();
    assert_eq!(
        (&found["status"], &found["rev"], &found["hinted"]),
        (&json!("succeeded"), &json!(999), &json!(true))
    );
    let truth = it
        .device
        .status(2, id, 3, "failed", json!({ "code": "denied" }));
    it.device.events(&[truth]).await.statuses();
    let found = it.cloud.command(id).await.unwrap();
    assert_eq!(
        (&found["status"], &found["rev"], &found["hinted"]),
        (&json!("failed"), &json!(3), &json!(false))
    );
}

#[tokio::test]
async fn presence_follows_the_last_session() {
    let mut it = Linked::start().await;
    let state = |online: bool, session: Uuid| json!({ "online": online, "session": session, "conn": 1, "agent": "1.0" });
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    it.says("state", &state(true, first)).await;
    it.device_is("status = 'online' and presence_online and app_version = '1.0'")
        .await;
    it.says("state", &state(true, second)).await;
    // The will of the first comes late: in order, so the marker after it proves that it was heard.
    it.says("state", &state(false, first)).await;
    it.says(
        "twin",
        &json!({ "desired": 0, "applied": 0, "status": "applied" }),
    )
    .await;
    let heard = "(select reported_status = 'applied' from twins)";
    it.cloud.wait_for(heard, SOON).await.unwrap();
    it.device_is(&format!(
        "status = 'online' and presence_session = '{second}'"
    ))
    .await;
    it.says("state", &state(false, second)).await;
    it.device_is("status = 'offline' and not presence_online")
        .await;
    // HTTPS alone is enough to be online, and the same will again does not change that.
    it.device
        .events(&[it.device.record("agent.heartbeat", 1, json!({}))])
        .await
        .statuses();
    it.device_is("status = 'online'").await;
    it.says("state", &state(false, second)).await;
    let third = Uuid::now_v7();
    it.cloud
        .execute("update devices set status = 'degraded'")
        .await
        .unwrap();
    it.says("state", &state(true, third)).await;
    it.device_is(&format!(
        "status = 'degraded' and presence_session = '{third}'"
    ))
    .await;
    it.says("state", &state(false, third)).await;
    it.device_is("status = 'offline'").await;
    // Silent for three minutes and not at the broker: offline.
    it.cloud
        .execute("update devices set status = 'online', last_seen_at = now() - interval '1 hour'")
        .await
        .unwrap();
    it.device_is("status = 'offline'").await;
}

#[tokio::test]
async fn the_twin_is_retained_and_signed_again_after_a_rotation() {
    let mut it = Linked::start().await;
    let edge_id = it.device.edge_id().to_owned();
    it.cloud
        .set_twin(&edge_id, json!({ "motion": { "fps": 5 } }))
        .await
        .unwrap();
    let message = it.mqtt.message().await;
    assert!(message.topic.ends_with(b"/down/twin"));
    let jws = String::from_utf8(message.payload.to_vec()).unwrap();
    assert_eq!(it.device.open(jws::TWIN, &jws)["version"], 1);
    let polled = it.device.get("/edge/v1/twin").await;
    assert_eq!(polled.body, jws.as_bytes());
    it.says(
        "twin",
        &json!({ "desired": 1, "applied": 1, "status": "applied", "errors": [] }),
    )
    .await;
    let hinted = "(select reported_hinted and reported_applied = 1 from twins)";
    it.cloud.wait_for(hinted, SOON).await.unwrap();
    assert_eq!(it.cloud.twin(&edge_id).await.unwrap()["in_force"], true);

    // Who comes later gets the retained one.
    drop(it.mqtt);
    it.mqtt = connect(&it.cloud, &it.device).await;
    let message = it.mqtt.message().await;
    assert!(message.retain && message.payload == jws.as_bytes());

    // A new current key: the same version, signed with it.
    it.cloud
        .execute(
            "insert into edge_credentials (id, organization_id, device_id, edge_key, secret_wrapped, state)
             select gen_random_uuid(), organization_id, device_id, 'ek_next', secret_wrapped, 'next' from edge_credentials;
             update edge_credentials set state = 'retired', retired_at = now() where edge_key <> 'ek_next';
             update edge_credentials set state = 'current' where edge_key = 'ek_next'",
        )
        .await
        .unwrap();
    it.device.credentials.edge_key = "ek_next".into();
    let again = it.mqtt.message().await;
    let again = String::from_utf8(again.payload.to_vec()).unwrap();
    assert_eq!(it.device.open(jws::TWIN, &again)["version"], 1);
    assert_ne!(again, jws);
}

#[tokio::test]
async fn nothing_is_lost_with_the_broker_or_the_server() {
    let mut it = Linked::start().await;
    let broker = it.cloud.broker().unwrap();
    broker.kill();
    let while_down = it.send("snapshot").await;
    assert_eq!(
        it.device.get("/edge/v1/commands").await.json()["commands"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    broker.start_again().unwrap();
    it.mqtt = connect(&it.cloud, &it.device).await;
    // What was told before the device had subscribed is lost; its presence asks for all of it.
    let come = json!({ "online": true, "session": Uuid::now_v7(), "conn": 2, "agent": "1.0.0" });
    it.says("state", &come).await;
    let message = it.mqtt.message().await;
    let first = it
        .device
        .open(jws::COMMAND, std::str::from_utf8(&message.payload).unwrap());
    assert_eq!(
        first["jti"],
        json!(while_down),
        "handed out before, told again to a new broker"
    );

    // Sent by another process while the server is down; told when it is up again.
    it.cloud.stop().await.unwrap();
    let while_stopped = it.send("snapshot").await;
    it.cloud.start_again().await.unwrap();
    let mut told = Vec::new();
    while !told.contains(&json!(while_stopped)) {
        let message = it.mqtt.message().await;
        let claims = it
            .device
            .open(jws::COMMAND, std::str::from_utf8(&message.payload).unwrap());
        told.push(claims["jti"].clone());
    }
    // A poke, and no work for what has ended.
    it.device
        .events(&[
            it.device.status(1, while_down, 1, "succeeded", json!({})),
            it.device
                .status(2, while_stopped, 1, "succeeded", json!({})),
        ])
        .await
        .statuses();
    it.cloud.link().unwrap().poke(it.device.edge_id()).unwrap();
    // What was told twice before it ended may still be on its way.
    let poke = loop {
        let message = it.mqtt.message().await;
        if message.topic.ends_with(b"/down/poke") {
            break message;
        }
    };
    assert_eq!(&poke.payload[..], b"{}");
}
