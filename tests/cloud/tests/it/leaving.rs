//! The end of a claim: asked for by command, done when the device's record says so, due after 24 h.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sentrycam_cloud::command::{Wanted, leave};
use sentrycam_cloud::db::Db;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::blank::{Blank, Person, Window, confirm};
use crate::claims::{count, heartbeat};
use crate::device::Device;
use crate::mqtt::Mqtt;

const SOON: Duration = Duration::from_secs(40);

fn id(command: &Value) -> Uuid {
    command["id"].as_str().unwrap().parse().unwrap()
}

/// Claims a box; with it comes its MQTT password.
async fn claim(cloud: &Cloud, person: &Person, serial: &str) -> (Device, String) {
    let blank = Blank::new(cloud, serial);
    let window = blank.open().await;
    assert_eq!(person.bind(&window.user_code).await.status, 200);
    let plain = blank.opened(&window, &blank.poll(&window).await);
    let device = blank.device(&plain);
    assert_eq!(confirm(&device, &window).await.status, 200);
    let password = plain["mqtt"]["password"].as_str().unwrap_or_default();
    (device, password.to_owned())
}

async fn ask(person: &Person, device: &Device) -> Uuid {
    let path = format!("devices/{}/unclaim", device.credentials.edge_id);
    let sent = person.post(&path, json!({ "wipe": "all" })).await;
    assert_eq!(sent.status, 201, "{:?}", sent.body);
    assert_eq!(
        (&sent.body["command_type"], &sent.body["payload"]),
        (&json!("unclaim"), &json!({ "wipe": "all" }))
    );
    id(&sent.body)
}

/// What the due-job does at this time, with the server's own role.
async fn due(cloud: &Cloud, now: Timestamp) -> usize {
    let url = cloud.app_url();
    let done = cloud.on_cloud(async move {
        let db = Db::connect(&url).await.unwrap();
        leave::due(&db, now).await.unwrap()
    });
    done.await.unwrap()
}

async fn status(cloud: &Cloud) -> Value {
    let rows = cloud.query("select status from devices").await.unwrap();
    rows[0]["status"].clone()
}

#[tokio::test]
async fn the_devices_word_ends_the_claim_and_the_brokers_does_not() {
    let cloud = Cloud::builder().broker().start().await.unwrap();
    let person = Person::new(&cloud).await;
    let (device, password) = claim(&cloud, &person, "s-1").await;
    let edge_id = device.credentials.edge_id.as_str();
    let broker = cloud.broker().unwrap();
    let login = Some((edge_id, password.as_str()));
    let connect = || async {
        let mqtt = Mqtt::connect(&broker.ca_file(), broker.port(), edge_id, login).await;
        mqtt.ok()
    };
    let mut mqtt = connect().await.unwrap();
    let unclaim = ask(&person, &device).await;
    let other = cloud.send_command(edge_id, Wanted::new("snapshot", json!({})));
    let other = id(&other.await.unwrap());
    assert_eq!(device.commands("").await.len(), 2);

    // The broker says that it is done: shown, but the claim stands.
    let done = device.status(1, unclaim, 3, "succeeded", json!({}));
    let topic = format!("edge/v1/{edge_id}/up/cmd/{unclaim}/status");
    mqtt.publish(&topic, false, done.to_string().as_bytes())
        .await;
    let hinted = format!("(select hinted from commands where id = '{unclaim}')");
    cloud.wait_for(&hinted, SOON).await.unwrap();
    assert_eq!(heartbeat(&device).await, 200);
    assert_ne!(status(&cloud).await, "unclaimed");

    // The device says it, with the last of its outbox; that batch is still answered.
    let last = device.record("agent.stopping", 2, json!({}));
    let answer = device.events(&[done.clone(), last]).await;
    assert!(answer.is_signed(&device.credentials));
    assert_eq!(answer.statuses(), ["accepted"; 2]);
    assert_eq!(status(&cloud).await, "unclaimed");
    mqtt.ended().await;
    assert!(connect().await.is_none(), "the broker lets it in");
    assert_eq!(
        count(&cloud, "edge_credentials where state <> 'revoked'").await,
        0
    );
    // If that answer was lost, the device must be able to tell: a signed 410, and nothing but that.
    for answer in [
        device.events(&[done]).await,
        device.get("/edge/v1/commands").await,
    ] {
        assert_eq!((answer.status, answer.code().as_str()), (410, "unclaimed"));
        assert!(answer.is_signed(&device.credentials));
    }
    let unclaim = cloud.command(unclaim).await.unwrap();
    assert_eq!(
        (&unclaim["status"], &unclaim["hinted"]),
        (&json!("succeeded"), &json!(false))
    );
    let other = cloud.command(other).await.unwrap();
    assert_eq!(
        (&other["status"], &other["code"]),
        (&json!("canceled"), &json!("unclaimed"))
    );
    let sent = person
        .post(
            &format!("devices/{edge_id}/commands"),
            json!({ "type": "reboot" }),
        )
        .await;
    assert_eq!((sent.status, sent.code()), (409, "conflict"));
}

#[tokio::test]
async fn without_a_word_it_is_unclaimed_after_a_day() {
    let cloud = Cloud::builder().broker().start().await.unwrap();
    let person = Person::new(&cloud).await;
    let (device, _) = claim(&cloud, &person, "s-1").await;
    let (stays, _) = claim(&cloud, &person, "s-2").await;
    let unclaim = ask(&person, &device).await;
    // A word that is no success does not end it sooner, nor keep it.
    let failed = device.status(1, unclaim, 1, "rejected", json!({ "code": "unsupported" }));
    device.events(&[failed]).await.statuses();
    let asked = Timestamp::now();
    let later = |seconds| asked + SignedDuration::from_secs(seconds);
    assert_eq!(due(&cloud, later(86_390)).await, 0);
    assert_eq!(heartbeat(&device).await, 200);
    assert_eq!(due(&cloud, later(86_400)).await, 1);
    assert_eq!(due(&cloud, later(86_400)).await, 0);
    assert_eq!(
        (heartbeat(&device).await, heartbeat(&stays).await),
        (410, 200)
    );
    let told = "(select applied = generation from mqtt_clients where wanted = 'absent')";
    cloud.wait_for(told, SOON).await.unwrap();
    let audit = cloud
        .query("select changes->'after'->>'why' as why from audit_logs where action = 'UNCLAIM'")
        .await
        .unwrap();
    assert_eq!(
        audit,
        [json!({ "why": "the device said nothing for 24 hours" })]
    );
    // The server does it by itself, by its clock.
    ask(&person, &stays).await;
    cloud.clock().set_skew(86_401);
    let all = "(select bool_and(status = 'unclaimed') from devices)";
    cloud.wait_for(all, SOON).await.unwrap();
}

#[tokio::test]
async fn an_old_word_does_not_end_a_new_claim() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    let (device, _) = claim(&cloud, &person, "s-1").await;
    let first = ask(&person, &device).await;
    // It wiped its keys without being heard, and its owner claims it again before the day is over.
    let (again, _) = claim(&cloud, &person, "s-1").await;
    assert_eq!(again.credentials.edge_id, device.credentials.edge_id);
    assert_eq!(device.get("/edge/v1/time").await.code(), "unknown-key");
    let kept = again.status(1, first, 3, "succeeded", json!({}));
    assert_eq!(again.events(&[kept]).await.statuses(), ["accepted"]);
    assert_eq!(heartbeat(&again).await, 200);
    assert_eq!(
        due(&cloud, Timestamp::now() + SignedDuration::from_hours(48)).await,
        0
    );
    // After an unclaim and a new claim the key of before is like no key.
    cloud.unclaim(&again.credentials.edge_id).await.unwrap();
    assert_eq!(heartbeat(&again).await, 410);
    let (newest, _) = claim(&cloud, &person, "s-1").await;
    assert_eq!(heartbeat(&newest).await, 200);
    assert_eq!(again.get("/edge/v1/time").await.code(), "unknown-key");
}

#[tokio::test]
async fn it_is_taken_back_while_nobody_has_it_and_a_stolen_key_gets_no_410() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    let (device, _) = claim(&cloud, &person, "s-1").await;
    let edge_id = device.credentials.edge_id.clone();
    let (one, two) = (ask(&person, &device).await, ask(&person, &device).await);
    let asked = || count(&cloud, "devices where unclaim_due is not null");
    let person = &person;
    let cancel = |id: Uuid| async move {
        let path = format!("commands/{id}/cancel");
        person.post(&path, json!({})).await
    };
    assert_eq!((cancel(one).await.status, asked().await), (200, 1));
    assert_eq!((cancel(two).await.status, asked().await), (200, 0));

    let path = format!("devices/{edge_id}/unclaim");
    for wrong in [
        json!({ "wipe": "everything" }),
        json!({ "wipe": "all", "now": true }),
        json!({ "when": "now" }),
    ] {
        let refused = person.post(&path, wrong).await;
        assert_eq!((refused.status, refused.code()), (400, "malformed"));
    }
    let nobody = person.post("devices/e-nobody/unclaim", json!({})).await;
    assert_eq!(nobody.status, 404);

    // Revoked by its owner before: unknown, and the unclaim does not change that.
    cloud.revoke(&edge_id).await.unwrap();
    let ended = person.post(&path, json!({ "now": true })).await;
    assert_eq!(
        (ended.status, &ended.body["status"]),
        (200, &json!("unclaimed"))
    );
    assert_eq!(device.get("/edge/v1/time").await.code(), "unknown-key");
    // Nobody's box can be had again.
    let blank = Blank::new(&cloud, "s-1");
    let code = cloud
        .create_claim_code(cloud.organization(), "porch")
        .await
        .unwrap();
    let window = Window::of(&blank.open_with_code(&code).await);
    assert_eq!(heartbeat(&blank.finish(&window).await).await, 200);
}
