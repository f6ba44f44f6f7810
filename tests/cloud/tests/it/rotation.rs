//! Key rotation: whatever is lost in between, the current or the next key works.

use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

use crate::blank::{Blank, Person};
use crate::device::{Answer, Device};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use sentrycam_cloud::secret::Secret;

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
    assert!(works(&new).await);
    // And again.
    let newest = next(&cloud, &new).await;
    confirm(&newest).await;
    assert!(works(&newest).await && works(&new).await);
    let states = cloud
        .query("select string_agg(state, ' ' order by id) as s from edge_credentials")
        .await
        .unwrap();
    assert_eq!(states[0]["s"], "retired retired current");
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
