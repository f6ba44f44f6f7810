//! A command that was begun and has no end: its process died, or the store did not take the end.

use serde_json::json;

use super::{Executor, said};
use crate::command::document::Life;
use crate::command::kinds::Command;
use crate::command::states::{AfterCrash, Evidence, after_crash};
use crate::command::{Kind, State};
use crate::db::commands::{OpenRow, Said};
use crate::db::{DbError, Urgency, recordings, snapshots};

impl Executor {
    /// Ends it by what the machine shows, where it cannot be run again. `false`: it is to be run again.
    pub(super) async fn settle(&self, row: &OpenRow, life: Life) -> Result<bool, DbError> {
        let evidence = self.evidence(row, life).await?;
        let then = Kind::from_word(&row.word)
            .map_or(AfterCrash::Interrupted, |kind| after_crash(kind, evidence));
        let (state, said) = match then {
            AfterCrash::RunAgain => return Ok(false),
            AfterCrash::Succeeded => {
                let result = json!({ "after_restart": true, "rebooted": evidence.rebooted });
                let said = Said {
                    result: Some(result),
                    ..Said::default()
                };
                (State::Succeeded, said)
            }
            AfterCrash::Interrupted => {
                let said = said("interrupted", "the agent ended while it was running");
                (State::Failed, said)
            }
        };
        tracing::info!(command = %row.id, kind = row.word, state = state.as_str(), "a command was cut short by a restart");
        self.advance(row.id, (State::InProgress, state), said, None)
            .await?;
        Ok(true)
    }

    async fn evidence(&self, row: &OpenRow, life: Life) -> Result<Evidence, DbError> {
        let (started_boot, command) = (row.started_boot, Command::parse(&row.word, &row.args));
        let look = self.db.call(Urgency::Now, move |c, run| {
            let made = match command {
                Ok(Command::RecordingStart(args)) => {
                    recordings::state(c, args.recording_id)?.is_some()
                }
                Ok(Command::Snapshot(args)) => snapshots::exists(c, args.snapshot_id)?,
                _ => false,
            };
            Ok(Evidence {
                rebooted: started_boot.is_some_and(|boot| boot != run.boot),
                made,
                expired: life == Life::Over,
            })
        });
        look.await
    }
}
