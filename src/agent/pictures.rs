//! The pictures of events: the strongest frame, plain and with boxes around what moved, made once the event is over.
//!
//! ```text
//! camera: event ends ──Job (packets up to the frame)──▶ decode ▶ 2 × JPEG ▶ spool ▶ rows and records, one transaction
//! ```
//!
//! One task for all cameras makes one event's pictures at a time, so that decoding them costs one core at most. An event
//! never waits for its picture, and its row says so where there is none. Files come before their rows: what a crash
//! leaves between is a file without a row, never a row without a file.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::camera::ClipStore;
use super::journal::{Fact, Journal};
use super::records;
use crate::db::IdSource;
use crate::db::snapshots::Picture;
use crate::media::picture::{PictureError, frame_of, jpeg_of, jpeg_size};
use crate::media::{Caps, Packet};
use crate::model::{
    CameraId, EventId, PictureKind, RecordId, RecordingId, Region, Sha256, SnapshotId,
};
use crate::spool::Spool;
use crate::spool::whole::write_whole;
use crate::supervise::failpoint;
use crate::time::{Anchor, Mono, Pts};
use crate::units::ByteSize;

/// Events whose pictures may wait. Each holds the packets of one GOP at most (see [`MAX_BYTES`]). When full, an event
/// goes without.
const QUEUE: usize = 8;
/// Of a GOP that is kept and decoded for one picture: 20 s at 15 frames a second.
pub const MAX_PACKETS: usize = 300;
/// The same in bytes.
pub const MAX_BYTES: usize = 16 << 20;
/// Widest picture of an event.
pub const WIDTH: u32 = 640;
/// JPEG quality of the pictures of events.
const QUALITY: u8 = 85;
/// What may still be made once the agent ends; the rest goes without.
const GRACE: Duration = Duration::from_secs(3);

/// The strongest frame of an event, still encoded.
#[derive(Debug, Clone)]
pub struct Strongest {
    /// Video in decoding order, from a key frame up to the frame.
    pub packets: Vec<Packet>,
    /// What a decoder needs to know of them.
    pub caps: Caps,
    /// Which frame.
    pub at: Pts,
    /// Maps it to time.
    pub anchor: Anchor,
    /// What moved in it.
    pub regions: Vec<Region>,
}

struct Job {
    camera: CameraId,
    event: EventId,
    frame: Strongest,
}

/// Handle for the camera tasks.
#[derive(Clone)]
pub struct Pictures {
    jobs: mpsc::Sender<Job>,
    journal: Journal,
}

/// The task that makes them.
pub struct PicturesTask {
    jobs: mpsc::Receiver<Job>,
    store: ClipStore,
    journal: Journal,
    ids: IdSource,
}

/// Makes the handle and the task.
pub fn pictures(store: ClipStore, journal: Journal, ids: IdSource) -> (Pictures, PicturesTask) {
    let (tx, jobs) = mpsc::channel(QUEUE);
    let handle = Pictures {
        jobs: tx,
        journal: journal.clone(),
    };
    (
        handle,
        PicturesTask {
            jobs,
            store,
            journal,
            ids,
        },
    )
}

impl Pictures {
    /// An event has ended: its pictures are made when their turn comes. Without a frame, or with too many events
    /// waiting, its row says that it has none.
    pub async fn make(&self, camera: &CameraId, event: EventId, frame: Result<Strongest, &str>) {
        let why = match frame {
            Ok(frame) => {
                let camera = camera.clone();
                let job = Job {
                    camera,
                    event,
                    frame,
                };
                match self.jobs.try_send(job) {
                    Ok(()) => return,
                    Err(_) => "too many events at once",
                }
            }
            Err(why) => why,
        };
        missed(&self.journal, camera, event, why).await;
    }
}

impl PicturesTask {
    /// Runs until every camera has ended and every picture is made; [`GRACE`] after `stop` the rest goes without.
    pub async fn run(mut self, stop: CancellationToken) {
        let over = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::pin!(over);
        let mut ended = false;
        while let Some(job) = self.jobs.recv().await {
            let (camera, event) = (job.camera.clone(), job.event);
            if !ended {
                tokio::select! {
                    biased;
                    () = self.one(job) => continue,
                    () = &mut over => ended = true,
                }
            }
            missed(&self.journal, &camera, event, "the agent ended").await;
        }
    }

    /// Cancelled, it has written nothing, or files whose rows are on their way.
    async fn one(&self, job: Job) {
        let (camera, event) = (job.camera, job.event);
        let frame = job.frame;
        let drawn = match tokio::task::spawn_blocking(move || draw(&frame)).await {
            Ok(Ok(drawn)) => drawn,
            Ok(Err(e)) => return missed(&self.journal, &camera, event, &e.to_string()).await,
            Err(_) => return missed(&self.journal, &camera, event, "the decoder broke").await,
        };
        let kinds = [
            (PictureKind::Thumbnail, drawn.plain),
            (PictureKind::Annotated, drawn.annotated),
        ];
        let (store, of, ids) = (self.store.clone(), camera.clone(), self.ids.clone());
        let work = tokio::task::spawn_blocking(move || {
            let mut pictures = Vec::new();
            for (kind, jpeg) in kinds {
                let new = New {
                    id: SnapshotId((ids)()),
                    taken: drawn.taken,
                    event: Some(event),
                    kind,
                };
                pictures.push(keep(&store.spool, store.min_free, &of, &new, &jpeg)?);
            }
            Ok::<_, NotKept>(pictures)
        });
        let pictures = match work.await {
            Ok(Ok(pictures)) => pictures,
            Ok(Err(e)) => return missed(&self.journal, &camera, event, &e.detail).await,
            Err(e) => return missed(&self.journal, &camera, event, &e.to_string()).await,
        };
        failpoint::hit("picture.written");
        tracing::info!(camera = %camera, event = %event, path = pictures[0].path, "picture of an event kept");
        let told = pictures
            .iter()
            .map(|p| records::snapshot_taken(RecordId((self.ids)()), p, None))
            .collect();
        self.journal
            .write(Fact::PicturesKept { pictures }, told)
            .await;
    }
}

async fn missed(journal: &Journal, camera: &CameraId, event: EventId, why: &str) {
    tracing::warn!(camera = %camera, event = %event, why, "an event has no picture");
    let why = crate::command::detail(why);
    let fact = Fact::PictureMissed { event, why };
    journal.write(fact, Vec::new()).await;
}

struct Drawn {
    plain: Vec<u8>,
    annotated: Vec<u8>,
    taken: Mono,
}

fn draw(frame: &Strongest) -> Result<Drawn, PictureError> {
    let (mut picture, at) = frame_of(&frame.packets, &frame.caps, frame.at, WIDTH)?;
    let plain = jpeg_of(&picture, QUALITY)?;
    for region in &frame.regions {
        picture.outline(region);
    }
    Ok(Drawn {
        plain,
        annotated: jpeg_of(&picture, QUALITY)?,
        taken: frame.anchor.mono(at),
    })
}

/// Of a picture that is about to be written.
pub struct New {
    /// Its identity.
    pub id: SnapshotId,
    /// When the frame was captured.
    pub taken: Mono,
    /// The event that it shows.
    pub event: Option<EventId>,
    /// What it shows.
    pub kind: PictureKind,
}

/// Why a picture was not written: a code of a command's failure, and words.
pub struct NotKept {
    /// `picture`, `no-space` or `storage`.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

/// Writes a JPEG into the spool; its row is the caller's to write. Blocks.
///
/// # Errors
/// [`NotKept`]; nothing of it is left then.
pub fn keep(
    spool: &Spool,
    min_free: ByteSize,
    camera: &CameraId,
    new: &New,
    jpeg: &[u8],
) -> Result<Picture, NotKept> {
    let no = |code, detail: String| NotKept { code, detail };
    let Some((width, height)) = jpeg_size(jpeg) else {
        return Err(no("picture", "the encoder made no picture".into()));
    };
    let prepared = spool.check_mount().and_then(|()| spool.prepare(camera));
    match prepared.and_then(|_| spool.space()) {
        Ok(space) if space.free >= min_free => {}
        Ok(space) => return Err(no("no-space", format!("{} is free", space.free))),
        Err(e) => return Err(no("storage", e.to_string())),
    }
    let path = spool.picture_path(camera, RecordingId(new.id.0));
    write_whole(&path, jpeg).map_err(|e| no("storage", e.to_string()))?;
    let (sha256, size_bytes) = Sha256::of_reader(jpeg).map_err(|e| no("storage", e.to_string()))?;
    Ok(Picture {
        id: new.id,
        camera: camera.clone(),
        taken: new.taken,
        width,
        height,
        path: format!("{camera}/{}.jpg", new.id),
        size_bytes,
        sha256,
        event: new.event,
        kind: new.kind,
    })
}
