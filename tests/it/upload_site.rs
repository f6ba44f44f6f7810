//! The agent's media upload beside the reference cloud and its real S3 server: files made here, the task as the agent runs
//! it, and what the storage saw.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sentrycam::agent::media_upload::{MediaUpload, Parts, Settings, UploadHandle};
use sentrycam::agent::status::StatusHub;
use sentrycam::agent::time::TimeKeeper;
use sentrycam::board::clock::Clock;
use sentrycam::board::entropy::Entropy;
use sentrycam::cloud::storage::Storage;
use sentrycam::cloud::{Client, Keys, tls};
use sentrycam::config::{Config, SpoolConfig};
use sentrycam::db::recordings::{self, KeptFile, Opening};
use sentrycam::db::{Db, IdSource, Urgency, open};
use sentrycam::model::{
    BootId, CameraId, Network, RecordMode, RecordingId, Sha256, StreamInfo, VideoCodec,
};
use sentrycam::outbox::quota::Quotas;
use sentrycam::spool::Spool;
use sentrycam::time::Mono;
use sentrycam::twin::Effective;
use sentrycam::units::ByteSize;
use sentrycam_cloud::testing::Cloud;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::dice::Dice;

/// Nothing moving for so long ends a PUT here.
const PATIENCE: Duration = Duration::from_secs(2);

/// A device that only uploads.
pub struct Site {
    pub cloud: Cloud,
    _home: TempDir,
    pub db: Db,
    pub status: StatusHub,
    pub settings: watch::Sender<Settings>,
    parts: Parts,
    client: Client,
    running: Option<(CancellationToken, JoinSet<()>)>,
    made: u64,
}

/// A file of the device.
#[derive(Clone)]
pub struct Clip {
    pub id: RecordingId,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

/// Makes the `n`th clip, of random bytes.
pub async fn make_clip(db: &Db, spool: &Spool, n: u64, size: u64, mode: RecordMode) -> Clip {
    let (id, camera): (_, CameraId) = (RecordingId(Uuid::now_v7()), "cam".parse().unwrap());
    spool.prepare(&camera).unwrap();
    let path = spool.clip_path(&camera, id);
    let mut dice = Dice(n ^ size);
    let words = (0..size.div_ceil(8)).flat_map(|_| dice.next().to_le_bytes());
    let bytes: Vec<u8> = words.take(size as usize).collect();
    std::fs::write(&path, &bytes).unwrap();
    let (sha256, size_bytes) = Sha256::of_reader(&bytes[..]).unwrap();
    let info = StreamInfo {
        codec: VideoCodec::H264,
        width: 640,
        height: 360,
        fps: 15.0,
        has_audio: false,
    };
    let started = Mono(n * 1_000_000_000);
    let opening = Opening {
        id,
        event: None,
        started,
        mode,
        info,
        path: format!("cam/{id}.mp4"),
    };
    let file = KeptFile {
        size_bytes,
        duration_ms: 1000,
        sha256,
        truncated: false,
    };
    let work = move |c: &sentrycam::db::Connection, run: &sentrycam::db::Run| {
        recordings::open(c, run, &camera, &opening)?;
        recordings::keep(c, id, &file)
    };
    db.call(Urgency::Now, work).await.unwrap();
    Clip { id, path, bytes }
}

/// The store in `dir`, to be filled before an agent has it.
pub async fn prepare(dir: &std::path::Path, sizes: &[u64]) -> Vec<Clip> {
    let clock = Clock::default();
    let time = TimeKeeper::new(clock.clone(), clock.build_time());
    let options = open::Options {
        dir: dir.to_owned(),
        boot: BootId(Uuid::now_v7()),
        clock: time.boot_clock(),
        now: time.wall(),
        quotas: Quotas::default(),
        ids: Arc::new(Uuid::now_v7),
    };
    let (db, closer, _) = open::open(options, tokio::runtime::Handle::current()).unwrap();
    let spool = Spool::new(&SpoolConfig {
        dir: dir.join("clips"),
        require_mount: false,
        min_free: ByteSize(0),
    });
    let mut clips = Vec::new();
    for (n, size) in sizes.iter().enumerate() {
        clips.push(make_clip(&db, &spool, n as u64 + 1, *size, RecordMode::Motion).await);
    }
    drop(db);
    tokio::task::spawn_blocking(|| closer.close())
        .await
        .unwrap()
        .unwrap();
    clips
}

/// What the upload of a device works with, in `home`; `file` is its `[upload]`, `hosts` its twin's list, `allowed` what the
/// file excepts from the address rule.
pub fn parts(
    home: &std::path::Path,
    tls: rustls::ClientConfig,
    file: &str,
    hosts: &[&str],
    allowed: &[Network],
) -> (Parts, watch::Sender<Settings>) {
    let clock = Clock::default();
    let time = TimeKeeper::new(clock.clone(), clock.build_time());
    time.rehearse_answer(clock.system_wall());
    let ids: IdSource = Arc::new(Uuid::now_v7);
    let options = open::Options {
        dir: home.to_owned(),
        boot: BootId(Uuid::now_v7()),
        clock: time.boot_clock(),
        now: time.wall(),
        quotas: Quotas::default(),
        ids: ids.clone(),
    };
    let (db, _closer, _) = open::open(options, tokio::runtime::Handle::current()).unwrap();
    let text = format!("state_dir = \"{}\"\n[upload]\n{file}", home.display());
    let config = Config::parse(&text, &|_| Err("no files".into())).unwrap();
    let mut effective = Effective::local(&config);
    effective.upload_hosts = hosts.iter().map(|h| h.parse().unwrap()).collect();
    let (settings, in_force) = watch::channel(Settings::of(&effective));
    let parts = Parts {
        db,
        spool: Spool::new(&SpoolConfig {
            dir: home.join("clips"),
            require_mount: false,
            min_free: ByteSize(0),
        }),
        disk: Default::default(),
        storage: Storage::new(tls, allowed, PATIENCE).unwrap(),
        time,
        entropy: Entropy::default(),
        ids,
        status: StatusHub::default(),
        handle: UploadHandle {
            wake: Arc::default(),
            settings: in_force,
        },
        sync: Arc::default(),
    };
    (parts, settings)
}

impl Site {
    /// A claimed device with nothing in its store; the upload does not run yet. `file` is its `[upload]`.
    pub async fn new(file: &str) -> Site {
        let cloud = Cloud::builder().storage().start().await.unwrap();
        let home = tempfile::tempdir().unwrap();
        let keys = home.path().join("edge.json");
        cloud.write_credentials("box", &keys).await.unwrap();
        let own = Clock::default();
        let tls = tls::client_config(Some(&cloud.ca_path()), Arc::new(move || own.system_wall()))
            .unwrap();
        let client = Client::new(
            Keys::load(&keys).unwrap(),
            tls.clone(),
            Duration::from_secs(20),
        )
        .unwrap();
        let allowed = ["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let (parts, settings) = parts(home.path(), tls.usual, file, &["localhost"], &allowed);
        Site {
            cloud,
            _home: home,
            db: parts.db.clone(),
            status: parts.status.clone(),
            settings,
            parts,
            client,
            running: None,
            made: 0,
        }
    }

    /// Makes a clip of random bytes, as the camera task leaves one.
    pub async fn clip(&mut self, size: u64, mode: RecordMode) -> Clip {
        self.made += 1;
        let clip = make_clip(&self.db, &self.parts.spool, self.made, size, mode).await;
        self.parts.handle.wake.notify_one();
        clip
    }

    /// The task, as the agent runs it.
    pub fn start(&mut self) {
        let stop = CancellationToken::new();
        let task = MediaUpload::new(self.parts.clone(), self.client.clone()).run(stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(task);
        self.running = Some((stop, tasks));
    }

    /// Ends it wherever it is.
    pub async fn stop(&mut self) {
        if let Some((stop, mut tasks)) = self.running.take() {
            stop.cancel();
            tasks.join_next().await.unwrap().unwrap();
        }
    }

    pub fn wake(&self) {
        self.parts.handle.wake.notify_one();
    }

    /// A word of the clip's row.
    pub async fn standing(&self, clip: &Clip) -> (String, String) {
        let id = clip.id.0;
        let read = move |c: &sentrycam::db::Connection, _: &sentrycam::db::Run| {
            let sql = "select state, upload from recordings where id = ?1";
            Ok(c.query_row(sql, [id], |r| Ok((r.get(0)?, r.get(1)?)))?)
        };
        self.db.call(Urgency::Now, read).await.unwrap()
    }

    /// Waits until the device and the cloud agree that the clip is there, and that it is the file.
    pub async fn wait_for(&self, clip: &Clip, at_most: Duration) {
        let there = format!(
            "(select count(*) from uploads where object_uid = '{}' and status = 'available') = 1",
            clip.id
        );
        if let Err(e) = self.cloud.wait_for(&there, at_most).await {
            panic!("{e:#} {}", self.shown());
        }
        self.wait_until("the device knows", async || {
            self.standing(clip).await.1 == "uploaded"
        })
        .await;
        assert!(
            self.object(clip).await.as_deref() == Some(&clip.bytes[..]),
            "the object is not the file"
        );
    }

    pub async fn wait_until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        for _ in 0..600 {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: {}", self.shown());
    }

    /// The object of a clip, where the cloud calls it available.
    pub async fn object(&self, clip: &Clip) -> Option<Vec<u8>> {
        let sql = format!(
            "select bucket, object_key from uploads where object_uid = '{}' and status = 'available'",
            clip.id
        );
        let rows = self.cloud.query(&sql).await.unwrap();
        let row = rows.first()?;
        let (bucket, key) = (row["bucket"].as_str()?, row["object_key"].as_str()?);
        self.cloud.objects().unwrap().read(bucket, key).unwrap()
    }

    pub fn shown(&self) -> Value {
        self.status.snapshot(Mono(0)).upload
    }
}
