//! Commands: sent by an operator, handed out signed, answered by the device's records.

use std::time::Duration;

use crate::device::{Device, client};
use ring::hmac;
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::faults::{Rule, What};
use sentrycam_cloud::jws;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(40);

fn snapshot() -> Wanted {
    let args = json!({ "camera_id": "cam-1", "snapshot_id": Uuid::now_v7(), "max_width": 640 });
    Wanted::new("snapshot", args)
}

fn id(command: &Value) -> Uuid {
    serde_json::from_value(command["id"].clone()).unwrap()
}

impl Device {
    /// What a poll gives, verified.
    pub async fn commands(&self, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("/edge/v1/commands{query}")).await;
        assert_eq!(answer.status, 200);
        assert!(answer.is_signed(&self.credentials));
        let answer = answer.json();
        let documents = answer["commands"].as_array().unwrap();
        documents
            .iter()
            .map(|document| self.open(jws::COMMAND, document.as_str().unwrap()))
            .collect()
    }

    /// The claims of a document for this device.
    pub fn open(&self, typ: &str, document: &str) -> Value {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.credentials.edge_secret.expose());
        let claims = jws::verify(&key, &self.credentials.edge_key, typ, document).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["iss"], "sentrycam-cloud");
        assert_eq!(claims["aud"], self.credentials.edge_id.as_str());
        claims
    }

    /// A record about a command.
    pub fn status(
        &self,
        sequence: u64,
        command: Uuid,
        rev: i64,
        state: &str,
        more: Value,
    ) -> Value {
        let mut data = json!({ "command_id": command, "rev": rev, "state": state });
        let members = more.as_object().unwrap().clone();
        data.as_object_mut().unwrap().extend(members);
        self.record("command.status", sequence, data)
    }
}

#[tokio::test]
async fn a_command_is_handed_out_signed_until_it_is_acknowledged() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = device.credentials.edge_id.clone();
    assert_eq!(device.commands("").await, Vec::<Value>::new());
    let wanted = snapshot();
    let before = jiff::Timestamp::now().as_second();
    let sent = cloud.send_command(&edge_id, wanted.clone()).await.unwrap();
    assert_eq!(
        (&sent["n"], &sent["status"], &sent["edge_id"]),
        (&json!(1), &json!("queued"), &json!(edge_id))
    );
    let answer = device.events(&[]).await.json();
    assert_eq!(answer["commands_pending"], 1);

    let claims = &device.commands("?after=0&limit=16").await[0];
    assert_eq!(claims["jti"], sent["id"]);
    assert_eq!(claims["n"], 1);
    assert_eq!(
        claims["cmd"],
        json!({ "type": "snapshot", "args": wanted.args })
    );
    let (iat, exp) = (
        claims["iat"].as_i64().unwrap(),
        claims["exp"].as_i64().unwrap(),
    );
    assert_eq!(exp - iat, 300);
    assert!((before..=jiff::Timestamp::now().as_second()).contains(&iat));
    let found = cloud.command(id(&sent)).await.unwrap();
    assert_eq!(
        (&found["status"], &found["retry_count"]),
        (&json!("dispatched"), &json!(0))
    );

    // The same bytes again, since nobody acknowledged; and none after its number.
    let again = device.commands("").await;
    assert_eq!(&again[0], claims);
    assert_eq!(cloud.command(id(&sent)).await.unwrap()["retry_count"], 1);
    assert!(device.commands("?after=1").await.is_empty());

    let id = id(&sent);
    let acknowledged = device.status(1, id, 1, "acknowledged", json!({}));
    let done = json!({ "code": "ok", "progress": 100, "result": { "size_bytes": 1234 } });
    device.events(&[acknowledged]).await.statuses();
    assert!(device.commands("").await.is_empty());
    assert_eq!(device.events(&[]).await.json()["commands_pending"], 0);
    let found = cloud.command(id).await.unwrap();
    assert!(found["acknowledged_at"].is_string() && found["started_at"].is_null());
    device
        .events(&[
            device.status(2, id, 2, "in_progress", json!({ "progress": 50 })),
            device.status(3, id, 3, "succeeded", done),
        ])
        .await
        .statuses();
    let found = cloud.wait_command(id, SOON).await.unwrap();
    assert_eq!(found["status"], "succeeded");
    assert_eq!(found["result"]["size_bytes"], 1234);
    assert!(found["started_at"].is_string() && found["completed_at"].is_string());
    assert_eq!(
        (&found["hinted"], &found["error"]),
        (&json!(false), &Value::Null)
    );
}

#[tokio::test]
async fn words_out_of_order_and_twice_end_the_same_and_an_end_is_final() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let sent = cloud
        .send_command(&device.credentials.edge_id, snapshot())
        .await
        .unwrap();
    let id = id(&sent);
    let failed = json!({ "code": "camera-down", "detail": "x".repeat(600) });
    let end = device.status(3, id, 3, "failed", failed);
    let late = device.status(4, id, 4, "succeeded", json!({}));
    for batch in [
        vec![end.clone()],
        vec![device.status(2, id, 2, "in_progress", json!({ "progress": 10 }))],
        vec![
            device.status(1, id, 1, "acknowledged", json!({})),
            end.clone(),
        ],
        vec![late],
    ] {
        device.events(&batch).await.statuses();
    }
    let found = cloud.command(id).await.unwrap();
    assert_eq!(
        (&found["status"], &found["rev"]),
        (&json!("failed"), &json!(3))
    );
    assert_eq!(found["late_status"], "succeeded");
    assert_eq!(found["error"].as_str().unwrap().len(), 512);
    assert!(found["acknowledged_at"].is_string() && found["started_at"].is_string());

    // Not a word of a device, not a uuid, a negative rev: refused. Another device's command: nothing.
    let wrong = [
        device.status(5, id, 9, "queued", json!({})),
        device.status(6, id, 9, "done", json!({})),
        device.status(7, id, -1, "failed", json!({})),
        device.record(
            "command.status",
            8,
            json!({ "command_id": "1", "rev": 1, "state": "failed" }),
        ),
    ];
    assert_eq!(device.events(&wrong).await.statuses(), ["rejected"; 4]);
    let other = Device::new(&cloud, "other").await;
    let second = cloud
        .send_command(&device.credentials.edge_id, snapshot())
        .await
        .unwrap();
    let foreign = other.status(1, self::id(&second), 9, "succeeded", json!({}));
    assert_eq!(other.events(&[foreign]).await.statuses(), ["accepted"]);
    assert_eq!(
        cloud.command(self::id(&second)).await.unwrap()["status"],
        "queued"
    );
}

#[tokio::test]
async fn what_nobody_acknowledges_in_time_expires() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = device.credentials.edge_id.clone();
    let mut short = snapshot();
    short.expires_in_s = 60;
    let lost = cloud.send_command(&edge_id, short.clone()).await.unwrap();
    let taken = cloud.send_command(&edge_id, short).await.unwrap();
    let long = cloud.send_command(&edge_id, snapshot()).await.unwrap();
    let acknowledged = device.status(1, id(&taken), 1, "acknowledged", json!({}));
    device.events(&[acknowledged]).await.statuses();
    cloud.clock().set_skew(70);
    let ended = cloud.wait_command(id(&lost), SOON).await.unwrap();
    assert_eq!(
        (&ended["status"], &ended["code"]),
        (&json!("expired"), &json!("expired"))
    );
    assert_eq!(
        cloud.command(id(&taken)).await.unwrap()["status"],
        "acknowledged"
    );
    let open = device.commands("").await;
    assert_eq!((open.len(), &open[0]["jti"]), (1, &long["id"]));
    // The device did it nevertheless: said, but the end stays the end.
    let late = device.status(2, id(&lost), 3, "succeeded", json!({}));
    device.events(&[late]).await.statuses();
    let ended = cloud.command(id(&lost)).await.unwrap();
    assert_eq!(
        (&ended["status"], &ended["late_status"]),
        (&json!("expired"), &json!("succeeded"))
    );
}

#[tokio::test]
async fn a_poll_gives_sixteen_in_order_and_the_rest_after_them() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    for _ in 0..20 {
        let sent = cloud.send_command(&device.credentials.edge_id, snapshot());
        sent.await.unwrap();
    }
    let numbers = |commands: Vec<Value>| -> Vec<i64> {
        commands.iter().map(|c| c["n"].as_i64().unwrap()).collect()
    };
    assert_eq!(
        numbers(device.commands("?limit=99").await),
        (1..=16).collect::<Vec<_>>()
    );
    assert_eq!(
        numbers(device.commands("?after=16&limit=3").await),
        [17, 18, 19]
    );
    for query in ["?after=x", "?limit=-", "?after=99999999999999999999"] {
        let refused = device.get(&format!("/edge/v1/commands{query}")).await;
        assert_eq!((refused.status, refused.code()), (400, "malformed".into()));
    }
    cloud.faults().set(vec![
        Rule::times("/edge/v1/commands", What::Duplicate, 1),
        Rule::times("/edge/v1/commands", What::Reorder, 1),
        Rule::times("/edge/v1/commands", What::Stale, 1),
    ]);
    assert_eq!(numbers(device.commands("?limit=2").await), [1, 1, 2, 2]);
    assert_eq!(numbers(device.commands("?limit=3").await), [3, 2, 1]);
    assert_eq!(
        numbers(device.commands("?after=19").await)[..3],
        [20, 20, 19]
    );
}

#[tokio::test]
async fn the_admin_api_sends_waits_and_cancels_by_role() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = &device.credentials.edge_id;
    let http = client(&cloud);
    let (admin, user) = (
        cloud.create_api_key("admin").await.unwrap(),
        cloud.create_api_key("user").await.unwrap(),
    );
    let call = async |key: &str, path: String, body: Value| {
        let url = format!("{}/admin/v1/{path}", cloud.api_base());
        let request = if body.is_null() {
            http.get(url)
        } else {
            http.post(url).body(body.to_string())
        };
        let response = request.bearer_auth(key).send().await.unwrap();
        let status = response.status().as_u16();
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        (status, body)
    };
    let to = format!("devices/{edge_id}/commands");
    let reboot = json!({ "type": "reboot", "args": { "delay_s": 0 }, "expires_in_s": 30 });
    assert_eq!(call(&user, to.clone(), reboot.clone()).await.0, 403);
    let (status, sent) = call(&admin, to.clone(), reboot).await;
    assert_eq!((status, &sent["command_type"]), (201, &json!("reboot")));
    for wrong in [
        json!({ "type": "Re boot" }),
        json!({ "type": "reboot", "args": [] }),
        json!({ "type": "reboot", "expires_in_s": 0 }),
        json!({ "type": "reboot", "expires_in_s": 9_999_999 }),
        json!({ "type": "reboot", "surprise": 1 }),
        json!({ "type": "reboot", "args": { "a": "x".repeat(20_000) } }),
        json!({ "type": "reboot", "args": { "a": "\u{0}" } }),
        json!({ "args": {} }),
    ] {
        assert_eq!(
            call(&admin, to.clone(), wrong.clone()).await.0,
            400,
            "{wrong}"
        );
    }
    let nowhere = json!({ "type": "snapshot" });
    assert_eq!(
        call(&user, "devices/e-none/commands".into(), nowhere)
            .await
            .0,
        404
    );

    // Canceled while nobody has it; not any more afterwards.
    let path = format!("commands/{}", sent["id"].as_str().unwrap());
    assert_eq!(
        call(&user, format!("{path}/cancel"), json!({})).await.0,
        403
    );
    let (status, canceled) = call(&admin, format!("{path}/cancel"), json!({})).await;
    assert_eq!((status, &canceled["status"]), (200, &json!("canceled")));
    assert!(device.commands("").await.is_empty());
    let (_, sent) = call(&user, to, json!({ "type": "snapshot" })).await;
    let path = format!("commands/{}", sent["id"].as_str().unwrap());
    assert_eq!(device.commands("").await.len(), 1);
    assert_eq!(
        call(&user, format!("{path}/cancel"), json!({})).await.0,
        409
    );

    let (waited, _) = tokio::join!(
        call(&user, format!("{path}?wait_s=10"), Value::Null),
        async {
            let done = device.status(1, id(&sent), 1, "succeeded", json!({}));
            device.events(&[done]).await.statuses();
        }
    );
    assert_eq!((waited.0, &waited.1["status"]), (200, &json!("succeeded")));
    let (_, listed) = call(&user, "commands".into(), Value::Null).await;
    assert_eq!(listed["commands"].as_array().unwrap().len(), 2);
    let actions = cloud
        .query("select action from audit_logs where entity_type = 'command' order by id")
        .await
        .unwrap();
    let actions: Vec<&str> = actions
        .iter()
        .map(|row| row["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["COMMAND", "CANCEL", "COMMAND"]);
}

#[tokio::test]
async fn another_organizations_key_sends_nothing_here() {
    let cloud = Cloud::start().await.unwrap();
    let second = cloud.create_organization("Second").await.unwrap();
    let theirs = cloud.create_device_of(second, "theirs").await.unwrap();
    let sent = cloud
        .send_command(&theirs.edge_id, snapshot())
        .await
        .unwrap();
    let key = cloud.create_api_key("admin").await.unwrap();
    let http = client(&cloud);
    let base = format!("{}/admin/v1", cloud.api_base());
    let send = http
        .post(format!("{base}/devices/{}/commands", theirs.edge_id))
        .bearer_auth(&key)
        .body("{\"type\": \"snapshot\"}");
    assert_eq!(send.send().await.unwrap().status(), 404);
    let look = http
        .get(format!("{base}/commands/{}", sent["id"].as_str().unwrap()))
        .bearer_auth(&key);
    assert_eq!(look.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn hostile_documents_are_handed_out_on_demand() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = device.credentials.edge_id.clone();
    cloud
        .set_twin(&edge_id, json!({ "motion": {} }))
        .await
        .unwrap();
    let hostile = |name: &str, skip| What::Hostile {
        name: name.into(),
        skip,
    };
    cloud.faults().set(vec![
        Rule::times("/edge/v1/commands", hostile("token/alg-none", 0), 1),
        Rule::times("/edge/v1/commands", hostile("claims/", 10), 1),
        Rule::times("/edge/v1/twin", hostile("twin/aud", 0), 1),
    ]);
    let answer = device.get("/edge/v1/commands").await;
    assert!(answer.is_signed(&device.credentials));
    assert_eq!(answer.json()["commands"].as_array().unwrap().len(), 3);
    assert!(
        device.get("/edge/v1/commands").await.json()["commands"]
            .as_array()
            .unwrap()
            .len()
            > 50
    );
    assert!(
        device.get("/edge/v1/commands").await.json()["commands"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let twin = device.get("/edge/v1/twin").await;
    let wrong = std::str::from_utf8(&twin.body).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, device.credentials.edge_secret.expose());
    let claims = jws::verify(&key, &device.credentials.edge_key, jws::TWIN, wrong).unwrap();
    assert!(!String::from_utf8(claims).unwrap().contains("\"aud\""));
}
