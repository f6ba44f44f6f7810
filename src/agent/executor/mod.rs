//! Carries out the commands of the inbox, one after another, in the cloud's order; only the delay of a `reboot` passes
//! beside the others.
//!
//! ```text
//! acknowledged ──commit──▶ in_progress ──act, within its time──▶ end ──commit──▶ told
//!      └─ expired meanwhile: canceled            └─ the process dies: see `settle`
//! ```
//!
//! A state is on disk, with the record that tells it, before anything follows from it. So a command that acts twice would
//! need two rows, and there is one a command id.

mod acts;
mod diag;
mod hands;
mod live;
mod restart;
mod rotate;
mod settle;
mod snapshot;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use self::hands::{Describe, Hands, Ring, Unclaim};
use self::restart::Step;
pub use self::rotate::Rotation;
use super::inbox::{Bells, Inbox, moment};
use super::records;
use super::time::TimeKeeper;
use crate::command::document::{Life, life};
use crate::command::kinds::Wipe;
use crate::command::{Command, Kind, State};
use crate::db::commands::{self, OpenRow, Said};
use crate::db::snapshots::{self, Picture};
use crate::db::{Db, DbError, IdSource, Urgency, outbox};
use crate::model::{CommandId, RecordId, Retry};
use crate::supervise::failpoint;

/// Looks at the table at least this often: for one that waits until the time is known.
const PERIOD: Duration = Duration::from_secs(10);
/// What a running command may still take once the agent ends.
const GRACE: Duration = Duration::from_secs(4);
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// What an act came to.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// For the cloud.
    result: Option<serde_json::Value>,
    /// Written with the end, in one transaction.
    picture: Option<Picture>,
    /// To be done once the end is written.
    unclaim: Option<Wipe>,
    /// It goes on beside the other commands; its end is written then.
    later: bool,
}

/// Why an act did not work.
#[derive(Debug)]
pub(super) struct Fault {
    code: &'static str,
    detail: String,
}

pub(super) fn fault<T>(code: &'static str, detail: impl ToString) -> Result<T, Fault> {
    Err(Fault {
        code,
        detail: crate::command::detail(&detail.to_string()),
    })
}

/// The executor task.
pub struct Executor {
    db: Db,
    time: TimeKeeper,
    ids: IdSource,
    inbox: Inbox,
    bells: Bells,
    hands: Hands,
    restart: Mutex<Option<restart::Restart>>,
}

impl Executor {
    /// Carries out with `hands` what `inbox` took in.
    pub fn new(
        db: Db,
        time: TimeKeeper,
        ids: IdSource,
        inbox: Inbox,
        bells: Bells,
        hands: Hands,
    ) -> Executor {
        Executor {
            db,
            time,
            ids,
            inbox,
            bells,
            hands,
            restart: Mutex::default(),
        }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        if let Some(wipe) = self.unfinished_leave().await {
            self.leave(wipe).await;
        }
        loop {
            let mut least = Duration::ZERO;
            match self.pass(&stop).await {
                Ok(true) if !stop.is_cancelled() => continue,
                Ok(true) => break,
                Ok(false) => self.inbox.drained(),
                Err(e) => {
                    tracing::error!(error = %e, "commands cannot be read");
                    least = RETRY_PAUSE;
                }
            }
            let now = self.time.mono();
            let pause = self.restart_due().map_or(PERIOD, |at| at.since(now));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.bells.arrived.notified() => {}
                () = tokio::time::sleep(pause.clamp(least, PERIOD)) => {}
            }
        }
    }

    /// Carries out the next command that may run now; `false`: there is none.
    ///
    /// # Errors
    /// [`DbError`]; what was begun stays as the table says.
    pub async fn pass(&self, stop: &CancellationToken) -> Result<bool, DbError> {
        let rows = self
            .db
            .call(Urgency::Now, |c, _| commands::open_rows(c))
            .await?;
        let now = moment(&self.time);
        for row in rows {
            let life = life(row.exp, now);
            match self.restart_step(row.id).await? {
                None => {}
                Some(Step::Waits) => continue,
                Some(Step::Holds) => return Ok(false),
                Some(Step::Acted) => return Ok(true),
            }
            if row.word == Kind::Reboot.as_str() && self.restarts() {
                continue;
            }
            let begun_before = row.state == State::InProgress;
            if begun_before && self.settle(&row, life).await? {
                return Ok(true);
            }
            let safe = Kind::from_word(&row.word).is_some_and(Kind::safe_without_time);
            match life {
                Life::Over => {
                    let said = said("expired", "its time was over before it could begin");
                    self.advance(row.id, (State::Acknowledged, State::Canceled), said, None)
                        .await?;
                    return Ok(true);
                }
                Life::Alive => {}
                Life::Perhaps if safe => {}
                // It waits until the time is known; others need not.
                Life::Perhaps | Life::Unknown => continue,
            }
            if begun_before {
                self.act(row, stop).await?;
                return Ok(true);
            }
            let begun = self
                .advance(
                    row.id,
                    (State::Acknowledged, State::InProgress),
                    Said::default(),
                    None,
                )
                .await?;
            if begun {
                failpoint::hit("command.begun");
                self.act(row, stop).await?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Acts, and writes the end down.
    async fn act(&self, row: OpenRow, stop: &CancellationToken) -> Result<(), DbError> {
        let id = row.id;
        let command = match Command::parse(&row.word, &row.args) {
            Ok(command) => command,
            // Written by another version of this program.
            Err(e) => {
                let said = said(e.code, &e.detail);
                return self.end(id, State::Failed, said, Done::default()).await;
            }
        };
        let limit = command.kind().timeout();
        tracing::info!(command = %id, kind = row.word, "command begins");
        let act = tokio::time::timeout(limit, self.hands.carry_out(self, id, &command));
        let outcome = tokio::select! {
            outcome = act => outcome,
            () = grace(stop) => {
                tracing::warn!(command = %id, "the agent ends, a command is left to its next start");
                return Ok(());
            }
        };
        failpoint::hit("command.acted");
        let (state, said, done) = match outcome {
            Ok(Ok(done)) if done.later => return Ok(()),
            Ok(Ok(done)) => {
                let result = done.result.clone();
                let said = Said {
                    result,
                    ..Said::default()
                };
                (State::Succeeded, said, done)
            }
            Ok(Err(fault)) => {
                let said = Said {
                    code: Some(fault.code),
                    detail: Some(fault.detail),
                    result: None,
                };
                (State::Failed, said, Done::default())
            }
            Err(_) => {
                let detail = format!("not done within {} s", limit.as_secs());
                (State::TimedOut, said("timeout", &detail), Done::default())
            }
        };
        tracing::info!(command = %id, kind = row.word, state = state.as_str(), code = said.code, "command ended");
        self.end(id, state, said, done).await
    }

    async fn end(
        &self,
        id: CommandId,
        state: State,
        said: Said,
        done: Done,
    ) -> Result<(), DbError> {
        self.advance(id, (State::InProgress, state), said, done.picture)
            .await?;
        failpoint::hit("command.ended");
        if let Some(wipe) = done.unclaim {
            self.leave(wipe).await;
        }
        Ok(())
    }

    /// One change of state with its record, however long the store takes. `false`: it was in another state by then.
    async fn advance(
        &self,
        id: CommandId,
        states: (State, State),
        said: Said,
        picture: Option<Picture>,
    ) -> Result<bool, DbError> {
        let work = Arc::new((said, picture));
        loop {
            let (job, ids, at) = (Arc::clone(&work), self.ids.clone(), self.time.mono());
            let change = self.db.call(Urgency::Now, move |c, run| {
                let (said, picture) = &*job;
                let Some(rev) = commands::advance(c, run, id, states, said, at)? else {
                    return Ok(false);
                };
                if let Some(picture) = picture {
                    snapshots::keep(c, run, picture)?;
                    let taken = records::snapshot_taken(RecordId((ids)()), picture, Some(id));
                    outbox::put(c, run, &taken)?;
                }
                let record = RecordId((ids)());
                let status = records::command_status(record, id, rev, states.1, said, at);
                outbox::put(c, run, &status)?;
                Ok(true)
            });
            match change.await {
                Ok(changed) => {
                    self.bells.sync.notify_one();
                    if let (Some(_), Some(uploads)) = (&work.1, &self.hands.uploads) {
                        uploads.wake.notify_one();
                    }
                    return Ok(changed);
                }
                Err(e) if e.retry() == Retry::Later => {
                    if !self.db.ballast().release() {
                        tracing::error!(error = %e, "store cannot take the state of a command now, trying again");
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }
}

fn said(code: &'static str, detail: &str) -> Said {
    Said {
        code: Some(code),
        detail: Some(detail.to_owned()),
        result: None,
    }
}

async fn grace(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}
