//! A device made of the agent's own parts (store, clock, uploader) without cameras, to be synced by hand: a test
//! calls `pass()` and lets time pass without waiting for it.

use std::path::PathBuf;
use std::time::Duration;

use sentrycam::agent::records::{self, Ending, MotionDetail};
use sentrycam::agent::time::TimeKeeper;
use sentrycam::agent::uploader::{Pass, SyncStatus, Uploader};
use sentrycam::board::clock::Clock;
use sentrycam::board::entropy::Entropy;
use sentrycam::cloud::{Client, Keys, Transport, tls};
use sentrycam::db::events::{self, EventFacts};
use sentrycam::db::{Db, IdSource, Urgency, open, outbox, schema};
use sentrycam::model::{BootId, Class, EventId, RecordId, Severity};
use sentrycam::outbox::quota::Quotas;
use sentrycam::time::Wall;
use sentrycam::wire::envelope::Record;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;

/// What lives until the process ends.
struct Running<T> {
    db: Db,
    closer: open::Closer,
    uploader: Uploader<T>,
    time: TimeKeeper,
}

/// How the agent's process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    InOrder,
    Killed,
}

/// A device whose transport is `T`.
pub struct Device<T> {
    home: TempDir,
    transport: T,
    quotas: Quotas,
    pub boot: BootId,
    pub clock: Clock,
    running: Option<Running<T>>,
}

/// Fails a request after this; the faults that hang do so for longer.
const PATIENCE: Duration = Duration::from_secs(12);

impl Device<Client> {
    /// A new device of this cloud, not yet started.
    pub async fn of(cloud: &Cloud) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("edge.json");
        cloud.write_credentials("box", &path).await.unwrap();
        Self::with_keys(cloud, home, "edge.json")
    }

    /// A device with the credentials in `file` of its home.
    pub fn with_keys(cloud: &Cloud, home: TempDir, file: &str) -> Self {
        let keys = Keys::load(&home.path().join(file)).unwrap();
        let tls = tls::client_config(
            Some(&cloud.ca_path()),
            Arc::new(|| Clock::default().system_wall()),
        );
        let client = Client::new(keys, tls.unwrap(), PATIENCE).unwrap();
        Self::over(home, client, Quotas::default())
    }

    /// The same, started and on time.
    pub async fn on_time(cloud: &Cloud) -> Self {
        let mut device = Self::of(cloud).await;
        device.start();
        assert_eq!(device.pass().await, Pass::More);
        device
    }
}

impl<T: Transport + Clone> Device<T> {
    pub fn over(home: TempDir, transport: T, quotas: Quotas) -> Self {
        Device {
            home,
            transport,
            quotas,
            boot: BootId(Uuid::now_v7()),
            clock: Clock::default(),
            running: None,
        }
    }

    pub fn start(&mut self) {
        let time = TimeKeeper::new(self.clock.clone(), self.clock.build_time());
        let ids: IdSource = Arc::new(Uuid::now_v7);
        let options = open::Options {
            dir: self.home.path().to_owned(),
            boot: self.boot,
            clock: time.boot_clock(),
            now: time.wall(),
            quotas: self.quotas,
            ids,
        };
        let (db, closer, report) =
            open::open(options, tokio::runtime::Handle::current()).expect("the store opens");
        assert_eq!(report.recovered, None);
        if let Some(floor) = report.last_trusted {
            time.raise_floor(floor);
        }
        let uploader = Uploader::new(
            db.clone(),
            self.transport.clone(),
            time.clone(),
            Entropy::default(),
        );
        self.running = Some(Running {
            db,
            closer,
            uploader,
            time,
        });
    }

    pub async fn end(&mut self, how: End) {
        let running = self.running.take().expect("it runs");
        let (db, closer) = (running.db, running.closer);
        drop(running.uploader);
        drop(db);
        if how == End::InOrder {
            let closed = tokio::task::spawn_blocking(|| closer.close()).await;
            closed.unwrap().unwrap();
        }
    }

    pub async fn restart(&mut self, how: End) {
        self.end(how).await;
        self.start();
    }

    fn running(&self) -> &Running<T> {
        self.running.as_ref().expect("it runs")
    }

    pub fn db(&self) -> &Db {
        &self.running().db
    }

    pub fn db_path(&self) -> PathBuf {
        self.home.path().join(sentrycam::db::FILE_NAME)
    }

    pub fn time(&self) -> &TimeKeeper {
        &self.running().time
    }

    pub fn transport(&self) -> &T {
        &self.transport
    }

    pub fn edge_id(&self) -> &str {
        self.transport.edge_id()
    }

    pub fn status(&self) -> SyncStatus {
        self.running().uploader.status().borrow().clone()
    }

    pub async fn pass(&mut self) -> Pass {
        let running = self.running.as_mut().expect("it runs");
        running.uploader.pass().await.expect("the store works")
    }

    /// How long the next pass has to wait.
    pub async fn pass_and_wait(&mut self) -> Duration {
        match self.pass().await {
            Pass::Wait(until) => until.since(self.time().mono()),
            other => panic!("{other:?} in place of a pause"),
        }
    }

    /// Passes until nothing waits, without the pauses; returns how many it took.
    pub async fn drain(&mut self, at_most: usize) -> usize {
        for n in 1..=at_most {
            if self.pass().await == Pass::Idle {
                return n;
            }
        }
        panic!(
            "still {} records after {at_most} passes: {:?}",
            self.outbox().len(),
            self.status()
        );
    }

    /// Commits one record; `None` where the store refuses it.
    pub async fn put(&self, class: Class, kind: &'static str, data: Value) -> RecordId {
        let record = Record {
            id: RecordId(Uuid::now_v7()),
            kind,
            class,
            subject: Some("cam-1".into()),
            severity: Severity::Info,
            at: self.time().mono(),
            data,
        };
        let id = record.id;
        let put = self
            .db()
            .call(Urgency::Now, move |c, run| outbox::put(c, run, &record));
        put.await.unwrap();
        id
    }

    /// Commits `n` records of no particular type.
    pub async fn notes(&self, n: usize) -> Vec<RecordId> {
        let mut ids = Vec::with_capacity(n);
        for i in 0..n {
            ids.push(self.put(Class::Alarm, "test.note", json!({ "n": i })).await);
        }
        ids
    }

    /// Commits an event from start to end, as the camera task does.
    pub async fn event(&self) -> EventId {
        let (id, camera) = (EventId(Uuid::now_v7()), "cam-1".parse().unwrap());
        let mut facts = EventFacts {
            id,
            peak_score: 0.5,
            zones: Vec::new(),
            rev: 1,
        };
        let at = self.time().mono();
        let detail = MotionDetail {
            severity: Severity::Warning,
            score: 0.5,
            regions: &[],
        };
        let new = || RecordId(Uuid::now_v7());
        let started = records::motion_started(new(), &camera, "Motion", &facts, detail, at, 5.0);
        let ended_at = at + Duration::from_secs(3);
        facts.rev = 2;
        let ending = Ending {
            severity: Severity::Warning,
            started: at,
            ended: ended_at,
            reason: "quiet",
            recording: None,
        };
        let ended = records::motion_ended(new(), camera.as_str(), &facts, ending);
        let write = self.db().call(Urgency::Now, move |c, run| {
            events::start(c, run, &camera, at, &facts)?;
            outbox::put(c, run, &started)?;
            events::end(c, &facts, ended_at, "quiet")?;
            outbox::put(c, run, &ended)
        });
        write.await.unwrap();
        id
    }

    fn ids(&self, sql: &str) -> Vec<RecordId> {
        let reader = schema::open_reader(&self.db_path()).unwrap();
        let mut stmt = reader.prepare(sql).unwrap();
        let rows = stmt.query_map([], |r| Ok(RecordId(r.get(0)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// Records that wait, in their order.
    pub fn outbox(&self) -> Vec<RecordId> {
        self.ids("select id from outbox order by seq")
    }

    /// Dead letters.
    pub fn dead(&self) -> Vec<RecordId> {
        self.ids("select id from dead_letter order by seq")
    }
}

/// Records of a device in the cloud's database.
pub async fn in_cloud(cloud: &Cloud, edge_id: &str) -> Vec<RecordId> {
    let sql = format!(
        "select r.id from edge_records r join devices d on d.id = r.device_id where d.edge_id = '{edge_id}'"
    );
    let rows = cloud.query(&sql).await.unwrap();
    rows.iter()
        .map(|row| row["id"].as_str().unwrap().parse().unwrap())
        .collect()
}

/// A moment as the wire writes it.
pub fn wall(text: &Value) -> Wall {
    let at: jiff::Timestamp = text.as_str().unwrap().parse().unwrap();
    Wall(at.as_microsecond())
}
