//! `reboot` over a real D-Bus: a bus of our own, on which the test plays logind; proved by another boot.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use sentrycam::agent::camera::Desk;
use sentrycam::agent::executor::{Executor, Hands};
use sentrycam::agent::inbox::{Bells, Inbox};
use sentrycam::agent::poll::{Poll, Round};
use sentrycam::agent::status::StatusHub;
use sentrycam::board::entropy::Entropy;
use sentrycam::board::logind::Logind;
use sentrycam::cloud::Client;
use sentrycam::config::SpoolConfig;
use sentrycam::db::IdSource;
use sentrycam::model::BootId;
use sentrycam::spool::Spool;
use sentrycam::time::Mono;
use sentrycam::units::ByteSize;
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::device::{Device, End};

/// A private bus; dropping it ends it.
struct Bus {
    daemon: Child,
    address: String,
}

impl Bus {
    fn start() -> Bus {
        let mut daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address=1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon is installed");
        let mut address = String::new();
        let out = daemon.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut address).unwrap();
        Bus {
            daemon,
            address: address.trim().to_owned(),
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// logind, as far as it is asked.
struct Manager {
    asked: Arc<AtomicUsize>,
    allowed: bool,
}

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    fn reboot(&self, interactive: bool) -> zbus::fdo::Result<()> {
        assert!(!interactive);
        self.asked.fetch_add(1, SeqCst);
        if self.allowed {
            return Ok(());
        }
        let text = "Interactive authentication required.";
        Err(zbus::fdo::Error::InteractiveAuthorizationRequired(
            text.into(),
        ))
    }
}

async fn logind(bus: &Bus, allowed: bool) -> (zbus::Connection, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let manager = Manager {
        asked: Arc::clone(&asked),
        allowed,
    };
    let connection = zbus::connection::Builder::address(bus.address.as_str())
        .and_then(|b| b.name("org.freedesktop.login1"))
        .and_then(|b| b.serve_at("/org/freedesktop/login1", manager));
    (connection.unwrap().build().await.unwrap(), asked)
}

/// Poll and executor over a device's store.
fn parts(device: &Device<Client>, bus: &Bus) -> (Poll<Client>, Executor) {
    let (client, bells) = (device.transport().clone(), Bells::default());
    let ids: IdSource = Arc::new(Uuid::now_v7);
    let spool = SpoolConfig {
        dir: "/nonexistent".into(),
        require_mount: false,
        min_free: ByteSize(0),
    };
    let hands = Hands {
        desk: Desk::default(),
        spool: Spool::new(&spool),
        min_free: ByteSize(0),
        twin: None,
        machine: Logind::at(&bus.address),
        keys: client.keys().clone(),
        rotation: None,
        unclaim: None,
        status: StatusHub::default(),
        config: json!({}),
    };
    let (db, time) = (device.db().clone(), device.time().clone());
    let keys = client.keys().clone();
    let inbox = Inbox::new(
        db.clone(),
        keys,
        time.clone(),
        ids.clone(),
        hands.able(),
        &bells,
    );
    let (_, away) = tokio::sync::watch::channel(Some(Mono(0)));
    let poke = Arc::clone(&bells.poke);
    let poll = Poll::new(
        client,
        inbox.clone(),
        time.clone(),
        Entropy::default(),
        poke,
        away,
    );
    (poll, Executor::new(db, time, ids, inbox, bells, hands))
}

async fn send(cloud: &Cloud, device: &Device<Client>) -> Uuid {
    let wanted = Wanted::new("reboot", json!({}));
    let sent = cloud.send_command(device.edge_id(), wanted).await.unwrap();
    sent["id"].as_str().unwrap().parse().unwrap()
}

/// Lets the executor run for as long as `until` is not true.
async fn run(executor: Executor, until: impl Fn() -> bool) {
    let stop = CancellationToken::new();
    let watch = async {
        while !until() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = executor.run(stop) => {}
        () = watch => {}
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("not within 20 s"),
    }
}

async fn ended(cloud: &Cloud, device: &mut Device<Client>, id: Uuid) -> Value {
    device.drain(20).await;
    cloud
        .wait_command(id, Duration::from_secs(10))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_asked_of_logind_once_and_proved_by_another_boot() {
    let (cloud, bus) = (Cloud::start().await.unwrap(), Bus::start());
    let (_logind, asked) = logind(&bus, true).await;
    let mut device = Device::on_time(&cloud).await;
    let id = send(&cloud, &device).await;
    let (poll, executor) = parts(&device, &bus);
    assert_eq!(poll.round().await, Round::Done);
    run(executor, || asked.load(SeqCst) == 1).await;
    drop(poll);
    // The power goes; the machine comes up again.
    device.end(End::Killed).await;
    device.boot = BootId(Uuid::now_v7());
    device.start();
    device.pass().await;
    let (poll, executor) = parts(&device, &bus);
    let path = device.db_path();
    let done = || {
        number(
            &path,
            "select count(*) from commands where state = 'succeeded'",
        ) == 1
    };
    run(executor, done).await;
    assert_eq!(poll.round().await, Round::Done);
    let end = ended(&cloud, &mut device, id).await;
    assert_eq!(
        (&end["status"], &end["result"]["rebooted"]),
        (&json!("succeeded"), &json!(true)),
        "{end}"
    );
    assert_eq!(asked.load(SeqCst), 1, "asked again after the restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_comes_back_in_the_same_boot_does_not_ask_again() {
    let (cloud, bus) = (Cloud::start().await.unwrap(), Bus::start());
    let (_logind, asked) = logind(&bus, true).await;
    let mut device = Device::on_time(&cloud).await;
    let id = send(&cloud, &device).await;
    let (poll, executor) = parts(&device, &bus);
    assert_eq!(poll.round().await, Round::Done);
    run(executor, || asked.load(SeqCst) == 1).await;
    drop(poll);
    device.restart(End::Killed).await;
    device.pass().await;
    let (_poll, executor) = parts(&device, &bus);
    let path = device.db_path();
    let done = || {
        number(
            &path,
            "select count(*) from commands where state = 'failed'",
        ) == 1
    };
    run(executor, done).await;
    let end = ended(&cloud, &mut device, id).await;
    assert_eq!(
        (&end["status"], &end["code"]),
        (&json!("failed"), &json!("interrupted")),
        "{end}"
    );
    assert_eq!(asked.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_polkit_refuses_has_failed() {
    let (cloud, bus) = (Cloud::start().await.unwrap(), Bus::start());
    let (_logind, asked) = logind(&bus, false).await;
    let mut device = Device::on_time(&cloud).await;
    let id = send(&cloud, &device).await;
    let (poll, executor) = parts(&device, &bus);
    assert_eq!(poll.round().await, Round::Done);
    let path = device.db_path();
    let done = || {
        number(
            &path,
            "select count(*) from commands where state = 'failed'",
        ) == 1
    };
    run(executor, done).await;
    let end = ended(&cloud, &mut device, id).await;
    assert_eq!(
        (&end["status"], &end["code"]),
        (&json!("failed"), &json!("refused")),
        "{end}"
    );
    assert!(
        end["error"]
            .as_str()
            .unwrap()
            .contains("authentication required"),
        "{end}"
    );
    assert_eq!(asked.load(SeqCst), 1);
}

fn number(path: &std::path::Path, sql: &str) -> i64 {
    let conn = sentrycam::db::schema::open_reader(path).unwrap();
    conn.query_row(sql, [], |r| r.get(0)).unwrap()
}
