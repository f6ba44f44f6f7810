//! The MQTT link with a real Mosquitto that runs: presence, states, hints, what comes down, and what is hostile in it.

use std::time::Duration;

use sentrycam::agent::link::LinkStatus;
use sentrycam::link::Answer;
use sentrycam::model::Class;
use serde_json::json;

use crate::fixture::wait_until;
use crate::mqtt_site::{EDGE, Message, Peer, Site, device, down, put_state};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn presence_begins_with_the_session_and_ends_with_an_orderly_stop() {
    let site = Site::new().await;
    let cloud = Peer::cloud(&site.broker);
    let device = device();
    let link = site.link(&device);
    link.up(1);
    wait_until(30, "online is said", || cloud.presence().len() == 1);
    assert!(link.stop().await, "within its phase");
    wait_until(30, "offline is said at once", || {
        cloud.presence().len() == 2
    });
    let said = cloud.presence();
    assert_eq!(
        (&said[0]["online"], &said[1]["online"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(said[0]["session"], said[1]["session"]);
    assert_eq!(
        (&said[0]["conn"], &said[0]["agent"]),
        (&json!(1), &json!(env!("CARGO_PKG_VERSION")))
    );
    // It is retained: who comes later knows it too.
    let late = Peer::cloud(&site.broker);
    wait_until(30, "a late reader knows", || late.presence().len() == 1);
    assert_eq!(late.presence()[0], said[1]);
    // The next life is another session.
    let link = site.link(&device);
    link.up(1);
    wait_until(30, "online again", || cloud.presence().len() == 3);
    assert_ne!(cloud.presence()[2]["session"], said[0]["session"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn states_come_in_order_as_the_outbox_has_them_and_stay_in_it() {
    let site = Site::new().await;
    let cloud = Peer::cloud(&site.broker);
    let device = device();
    // Some wait from before, between records that are none of MQTT's business; some come while it is up.
    let mut wanted = Vec::new();
    for _ in 0..30 {
        wanted.push(put_state(&device, EDGE).await);
        device
            .put(Class::Critical, "audit.entry", json!({ "action": "NOTE" }))
            .await;
    }
    let link = site.link(&device);
    link.up(1);
    for _ in 0..30 {
        wanted.push(put_state(&device, EDGE).await);
    }
    wait_until(20, "all states came", || {
        cloud.on("/status").len() == wanted.len()
    });
    for (message, (id, topic)) in cloud.on("/status").iter().zip(&wanted) {
        assert_eq!(&message.topic, topic);
        let event = message.json();
        assert_eq!(event["id"], id.to_string());
        assert_eq!(event["type"], "io.sentrycam.command.status.v1");
        assert_eq!(event["source"], format!("urn:sentrycam:edge:{EDGE}"));
    }
    link.wait(30, "all are acknowledged", |s| s.published == 60);
    assert_eq!(device.outbox().len(), 90, "only HTTPS deletes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn alarms_are_hinted_at_once_and_those_of_before_are_not() {
    let site = Site::new().await;
    let cloud = Peer::cloud(&site.broker);
    let device = device();
    device
        .put(Class::Alarm, "motion.started", json!({ "n": "before" }))
        .await;
    let link = site.link(&device);
    link.up(1);
    // A state that came proves that the outbox was read up to here.
    put_state(&device, EDGE).await;
    wait_until(30, "the outbox was read", || cloud.on("/status").len() == 1);
    for n in 0..40 {
        device
            .put(Class::Alarm, "motion.started", json!({ "n": n }))
            .await;
    }
    wait_until(30, "all hints came", || cloud.on("/hint").len() == 40);
    for (n, hint) in cloud.on("/hint").iter().enumerate() {
        assert_eq!(hint.json()["data"]["n"], n);
    }
    assert_eq!(device.outbox().len(), 42);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_listens_means_that_https_has_it() {
    let site = Site::new().await;
    let device = device();
    let link = site.link(&device);
    link.up(1);
    put_state(&device, EDGE).await;
    // PUBACK 0x10: passed, not published. The next one shows that it was passed.
    let reader = Peer::start(&site.broker, site.broker.cloud(), "edge/v1/+/up/cmd/#");
    let (id, _) = put_state(&device, EDGE).await;
    let is_second = |m: &Message| m.json()["id"] == json!(id.to_string());
    wait_until(30, "the second state came", || {
        reader.on("/status").last().is_some_and(is_second)
    });
    // On a slow machine the first one waits until somebody listens.
    let came = reader.on("/status").len() as u64;
    link.wait(30, "only what was heard counts", |s| s.published == came);
    assert_eq!(device.outbox().len(), 2);
    assert_eq!(link.now().sessions, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_reported_twin_is_retained_and_follows_changes_and_connections() {
    let site = Site::new().await;
    let cloud = Peer::cloud(&site.broker);
    let device = device();
    let link = site.link(&device);
    link.up(1);
    for n in [1, 2] {
        link.reported
            .send_modify(|r| r.body = json!({ "desired": n, "applied": n }));
        wait_until(30, "it is reported", || {
            cloud
                .on("/up/twin")
                .last()
                .is_some_and(|m| m.json()["applied"] == n)
        });
    }
    site.broker.kill();
    site.broker.start_again().unwrap();
    link.up(2);
    let late = Peer::cloud(&site.broker);
    wait_until(30, "a broker that was killed has it again", || {
        late.on("/up/twin")
            .last()
            .is_some_and(|m| m.json()["applied"] == 2)
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_published_while_the_device_is_away_arrives_once_after_it_is_back() {
    let site = Site::new().await;
    let cloud = Peer::cloud(&site.broker);
    let device = device();
    let link = site.link(&device);
    link.up(1);
    drop(link);
    let sent: Vec<String> = (0..20).map(|n| format!("command {n}")).collect();
    for text in &sent {
        cloud.command(text.as_str());
    }
    cloud.publish(&down("twin"), true, "twin 7");
    let link = site.link(&device);
    wait_until(30, "all came", || {
        link.commands.texts().len() >= 20 && !link.twin.texts().is_empty()
    });
    assert_eq!(link.commands.texts(), sent);
    // The broker's copy for the session and the retained one of the subscription: the inbox knows versions.
    assert!(link.twin.texts().iter().all(|t| t == "twin 7"));
    cloud.publish(&down("poke"), false, "{}");
    let poke = tokio::time::timeout(Duration::from_secs(30), link.poke.notified());
    poke.await.expect("a poke pokes");
    link.wait(30, "all are acknowledged", |s| s.received >= 21);
    assert!(link.stop().await);
    // Acknowledged is acknowledged: only what is new comes in the next session.
    let link = site.link(&device);
    link.up(1);
    cloud.command("last");
    wait_until(30, "the last came", || !link.commands.texts().is_empty());
    assert_eq!(link.commands.texts(), ["last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_command_that_the_inbox_cannot_take_stays_with_the_broker() {
    let site = Site::new().await;
    let cloud = Peer::cloud(&site.broker);
    let device = device();
    let link = site.link(&device);
    *link.commands.answer.lock().unwrap() = Answer::Later;
    link.up(1);
    cloud.command("a");
    cloud.command("b");
    wait_until(30, "it is offered again", || {
        link.commands.texts().len() >= 2
    });
    assert!(link.commands.texts().iter().all(|t| t == "a"));
    assert_eq!(link.now().received, 0);
    drop(link);
    // After a crash both come again; what was taken then never comes a third time.
    let link = site.link(&device);
    wait_until(30, "both come", || link.commands.texts().len() == 2);
    assert_eq!(link.commands.texts(), ["a", "b"]);
}

/// Neither a payload nor a size that the cloud, or the broker, should never send ends the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn oversize_and_malformed_messages_never_cost_the_session() {
    let site = Site::new().await;
    let cloud = Peer::cloud(&site.broker);
    let device = device();
    let link = site.link(&device);
    *link.commands.answer.lock().unwrap() = Answer::Refused;
    link.up(1);
    let mut junk: Vec<Vec<u8>> = vec![
        b"not a jws".to_vec(),
        vec![0; 60_000],
        vec![0xff; 1000],
        b"a.b.c".to_vec(),
        "{\"x\":".repeat(9000).into_bytes(),
    ];
    junk.extend((0..200u32).map(|n| n.to_be_bytes().repeat(n as usize % 50 + 1)));
    for payload in &junk {
        cloud.command(payload.clone());
    }
    // Larger than the link takes: the broker drops it and says nothing. (Mosquitto 2.0.11 never gives the place of a
    // dropped message back: with the eighth it would send no QoS 1 until the next connection.)
    for _ in 0..7 {
        cloud.command(vec![b'x'; 100_000]);
    }
    cloud.command("");
    cloud.command("the end");
    link.wait(60, "all was answered for", |s| {
        s.received == junk.len() as u64 + 1
    });
    assert_eq!(link.commands.texts().last().unwrap(), "the end");
    let LinkStatus {
        state,
        sessions,
        last_reason,
        ..
    } = link.now();
    assert_eq!((state, sessions, last_reason), ("up", 1, None));
}
