//! One clip, from its committed row to its committed file, on a task of its own: a slow or full disk holds up this clip
//! and nothing else.
//!
//! ```text
//!  row committed ──▶ open file ──▶ packets … ──▶ channel closed ──▶ finish (fsync, rename, fsync) ──▶ row says kept
//!                        └────────────── error ──────────────────▶ salvage ──▶ row says kept, truncated, or lost
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::agent::disk::Disk;
use crate::agent::journal::{Fact, Journal};
use crate::agent::records::{self, ClosedClip};
use crate::agent::time::TimeKeeper;
use crate::db::IdSource;
use crate::db::recordings::KeptFile;
use crate::media::clip::{ClipError, ClipFile, ClipWriter, Pushed};
use crate::media::{Packet, TrackCaps};
use crate::model::RecordId;
use crate::spool::salvage::{Outcome, salvage};
use crate::spool::{Spool, part_of};
use crate::units::ByteSize;

/// Packets that wait for the row's commit and the file's opening. When full, the clip ends and another one follows.
const QUEUE: usize = 4096;
/// Packets are written in groups, one each this long: a packet at a time would wake the muxer's threads for each, which
/// costs more than writing it. What a crash can lose grows by this, half a fragment.
const GROUP: Duration = Duration::from_millis(500);
/// Bytes of them; at 4 Mbit/s this is a minute.
const QUEUE_BYTES: usize = 32 << 20;

/// The camera's end of a clip: hand packets over, drop it to close the clip.
#[derive(Debug)]
pub struct ClipHandle {
    packets: mpsc::Sender<Packet>,
    waiting: Arc<AtomicUsize>,
}

impl ClipHandle {
    /// Hands a packet over without waiting.
    pub fn push(&self, packet: Packet) -> Handed {
        let size = packet.size();
        if self.waiting.fetch_add(size, Relaxed) + size > QUEUE_BYTES {
            return Handed::Full;
        }
        match self.packets.try_send(packet) {
            Ok(()) => Handed::Taken,
            Err(TrySendError::Full(_)) => Handed::Full,
            Err(TrySendError::Closed(_)) => Handed::Failed,
        }
    }
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// It will be written.
    Taken,
    /// The disk is too slow: drop the handle, begin another clip at the next key frame.
    Full,
    /// The clip failed (no disk, no room): drop the handle, try another clip later.
    Failed,
}

/// Where clips go.
#[derive(Clone)]
pub struct ClipStore {
    /// The directory.
    pub spool: Spool,
    /// No clip is begun with less than this free.
    pub min_free: ByteSize,
    /// How the clip disk is; that it fails is told once, until a clip is kept again.
    pub disk: Disk,
    /// Trusted time.
    pub time: TimeKeeper,
}

/// What the task needs.
pub struct ClipJob {
    /// Goes into the records; `path` is below the spool directory.
    pub clip: ClosedClip,
    /// Absolute path of the finished file.
    pub file: PathBuf,
    /// Of the packets.
    pub caps: TrackCaps,
    /// Record AAC.
    pub audio: bool,
    /// Answered when the clip's row is on disk.
    pub committed: oneshot::Receiver<()>,
    /// Where it goes.
    pub store: ClipStore,
    /// Where its end is written down.
    pub journal: Journal,
    /// Makes record ids.
    pub ids: IdSource,
}

/// Makes the handle and the task's future.
pub fn clip(job: ClipJob) -> (ClipHandle, impl Future<Output = ()> + Send) {
    let (packets, inbox) = mpsc::channel(QUEUE);
    let waiting = Arc::new(AtomicUsize::new(0));
    (
        ClipHandle {
            packets,
            waiting: Arc::clone(&waiting),
        },
        run(job, inbox, waiting),
    )
}

async fn run(job: ClipJob, packets: mpsc::Receiver<Packet>, waiting: Arc<AtomicUsize>) {
    let ClipJob {
        mut clip,
        file,
        caps,
        audio,
        committed,
        store,
        journal,
        ids,
    } = job;
    let first = store.time.mono();
    if committed.await.is_err() {
        return; // The store is gone; without a row there is no clip.
    }
    let (path, spool, time) = (file.clone(), store.spool.clone(), store.time.clone());
    let open = move || {
        prepare(&spool, &path, store.min_free)?;
        let waited = time.mono().since(first);
        Ok(ClipWriter::open_late(&path, &caps, audio, waited)?)
    };
    let outcome = write(open, packets, &waiting, &store).await;
    clip.rev += 1;
    let kept = match outcome {
        Ok(done) => Some(kept(&done)),
        Err(e) => {
            tracing::warn!(camera = clip.camera, clip = clip.path, error = %e, "clip could not be written");
            if store.disk.failed(&e.to_string()) {
                let rev = u64::try_from(store.time.wall().0 / 1000).unwrap_or(0);
                let (id, now) = (RecordId((ids)()), store.time.mono());
                let record =
                    records::camera_degraded(id, &clip.camera, "storage", &e.to_string(), rev, now);
                journal.write(Fact::Told, vec![record]).await;
            }
            salvaged(file).await
        }
    };
    let id = clip.id;
    match kept {
        Some(file) => {
            tracing::info!(
                camera = clip.camera,
                clip = clip.path,
                duration_ms = file.duration_ms,
                bytes = file.size_bytes,
                truncated = file.truncated,
                "clip kept"
            );
            let record = records::recording_closed(RecordId((ids)()), &clip, &file);
            journal
                .write(Fact::ClipKept { id, file }, vec![record])
                .await;
        }
        None => {
            let at = clip.started;
            let record = records::recording_deleted(
                RecordId((ids)()),
                &clip.camera,
                id,
                "lost",
                clip.rev,
                at,
            );
            journal.write(Fact::ClipLost { id }, vec![record]).await;
        }
    }
}

/// Refuses a disk that is not there or is full, before anything is written to it.
fn prepare(spool: &Spool, file: &Path, min_free: ByteSize) -> Result<(), WriteError> {
    spool.check_mount()?;
    if let Some(camera) = file
        .parent()
        .and_then(|p| p.file_name()?.to_str()?.parse().ok())
    {
        spool.prepare(&camera)?;
    }
    let free = spool.space()?.free;
    if free < min_free {
        Err(WriteError::NoRoom { free, min_free })
    } else {
        Ok(())
    }
}

async fn write(
    open: impl FnOnce() -> Result<ClipWriter, WriteError> + Send + 'static,
    mut packets: mpsc::Receiver<Packet>,
    waiting: &AtomicUsize,
    store: &ClipStore,
) -> Result<ClipFile, WriteError> {
    let mut writer = blocking(open).await?;
    let mut group = Vec::new();
    'clip: while packets.recv_many(&mut group, QUEUE).await > 0 {
        for packet in group.drain(..) {
            waiting.fetch_sub(packet.size(), Relaxed);
            if writer.push(&packet)? == Pushed::Dropped {
                break 'clip;
            }
        }
        if !packets.is_closed() {
            tokio::time::sleep(GROUP).await;
        }
    }
    packets.close();
    let ended = store.time.mono();
    let file = blocking(move || Ok(writer.finish()?)).await?;
    store.disk.kept(store.time.mono().since(ended));
    Ok(file)
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Spool(#[from] crate::spool::SpoolError),
    #[error(transparent)]
    Clip(#[from] ClipError),
    #[error("{free} is free on the clip disk, {min_free} must stay free (spool.min_free)")]
    NoRoom { free: ByteSize, min_free: ByteSize },
    #[error("the writer ended unexpectedly")]
    Gone,
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, WriteError> + Send + 'static,
) -> Result<R, WriteError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| WriteError::Gone)?
}

fn kept(done: &ClipFile) -> KeptFile {
    KeptFile {
        size_bytes: done.size_bytes,
        duration_ms: done.duration.as_millis() as u64,
        sha256: done.sha256,
        truncated: done.truncated,
    }
}

async fn salvaged(file: PathBuf) -> Option<KeptFile> {
    match tokio::task::spawn_blocking(move || salvage(&part_of(&file))).await {
        Ok(Ok(Outcome::Salvaged(clip))) => Some(KeptFile {
            size_bytes: clip.size_bytes,
            duration_ms: clip.duration.as_millis() as u64,
            sha256: clip.sha256,
            truncated: clip.truncated,
        }),
        _ => None,
    }
}
