//! What a licence allows, and sentences that people understand when it does not.

use sentrycam_cloud::license::{self, Grant};
use sentrycam_cloud::testing::Cloud;
use serde_json::json;

use crate::blank::{Blank, Person, Window};
use crate::device::Device;

async fn grant(cloud: &Cloud, plan: &'static str, expires_at: Option<jiff::Timestamp>) {
    let (db, organization) = (cloud.owner(), cloud.organization());
    let granted = cloud.on_cloud(async move {
        let mut client = db.client().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let grant = Grant {
            plan,
            max_edge_servers: None,
            max_cameras: None,
            modules: None,
            expires_at,
        };
        license::grant(&tx, organization, &grant).await.unwrap();
        tx.commit().await.unwrap();
    });
    granted.await.unwrap();
}

#[tokio::test]
async fn a_full_licence_refuses_with_a_sentence_by_every_way() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    grant(&cloud, "basic", None).await;
    // The place is taken from the moment on at which a box is bound to it.
    let first = Blank::new(&cloud, "s-1");
    let window = first.open().await;
    assert_eq!(person.bind(&window.user_code).await.status, 200);
    let second = Blank::new(&cloud, "s-2");
    let wanted = second.open().await;
    let code = cloud
        .create_claim_code(cloud.organization(), "x")
        .await
        .unwrap();
    let sentence = "the plan \"basic\" has room for 1 box, and 1 is claimed; unclaim one or choose a larger plan";
    for confirmed in [false, true] {
        for refused in [
            person.bind(&wanted.user_code).await,
            person.want(&wanted).await,
            Blank::new(&cloud, "s-3").open_with_code(&code).await,
        ] {
            assert_eq!(
                (refused.status, refused.code(), refused.detail()),
                (403, "license", sentence)
            );
        }
        if !confirmed {
            first.finish(&window).await;
        }
    }
    // The same box again takes no second place; unclaimed, it makes room.
    let again = Blank::new(&cloud, "s-1");
    let window = again.open().await;
    assert_eq!(person.bind(&window.user_code).await.status, 200);
    let device = again.finish(&window).await;
    let shown = person.get("license").await.body;
    assert_eq!(
        (
            &shown["edge_servers"],
            &shown["max_edge_servers"],
            &shown["plan"]
        ),
        (&json!(1), &json!(1), &json!("basic"))
    );
    cloud.unclaim(&device.credentials.edge_id).await.unwrap();
    let window = Window::of(&Blank::new(&cloud, "s-3").open_with_code(&code).await);
    assert_eq!(
        person.get(&format!("claims/{}", window.id)).await.body["state"],
        "bound"
    );
    // A larger plan makes room too.
    grant(&cloud, "standard", None).await;
    assert_eq!(person.bind(&wanted.user_code).await.status, 200);
}

#[tokio::test]
async fn no_camera_left_or_an_expired_licence_refuses() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    grant(&cloud, "standard", None).await;
    cloud
        .execute("update licenses set max_cameras = 2")
        .await
        .unwrap();
    let device = Device::new(&cloud, "porch").await;
    for n in 1..3 {
        let camera = format!("cam-{n}");
        let mut up = device.record("camera.up", n, json!({ "camera_id": camera, "rev": 1 }));
        up["subject"] = json!(camera);
        device.events(&[up]).await.statuses();
    }
    let window = Blank::new(&cloud, "s").open().await;
    let refused = person.bind(&window.user_code).await;
    assert_eq!(refused.code(), "license");
    assert!(
        refused.detail().contains("room for 2 cameras"),
        "{}",
        refused.detail()
    );
    cloud.unclaim(&device.credentials.edge_id).await.unwrap();
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
    grant(&cloud, "standard", Some(soon)).await;
    let blank = Blank::new(&cloud, "s");
    let window = blank.open().await;
    assert_eq!(person.bind(&window.user_code).await.status, 200);
    // Between the person's yes and the box's next question it ran out.
    cloud.clock().set_skew(61);
    let heard = blank.poll(&window).await;
    assert_eq!(
        (heard.code(), &heard.body["reason"]),
        ("access_denied", &json!("license"))
    );
    let window = blank.open().await;
    assert!(
        person
            .bind(&window.user_code)
            .await
            .detail()
            .contains("expired")
    );
}

#[tokio::test]
async fn two_boxes_at_once_do_not_share_the_last_place() {
    let cloud = Cloud::start().await.unwrap();
    let person = Person::new(&cloud).await;
    grant(&cloud, "basic", None).await;
    let (a, b) = (
        Blank::new(&cloud, "a").open().await,
        Blank::new(&cloud, "b").open().await,
    );
    let (a, b) = tokio::join!(person.bind(&a.user_code), person.bind(&b.user_code));
    let mut both = [a.status, b.status];
    both.sort_unstable();
    assert_eq!(both, [200, 403]);
}
