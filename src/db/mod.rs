//! SQLite, the truth about facts: events, recordings and the outbox. The only folder that names `rusqlite`.
//!
//! [`Db`] hands jobs to one writing task ([`writer`]); an answer means that the change is on disk. An event row, its
//! recording row and its outbox record are written by one job, hence in one transaction. A damaged file is put aside
//! at the next start and what can be read is salvaged ([`recover`]).

pub mod ballast;
pub mod batch;
pub mod commands;
pub mod dead_letter;
pub mod error;
pub mod events;
pub mod open;
pub mod outbox;
pub mod query;
pub mod recordings;
pub mod recover;
pub mod remove;
pub mod retention;
pub mod schema;
pub mod snapshots;
pub mod tail;
pub mod twin;
pub mod uploads;
pub mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

pub use error::DbError;
pub use rusqlite::{Connection, TransactionBehavior};
pub use writer::{Urgency, WriterStats};

use crate::model::EpochId;
use crate::outbox::quota::Quotas;

/// File name of the store in the state directory.
pub const FILE_NAME: &str = "sentrycam.db";

/// Makes ids; the composition passes one that draws UUIDv7.
pub type IdSource = Arc<dyn Fn() -> Uuid + Send + Sync>;

/// What every write needs to know about this run.
#[derive(Clone)]
pub struct Run {
    /// Row of this boot in `boots`.
    pub boot: i64,
    /// Names this file's records.
    pub epoch: EpochId,
    /// Bytes per outbox class.
    pub quotas: Quotas,
    /// Makes ids of gap records.
    pub ids: IdSource,
    /// Alarms and critical records put since the start; see [`WriterStats::puts`].
    pub puts: Arc<AtomicU64>,
}

/// Handle to the writing task; cheap to clone.
#[derive(Clone)]
pub struct Db {
    jobs: mpsc::Sender<Box<dyn writer::Job>>,
    stats: watch::Receiver<WriterStats>,
    run: Run,
    path: PathBuf,
}

impl Db {
    /// Runs `work` in a savepoint of the next transaction and answers when that is on disk.
    ///
    /// # Errors
    /// [`DbError`] of the work or of the commit. Cancel safe: once handed over, the work is done even if nobody waits.
    pub async fn call<R, F>(&self, urgency: Urgency, work: F) -> Result<R, DbError>
    where
        R: Send + 'static,
        F: FnOnce(&Connection, &Run) -> Result<R, DbError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let run = self.run.clone();
        let call = writer::Call {
            urgency,
            work: Some(move |conn: &Connection| work(conn, &run)),
            result: None,
            reply,
        };
        self.jobs
            .send(Box::new(call))
            .await
            .map_err(|_| DbError::Closed)?;
        answer.await.map_err(|_| DbError::Closed)?
    }

    /// Counters of the writing task; `failed` means that the process has to end.
    pub fn stats(&self) -> watch::Receiver<WriterStats> {
        self.stats.clone()
    }

    /// This file's epoch.
    pub fn epoch(&self) -> EpochId {
        self.run.epoch
    }

    /// Room beside the database that is held back for a full disk.
    pub fn ballast(&self) -> ballast::Ballast {
        ballast::Ballast::in_dir(self.path.parent().unwrap_or(Path::new("/")))
    }

    /// Whether a job failed for want of room, and not because the medium fails: SQLite calls both an I/O error.
    pub async fn lacks_room(&self, failed: &DbError) -> bool {
        match failed {
            DbError::Full(_) => true,
            DbError::Io(_) => {
                let ballast = self.ballast();
                let asked = tokio::task::spawn_blocking(move || ballast.lacks_room()).await;
                matches!(asked, Ok(Ok(true)))
            }
            _ => false,
        }
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
