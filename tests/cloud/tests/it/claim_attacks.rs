//! Claiming under attack and under accidents: second claimants, stolen ids, readers of the database, squatters, a
//! cloud that is killed between any two steps.

use std::time::Duration;

use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

use crate::blank::{Blank, Person, Window, confirm};
use crate::claims::{count, heartbeat};
use crate::mqtt::Mqtt;

#[tokio::test]
async fn a_second_claimant_costs_both_the_claim() {
    let cloud = Cloud::start().await.unwrap();
    let first = Person::new(&cloud).await;
    let second = Person::of(&cloud, cloud.create_organization("Second").await.unwrap()).await;
    // At every stage before the confirm.
    for stage in ["challenge", "bound", "approved"] {
        let blank = Blank::new(&cloud, stage);
        let window = blank.open().await;
        let mut device = None;
        if stage == "challenge" {
            assert_eq!(first.want(&window).await.status, 200);
        } else {
            assert_eq!(first.bind(&window.user_code).await.status, 200);
            assert_eq!(
                first.bind(&window.user_code).await.status,
                200,
                "the same person may ask again"
            );
        }
        if stage == "approved" {
            device = Some(blank.device(&blank.opened(&window, &blank.poll(&window).await)));
        }
        let conflict = second.bind(&window.user_code).await;
        assert_eq!(
            (conflict.status, conflict.code()),
            (409, "conflict"),
            "{stage}"
        );
        assert_eq!(first.bind(&window.user_code).await.code(), "conflict");
        assert_eq!(
            first.get(&format!("claims/{}", window.id)).await.body["state"],
            "conflict"
        );
        let heard = blank.poll(&window).await;
        assert_eq!(
            (heard.code(), &heard.body["reason"]),
            ("access_denied", &json!("conflict"))
        );
        if let Some(device) = device {
            let late = confirm(&device, &window).await;
            assert_eq!((late.status, late.code().as_str()), (410, "claim-gone"));
        }
    }
    assert_eq!(count(&cloud, "devices").await, 0);
    assert_eq!(
        count(
            &cloud,
            "device_claiming_queue where secret_wrapped is not null"
        )
        .await,
        0
    );
}

#[tokio::test]
async fn a_claim_id_or_anothers_token_or_key_is_not_enough() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    let (mine, other) = (Blank::new(&cloud, "mine"), Blank::new(&cloud, "other"));
    let (window, theirs) = (mine.open().await, other.open().await);
    person.bind(&window.user_code).await;
    let stolen = Window {
        token: theirs.token.clone(),
        ..window.clone()
    };
    for token in [theirs.token.as_str(), "", "x"] {
        let said = mine
            .poll(&Window {
                token: token.to_owned(),
                ..window.clone()
            })
            .await;
        assert_eq!((said.status, said.code()), (401, "unknown-claim"));
    }
    assert_eq!(mine.count(&stolen, &json!(window.id), 2).await.status, 401);
    let unknown = Window {
        id: uuid::Uuid::now_v7(),
        ..window.clone()
    };
    assert_eq!(
        mine.poll(&unknown).await.bytes,
        mine.poll(&stolen).await.bytes
    );
    // The right token from another machine gets a blob that only the right key opens, for this claim only.
    let said = other.poll(&window).await;
    assert_eq!(said.status, 200);
    assert!(
        other
            .unseal(
                &other.info("sentrycam/claim/v1", Some(window.id)),
                &said.body["sealed"]
            )
            .is_none()
    );
    assert!(
        mine.unseal(
            &mine.info("sentrycam/claim/v1", Some(theirs.id)),
            &said.body["sealed"]
        )
        .is_none()
    );
    let mut device = mine.device(&mine.opened(&window, &said));
    // Only the key that was sealed confirms, and only its own claim.
    assert_eq!(confirm(&device, &theirs).await.status, 410);
    let mut forged = device.request(
        "POST",
        &format!("/edge/v1/claims/{}/confirm", window.id),
        Vec::new(),
    );
    forged.secret = vec![0; 32];
    assert_eq!(device.send(forged).await.code(), "invalid-signature");
    let key = std::mem::replace(&mut device.credentials.edge_key, "ek_unknown".to_owned());
    assert_eq!(confirm(&device, &window).await.status, 410);
    device.credentials.edge_key = key;
    assert_eq!(confirm(&device, &window).await.status, 200);
    assert_eq!(confirm(&device, &theirs).await.status, 410);
}

#[tokio::test]
async fn nothing_in_the_database_opens_anything() {
    let cloud = Cloud::builder().broker().start().await.unwrap();
    let person = Person::new(&cloud).await;
    let code = person.post("claim-codes", json!({})).await.body["claim_code"]
        .as_str()
        .unwrap()
        .replace('-', "");
    let blank = Blank::new(&cloud, "s");
    let window = blank.open().await;
    person.bind(&window.user_code).await;
    let plain = blank.opened(&window, &blank.poll(&window).await);
    let dump = async |when: &str| {
        let mut all = String::new();
        for table in [
            "device_claiming_queue",
            "claim_codes",
            "edge_credentials",
            "mqtt_clients",
            "devices",
            "audit_logs",
        ] {
            all += &Value::from(
                cloud
                    .query(&format!("select * from {table}"))
                    .await
                    .unwrap(),
            )
            .to_string();
        }
        let secrets = [
            window.token.as_str(),
            &window.user_code,
            &code,
            plain["edge_secret"].as_str().unwrap(),
            plain["mqtt"]["password"].as_str().unwrap(),
        ];
        for secret in secrets {
            assert!(!all.contains(secret), "{when}: {secret}");
        }
    };
    dump("approved").await;
    assert_eq!(confirm(&blank.device(&plain), &window).await.status, 200);
    dump("confirmed").await;
    let file = std::fs::read_to_string(cloud.broker().unwrap().clients_file()).unwrap();
    assert!(file.contains(plain["edge_id"].as_str().unwrap()));
    assert!(!file.contains(plain["mqtt"]["password"].as_str().unwrap()));
}

#[tokio::test]
async fn squatters_are_not_in_the_way() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    for _ in 0..3 {
        Blank::new(&cloud, "s-1").open().await;
    }
    let blank = Blank::new(&cloud, "s-1");
    let window = blank.open().await;
    assert_eq!(person.bind(&window.user_code).await.status, 200);
    assert_eq!(heartbeat(&blank.finish(&window).await).await, 200);
}

#[tokio::test]
async fn a_cloud_that_dies_in_between_loses_nothing() {
    let mut cloud = Cloud::builder().broker().start().await.unwrap();
    let person = Person::new(&cloud).await;
    let blank = Blank::new(&cloud, "s");
    let window = blank.open().await;
    cloud.kill().await.unwrap();
    cloud.start_again().await.unwrap();
    assert_eq!(person.bind(&window.user_code).await.status, 200);
    cloud.kill().await.unwrap();
    cloud.start_again().await.unwrap();
    let first = blank.poll(&window).await;
    cloud.kill().await.unwrap();
    cloud.start_again().await.unwrap();
    assert_eq!(blank.poll(&window).await.bytes, first.bytes);
    // The broker is away at the confirm: the claim does not care, and the broker learns of it later.
    cloud.broker().unwrap().kill();
    let plain = blank.opened(&window, &first);
    let device = blank.device(&plain);
    assert_eq!(confirm(&device, &window).await.status, 200);
    cloud.kill().await.unwrap();
    cloud.broker().unwrap().start_again().unwrap();
    cloud.start_again().await.unwrap();
    cloud
        .wait_for(
            "(select applied = generation from mqtt_clients)",
            Duration::from_secs(40),
        )
        .await
        .unwrap();
    let (edge_id, password) = (
        &device.credentials.edge_id,
        plain["mqtt"]["password"].as_str().unwrap(),
    );
    let broker = cloud.broker().unwrap();
    let login = Some((edge_id.as_str(), password));
    assert!(
        Mqtt::connect(&broker.ca_file(), broker.port(), edge_id, login)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn many_confirms_at_once_make_one_device() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    let blank = Blank::new(&cloud, "s");
    let window = blank.open().await;
    person.bind(&window.user_code).await;
    let polls = [
        blank.poll(&window),
        blank.poll(&window),
        blank.poll(&window),
    ];
    let [a, b, c] = polls.map(async |poll| poll.await);
    let (a, b, c) = tokio::join!(a, b, c);
    assert!(a.bytes == b.bytes && b.bytes == c.bytes);
    let device = blank.device(&blank.opened(&window, &a));
    let (a, b, c) = tokio::join!(
        confirm(&device, &window),
        confirm(&device, &window),
        confirm(&device, &window)
    );
    assert_eq!([a.status, b.status, c.status], [200; 3]);
    assert_eq!(count(&cloud, "edge_credentials").await, 1);
}
