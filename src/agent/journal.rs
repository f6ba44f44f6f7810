//! The camera tasks' way into the store: facts and their records, one transaction each, in order, never lost.
//!
//! A camera hands an entry over and goes on; the journal commits it, tells whoever waits for that, and wakes the
//! uploader. When the store cannot take it (disk full, medium errors) the entry is tried again until it can, and the
//! entries behind it wait: 256 of them, then the cameras wait, and their frames are lost instead. Waiting for room on the
//! disk is a state that others can see; what is held would be lost with the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use crate::db::events::EventFacts;
use crate::db::recordings::{KeptFile, Opening};
use crate::db::snapshots::Picture;
use crate::db::{Db, DbError, Run, Urgency, events, outbox, recordings, snapshots};
use crate::model::{CameraId, ClipState, EventId, RecordingId, Retry};
use crate::time::Mono;
use crate::wire::envelope::Record;

/// Entries that may wait; when full, the cameras wait and lose frames.
const QUEUE: usize = 256;
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Of the tries in vain, one in so many is logged: a line a minute.
const LOGGED: u32 = 30;

/// A fact to commit.
#[derive(Debug, Clone)]
pub enum Fact {
    /// An event begins; where it is recorded, with its clip.
    EventStarted {
        camera: CameraId,
        at: Mono,
        facts: EventFacts,
        clip: Option<Opening>,
    },
    /// More is known of an event.
    EventUpdated { facts: EventFacts },
    /// An event is over.
    EventEnded {
        facts: EventFacts,
        at: Mono,
        reason: &'static str,
    },
    /// A clip begins.
    ClipOpened { camera: CameraId, clip: Opening },
    /// A clip is on disk.
    ClipKept { id: RecordingId, file: KeptFile },
    /// A clip came to nothing.
    ClipLost { id: RecordingId },
    /// Pictures of an event are on disk.
    PicturesKept { pictures: Vec<Picture> },
    /// An event has no picture, and why.
    PictureMissed { event: EventId, why: String },
    /// Only its records.
    Told,
}

/// A fact, the records that report it, and who waits for the commit.
#[derive(Debug)]
pub struct Entry {
    /// What happened.
    pub fact: Fact,
    /// Committed with it.
    pub records: Vec<Record>,
    /// Answered once both are on disk.
    pub committed: Option<oneshot::Sender<()>>,
}

/// Handle for the camera tasks.
#[derive(Clone)]
pub struct Journal {
    entries: mpsc::Sender<Entry>,
    waits_for_room: Arc<AtomicBool>,
}

impl Journal {
    /// Hands an entry over; waits while the queue is full.
    pub async fn write(&self, fact: Fact, records: Vec<Record>) {
        self.hand_over(Entry {
            fact,
            records,
            committed: None,
        })
        .await;
    }

    /// Hands an entry over; `committed` is told once it is on disk.
    pub async fn write_then(
        &self,
        fact: Fact,
        records: Vec<Record>,
        committed: Option<oneshot::Sender<()>>,
    ) {
        self.hand_over(Entry {
            fact,
            records,
            committed,
        })
        .await;
    }

    /// The disk has no room for the next entry. It is held and tried again until there is some.
    pub fn waits_for_room(&self) -> bool {
        self.waits_for_room.load(Relaxed)
    }

    async fn hand_over(&self, entry: Entry) {
        if self.entries.send(entry).await.is_err() {
            // Only at the end of the process, after the database task has given up.
            tracing::error!("journal is closed, an entry was not written");
        }
    }
}

/// The journal task.
pub struct JournalTask {
    entries: mpsc::Receiver<Entry>,
    db: Db,
    wake: Arc<Notify>,
    files: Arc<Notify>,
    waits_for_room: Arc<AtomicBool>,
}

/// Makes the handle and the task.
pub fn journal(db: Db, wake: Arc<Notify>) -> (Journal, JournalTask) {
    let (tx, entries) = mpsc::channel(QUEUE);
    let waits_for_room = Arc::<AtomicBool>::default();
    let task = JournalTask {
        entries,
        db,
        wake,
        files: Arc::default(),
        waits_for_room: Arc::clone(&waits_for_room),
    };
    let journal = Journal {
        entries: tx,
        waits_for_room,
    };
    (journal, task)
}

impl JournalTask {
    /// Rings `files` for each clip and each event's pictures that are kept.
    pub fn telling_of_files(mut self, files: Arc<Notify>) -> Self {
        self.files = files;
        self
    }

    /// Runs until every handle is gone and every entry is on disk.
    pub async fn run(mut self) {
        let mut group = Vec::new();
        while self.entries.recv_many(&mut group, 32).await > 0 {
            for entry in group.drain(..) {
                let kept = matches!(
                    entry.fact,
                    Fact::ClipKept { .. } | Fact::PicturesKept { .. }
                );
                commit(&self.db, entry, &self.waits_for_room).await;
                if kept {
                    self.files.notify_one();
                }
            }
            self.wake.notify_one();
        }
    }
}

/// Commits one entry, however long it takes.
async fn commit(db: &Db, entry: Entry, waits_for_room: &AtomicBool) {
    let urgent = entry.records.iter().any(|r| r.class.commits_at_once());
    let urgency = if urgent || entry.committed.is_some() {
        Urgency::Now
    } else {
        Urgency::Soon
    };
    let work = Arc::new((entry.fact, entry.records));
    let mut failed = 0;
    loop {
        let job = Arc::clone(&work);
        match db
            .call(urgency, move |c, run| apply(c, run, &job.0, &job.1))
            .await
        {
            Ok(()) => break,
            Err(e) => match e.retry() {
                // Full, or an error that a full disk gives too.
                Retry::Later if db.ballast().release() => {}
                Retry::Later => {
                    let full = db.lacks_room(&e).await;
                    waits_for_room.store(full, Relaxed);
                    if failed % LOGGED == 0 {
                        tracing::error!(error = %e, full, "store cannot take an event now, trying again");
                    }
                    failed += 1;
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Retry::Never => {
                    tracing::error!(error = %e, fact = ?work.0, "store refused an entry");
                    return;
                }
                Retry::Fatal => {
                    tracing::error!(error = %e, "store is gone, an entry was not written");
                    return;
                }
            },
        }
    }
    waits_for_room.store(false, Relaxed);
    if let Some(committed) = entry.committed {
        // The camera may have ended meanwhile; the row stands.
        let _ = committed.send(());
    }
}

fn apply(
    conn: &crate::db::Connection,
    run: &Run,
    fact: &Fact,
    records: &[Record],
) -> Result<(), DbError> {
    match fact {
        Fact::EventStarted {
            camera,
            at,
            facts,
            clip,
        } => {
            events::start(conn, run, camera, *at, facts)?;
            if let Some(clip) = clip {
                recordings::open(conn, run, camera, clip)?;
            }
        }
        Fact::EventUpdated { facts } => events::update(conn, facts)?,
        Fact::EventEnded { facts, at, reason } => events::end(conn, facts, *at, reason)?,
        Fact::ClipOpened { camera, clip } => recordings::open(conn, run, camera, clip)?,
        Fact::ClipKept { id, file } => recordings::keep(conn, *id, file)?,
        Fact::ClipLost { id } => recordings::mark(conn, *id, ClipState::Lost)?,
        Fact::PicturesKept { pictures } => pictures
            .iter()
            .try_for_each(|p| snapshots::keep(conn, run, p))?,
        Fact::PictureMissed { event, why } => events::without_picture(conn, *event, why)?,
        Fact::Told => {}
    }
    records
        .iter()
        .try_for_each(|record| outbox::put(conn, run, record))
}
