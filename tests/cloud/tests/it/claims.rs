//! Claiming end to end: each binding, its times, its refusals, and what is left in the database after each.

use std::time::Duration;

use sentrycam_cloud::claiming::{Limits, Settings};
use sentrycam_cloud::testing::Cloud;
use serde_json::json;

use crate::blank::{Blank, Person, Window, confirm, confirm_at};
use crate::device::Device;
use crate::mqtt::Mqtt;

pub async fn count(cloud: &Cloud, sql: &str) -> i64 {
    cloud
        .query(&format!("select count(*) as n from {sql}"))
        .await
        .unwrap()[0]["n"]
        .as_i64()
        .unwrap()
}

pub async fn heartbeat(device: &Device) -> u16 {
    device
        .events(&[device.record("agent.heartbeat", 1, json!({}))])
        .await
        .status
}

#[tokio::test]
async fn a_user_code_binds_and_the_signed_confirm_makes_it_count() {
    let cloud = Cloud::builder().broker().start().await.unwrap();
    let (blank, person) = (
        Blank::new(&cloud, "10000000abcd1234"),
        Person::new(&cloud).await,
    );
    let window = blank.open().await;
    let pending = blank.poll(&window).await;
    assert_eq!(
        (pending.status, pending.code()),
        (400, "authorization_pending")
    );
    assert_eq!(pending.body["error"], "authorization_pending");
    let typed = format!(
        "{}-{}",
        &window.user_code[..4].to_lowercase(),
        &window.user_code[4..]
    );
    let bound = person.bind(&typed).await;
    assert_eq!((bound.status, &bound.body["state"]), (200, &json!("bound")));

    // The same answer, byte for byte, as often as it is asked for.
    let first = blank.poll(&window).await;
    for _ in 0..3 {
        assert_eq!(blank.poll(&window).await.bytes, first.bytes);
    }
    let plain = blank.opened(&window, &first);
    assert_eq!(plain["v"], 1);
    assert_eq!(plain["device_name"], "porch");
    assert_eq!(
        plain["tenant"],
        json!({ "id": cloud.organization(), "name": "Test" })
    );
    assert_eq!(plain["api_base"], cloud.api_base());
    assert_eq!(plain["stream_hosts"], json!([]));
    let mqtt = &plain["mqtt"];
    assert_eq!(
        (&mqtt["client_id"], &mqtt["username"]),
        (&plain["edge_id"], &plain["edge_id"])
    );
    let password = mqtt["password"].as_str().unwrap().to_owned();
    assert_eq!(password.len(), 43);

    // Nothing counts yet: no device, no key, no client.
    let device = blank.device(&plain);
    assert_eq!(count(&cloud, "devices").await, 0);
    assert_eq!(count(&cloud, "edge_credentials").await, 0);
    assert_eq!(device.get("/edge/v1/time").await.code(), "unknown-key");
    let edge_id = device.credentials.edge_id.clone();
    let broker = cloud.broker().unwrap();
    let port = u16::try_from(mqtt["port"].as_u64().unwrap()).unwrap();
    assert_eq!(port, broker.port());
    let login = Some((edge_id.as_str(), password.as_str()));
    assert!(
        Mqtt::connect(&broker.ca_file(), port, &edge_id, login)
            .await
            .is_err()
    );

    let confirmed = confirm(&device, &window).await;
    assert_eq!(confirmed.status, 200);
    assert!(confirmed.is_signed(&device.credentials));
    assert_eq!(heartbeat(&device).await, 200);
    let mut connected = Mqtt::connect(&broker.ca_file(), port, &edge_id, login)
        .await
        .ok()
        .unwrap();
    // The lost answer to a confirm costs nothing.
    assert_eq!(confirm(&device, &window).await.status, 200);
    assert_eq!(blank.poll(&window).await.code(), "unknown-claim");
    let rows = cloud
        .query("select status, serial_number, claimed_at is not null as claimed, mqtt_client_id from devices")
        .await
        .unwrap();
    assert_eq!(rows[0]["serial_number"], "10000000abcd1234");
    assert_eq!(rows[0]["mqtt_client_id"], edge_id.as_str());
    assert_eq!(rows[0]["claimed"], true);
    assert_eq!(count(&cloud, "device_claiming_queue").await, 0);
    assert_eq!(
        count(&cloud, "mqtt_clients where password_wrapped is not null").await,
        0
    );

    // Unclaim: out of the broker at once, and a signed 410.
    assert_eq!(
        person
            .post(
                &format!("devices/{edge_id}/unclaim"),
                json!({ "now": true })
            )
            .await
            .status,
        200
    );
    connected.ended().await;
    let gone = device.get("/edge/v1/time").await;
    assert_eq!((gone.status, gone.code().as_str()), (410, "unclaimed"));
    assert!(gone.is_signed(&device.credentials));
    assert!(
        Mqtt::connect(&broker.ca_file(), port, &edge_id, login)
            .await
            .is_err()
    );
    let audit = cloud
        .query("select string_agg(action, ' ' order by id) as a from audit_logs")
        .await
        .unwrap();
    assert!(
        audit[0]["a"]
            .as_str()
            .unwrap()
            .ends_with("BIND CLAIM UNCLAIM"),
        "{audit:?}"
    );
}

#[tokio::test]
async fn a_claim_code_binds_at_once_and_only_once() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    let made = person
        .post("claim-codes", json!({ "device_name": "gate" }))
        .await;
    assert_eq!(made.status, 201);
    let code = made.body["claim_code"].as_str().unwrap().to_owned();
    let blank = Blank::new(&cloud, "s-1");
    let lost = Window::of(&blank.open_with_code(&code).await);
    // Power cut before it had its credentials: it comes again with a new key; the newest counts.
    let blank = Blank::new(&cloud, "s-1");
    let window = Window::of(&blank.open_with_code(&code.to_lowercase()).await);
    assert_eq!(
        Blank::new(&cloud, "s-1").poll(&lost).await.code(),
        "access_denied"
    );
    let device = blank.finish(&window).await;
    assert_eq!(device.credentials.device_name, "gate");
    assert_eq!(heartbeat(&device).await, 200);
    let used = Blank::new(&cloud, "s-2").open_with_code(&code).await;
    assert_eq!((used.status, used.code()), (403, "wrong-code"));
    let listed = person.get("claim-codes").await;
    let row = &listed.body["claim-codes"][0];
    assert_eq!(
        (&row["status"], &row["edge_id"]),
        (&json!("claimed"), &json!(device.credentials.edge_id))
    );
    assert!(!listed.body.to_string().contains(&code[..4]));
    let text = cloud
        .query("select code_hash from claim_codes")
        .await
        .unwrap();
    assert_eq!(text[0]["code_hash"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn a_code_ends_with_its_day() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    assert_eq!(
        person
            .post("claim-codes", json!({ "expires_in_s": 86_401 }))
            .await
            .status,
        400
    );
    assert_eq!(
        person
            .post("claim-codes", json!({ "expires_in": 60 }))
            .await
            .status,
        400
    );
    let made = person
        .post("claim-codes", json!({ "expires_in_s": 60 }))
        .await;
    let code = made.body["claim_code"].as_str().unwrap();
    cloud.clock().set_skew(61);
    assert_eq!(
        Blank::new(&cloud, "s").open_with_code(code).await.code(),
        "wrong-code"
    );
    cloud
        .wait_for(
            "(select status = 'expired' from claim_codes)",
            Duration::from_secs(40),
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn presses_that_match_bind_and_the_number_is_never_sent() {
    let cloud = Cloud::start().await.unwrap();
    let (blank, person) = (
        Blank::new(&cloud, "10000000abcd1234"),
        Person::new(&cloud).await,
    );
    let window = blank.open().await;
    let listed = person.get("claims").await.body["claims"].clone();
    assert_eq!(listed[0]["claim_id"], json!(window.id));
    assert_eq!(listed[0]["serial_ends_with"], "1234");
    assert!(!listed.to_string().contains("10000000"));
    let wanted = person.want(&window).await;
    let presses = u8::try_from(wanted.body["press"].as_u64().unwrap()).unwrap();
    assert!((2..=9).contains(&presses));
    let asked = blank.poll(&window).await;
    assert_eq!(
        (asked.status, asked.code(), &asked.body["window_s"]),
        (400, "challenge", &json!(20))
    );
    assert!(asked.body.get("press").is_none() && asked.body.get("presses").is_none());
    let challenge = &asked.body["challenge_id"];
    let wrong = blank.count(&window, challenge, presses % 8 + 2).await;
    let again = match wrong.code() {
        "wrong_count" => blank.poll(&window).await,
        other => panic!("{other}"),
    };
    assert_ne!(&again.body["challenge_id"], challenge);
    let shown = person.get(&format!("claims/{}", window.id)).await.body;
    let presses = u8::try_from(shown["press"].as_u64().unwrap()).unwrap();
    assert_eq!(shown["tries_left"], 1);
    // A count for the challenge that is over does nothing.
    assert_eq!(
        blank.count(&window, challenge, presses).await.code(),
        "wrong_count"
    );
    let right = blank
        .count(&window, &again.body["challenge_id"], presses)
        .await;
    assert_eq!(right.status, 200, "{right:?}");
    assert_eq!(
        blank
            .count(&window, &again.body["challenge_id"], presses)
            .await,
        right
    );
    assert_eq!(heartbeat(&blank.finish(&window).await).await, 200);
}

#[tokio::test]
async fn two_wrong_counts_or_none_end_the_claim() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    for silent in [false, true] {
        cloud.clock().set_skew(0);
        let blank = Blank::new(&cloud, "s");
        let window = blank.open().await;
        person.want(&window).await;
        for attempt in 0..2 {
            let asked = blank.poll(&window).await;
            assert_eq!(asked.code(), "challenge", "{attempt}");
            if silent {
                cloud.clock().set_skew(31 * (attempt + 1));
            } else {
                blank.count(&window, &asked.body["challenge_id"], 0).await;
            }
        }
        let ended = blank.poll(&window).await;
        assert_eq!(
            (ended.code(), &ended.body["reason"]),
            ("access_denied", &json!("presses"))
        );
        assert_eq!(person.want(&window).await.status, 409);
        assert_eq!(person.bind(&window.user_code).await.status, 409);
    }
}

#[tokio::test]
async fn only_neighbours_see_a_window() {
    let cloud = Cloud::start().await.unwrap();
    let key = cloud.create_api_key("admin").await.unwrap();
    let (here, elsewhere) = (
        Person::at(&cloud, key.clone(), "127.0.0.1"),
        Person::at(&cloud, key, "127.0.0.2"),
    );
    let window = Blank::new(&cloud, "s").open().await;
    let seen = |said: crate::blank::Said| said.body["claims"].as_array().unwrap().len();
    assert_eq!(seen(here.get("claims").await), 1);
    assert_eq!(seen(elsewhere.get("claims").await), 0);
    assert_eq!(elsewhere.want(&window).await.status, 404);
    // With the code it does not matter where the person is.
    assert_eq!(elsewhere.bind(&window.user_code).await.status, 200);
    // Bound windows are shown to those who bound them, wherever they are, and to nobody else.
    assert_eq!(seen(elsewhere.get("claims").await), 1);
    let second = cloud.create_organization("Second").await.unwrap();
    let second = Person::of(&cloud, second).await;
    assert_eq!(seen(second.get("claims").await), 0);
    assert_eq!(
        second.get(&format!("claims/{}", window.id)).await.status,
        404
    );
    assert_eq!(
        second
            .post(&format!("claims/{}/deny", window.id), json!({}))
            .await
            .status,
        404
    );
    assert_eq!(
        here.post(&format!("claims/{}/deny", window.id), json!({}))
            .await
            .status,
        200
    );
    let viewer = Person::at(
        &cloud,
        cloud.create_api_key("moderator").await.unwrap(),
        "127.0.0.1",
    );
    assert_eq!(viewer.get("claims").await.status, 403);
    assert_eq!(viewer.bind(&window.user_code).await.status, 403);
}

#[tokio::test]
async fn a_window_ends_after_600_seconds_and_credentials_at_confirm_by() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    let blank = Blank::new(&cloud, "s");
    let window = blank.open().await;
    cloud.clock().set_skew(570);
    assert_eq!(blank.poll(&window).await.code(), "authorization_pending");
    cloud.clock().set_skew(601);
    assert_eq!(blank.poll(&window).await.code(), "expired_token");
    assert_eq!(person.bind(&window.user_code).await.code(), "wrong-code");
    assert_eq!(person.want(&window).await.status, 404);
    // Its row stays a while, so that the box hears why.
    cloud.clock().set_skew(1300);
    cloud
        .wait_for(
            "not exists (select from device_claiming_queue)",
            Duration::from_secs(40),
        )
        .await
        .unwrap();
    assert_eq!(blank.poll(&window).await.code(), "unknown-claim");

    cloud.clock().set_skew(0);
    let window = blank.open().await;
    person.bind(&window.user_code).await;
    // Approved in the window's last minute, it has its ten minutes.
    cloud.clock().set_skew(570);
    let device = blank.device(&blank.opened(&window, &blank.poll(&window).await));
    cloud.clock().set_skew(1140);
    assert_eq!(blank.poll(&window).await.status, 200);
    cloud.clock().set_skew(1200);
    let late = confirm_at(&device, &window, 1200).await;
    assert_eq!((late.status, late.code().as_str()), (410, "claim-gone"));
    cloud
        .wait_for(
            "not exists (select from device_claiming_queue)",
            Duration::from_secs(40),
        )
        .await
        .unwrap();
    assert_eq!(count(&cloud, "devices").await, 0);
}

#[tokio::test]
async fn the_same_owner_keeps_the_edge_id_and_another_is_refused() {
    let cloud = Cloud::builder().broker().start().await.unwrap();
    let person = Person::new(&cloud).await;
    let claim = async |serial: &str| {
        let blank = Blank::new(&cloud, serial);
        let window = blank.open().await;
        assert_eq!(person.bind(&window.user_code).await.status, 200);
        blank.finish(&window).await
    };
    let lost = claim("s-1").await;
    let again = claim("s-1").await;
    assert_eq!(again.credentials.edge_id, lost.credentials.edge_id);
    assert_ne!(again.credentials.edge_key, lost.credentials.edge_key);
    assert_eq!(heartbeat(&again).await, 200);
    assert_eq!(lost.get("/edge/v1/time").await.code(), "unknown-key");
    assert_eq!(count(&cloud, "devices").await, 1);

    // Another organization: refused while it is claimed, by whatever method, and the claim stays open.
    let second = cloud.create_organization("Second").await.unwrap();
    let thief = Person::of(&cloud, second).await;
    let blank = Blank::new(&cloud, "s-1");
    let window = blank.open().await;
    for refused in [
        thief.bind(&window.user_code).await,
        thief.want(&window).await,
        blank
            .open_with_code(&cloud.create_claim_code(second, "x").await.unwrap())
            .await,
    ] {
        assert_eq!(
            (refused.status, refused.code()),
            (403, "owned"),
            "{refused:?}"
        );
        assert!(refused.detail().contains("unclaim it first"));
    }
    assert_eq!(heartbeat(&again).await, 200);
    // After the unclaim it is anybody's, under a new name.
    cloud.unclaim(&again.credentials.edge_id).await.unwrap();
    let window = blank.open().await;
    assert_eq!(thief.bind(&window.user_code).await.status, 200);
    let theirs = blank.finish(&window).await;
    assert_ne!(theirs.credentials.edge_id, again.credentials.edge_id);
    assert_eq!(again.get("/edge/v1/time").await.code(), "unclaimed");
}

/// Anybody may post any MAC and serial number: that keeps nobody out.
#[tokio::test]
async fn who_asks_too_often_is_slowed_down() {
    let settings = Settings {
        limits: Limits::none(),
        ..Settings::default()
    };
    let cloud = Cloud::builder().claiming(settings).start().await.unwrap();
    let blank = Blank::new(&cloud, "s");
    let window = blank.open().await;
    assert_eq!(blank.poll(&window).await.code(), "authorization_pending");
    cloud.clock().set_skew(2);
    let slowed = blank.poll(&window).await;
    assert_eq!(
        (slowed.code(), &slowed.body["interval"]),
        ("slow_down", &json!(10))
    );
    cloud.clock().set_skew(8);
    assert_eq!(blank.poll(&window).await.code(), "slow_down");
    cloud.clock().set_skew(24);
    assert_eq!(blank.poll(&window).await.code(), "authorization_pending");
}
