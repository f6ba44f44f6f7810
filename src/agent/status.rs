//! What the agent tells about itself: one JSON document over a Unix socket in the state directory.
//!
//! A connection gets the document and is closed; nothing is read from it, so there is nothing to parse and nothing to
//! ask for. The socket is 0600: only the agent's user and root see it. Tasks publish by `watch`, readers never block
//! them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::time::TimeKeeper;
use crate::time::Mono;

/// File name of the socket in the state directory.
pub const SOCKET_NAME: &str = "status.sock";
/// A status document is smaller than this.
const MAX_BYTES: u64 = 1 << 20;
const IO_TIMEOUT: Duration = Duration::from_secs(5);

/// One camera as `status` shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CameraStatus {
    /// Name for people.
    pub name: String,
    /// `starting`, `up`, `down`, `degraded`.
    pub state: String,
    /// Why it is not up, or was not last.
    pub reason: Option<String>,
    /// Seconds since the last frame; absent where none ever came.
    pub last_frame_age_s: Option<f64>,
    /// When that was; the age is made of it when the document is asked for.
    #[serde(skip)]
    pub last_frame: Option<Mono>,
    /// Frames a second over the last seconds.
    pub fps: f64,
    /// Kilobits a second over the last seconds.
    pub bitrate_kbps: f64,
    /// Codec and size, e.g. `h264 1920x1080`.
    pub format: Option<String>,
    /// CLOCK_BOOTTIME at which the capture session began; it names the session.
    #[serde(default)]
    pub session_started_ms: Option<u64>,
    /// Sessions after the first.
    pub reconnects: u64,
    /// Packets that were dropped because a consumer was too slow.
    pub dropped: u64,
    /// `off`, `quiet`, `motion`, `warming`, `failed`.
    pub detection: String,
    /// What of the stream is decoded for the detection; absent while nothing is, and for raw cameras.
    #[serde(default)]
    pub decoding: Option<Decoding>,
    /// An event is going on.
    pub event_active: bool,
    /// A clip is being written.
    pub recording: bool,
}

/// One live session as `status` shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveStatus {
    /// Which camera.
    pub camera: String,
    /// How it is published.
    pub protocol: String,
    /// `connecting`, `live`, `interrupted`.
    pub state: String,
    /// Why it is not live, or was not last.
    pub detail: Option<String>,
    /// What servers took.
    pub bytes: u64,
    /// Seconds until its lease is over; made when the document is asked for.
    pub ends_in_s: u64,
    /// When that is.
    #[serde(skip)]
    pub until: Option<Mono>,
}

/// How much of a stream is decoded for the detection, and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Decoding {
    /// `all`, `all: learning`, `key frames`, `looking`, `all: key frames too far apart`, `all: key frames tell too little`.
    pub mode: String,
    /// Share of the packets of the last minutes, 0..1.
    pub share: Option<f64>,
    /// Packets decoded since the stream began.
    pub decoded: u64,
    /// Packets of video since the stream began.
    pub packets: u64,
    /// GStreamer's name of the decoder.
    pub decoder: String,
    /// Packets that were to be decoded and were not: the decoder is too slow.
    pub lost: u64,
}

/// The whole document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since the agent started.
    pub uptime_s: u64,
    /// RFC 3339.
    pub now: String,
    /// `none`, `floor` or `synced`.
    pub timequality: String,
    /// By camera id.
    pub cameras: BTreeMap<String, CameraStatus>,
    /// The link to the cloud and the outbox, as JSON.
    pub sync: serde_json::Value,
    /// Which twin is in force, and what became of the newest.
    #[serde(default)]
    pub twin: serde_json::Value,
    /// The link to the broker, as JSON.
    #[serde(default)]
    pub link: serde_json::Value,
    /// Since when it is as it is; the age is made of it when the document is asked for.
    #[serde(skip)]
    pub link_since: Option<Mono>,
    /// Whose the device is, and the claim that goes on.
    #[serde(default)]
    pub claim: serde_json::Value,
    /// Unsent records.
    pub backlog: serde_json::Value,
    /// Disk of the clips, the database, this process.
    pub system: serde_json::Value,
    /// The disk of the state directory has no room for an event; what happens is held in memory.
    #[serde(default)]
    pub waits_for_room: bool,
    /// What is kept, what was deleted and why, and how the disk is.
    #[serde(default)]
    pub storage: serde_json::Value,
    /// What waits for its upload, what stays here, and how fast it goes.
    #[serde(default)]
    pub upload: serde_json::Value,
    /// Live sessions, by their id.
    #[serde(default)]
    pub live: BTreeMap<String, LiveStatus>,
}

/// Where tasks publish; cheap to clone.
#[derive(Clone, Default)]
pub struct StatusHub(Arc<Mutex<Status>>);

impl StatusHub {
    /// Changes the document.
    pub fn update(&self, f: impl FnOnce(&mut Status)) {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Changes one camera's part.
    pub fn camera(&self, id: &str, f: impl FnOnce(&mut CameraStatus)) {
        self.update(|s| match s.cameras.get_mut(id) {
            Some(camera) => f(camera),
            None => f(s.cameras.entry(id.to_owned()).or_default()),
        });
    }

    /// A camera is gone.
    pub fn forget_camera(&self, id: &str) {
        self.update(|s| {
            s.cameras.remove(id);
        });
    }

    /// A live session is so now; `None`: it is over.
    pub fn live(&self, session: String, now: Option<LiveStatus>) {
        self.update(|s| match now {
            Some(now) => drop(s.live.insert(session, now)),
            None => drop(s.live.remove(&session)),
        });
    }

    /// So much has been taken of a live session.
    pub fn live_bytes(&self, session: &str, bytes: u64) {
        self.update(|s| {
            if let Some(live) = s.live.get_mut(session) {
                live.bytes = bytes;
            }
        });
    }

    /// Changes the link's part.
    pub fn link(&self, since: Mono, link: serde_json::Value) {
        self.update(|s| {
            s.link = link;
            s.link_since = Some(since);
        });
    }

    /// The document at `now`.
    pub fn snapshot(&self, now: Mono) -> Status {
        let mut status = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let (Some(since), Some(link)) = (status.link_since, status.link.as_object_mut()) {
            link.insert("since_s".into(), now.since(since).as_secs().into());
        }
        for camera in status.cameras.values_mut() {
            camera.last_frame_age_s = camera.last_frame.map(|at| now.since(at).as_secs_f64());
        }
        for live in status.live.values_mut() {
            live.ends_in_s = live.until.map_or(0, |until| until.since(now).as_secs());
        }
        status
    }
}

/// Serves the document until `stop`.
///
/// # Errors
/// The socket cannot be made.
pub async fn serve(
    dir: &Path,
    hub: StatusHub,
    time: TimeKeeper,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let path = dir.join(SOCKET_NAME);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    loop {
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            stream = listener.accept() => stream,
        };
        if let Ok((mut stream, _)) = stream {
            let body = serde_json::to_vec(&hub.snapshot(time.mono())).unwrap_or_default();
            let write = async {
                stream.write_all(&body).await?;
                stream.shutdown().await
            };
            // A reader that does not read gets nothing.
            let _ = tokio::time::timeout(IO_TIMEOUT, write).await;
        }
    }
    let _ = std::fs::remove_file(&path);
    Ok(())
}

/// Asks a running agent. `None`: none runs with this state directory.
pub async fn ask(dir: &Path) -> std::io::Result<Option<Status>> {
    let path: PathBuf = dir.join(SOCKET_NAME);
    let stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let mut body = Vec::new();
    tokio::time::timeout(IO_TIMEOUT, stream.take(MAX_BYTES).read_to_end(&mut body))
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    serde_json::from_slice(&body)
        .map(Some)
        .map_err(std::io::Error::other)
}
