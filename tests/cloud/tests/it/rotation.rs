//! Key rotation: whatever is lost in between, the current or the next key works.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sentrycam_cloud::claiming::rotate as rotation;
use sentrycam_cloud::db::Db;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

use crate::blank::{Blank, Person};
use crate::device::{Answer, Device};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use sentrycam_cloud::secret::Secret;

const SOON: Duration = Duration::from_secs(40);

async fn rotate(device: &Device, key: &Blank) -> Answer {
    let body = json!({ "kem_pk": BASE64_URL_SAFE_NO_PAD.encode(key.public) });
    let mut request = device.request(
        "POST",
        "/edge/v1/credentials/rotate",
        body.to_string().into_bytes(),
    );
    request.content_type = "application/json";
    device.send(request).await
}

async fn confirm(device: &Device) -> Answer {
    device
        .send(device.request("POST", "/edge/v1/credentials/confirm", Vec::new()))
        .await
}

/// The same device with the key that was sealed.
fn with_key(device: &Device, plain: &Value) -> Device {
    let mut next = device.clone();
    next.credentials.edge_key = plain["edge_key"].as_str().unwrap().to_owned();
    let secret = BASE64_STANDARD
        .decode(plain["edge_secret"].as_str().unwrap())
        .unwrap();
    next.credentials.edge_secret = Secret::new(secret.try_into().unwrap());
    next
}

async fn next(cloud: &Cloud, device: &Device) -> Device {
    let key = Blank::new(cloud, "");
    let answer = rotate(device, &key).await;
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    assert!(answer.is_signed(&device.credentials));
    let plain = key
        .unseal(
            &key.info("sentrycam/rotate/v1", None),
            &answer.json()["sealed"],
        )
        .unwrap();
    assert!(plain["not_before"].is_string());
    with_key(device, &plain)
}

async fn works(device: &Device) -> bool {
    device.get("/edge/v1/time").await.status == 200
}

#[tokio::test]
async fn both_keys_work_until_a_day_after_the_confirm() {
    let cloud = Cloud::start().await.unwrap();
    let old = Device::new(&cloud, "porch").await;
    // The first answer is lost; the second rotation forgets its key.
    let lost = next(&cloud, &old).await;
    let new = next(&cloud, &old).await;
    assert_eq!(lost.get("/edge/v1/time").await.code(), "unknown-key");
    assert!(works(&old).await && works(&new).await);
    // The next key may not ask for one after it.
    assert_eq!(
        rotate(&new, &Blank::new(&cloud, "")).await.code(),
        "not-current"
    );
    let confirmed = confirm(&new).await;
    assert_eq!(confirmed.status, 200);
    assert!(confirmed.is_signed(&new.credentials));
    assert_eq!(
        confirm(&new).await.status,
        200,
        "a repeated confirm changes nothing"
    );
    assert!(works(&old).await && works(&new).await);
    assert_eq!(confirm(&old).await.code(), "not-next");
    assert_eq!(
        rotate(&old, &Blank::new(&cloud, "")).await.code(),
        "not-current"
    );
    cloud
        .execute("update edge_credentials set retired_at = retired_at - interval '24 hours 1 second' where state = 'retired'")
        .await
        .unwrap();
    assert_eq!(old.get("/edge/v1/time").await.code(), "unknown-key");
    let over = "(select count(*) = 0 from edge_credentials where state = 'retired')";
    cloud.wait_for(over, SOON).await.unwrap();
    assert!(works(&new).await);
    // And again.
    let newest = next(&cloud, &new).await;
    confirm(&newest).await;
    assert!(works(&newest).await && works(&new).await);
    let states = cloud
        .query("select string_agg(state, ' ' order by id) as s from edge_credentials")
        .await
        .unwrap();
    assert_eq!(states[0]["s"], "revoked retired current");
}

#[tokio::test]
async fn rotation_wants_the_key_and_a_message() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    for body in ["{}", "[]", "{\"kem_pk\": 1}", "{\"kem_pk\": \"AAAA\"}"] {
        let mut request = device.request("POST", "/edge/v1/credentials/rotate", body.into());
        request.content_type = "application/json";
        assert_eq!(device.send(request).await.code(), "malformed", "{body}");
    }
    let mut forged = device.request("POST", "/edge/v1/credentials/rotate", b"{}".to_vec());
    forged.secret = vec![1; 32];
    assert_eq!(device.send(forged).await.code(), "invalid-signature");
    let rows = cloud.query("select 1 from edge_credentials").await.unwrap();
    assert_eq!(rows.len(), 1);
    // An unclaimed device gets no new key.
    cloud.unclaim(&device.credentials.edge_id).await.unwrap();
    assert_eq!(rotate(&device, &Blank::new(&cloud, "")).await.status, 410);
}

#[tokio::test]
async fn a_person_asks_for_a_rotation_by_command() {
    let cloud = Cloud::start().await.unwrap();
    let (device, person) = (
        Device::new(&cloud, "porch").await,
        Person::new(&cloud).await,
    );
    let sent = person
        .post(
            &format!("devices/{}/rotate", device.credentials.edge_id),
            json!({}),
        )
        .await;
    assert_eq!(
        (sent.status, &sent.body["command_type"]),
        (201, &json!("key.rotate"))
    );
    assert_eq!(
        person
            .post("devices/e-unknown/rotate", json!({}))
            .await
            .status,
        404
    );
    assert_eq!(
        person
            .post("devices/e-unknown/unclaim", json!({}))
            .await
            .status,
        404
    );
    let second = Person::of(&cloud, cloud.create_organization("Second").await.unwrap()).await;
    let path = format!("devices/{}/unclaim", device.credentials.edge_id);
    assert_eq!(second.post(&path, json!({})).await.status, 404);
    assert!(works(&device).await);
}

/// What the due-jobs do at this time, with the server's own role: keys asked about, keys revoked.
async fn due(cloud: &Cloud, now: Timestamp) -> (usize, u64) {
    let url = cloud.app_url();
    let done = cloud.on_cloud(async move {
        let db = Db::connect(&url).await.unwrap();
        let asked = rotation::old(&db, now).await.unwrap();
        (asked, rotation::retire(&db, now).await.unwrap())
    });
    done.await.unwrap()
}

#[tokio::test]
async fn a_key_of_180_days_is_changed_and_the_old_one_ends_a_day_later() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let given_back = Device::new(&cloud, "gone").await;
    cloud
        .unclaim(&given_back.credentials.edge_id)
        .await
        .unwrap();
    let second = cloud.create_organization("Second").await.unwrap();
    cloud.create_device_of(second, "other").await.unwrap();
    let made = Timestamp::now();
    let at = |days: i64| made + SignedDuration::from_hours(24 * days);
    assert_eq!(due(&cloud, at(179)).await, (0, 0));
    // Every tenant's, once a day, whatever became of it.
    assert_eq!(due(&cloud, at(180)).await, (2, 0));
    assert_eq!(due(&cloud, at(180)).await, (0, 0));
    cloud
        .execute("update commands set status = 'failed', completed_at = now()")
        .await
        .unwrap();
    assert_eq!(due(&cloud, at(180)).await, (0, 0));
    assert_eq!(due(&cloud, at(181)).await, (2, 0));

    // The device is handed the command, changes its key, and says so.
    let claims = &device.commands("").await[0];
    assert_eq!(claims["cmd"], json!({ "type": "key.rotate", "args": {} }));
    let new = next(&cloud, &device).await;
    assert_eq!(confirm(&new).await.status, 200);
    let id = claims["jti"].as_str().unwrap().parse().unwrap();
    let result = json!({ "result": { "edge_key": new.credentials.edge_key } });
    let said = new.status(1, id, 3, "succeeded", result);
    new.events(&[said]).await.statuses();
    assert_eq!(cloud.command(id).await.unwrap()["status"], "succeeded");
    // The new one is young; the old one works for a day and is unknown then.
    let day = SignedDuration::from_hours(24);
    assert_eq!(
        due(
            &cloud,
            Timestamp::now() + day - SignedDuration::from_secs(60)
        )
        .await
        .1,
        0
    );
    assert!(works(&device).await);
    assert_eq!(due(&cloud, Timestamp::now() + day).await.1, 1);
    assert_eq!(device.get("/edge/v1/time").await.code(), "unknown-key");
    assert!(works(&new).await);
    let asked = cloud
        .query("select count(*)::int as n from commands where command_type = 'key.rotate'")
        .await
        .unwrap();
    assert_eq!(asked[0]["n"], 4);
    due(&cloud, at(182)).await;
    let asked = cloud
        .query("select count(*)::int as n from commands where command_type = 'key.rotate'")
        .await
        .unwrap();
    assert_eq!(asked[0]["n"], 5, "only the other one's key is old still");
}
