//! What a licence allows, and sentences that people understand when it does not.

use jiff::{SignedDuration, Timestamp};
use sentrycam_cloud::license::{self, Grant};
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

use crate::blank::{Blank, Person, Window};
use crate::device::Device;

async fn grant(cloud: &Cloud, plan: &'static str, expires_at: Option<Timestamp>) {
    give(cloud, plan, None, expires_at).await;
}

async fn give(
    cloud: &Cloud,
    plan: &'static str,
    max_cameras: Option<i32>,
    expires_at: Option<Timestamp>,
) {
    let (db, organization) = (cloud.owner(), cloud.organization());
    let granted = cloud.on_cloud(async move {
        let mut client = db.client().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let grant = Grant {
            plan,
            max_edge_servers: None,
            max_cameras,
            modules: None,
            expires_at,
        };
        let now = Timestamp::now();
        license::grant(&tx, organization, &grant, now)
            .await
            .unwrap();
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
    let soon = Timestamp::now() + SignedDuration::from_secs(60);
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

/// A record about a camera.
fn about(device: &Device, kind: &str, camera: &str, data: Value) -> Value {
    let mut whole = json!({ "camera_id": camera, "rev": 1 });
    let members = data.as_object().unwrap().clone();
    whole.as_object_mut().unwrap().extend(members);
    let mut record = device.record(kind, 1, whole);
    record["subject"] = json!(camera);
    record
}

fn up(device: &Device, camera: &str) -> Value {
    about(device, "camera.up", camera, json!({}))
}

fn event(device: &Device, kind: &str, camera: &str, id: Uuid) -> Value {
    let at = Timestamp::now().to_string();
    let data = json!({ "event_id": id, "started_at": at, "ended_at": at });
    about(device, kind, camera, data)
}

/// Words of the results, with the code of those that were refused.
async fn said(device: &Device, records: &[Value]) -> Vec<String> {
    let answer = device.events(records).await.json();
    let results = answer["results"].as_array().unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    results
        .iter()
        .map(|result| {
            let (status, code) = (word(&result["status"]), word(&result["code"]));
            format!("{status}{code}")
        })
        .collect()
}

const NO: &str = "rejectedlicense";
const YES: &str = "accepted";

#[tokio::test]
async fn a_camera_without_a_place_is_refused_at_ingest_and_nothing_else_is() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let other = Device::new(&cloud, "yard").await;
    give(&cloud, "basic", Some(2), None).await;
    assert_eq!(said(&other, &[up(&other, "x")]).await, [YES]);
    let (known, new) = (Uuid::now_v7(), Uuid::now_v7());
    let batch = [
        up(&device, "a"),
        up(&device, "b"),
        event(&device, "motion.started", "a", known),
        event(&device, "motion.started", "b", new),
        about(
            &device,
            "snapshot.taken",
            "b",
            json!({ "snapshot_id": Uuid::now_v7() }),
        ),
        about(&device, "camera.down", "b", json!({ "rev": 2 })),
        device.record("agent.heartbeat", 2, json!({})),
        device.record("something.else", 3, json!({ "camera_id": "b" })),
    ];
    let words = said(&device, &batch).await;
    assert_eq!(words, [YES, NO, YES, NO, NO, NO, YES, YES]);
    let answer = device.events(&batch[1..2]).await.json();
    assert_eq!(
        answer["results"][0]["detail"],
        "camera b has no place: the plan \"basic\" has room for 2 cameras; remove one or choose a larger plan"
    );
    // Nothing of it is stored, and it takes no place.
    let stored = cloud
        .query("select camera_id from cameras order by camera_id")
        .await
        .unwrap();
    assert_eq!(
        stored,
        [json!({ "camera_id": "a" }), json!({ "camera_id": "x" })]
    );

    // With room, the same records are taken.
    give(&cloud, "basic", None, None).await;
    assert_eq!(said(&device, &batch[1..4]).await, [YES, "duplicate", YES]);
    // A smaller licence keeps the oldest. What had begun may end; nothing begins.
    give(&cloud, "basic", Some(1), None).await;
    let more = [
        event(&device, "motion.ended", "a", known),
        event(&device, "motion.started", "a", Uuid::now_v7()),
        event(&device, "motion.ended", "a", Uuid::now_v7()),
        batch[2].clone(),
        event(&device, "motion.ended", "b", new),
        up(&device, "c"),
    ];
    assert_eq!(
        said(&device, &more).await,
        [YES, NO, NO, "duplicate", YES, NO]
    );
    let ended = cloud
        .query("select count(*)::int as n from events where status = 'ended'")
        .await
        .unwrap();
    assert_eq!(ended[0]["n"], 2);
    let mut later = up(&other, "x");
    later["data"]["rev"] = json!(2);
    assert_eq!(said(&other, &[later]).await, [YES]);
}

#[tokio::test]
async fn a_forgotten_camera_makes_room_and_may_come_back() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = device.credentials.edge_id.as_str();
    let person = Person::new(&cloud).await;
    give(&cloud, "basic", Some(1), None).await;
    assert_eq!(
        said(&device, &[up(&device, "a"), up(&device, "b")]).await,
        [YES, NO]
    );
    let path = format!("devices/{edge_id}/cameras");
    assert_eq!(person.delete(&format!("{path}/a")).await.status, 200);
    assert_eq!(person.delete(&format!("{path}/a")).await.status, 404);
    assert_eq!(person.get("license").await.body["cameras"], 0);
    assert_eq!(said(&device, &[up(&device, "b")]).await, [YES]);
    // It is in the device's file still: it wants a place like any other.
    let mut again = up(&device, "a");
    again["data"]["rev"] = json!(2);
    assert_eq!(said(&device, &[again.clone()]).await, [NO]);
    assert_eq!(person.delete(&format!("{path}/b")).await.status, 200);
    assert_eq!(said(&device, &[again]).await, [YES]);
    let back = cloud
        .query("select camera_id from cameras where is_active and deleted_at is null")
        .await
        .unwrap();
    assert_eq!(back, [json!({ "camera_id": "a" })]);
}

#[tokio::test]
async fn a_licence_that_changes_or_ends_compiles_every_twin_again() {
    let cloud = Cloud::start().await.unwrap();
    let (one, two) = (
        Device::new(&cloud, "porch").await,
        Device::new(&cloud, "yard").await,
    );
    let ids = [&one, &two].map(|device| device.credentials.edge_id.clone());
    give(&cloud, "market", None, None).await;
    let camera = json!({ "url": "rtsp://192.0.2.7/", "user": "u", "password": "canary" });
    for (edge_id, name) in [(&ids[0], "a"), (&ids[1], "b"), (&ids[0], "c")] {
        let set = cloud.set_camera(edge_id, name, camera.clone()).await;
        set.unwrap();
    }
    let policy = json!({ "name": "shop", "modules": ["market", "motion"] });
    cloud.set_policy(policy).await.unwrap();
    let named = async |edge_id: &str| {
        let twin = cloud.twin(edge_id).await.unwrap();
        let cameras = twin["doc"]["cameras"].as_array().unwrap();
        let names: Vec<&str> = cameras.iter().map(|c| c["id"].as_str().unwrap()).collect();
        (
            names.join(" "),
            twin["doc"]["policies"][0]["modules"].to_string(),
            twin["version"].as_i64().unwrap(),
        )
    };
    let is = |names: &str, modules: &str, version| (names.to_owned(), modules.to_owned(), version);
    let both = r#"["market","motion"]"#;
    assert_eq!(named(&ids[0]).await, is("a c", both, 3));
    assert_eq!(named(&ids[1]).await, is("b", both, 2));
    // Two places: the third camera is not named any more, at once.
    give(&cloud, "market", Some(2), None).await;
    assert_eq!(named(&ids[0]).await, is("a", both, 4));
    assert_eq!(named(&ids[1]).await, is("b", both, 2));
    // Another name for one that has a place is no new camera.
    let renamed = json!({ "url": "rtsp://192.0.2.7/", "name": "door" });
    cloud.set_camera(&ids[0], "a", renamed).await.unwrap();
    // One fewer on the other device makes room here; the password was kept.
    let off = json!({ "test": true, "enabled": false });
    cloud.set_camera(&ids[1], "b", off).await.unwrap();
    assert_eq!(named(&ids[0]).await, is("a c", both, 6));
    let claims = one.twin().await.unwrap().0;
    assert_eq!(
        claims["doc"]["cameras"][1]["password"],
        json!({ "$secret": "canary" })
    );
    // The server notices the end by itself: nobody asks, and the modules are gone.
    let soon = Timestamp::now() + SignedDuration::from_secs(3600);
    give(&cloud, "market", Some(2), Some(soon)).await;
    assert_eq!(named(&ids[0]).await, is("a c", both, 6));
    cloud.clock().set_skew(3601);
    let noted = "(select end_noted from licenses where status = 'active')";
    cloud
        .wait_for(noted, Duration::from_secs(40))
        .await
        .unwrap();
    assert_eq!(named(&ids[0]).await, is("a c", r#"["motion"]"#, 7));
}
