//! `reboot`: its delay passes beside the other commands, and what is left of it is told as progress.
//!
//! ```text
//! begun ──delay──▶ logind asked ──no──▶ failed (refused)
//!                      └──yes──▶ nothing else begins ──the machine restarts──▶ the next boot proves it: `settle`
//!                                                    └──it does not──▶ timed_out
//! ```

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::{Done, Executor, said};
use crate::agent::records;
use crate::command::State;
use crate::db::{DbError, Urgency, commands, outbox};
use crate::model::{CommandId, RecordId};
use crate::time::Mono;

/// Between two words on how long it still takes.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// logind answers at once, or not at all.
const ASKED_WITHIN: Duration = Duration::from_secs(25);
/// systemd stops everything within this, as a rule; then it is told that nothing came of it.
const RESTARTS_WITHIN: Duration = Duration::from_secs(90);

/// A restart that was begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restart {
    id: CommandId,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Delay { due: Mono, tell_at: Mono },
    Agreed { until: Mono },
}

/// What the restart means to a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It waits; others may run.
    Waits,
    /// The machine is about to go down: nothing else begins.
    Holds,
    /// Its state has changed.
    Acted,
}

impl Executor {
    /// From here on [`Executor::restart_step`] sees to it.
    pub(super) fn plan_restart(&self, id: CommandId, delay: Duration) {
        let now = self.time.mono();
        let phase = Phase::Delay {
            due: now + delay,
            tell_at: now,
        };
        *self.restart() = Some(Restart { id, phase });
    }

    /// Whether a restart is under way.
    pub(super) fn restarts(&self) -> bool {
        self.restart().is_some()
    }

    /// When the restart has to be looked at next.
    pub(super) fn restart_due(&self) -> Option<Mono> {
        self.restart().map(|restart| match restart.phase {
            Phase::Delay { due, tell_at } => due.min(tell_at),
            Phase::Agreed { until } => until,
        })
    }

    /// Goes on with the restart, if `id` is the command that asked for it.
    pub(super) async fn restart_step(&self, id: CommandId) -> Result<Option<Step>, DbError> {
        let Some(restart) = self.restart().filter(|restart| restart.id == id) else {
            return Ok(None);
        };
        let now = self.time.mono();
        let step = match restart.phase {
            Phase::Delay { due, .. } if now >= due => {
                self.ask_for_restart(id).await?;
                Step::Acted
            }
            Phase::Delay { due, tell_at } if now >= tell_at => {
                let left = due.since(now).as_secs_f64().ceil();
                self.tell_progress(id, json!({ "restart_in_s": left as u64 }))
                    .await?;
                let phase = Phase::Delay {
                    due,
                    tell_at: now + TELL_EVERY,
                };
                *self.restart() = Some(Restart { id, phase });
                Step::Waits
            }
            Phase::Delay { .. } => Step::Waits,
            Phase::Agreed { until } if now >= until => {
                let detail = format!(
                    "logind agreed, but the machine did not restart within {} s",
                    RESTARTS_WITHIN.as_secs()
                );
                self.end_restart(id, State::TimedOut, "timeout", &detail)
                    .await?;
                Step::Acted
            }
            Phase::Agreed { .. } => Step::Holds,
        };
        Ok(Some(step))
    }

    async fn ask_for_restart(&self, id: CommandId) -> Result<(), DbError> {
        let agreed = tokio::time::timeout(ASKED_WITHIN, self.hands.machine.reboot()).await;
        let refusal = match agreed {
            Ok(Ok(())) => None,
            Ok(Err(e)) => Some(e.to_string()),
            Err(_) => Some("logind does not answer".to_owned()),
        };
        match refusal {
            None => {
                tracing::warn!(command = %id, "the machine restarts");
                // The next boot proves it.
                let until = self.time.mono() + RESTARTS_WITHIN;
                let phase = Phase::Agreed { until };
                *self.restart() = Some(Restart { id, phase });
                Ok(())
            }
            Some(why) => self.end_restart(id, State::Failed, "refused", &why).await,
        }
    }

    async fn end_restart(
        &self,
        id: CommandId,
        state: State,
        code: &'static str,
        detail: &str,
    ) -> Result<(), DbError> {
        let said = said(code, &crate::command::detail(detail));
        tracing::info!(command = %id, kind = "reboot", state = state.as_str(), code, "command ended");
        self.end(id, state, said, Done::default()).await?;
        *self.restart() = None;
        Ok(())
    }

    /// Tells the cloud how far a running command is: a greater `rev` of the same state.
    async fn tell_progress(
        &self,
        id: CommandId,
        progress: serde_json::Value,
    ) -> Result<(), DbError> {
        let (record, at) = (RecordId((self.ids)()), self.time.mono());
        let told = self.db.call(Urgency::Now, move |c, run| {
            let Some(rev) = commands::touch(c, id)? else {
                return Ok(());
            };
            outbox::put(
                c,
                run,
                &records::command_progress(record, id, rev, &progress, at),
            )
        });
        told.await?;
        self.bells.sync.notify_one();
        Ok(())
    }

    fn restart(&self) -> MutexGuard<'_, Option<Restart>> {
        // A poisoned lock holds a plain value that is whole at any time.
        self.restart.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
