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

/// For what takes no time on a machine that is not loaded.
const SOON: Duration = Duration::from_secs(60);

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
        live: None,
        spool: Spool::new(&spool),
        min_free: ByteSize(0),
        twin: None,
        machine: Logind::at(&bus.address),
        keys: client.keys().clone(),
        rotation: None,
        unclaim: None,
        uploads: None,
        status: StatusHub::default(),
        config: std::sync::Arc::new(|| json!({})),
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
        () = tokio::time::sleep(SOON) => panic!("not within {SOON:?}"),
    }
}

/// A box that was sent `reboot` and has fetched it.
struct Told {
    cloud: Cloud,
    bus: Bus,
    _logind: zbus::Connection,
    asked: Arc<AtomicUsize>,
    device: Device<Client>,
    id: Uuid,
}

impl Told {
    async fn new(allowed: bool) -> (Told, Executor) {
        let (cloud, bus) = (Cloud::start().await.unwrap(), Bus::start());
        let (logind, asked) = logind(&bus, allowed).await;
        let device = Device::on_time(&cloud).await;
        let wanted = Wanted::new("reboot", json!({}));
        let sent = cloud.send_command(device.edge_id(), wanted).await.unwrap();
        let (poll, executor) = parts(&device, &bus);
        assert_eq!(poll.round().await, Round::Done);
        let told = Told {
            id: sent["id"].as_str().unwrap().parse().unwrap(),
            cloud,
            bus,
            _logind: logind,
            asked,
            device,
        };
        (told, executor)
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    /// Runs until the device's store has the command in `state`.
    async fn run(&self, executor: Executor, state: &str) {
        let conn = sentrycam::db::schema::open_reader(&self.device.db_path()).unwrap();
        let sql = "select count(*) from commands where state = ?1";
        let count = || conn.query_row(sql, [state], |r| r.get::<_, i64>(0));
        run(executor, || count().unwrap() == 1).await;
    }

    /// What the cloud has of it at the end.
    async fn ended(&mut self) -> Value {
        self.device.drain(20).await;
        let end = self.cloud.wait_command(self.id, SOON).await;
        end.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_asked_of_logind_once_and_proved_by_another_boot() {
    let (mut told, executor) = Told::new(true).await;
    run(executor, || told.asked() == 1).await;
    // The power goes; the machine comes up again.
    told.device.end(End::Killed).await;
    told.device.boot = BootId(Uuid::now_v7());
    told.device.start();
    told.device.pass().await;
    let (poll, executor) = parts(&told.device, &told.bus);
    told.run(executor, "succeeded").await;
    assert_eq!(poll.round().await, Round::Done);
    let end = told.ended().await;
    assert_eq!(
        (&end["status"], &end["result"]["rebooted"]),
        (&json!("succeeded"), &json!(true)),
        "{end}"
    );
    assert_eq!(told.asked(), 1, "asked again after the restart");
}

/// The delay passes beside the others, and the cloud sees how much is left of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_delay_keeps_no_other_command_waiting_and_is_told() {
    let (cloud, bus) = (Cloud::start().await.unwrap(), Bus::start());
    let (_logind, asked) = logind(&bus, true).await;
    let mut device = Device::on_time(&cloud).await;
    let mut ids = Vec::new();
    for wanted in [
        Wanted::new("reboot", json!({ "delay_s": 100 })),
        Wanted::new("sync.now", json!({})),
    ] {
        let sent = cloud.send_command(device.edge_id(), wanted).await.unwrap();
        ids.push(sent["id"].as_str().unwrap().parse::<Uuid>().unwrap());
    }
    let (poll, executor) = parts(&device, &bus);
    assert_eq!(poll.round().await, Round::Done);
    let stop = CancellationToken::new();
    let sql = format!(
        "select status, progress, rev from commands where id = '{}'",
        ids[0]
    );
    // The clock goes on besides: 14 s to spare at each step.
    for (waited, left, rev) in [
        (0, 86..=100, 3),
        (15, 86..=100, 3),
        (30, 41..=55, 4),
        (15, 41..=55, 4),
    ] {
        device.clock.rehearse_passing(Duration::from_secs(waited));
        while executor.pass(&stop).await.unwrap() {}
        device.drain(20).await;
        let row = &cloud.query(&sql).await.unwrap()[0];
        assert_eq!(
            (&row["status"], &row["rev"]),
            (&json!("in_progress"), &json!(rev)),
            "{row}"
        );
        let told = row["progress"]["restart_in_s"].as_u64().unwrap();
        assert!(left.contains(&told), "{row}");
    }
    let end = cloud.wait_command(ids[1], SOON).await.unwrap();
    assert_eq!(end["status"], "succeeded", "{end}");
    assert_eq!(asked.load(SeqCst), 0);
    device.clock.rehearse_passing(Duration::from_secs(40));
    assert!(executor.pass(&stop).await.unwrap());
    assert_eq!(asked.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_does_not_restart_though_logind_agreed_is_told_of() {
    let (mut told, executor) = Told::new(true).await;
    let stop = CancellationToken::new();
    while executor.pass(&stop).await.unwrap() {}
    assert_eq!(told.asked(), 1);
    told.device.clock.rehearse_passing(Duration::from_secs(60));
    assert!(!executor.pass(&stop).await.unwrap());
    told.device.clock.rehearse_passing(Duration::from_secs(30));
    assert!(executor.pass(&stop).await.unwrap());
    let end = told.ended().await;
    assert_eq!(
        (&end["status"], &end["code"]),
        (&json!("timed_out"), &json!("timeout")),
        "{end}"
    );
    assert_eq!(told.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_comes_back_in_the_same_boot_does_not_ask_again() {
    let (mut told, executor) = Told::new(true).await;
    run(executor, || told.asked() == 1).await;
    told.device.restart(End::Killed).await;
    told.device.pass().await;
    let (_poll, executor) = parts(&told.device, &told.bus);
    told.run(executor, "failed").await;
    let end = told.ended().await;
    assert_eq!(
        (&end["status"], &end["code"]),
        (&json!("failed"), &json!("interrupted")),
        "{end}"
    );
    assert_eq!(told.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_polkit_refuses_has_failed() {
    let (mut told, executor) = Told::new(false).await;
    told.run(executor, "failed").await;
    let end = told.ended().await;
    assert_eq!(
        (&end["status"], &end["code"]),
        (&json!("failed"), &json!("refused")),
        "{end}"
    );
    let error = end["error"].as_str().unwrap();
    assert!(error.contains("authentication required"), "{end}");
    assert_eq!(told.asked(), 1);
}
