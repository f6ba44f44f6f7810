//! The one task that writes SQLite: up to [`MAX_JOBS`] jobs in one transaction, a savepoint each, one commit, then all
//! answers.
//!
//! Nobody is answered before the commit that holds his change is on disk; a job that fails undoes itself alone. An
//! urgent job commits at once and takes along whoever waits; the others wait at most [`LINGER`], which bounds fsyncs
//! (and so the wear of an SD card) to four a second in steady state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::error::DbError;
use crate::model::Retry;

/// Jobs in one transaction.
const MAX_JOBS: usize = 64;
/// How long a job that is not urgent waits for company.
const LINGER: Duration = Duration::from_millis(250);
/// Jobs that may wait; when full, tasks wait to hand theirs over (GStreamer's threads never do).
pub(super) const QUEUE: usize = 256;

/// Whether a job may wait for company.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Commit at once.
    Now,
    /// May share a commit with others, 250 ms at most.
    Soon,
}

pub(super) trait Job: Send {
    fn urgency(&self) -> Urgency;
    fn run(&mut self, conn: &Connection) -> Result<(), DbError>;
    fn answer(self: Box<Self>, committed: Result<(), DbError>);
}

pub(super) struct Call<F, R> {
    pub urgency: Urgency,
    pub work: Option<F>,
    pub result: Option<Result<R, DbError>>,
    pub reply: oneshot::Sender<Result<R, DbError>>,
}

impl<F, R> Job for Call<F, R>
where
    F: FnOnce(&Connection) -> Result<R, DbError> + Send,
    R: Send,
{
    fn urgency(&self) -> Urgency {
        self.urgency
    }

    fn run(&mut self, conn: &Connection) -> Result<(), DbError> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        let result = work(conn);
        let outcome = result.as_ref().map(|_| ()).map_err(Clone::clone);
        self.result = Some(result);
        outcome
    }

    fn answer(self: Box<Self>, committed: Result<(), DbError>) {
        let result = match (self.result, committed) {
            (Some(Err(e)), _) | (_, Err(e)) => Err(e),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(DbError::Closed),
        };
        // The caller may have gone; its change stands all the same.
        let _ = self.reply.send(result);
    }
}

/// Counters of the writer, for `status` and benchmarks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Transactions committed.
    pub commits: u64,
    /// Jobs committed.
    pub jobs: u64,
    /// Alarms and critical records put, a few that were undone included: changes after each commit that added some.
    /// The others share commits, and who looks at each of them would break that up.
    pub puts: u64,
    /// Set once the file can no longer be trusted; the process has to end.
    pub failed: bool,
}

/// Runs until every handle is gone; returns the connection for an orderly close.
pub(super) fn run(
    mut conn: Connection,
    mut jobs: mpsc::Receiver<Box<dyn Job>>,
    runtime: &tokio::runtime::Handle,
    stats: &watch::Sender<WriterStats>,
    puts: &AtomicU64,
) -> Connection {
    let mut group: Vec<Box<dyn Job>> = Vec::with_capacity(MAX_JOBS);
    while runtime.block_on(collect(&mut jobs, &mut group)) {
        let outcome = commit(&mut conn, &mut group);
        let fatal = outcome.as_ref().is_err_and(|e| e.retry() == Retry::Fatal);
        let count = group.len() as u64;
        stats.send_modify(|s| {
            s.commits += u64::from(outcome.is_ok());
            s.jobs += if outcome.is_ok() { count } else { 0 };
            s.puts = puts.load(Ordering::Relaxed);
            s.failed |= fatal;
        });
        for job in group.drain(..) {
            job.answer(outcome.clone());
        }
        if fatal {
            break;
        }
    }
    conn
}

/// Waits for a first job, then for company. `false`: no job will come any more.
async fn collect(jobs: &mut mpsc::Receiver<Box<dyn Job>>, group: &mut Vec<Box<dyn Job>>) -> bool {
    let Some(first) = jobs.recv().await else {
        return false;
    };
    let mut urgent = first.urgency() == Urgency::Now;
    group.push(first);
    // Whoever is already there rides along in any case.
    while group.len() < MAX_JOBS
        && let Ok(job) = jobs.try_recv()
    {
        urgent |= job.urgency() == Urgency::Now;
        group.push(job);
    }
    let deadline = Instant::now() + LINGER;
    while !urgent && group.len() < MAX_JOBS {
        match timeout_at(deadline, jobs.recv()).await {
            Ok(Some(job)) => {
                urgent = job.urgency() == Urgency::Now;
                group.push(job);
            }
            Ok(None) | Err(_) => break,
        }
    }
    true
}

/// One transaction for the group. An error of one job undoes that job; an error here undoes all.
fn commit(conn: &mut Connection, group: &mut [Box<dyn Job>]) -> Result<(), DbError> {
    let mut tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in group.iter_mut() {
        let savepoint = tx.savepoint()?;
        match job.run(&savepoint) {
            Ok(()) => savepoint.commit()?,
            Err(e) if e.retry() == Retry::Never => drop(savepoint),
            // The medium failed: nothing of this transaction is worth committing.
            Err(e) => return Err(e),
        }
    }
    tx.commit()?;
    Ok(())
}
