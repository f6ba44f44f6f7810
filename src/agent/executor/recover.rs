//! What the last process left: commands that were running when it died.

use super::{Executor, said};
use crate::command::kinds::Command;
use crate::command::states::{AfterCrash, Evidence, after_crash};
use crate::command::{Kind, State};
use crate::db::commands::{self, OpenRow, Said};
use crate::db::{DbError, Urgency, recordings, snapshots};
use serde_json::json;

impl Executor {
    /// Ends what cannot be run again. What can is left `in_progress`: it is next.
    pub(super) async fn recover(&self) -> Result<(), DbError> {
        if let Some(wipe) = self.unfinished_leave().await {
            self.leave(wipe).await;
        }
        let rows = self
            .db
            .call(Urgency::Now, |c, _| commands::open_rows(c))
            .await?;
        for row in rows.into_iter().filter(|r| r.state == State::InProgress) {
            let kind = Kind::from_word(&row.word);
            let evidence = self.evidence(&row).await?;
            let then = kind.map_or(AfterCrash::Interrupted, |kind| after_crash(kind, evidence));
            tracing::info!(command = %row.id, kind = row.word, ?then, "a command was running when the agent ended");
            let (state, said) = match then {
                AfterCrash::RunAgain => continue,
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
            self.advance(row.id, (State::InProgress, state), said, None)
                .await?;
        }
        Ok(())
    }

    async fn evidence(&self, row: &OpenRow) -> Result<Evidence, DbError> {
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
            })
        });
        look.await
    }
}
