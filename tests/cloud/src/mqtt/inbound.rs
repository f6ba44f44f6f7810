//! What devices say over MQTT, projected as hints: presence, states of commands, the reported twin.
//!
//! The broker is not trusted: the topic names the device (its own ACL sees to that), the payload must agree,
//! and nothing heard here is a record. A message that is not understood is counted and forgotten.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use rumqttc::v5::mqttbytes::v5::Publish;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Wake;
use super::publish::Again;
use crate::command::state::Way;
use crate::db::{self, DbError};
use crate::http::App;
use crate::ingest::{self, record::Record};
use crate::project::{Payload, command, twin};

/// A topic of section 5.3 that the cloud hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic<'a> {
    /// `up/state`
    State,
    /// `up/cmd/<id>/status`
    Command(&'a str),
    /// `up/twin`
    Twin,
    /// `up/hint`: a copy of a P1 record, for those who want it early.
    Hint,
}

impl<'a> Topic<'a> {
    /// The device and the kind.
    pub fn read(topic: &'a str) -> Option<(&'a str, Self)> {
        let (edge_id, rest) = topic.strip_prefix("edge/v1/")?.split_once("/up/")?;
        let kind = match rest {
            "state" => Self::State,
            "twin" => Self::Twin,
            "hint" => Self::Hint,
            other => Self::Command(other.strip_prefix("cmd/")?.strip_suffix("/status")?),
        };
        (!edge_id.contains('/')).then_some((edge_id, kind))
    }
}

/// Payload of `up/state`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Presence {
    /// Whether the device is there; its will says that it is not.
    pub online: bool,
    /// The connection that says so.
    pub session: Uuid,
    /// Counts the device's connections.
    pub conn: Option<i64>,
    /// The agent's version; counts only until a record says it.
    pub agent: Option<String>,
}

/// Why a message did nothing.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("not understood: {0}")]
    Nonsense(String),
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<tokio_postgres::Error> for Unheard {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Db(error.into())
    }
}

fn nonsense(error: impl ToString) -> Unheard {
    Unheard::Nonsense(error.to_string())
}

/// Projects for ever.
pub async fn run(app: Arc<App>, mut heard: mpsc::Receiver<Publish>, again: Again, wake: Wake) {
    while let Some(publish) = heard.recv().await {
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        match hear(&app, &topic, &publish.payload).await {
            Ok(None) => {}
            Ok(Some((organization, device))) => {
                again.add(organization, device);
                wake.now();
            }
            Err(error) => {
                tracing::debug!(
                    topic,
                    error = &error as &dyn std::error::Error,
                    "message ignored"
                );
            }
        }
    }
}

/// Returns the device when it has just come.
async fn hear(app: &App, topic: &str, payload: &[u8]) -> Result<Option<(Uuid, Uuid)>, Unheard> {
    let (edge_id, kind) = Topic::read(topic).ok_or_else(|| nonsense("topic"))?;
    // An empty payload clears what was retained; a hint is nobody's business here.
    if payload.is_empty() || kind == Topic::Hint {
        return Ok(None);
    }
    let value: Value = serde_json::from_slice(payload).map_err(nonsense)?;
    let mut client = app.db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.edge_id", edge_id).await?;
    let row = tx
        .query_opt(
            "select organization_id, id from devices
             where edge_id = $1 and status <> 'unclaimed' and deleted_at is null",
            &[&edge_id],
        )
        .await?
        .ok_or_else(|| nonsense("no such device"))?;
    let (organization, device): (Uuid, Uuid) = (row.get(0), row.get(1));
    db::set_tenant(&tx, organization).await?;
    let mut come = None;
    match kind {
        Topic::State => {
            let presence = Presence::deserialize(&value).map_err(nonsense)?;
            if present(&tx, device, &presence).await? {
                come = Some((organization, device));
            }
        }
        Topic::Command(id) => status(&tx, device, edge_id, id, &value).await?,
        Topic::Twin => {
            let data = twin::Data::deserialize(&value).map_err(nonsense)?;
            data.check().map_err(nonsense)?;
            let now = app.clock.now(0);
            ingest::lock_device(&tx, device).await?;
            twin::hint(&tx, (organization, device), &data, &value, now).await?;
        }
        Topic::Hint => {}
    }
    tx.commit().await?;
    Ok(come)
}

const ONLINE: &str = "
    update devices set presence_session = $2, presence_conn = $3, presence_online = true,
      presence_at = now(), updated_at = now(), app_version = coalesce(app_version, left($4, 64)),
      status = case when status = 'offline' then 'online' else status end
    where id = $1 and (presence_session is distinct from $2 or not presence_online)";

/// The will of a session that is not the last one, or one that is heard again, changes nothing.
const OFFLINE: &str = "
    update devices set presence_online = false, presence_at = now(), updated_at = now(),
      status = case when status in ('online', 'degraded') then 'offline' else status end
    where id = $1 and presence_online and presence_session = $2";

/// Returns whether the device has just come.
async fn present(tx: &Transaction<'_>, device: Uuid, presence: &Presence) -> Result<bool, DbError> {
    let session = &presence.session;
    if presence.online {
        let changed = tx
            .execute(ONLINE, &[&device, session, &presence.conn, &presence.agent])
            .await?;
        Ok(changed > 0)
    } else {
        tx.execute(OFFLINE, &[&device, session]).await?;
        Ok(false)
    }
}

/// A copy of a `command.status` record.
async fn status(
    tx: &Transaction<'_>,
    device: Uuid,
    edge_id: &str,
    id: &str,
    value: &Value,
) -> Result<(), Unheard> {
    let record = Record::check(value, edge_id).map_err(|rejection| nonsense(rejection.detail))?;
    let Payload::Command(data) = &record.payload else {
        return Err(nonsense("no command.status"));
    };
    if Uuid::try_parse(id) != Ok(data.command_id) {
        return Err(nonsense("the topic names another command"));
    }
    ingest::lock_device(tx, device).await?;
    // A database of the device that no record has named yet is the newest one.
    let row = tx
        .query_one(
            "select coalesce(max(rank) filter (where epoch = $2), coalesce(max(rank), 0) + 1)
             from edge_epochs where device_id = $1",
            &[&device, &record.epoch],
        )
        .await?;
    command::apply(tx, device, data, row.get(0), record.time, Way::Hint).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_name_their_device() {
        for (topic, read) in [
            ("edge/v1/e-1/up/state", Some(("e-1", Topic::State))),
            ("edge/v1/e-1/up/twin", Some(("e-1", Topic::Twin))),
            ("edge/v1/e-1/up/hint", Some(("e-1", Topic::Hint))),
            (
                "edge/v1/e-1/up/cmd/x/status",
                Some(("e-1", Topic::Command("x"))),
            ),
            ("edge/v1/e-1/down/cmd", None),
            ("edge/v1/e-1/up/cmd/x", None),
            ("edge/v1/e-1/x/up/state", None),
            ("edge/v2/e-1/up/state", None),
        ] {
            assert_eq!(Topic::read(topic), read, "{topic}");
        }
    }
}
