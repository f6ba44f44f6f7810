//! The MQTT link with a broker that is away, dies, freezes, swallows, refuses, or gives the session to another.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use sentrycam::board::clock::Clock;
use sentrycam::model::Secret;
use sentrycam_cloud::cert::DevCert;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::Proxy;
use serde_json::json;

use crate::device::{Device, in_cloud};
use crate::fixture::wait_until;
use crate::mqtt_site::{EDGE, KEEP_ALIVE, Peer, Running, Site, account, device, put_state};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_is_absent_at_the_start_is_found_when_it_comes() {
    let site = Site::new().await;
    site.broker.stop();
    let device = device();
    let link = site.link(&device);
    let since = link
        .away
        .borrow()
        .expect("it is away from the first moment");
    link.wait(30, "it says why", |s| {
        s.last_reason
            .as_ref()
            .is_some_and(|r| r.contains("refused"))
    });
    assert_eq!(
        *link.away.borrow(),
        Some(since),
        "failed tries change nothing"
    );
    site.broker.start_again().unwrap();
    link.up(1);
    assert_eq!(*link.away.borrow(), None);
    site.broker.kill();
    link.wait(30, "it is noticed", |s| s.state != "up");
    assert!(link.away.borrow().is_some_and(|again| again > since));
}

/// Killed, and restarted in order: neither looks like a copy of the device.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_dies_or_restarts_costs_seconds_and_no_state() {
    let site = Site::new().await;
    let device = device();
    let link = site.link(&device);
    link.up(1);
    for round in 1..=6 {
        if round % 2 == 0 {
            site.broker.kill();
        } else {
            site.broker.stop();
        }
        put_state(&device, EDGE).await;
        link.wait(30, "it is noticed", |s| s.state != "up");
        site.broker.start_again().unwrap();
        link.up(round + 1);
        println!("round {round}: {:?}", link.now().last_reason);
    }
    let cloud = Peer::cloud(&site.broker);
    let (id, _) = put_state(&device, EDGE).await;
    wait_until(20, "states come", || {
        let came = cloud.on("/status");
        came.iter().any(|m| m.json()["id"] == id.to_string())
    });
    assert_eq!(device.outbox().len(), 7);
}

/// Seconds from `freeze` until the link says that the broker is gone.
fn noticed_after(link: &Running, freeze: impl FnOnce()) -> f64 {
    let clock = Clock::default();
    let frozen = clock.mono();
    freeze();
    link.wait(30, "the dead broker is noticed", |s| s.state != "up");
    let took = clock.mono().since(frozen).as_secs_f64();
    assert_eq!(
        link.now().last_reason.as_deref(),
        Some("the broker does not answer (no PINGRESP)")
    );
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_frozen_broker_is_noticed_within_two_keep_alives() {
    let site = Site::new().await;
    let device = device();
    let link = site.link(&device);
    link.up(1);
    let took = noticed_after(&link, || site.broker.freeze().unwrap());
    println!("frozen broker noticed after {took:.2} s at a keep-alive of {KEEP_ALIVE} s");
    assert!(took <= 2.0 * KEEP_ALIVE as f64, "{took} s");
    site.broker.thaw().unwrap();
    link.up(2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_half_open_connection_is_noticed_within_two_keep_alives() {
    let site = Site::new().await;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], site.broker.port()))).unwrap();
    let device = device();
    let link = Running::start(&device, account(proxy.address().port()), EDGE, &site.ca());
    link.up(1);
    let took = noticed_after(&link, || proxy.stall());
    assert!(took <= 2.0 * KEEP_ALIVE as f64, "{took} s");
    proxy.resume();
    link.up(2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wrong_password_is_tried_once_in_five_minutes() {
    let site = Site::new().await;
    let device = device();
    let mut wrong = site.account();
    wrong.password = Secret::new("another password");
    let link = Running::start(&device, wrong, EDGE, &site.ca());
    link.wait(30, "it is refused", |s| s.state == "refused");
    let reason = link.now().last_reason.unwrap();
    assert!(
        reason.contains("(0x87)") || reason.contains("(0x86)"),
        "{reason}"
    );
    assert!(!reason.contains("another password"));
    // Meanwhile the box itself, with the right one, is let in: it is no ban.
    let right = site.link(&device);
    right.up(1);
    assert_eq!(link.state(), "refused");
    assert!(link.stop().await, "a pause does not delay the stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_device_that_may_not_listen_is_refused_and_one_that_may_not_speak_goes_on_listening() {
    let site = Site::new().await;
    let device = device();
    let other = Running::start(&device, site.account(), "e-other", &site.ca());
    other.wait(30, "it may not listen there", |s| s.state == "refused");
    assert_eq!(
        other.now().last_reason.as_deref(),
        Some("the broker does not let us listen: not authorized (0x87)")
    );
    drop(other);

    let admin = Peer::start(
        &site.broker,
        site.broker.admin(),
        "$CONTROL/dynamic-security/v1/response",
    );
    let remove = json!({ "commands": [{ "command": "removeRoleACL", "rolename": EDGE,
        "acltype": "publishClientSend", "topic": format!("edge/v1/{EDGE}/up/cmd/+/status") }] });
    admin.publish("$CONTROL/dynamic-security/v1", false, remove.to_string());
    wait_until(30, "the right is gone", || {
        !admin.on("/response").is_empty()
    });
    let cloud = Peer::cloud(&site.broker);
    let link = site.link(&device);
    link.up(1);
    put_state(&device, EDGE).await;
    link.wait(30, "it is denied", |s| s.denied);
    cloud.command("go on");
    wait_until(30, "commands come", || link.commands.texts() == ["go on"]);
    assert_eq!((link.state(), link.now().sessions), ("up", 1));
    assert_eq!(device.outbox().len(), 1);
}

/// R9: a copied card. Both are thrown out in turn; the third time within a minute is told, and ends the fight.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_device_of_the_same_name_is_told_of() {
    let site = Site::new().await;
    let (device, copy) = (device(), device());
    let (link, clone) = (site.link(&device), site.link(&copy));
    link.wait(60, "one of them gives way", |s| {
        s.state == "taken_over" || clone.state() == "taken_over"
    });
    let loser = if link.state() == "taken_over" {
        &device
    } else {
        &copy
    };
    wait_until(30, "the record is written", || loser.outbox().len() == 1);
    let reader = sentrycam::db::schema::open_reader(&loser.db_path()).unwrap();
    let body: String = reader
        .query_row("select body from outbox where class = 0", [], |r| r.get(0))
        .unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["type"], "io.sentrycam.audit.entry.v1");
    assert_eq!(body["data"]["action"], "clone_suspected");
    assert_eq!(body["data"]["entity_id"], EDGE);
}

/// What speaks TLS but not MQTT: the link says so and comes back when it is a broker again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_not_mqtt_is_said_and_left() {
    let site = Site::new().await;
    let device = device();
    for junk in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(10)[..],
        &[0x20, 0xff, 0xff, 0xff, 0x7f],
        &[0x20, 0x03, 0, 0x42, 0],
        &[0x30, 5, 0, 1, b't', 3, 0x23],
        &[0xf0; 64],
        &[0; 4096],
    ] {
        let port = chatter(&site, junk.to_vec());
        let link = Running::start(&device, account(port), EDGE, &site.ca());
        link.wait(30, &format!("it is noticed: {junk:?}"), |s| {
            s.last_reason
                .as_ref()
                .is_some_and(|r| r.contains("what is not MQTT"))
        });
        assert_eq!(link.now().sessions, 0);
        assert!(matches!(link.state(), "waiting" | "connecting"));
    }
}

/// Answers every TLS connection with these bytes, and keeps it open.
fn chatter(site: &Site, bytes: Vec<u8>) -> u16 {
    use std::io::Write as _;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let file = |name: &str| site.ca().with_file_name(name);
    let chain = vec![CertificateDer::from_pem_file(file("cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (config, listener) = (
        std::sync::Arc::new(config),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for socket in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(std::sync::Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, socket);
            let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
            open.push(stream);
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_with_a_certificate_of_somebody_else_is_not_spoken_to() {
    let site = Site::new().await;
    let device = device();
    let foreign = tempfile::tempdir().unwrap();
    DevCert::generate().unwrap().write(foreign.path()).unwrap();
    let link = Running::start(
        &device,
        site.account(),
        EDGE,
        &foreign.path().join("ca.pem"),
    );
    link.wait(30, "it is refused", |s| {
        s.last_reason
            .as_ref()
            .is_some_and(|r| r.contains("no TLS with"))
    });
    let log = site.broker.log();
    assert!(
        !log.contains("New client connected from 127.0.0.1"),
        "{log}"
    );
}

/// `BROKER_KILLS` broker kills (5; 200 by `make broker-kills`) at random moments while states are committed: each is in
/// PostgreSQL exactly once, and the link is never away for 90 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn broker_kills_lose_no_state() {
    let rounds: usize = std::env::var("BROKER_KILLS")
        .ok()
        .map_or(5, |n| n.parse().unwrap());
    let site = Site::new().await;
    let cloud = Cloud::start().await.unwrap();
    let mut device = Device::on_time(&cloud).await;
    let edge_id = device.edge_id().to_owned();
    site.broker
        .control()
        .add_device(&edge_id, "pw")
        .await
        .unwrap();
    let mut account = site.account();
    account.client_id.clone_from(&edge_id);
    account.username.clone_from(&edge_id);
    account.password = Secret::new("pw");
    let link = Running::start(&device, account, &edge_id, &site.ca());
    link.up(1);
    let peer = Peer::cloud(&site.broker);
    let mut dice = crate::dice::Dice(7);
    let clock = Clock::default();
    let (mut wanted, mut longest) = (Vec::new(), Duration::ZERO);
    for _ in 0..rounds {
        let sessions = link.now().sessions;
        for n in 0..4 {
            wanted.push(put_state(&device, &edge_id).await.0);
            if n == dice.below(4) {
                site.broker.kill();
            }
        }
        site.broker.kill();
        let killed = clock.mono();
        device.drain(20).await;
        site.broker.start_again().unwrap();
        wait_until(90, "the link is back", || {
            let s = link.now();
            s.state == "up" && s.sessions > sessions
        });
        longest = longest.max(clock.mono().since(killed));
    }
    device.drain(20).await;
    let mut there = in_cloud(&cloud, &edge_id).await;
    there.retain(|id| wanted.contains(id));
    there.sort();
    wanted.sort();
    let lost = wanted.len() - there.len();
    let hinted = peer.on("/status").len();
    println!(
        "kills {rounds} states {} lost {lost} seen over MQTT {hinted} longest away {:.1} s",
        wanted.len(),
        longest.as_secs_f64()
    );
    assert_eq!(there, wanted);
}
