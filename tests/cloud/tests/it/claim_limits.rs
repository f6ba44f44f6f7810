//! The budgets of sections 8.1 and 8.3, each from its own side, and messages that are refused.

use sentrycam_cloud::claiming::{Limits, Settings};
use sentrycam_cloud::testing::Cloud;
use serde_json::json;

use crate::blank::{Blank, Person};

async fn cloud(limits: Limits) -> Cloud {
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    Cloud::builder().claiming(settings).start().await.unwrap()
}

/// A cloud with one code that is right.
async fn with_code(limits: Limits) -> (Cloud, String) {
    let cloud = cloud(limits).await;
    let organization = cloud.organization();
    let right = cloud.create_claim_code(organization, "porch").await;
    (cloud, right.unwrap())
}

#[tokio::test]
async fn a_network_opens_ten_windows_an_hour() {
    let cloud = cloud(Limits::default()).await;
    for n in 0..10 {
        Blank::new(&cloud, &format!("s-{n}")).open().await;
    }
    let blank = Blank::new(&cloud, "s");
    let refused = blank.open_with(&blank.message()).await;
    assert_eq!((refused.status, refused.code()), (429, "rate-limited"));
    let wait: i64 = refused.retry_after.unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
    // Another network is not touched, and after an hour neither is this one.
    Blank::at(&cloud, "s", "127.0.0.2").open().await;
    cloud.clock().set_skew(3601);
    blank.open().await;
}

#[tokio::test]
async fn five_wrong_codes_close_a_network_for_ten_minutes() {
    let (cloud, right) = with_code(Limits {
        claims_per_hour: 100,
        ..Limits::default()
    })
    .await;
    for n in 0..5 {
        let wrong = Blank::new(&cloud, &format!("s-{n}"))
            .open_with_code("BBBB-BBBB")
            .await;
        assert_eq!((wrong.status, wrong.code()), (403, "wrong-code"));
    }
    let blank = Blank::new(&cloud, "s");
    assert_eq!(blank.open_with_code(&right).await.code(), "rate-limited");
    // User codes are guessed from the same budget.
    let person = Person::new(&cloud).await;
    assert_eq!(person.bind("BBBB-BBBB").await.code(), "rate-limited");
    // A window without a code opens all the same.
    blank.open().await;
    assert_eq!(
        Blank::at(&cloud, "s", "127.0.0.2")
            .open_with_code(&right)
            .await
            .status,
        201
    );
    cloud.clock().set_skew(601);
    assert_eq!(
        Blank::new(&cloud, "s")
            .open_with_code("BBBB-BBBB")
            .await
            .code(),
        "wrong-code"
    );
}

#[tokio::test]
async fn a_device_has_ten_wrong_codes_an_hour_wherever_it_is() {
    let cloud = cloud(Limits::default()).await;
    let mut codes = Vec::new();
    for n in 0..11 {
        let blank = Blank::at(&cloud, "s-1", &format!("127.0.1.{}", n / 4 + 1));
        codes.push(blank.open_with_code("BBBB-BBBB").await.code().to_owned());
    }
    assert!(
        codes[..10].iter().all(|code| code == "wrong-code"),
        "{codes:?}"
    );
    assert_eq!(codes[10], "rate-limited");
    assert_eq!(
        Blank::at(&cloud, "s-2", "127.0.1.9")
            .open_with_code("BBBB-BBBB")
            .await
            .code(),
        "wrong-code"
    );
}

#[tokio::test]
async fn a_hundred_wrong_codes_of_everybody_raise_the_alarm() {
    let (cloud, right) = with_code(Limits {
        wrong_per_hour: 20,
        ..Limits::default()
    })
    .await;
    // Five at a time, in parallel: a race must not give a guess away.
    for network in 0..4 {
        let blanks = [0, 1, 2, 3, 4].map(|n| {
            Blank::at(
                &cloud,
                &format!("s-{network}-{n}"),
                &format!("127.0.2.{}", network + 1),
            )
        });
        let tries = blanks
            .each_ref()
            .map(|blank| blank.open_with_code("BBBB-BBBB"));
        let [a, b, c, d, e] = tries;
        let all = tokio::join!(a, b, c, d, e);
        for said in [all.0, all.1, all.2, all.3, all.4] {
            assert_eq!(said.code(), "wrong-code");
        }
    }
    let said = Blank::at(&cloud, "s", "127.0.2.99")
        .open_with_code(&right)
        .await;
    assert_eq!(said.code(), "rate-limited");
    let alarms = cloud
        .query("select at from claim_attempts where kind = 'alarm'")
        .await
        .unwrap();
    assert_eq!(alarms.len(), 1);
    // Users whose box shows a code wait like everybody else, those with a button do not.
    let window = Blank::at(&cloud, "s", "127.0.2.98").open().await;
    let key = cloud.create_api_key("admin").await.unwrap();
    let person = Person::at(&cloud, key, "127.0.2.98");
    assert_eq!(person.bind(&window.user_code).await.code(), "rate-limited");
    assert_eq!(person.want(&window).await.status, 200);
}

#[tokio::test]
async fn messages_that_are_no_claim_are_refused_without_a_row() {
    let cloud = cloud(Limits::none()).await;
    let blank = Blank::new(&cloud, "s");
    let with = |name: &str, value: serde_json::Value| {
        let mut message = blank.message();
        message[name] = value;
        message
    };
    for message in [
        json!({}),
        json!([]),
        json!("x"),
        with("v", json!(2)),
        with("kem_pk", json!("AAAA")),
        with("kem_pk", json!("A".repeat(43))),
        with("kem_pk", json!(null)),
        with("methods", json!(["X"])),
        with("methods", json!([])),
        with("serial", json!("s".repeat(65))),
        with("serial", json!("a\nb")),
        with("model", json!({ "deep": [1] })),
    ] {
        let said = blank.open_with(&message).await;
        assert_eq!((said.status, said.code()), (400, "malformed"), "{message}");
    }
    let large = blank
        .open_with(&with("model", json!("x".repeat(9000))))
        .await;
    assert_eq!(large.code(), "too-large");
    let rows = cloud
        .query("select 1 from device_claiming_queue")
        .await
        .unwrap();
    assert!(rows.is_empty());
    // A code that is no code counts as a wrong one.
    assert_eq!(
        blank.open_with_code("' or 1=1 --").await.code(),
        "wrong-code"
    );
    // A MAC that is none is not shown, and hurts nobody.
    assert_eq!(
        blank
            .open_with(&with("mac", json!("'; drop table devices")))
            .await
            .status,
        201
    );
    // The same process asking again ends its earlier window.
    let first = blank.open().await;
    let second = blank.open().await;
    assert_eq!(blank.poll(&first).await.code(), "unknown-claim");
    assert_eq!(blank.poll(&second).await.code(), "authorization_pending");
}

#[tokio::test]
async fn a_way_that_one_side_forbids_is_refused() {
    let cloud = cloud(Limits::none()).await;
    let person = Person::new(&cloud).await;
    let blank = Blank::new(&cloud, "s");
    let mut message = blank.message();
    message["methods"] = json!(["U"]);
    let window = crate::blank::Window::of(&blank.open_with(&message).await);
    assert_eq!(person.want(&window).await.code(), "method");
    assert_eq!(person.get("claims").await.body["claims"], json!([]));
    cloud
        .execute("update organizations set claim_methods = '{K}'")
        .await
        .unwrap();
    let refused = person.bind(&window.user_code).await;
    assert_eq!((refused.status, refused.code()), (403, "method"));
    assert!(
        refused
            .detail()
            .contains("your organization does not allow")
    );
    cloud.suspend(true).await.unwrap();
    assert_eq!(person.bind(&window.user_code).await.status, 403);
}
