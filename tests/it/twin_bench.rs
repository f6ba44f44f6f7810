//! The twin, its store and real cameras of a test pattern, in this process: offered to by hand, on a rehearsed clock.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sentrycam::agent::camera::registry::registry;
use sentrycam::agent::camera::{CameraContext, ClipStore, Desk};
use sentrycam::agent::journal::journal;
use sentrycam::agent::pictures::pictures;
use sentrycam::agent::status::{Status, StatusHub};
use sentrycam::agent::time::TimeKeeper;
use sentrycam::agent::twin::store::Store;
use sentrycam::agent::twin::{self, Fetcher, OfferError, Reach, TwinHandle, Verdict};
use sentrycam::board::clock::Clock;
use sentrycam::board::entropy::Entropy;
use sentrycam::cloud::{Client, Keys, SharedKeys, Transport as _, tls};
use sentrycam::config::Config;
use sentrycam::db::{self, Db, IdSource, open, schema};
use sentrycam::model::BootId;
use sentrycam::outbox::quota::Quotas;
use sentrycam::spool::Spool;
use sentrycam::supervise::{Phase, Supervisor};
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

/// Everything of one run.
struct Run {
    supervisor: Supervisor,
    db: Db,
    closer: open::Closer,
    store: Store,
    twin: TwinHandle,
    status: StatusHub,
    time: TimeKeeper,
}

/// Keys of a device without a cloud.
const NOBODYS: &str = r#"{"v":1,"edge_id":"e-test","edge_key":"ek_1","api_base":"https://cloud.invalid",
    "edge_secret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#;

fn client(keys: impl Into<SharedKeys>, ca: Option<&Path>) -> Client {
    let tls = tls::client_config(ca, Arc::new(|| Clock::default().system_wall())).unwrap();
    Client::new(keys, tls, Duration::from_secs(10)).unwrap()
}

/// A device whose configuration file has the cameras `a`, `b` and `c`.
pub struct Bench {
    home: TempDir,
    pub clock: Clock,
    pub boot: BootId,
    pub config: Config,
    client: Client,
    /// There is a cloud behind the client.
    online: bool,
    run: Option<Run>,
}

impl Bench {
    /// Not started yet.
    pub fn new() -> Bench {
        sentrycam::media::init().unwrap();
        let home = tempfile::tempdir().unwrap();
        let camera = |id| {
            format!(
                "[[camera]]\nid = \"{id}\"\ntest = true\nwidth = 160\nheight = 120\nfps = 5\n\
                 [camera.recording]\nmode = \"off\"\n"
            )
        };
        let file = home.path().join("nobody.json");
        std::fs::write(&file, NOBODYS).unwrap();
        let cameras = ["a", "b", "c"].map(camera).concat();
        let text = format!("state_dir = \"{}\"\n{cameras}", home.path().display());
        Bench {
            config: Config::parse(&text, &|_| Err(String::new())).unwrap(),
            home,
            clock: Clock::default(),
            boot: BootId(Uuid::now_v7()),
            client: client(Keys::load(&file).unwrap(), None),
            online: false,
            run: None,
        }
    }

    /// A device of this cloud.
    pub async fn of(cloud: &Cloud) -> Bench {
        let mut bench = Bench::new();
        let path = bench.home.path().join("edge.json");
        cloud.write_credentials("box", &path).await.unwrap();
        let keys = Keys::load(&path).unwrap();
        bench.client = client(keys, Some(&cloud.ca_path()));
        bench.online = true;
        bench
    }

    pub fn edge_id(&self) -> String {
        self.client.edge_id().to_owned()
    }

    /// Learns the time, as from a signed answer of now.
    pub fn learn_time(&self) {
        // The cloud's clock: time that is rehearsed passes for the device alone.
        let date = Clock::default().system_wall();
        self.run().time.rehearse_answer(date);
    }

    pub async fn start(&mut self) {
        let time = TimeKeeper::new(self.clock.clone(), self.clock.build_time());
        let ids: IdSource = Arc::new(Uuid::now_v7);
        let options = open::Options {
            dir: self.home.path().to_owned(),
            boot: self.boot,
            clock: time.boot_clock(),
            now: time.wall(),
            quotas: Quotas::default(),
            ids: ids.clone(),
        };
        let (db, closer, _) = open::open(options, tokio::runtime::Handle::current()).unwrap();
        let mut supervisor = Supervisor::default();
        let wake = Arc::new(Notify::new());
        let (journal, journal_task) = journal(db.clone(), Arc::clone(&wake));
        supervisor.spawn(Phase::Journal, "journal", journal_task.run());
        let status = StatusHub::default();
        let clips = ClipStore {
            spool: Spool::new(&self.config.spool),
            min_free: self.config.spool.min_free,
            disk: Default::default(),
            time: time.clone(),
        };
        let (pictures, task) = pictures(clips.clone(), journal.clone(), ids.clone());
        let stop = supervisor.stop_token(Phase::Intake);
        supervisor.spawn(Phase::Intake, "pictures", task.run(stop));
        let context = CameraContext {
            journal,
            store: clips,
            pictures,
            time: time.clone(),
            ids: ids.clone(),
            entropy: Entropy::default(),
            status: status.clone(),
            desk: Desk::default(),
        };
        let store = Store::new(db.clone(), self.home.path(), ids, wake);
        let loaded = twin::load(&store, &self.config, self.boot, &time)
            .await
            .unwrap();
        let intake = supervisor.stop_token(Phase::Intake);
        let (cameras, task) = registry(context, intake.clone());
        let first = loaded.effective.cameras.clone();
        supervisor.spawn(Phase::Intake, "cameras", task.run(first));
        let reach = Reach {
            cameras,
            clients: watch::channel(Some(self.client.clone())).1,
            heartbeat: watch::channel(None).0,
            status: status.clone(),
            refresh: Arc::default(),
            physical_reset: Arc::default(),
            in_force: watch::channel(loaded.effective.clone()).0,
        };
        let (twin, task) = twin::twin(
            store.clone(),
            self.config.clone(),
            self.boot,
            time.clone(),
            reach,
            loaded,
        );
        supervisor.spawn(Phase::Intake, "twin", task.run(intake.clone()));
        if self.online {
            let client = self.client.clone();
            let entropy = Entropy::default();
            let fetcher = Fetcher::new(client, time.clone(), entropy, twin.clone());
            supervisor.spawn(Phase::Intake, "twin-fetch", fetcher.run(intake));
        }
        self.run = Some(Run {
            supervisor,
            db,
            closer,
            store,
            twin,
            status,
            time,
        });
    }

    fn run(&self) -> &Run {
        self.run.as_ref().expect("it runs")
    }

    pub fn store(&self) -> &Store {
        &self.run().store
    }

    pub fn twin(&self) -> &TwinHandle {
        &self.run().twin
    }

    pub fn status(&self) -> Status {
        self.run().status.snapshot(self.run().time.mono())
    }

    /// Offers a document as the cloud would.
    pub async fn offer(&self, version: u64, doc: Value) -> Result<Verdict, OfferError> {
        let claims = json!({ "iss": "sentrycam-cloud", "aud": self.edge_id(), "iat": 1_795_226_400, "version": version, "doc": doc });
        self.offer_raw(claims.to_string()).await
    }

    pub async fn offer_raw(&self, claims: impl Into<Vec<u8>>) -> Result<Verdict, OfferError> {
        self.twin().offer_twin(claims.into()).await
    }

    /// What the cloud is told.
    pub fn report(&self) -> Value {
        self.twin().report().borrow().body.clone()
    }

    /// The session of each camera that delivers.
    pub fn sessions(&self) -> Vec<(String, u64)> {
        let cameras = self.status().cameras;
        let up = cameras.into_iter().filter(|(_, c)| c.state == "up");
        up.filter_map(|(id, c)| Some((id, c.session_started_ms?)))
            .collect()
    }

    /// Waits until exactly these cameras are there and deliver.
    pub async fn wait_for(&self, cameras: &[&str]) {
        self.wait(&format!("{cameras:?} are up"), |s| {
            s.cameras.len() == cameras.len()
                && cameras
                    .iter()
                    .all(|id| s.cameras.get(*id).is_some_and(|c| c.state == "up"))
        })
        .await;
    }

    pub async fn wait(&self, what: &str, done: impl Fn(&Status) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !done(&self.status()) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{what}: {:?}",
                self.status()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Payloads of the records of a type, oldest first.
    pub fn told(&self, kind: &str) -> Vec<Value> {
        let conn = schema::open_reader(&self.home.path().join(db::FILE_NAME)).unwrap();
        let mut stmt = conn
            .prepare("select body from outbox order by seq")
            .unwrap();
        let bodies = stmt.query_map([], |r| r.get::<_, String>(0)).unwrap();
        bodies
            .map(|b| serde_json::from_str::<Value>(&b.unwrap()).unwrap())
            .filter(|b| b["type"] == format!("io.sentrycam.{kind}.v1"))
            .map(|b| b["data"].clone())
            .collect()
    }

    /// Every byte below the state directory but of the file of secrets.
    pub fn bytes_on_disk(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut dirs = vec![self.home.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                if entry.path().is_dir() {
                    dirs.push(entry.path());
                } else if entry.file_name() != "twin-secrets.json" {
                    all.extend(std::fs::read(entry.path()).unwrap_or_default());
                }
            }
        }
        all
    }

    /// Ends in order.
    pub async fn stop(&mut self) {
        let run = self.run.take().expect("it runs");
        drop((run.db, run.store, run.twin));
        assert_eq!(run.supervisor.shut_down(async {}).await, []);
        let closed = tokio::task::spawn_blocking(|| run.closer.close()).await;
        closed.unwrap().unwrap();
    }

    /// Everything goes at once, as at a power cut; what was committed is there.
    pub async fn cut(&mut self) {
        let run = self.run.take().expect("it runs");
        drop((run.supervisor, run.store, run.twin));
        let db = run.db;
        drop(db);
        // The writer's thread ends with its last handle; a second writer must not meet it.
        let closed = tokio::task::spawn_blocking(|| run.closer.close()).await;
        closed.unwrap().unwrap();
    }
}
