//! What of the twin is on disk: the row with its report, and the file of secrets.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Notify;

use super::vault::Vault;
use crate::agent::records;
use crate::config::Config;
use crate::db::{Db, DbError, IdSource, Urgency, outbox, schema, twin};
use crate::model::RecordId;
use crate::time::Mono;
use crate::twin::state::{Document, State};
use crate::twin::{Effective, Reason, Secrets, compile};

/// The program that judges.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// The store of the twin.
#[derive(Clone)]
pub struct Store {
    db: Db,
    vault: Vault,
    ids: IdSource,
    /// Told when there is something for the cloud.
    wake: Arc<Notify>,
}

impl Store {
    /// In this database and state directory.
    pub fn new(db: Db, state_dir: &std::path::Path, ids: IdSource, wake: Arc<Notify>) -> Store {
        Store {
            db,
            vault: Vault::in_dir(state_dir),
            ids,
            wake,
        }
    }

    /// What is remembered. A row that makes no sense counts as none: the cloud sends its copy again.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn load(&self) -> Result<State, DbError> {
        match self.db.call(Urgency::Now, |c, _| twin::load(c)).await {
            Err(DbError::Refused(why)) => {
                tracing::error!(why, "the stored twin cannot be read, running without it");
                Ok(State::default())
            }
            other => other,
        }
    }

    /// Remembers, in one transaction with the report to the cloud. What is provisional is reported once it is not.
    ///
    /// # Errors
    /// [`DbError`]; nothing has changed then.
    pub async fn commit(&self, state: State, at: Mono) -> Result<State, DbError> {
        let id = RecordId((self.ids)());
        let committed = self.db.call(Urgency::Now, move |c, run| {
            twin::save(c, &state)?;
            if state.provisional.is_none() {
                outbox::put(c, run, &records::twin_reported(id, at, state.report()))?;
            }
            Ok(state)
        });
        let state = committed.await?;
        self.wake.notify_one();
        Ok(state)
    }

    /// Puts the secrets of a version on disk.
    ///
    /// # Errors
    /// [`DbError::Io`].
    pub async fn keep_secrets(&self, version: u64, secrets: Secrets) -> Result<(), DbError> {
        let vault = self.vault.clone();
        let put = tokio::task::spawn_blocking(move || vault.put(version, &secrets)).await;
        let failed = match put {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) => e.to_string(),
            Err(e) => e.to_string(),
        };
        Err(DbError::Io(format!("secrets of the twin: {failed}")))
    }

    /// Forgets the secrets of all other versions.
    pub async fn thin_out(&self, versions: Vec<u64>) {
        let vault = self.vault.clone();
        let kept = tokio::task::spawn_blocking(move || vault.keep(&versions)).await;
        if !matches!(kept, Ok(Ok(()))) {
            tracing::warn!("secrets of an old twin are still on disk, removed with the next twin");
        }
    }

    /// What a stored document makes of this device.
    ///
    /// # Errors
    /// Why it does not fit any more.
    pub fn effective(&self, document: &Document, local: &Config) -> Result<Effective, Vec<Reason>> {
        effective(&self.vault, document, local)
    }
}

fn effective(vault: &Vault, document: &Document, local: &Config) -> Result<Effective, Vec<Reason>> {
    let Some(text) = &document.text else {
        return Ok(Effective::local(local));
    };
    let Ok(Value::Object(doc)) = serde_json::from_str(text) else {
        return Err(vec![Reason::of_document(
            "malformed",
            "the stored document is damaged",
        )]);
    };
    let secrets = vault.get(document.version);
    compile(&doc, &secrets, local).map_err(|faults| Reason::of_faults(&faults))
}

/// What was in force when the agent ran last, for whoever looks while it does not: the file alone where no twin is
/// stored or it does not fit. Blocks, changes nothing.
pub fn in_force_at_rest(local: &Config) -> Effective {
    let path = local.state_dir.join(crate::db::FILE_NAME);
    let stored = path
        .exists()
        .then(|| {
            schema::open_reader(&path)
                .and_then(|conn| twin::load(&conn))
                .ok()
        })
        .flatten();
    let vault = Vault::in_dir(&local.state_dir);
    stored
        .and_then(|state| effective(&vault, &state.applied, local).ok())
        .unwrap_or_else(|| Effective::local(local))
}
