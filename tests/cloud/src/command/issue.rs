//! An operator sends a command, looks at it, takes it back. Each change is in the audit chain.

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::leave;
use crate::admin::AdminError;
use crate::project::audit::{self, Entry};

/// Longest life of a command: a week.
pub const MAX_EXPIRES_IN_S: i64 = 7 * 86_400;
/// Most bytes of `args`; a whole document is at most 32 KiB after base64.
const MAX_ARGS_BYTES: usize = 16 * 1024;
/// Most levels of `args`.
const MAX_DEPTH: usize = 8;
/// Most commands of one device that have not ended; more is a loop somewhere.
const MAX_OPEN: i64 = 2000;

/// Channel on which the server is told of something to publish; see `crate::mqtt`.
pub const CHANNEL: &str = "sentrycam_down";

/// A command that is wanted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// `snapshot`, `reboot`, … A type that the device does not know is for the device to reject.
    #[serde(rename = "type")]
    pub command_type: String,
    /// Its arguments.
    #[serde(default = "empty")]
    pub args: Value,
    /// Seconds from now until nobody may begin it any more.
    #[serde(default = "five_minutes")]
    pub expires_in_s: i64,
}

fn empty() -> Value {
    json!({})
}

fn five_minutes() -> i64 {
    300
}

impl Wanted {
    /// A command with the usual life of five minutes.
    pub fn new(command_type: impl Into<String>, args: Value) -> Self {
        Self {
            command_type: command_type.into(),
            args,
            expires_in_s: five_minutes(),
        }
    }

    fn check(&self) -> Result<(), AdminError> {
        let refused = |what: &str| Err(AdminError::Refused(what.to_owned()));
        let word = self.command_type.as_bytes();
        let is_word = (1..=64).contains(&word.len())
            && word[0].is_ascii_lowercase()
            && word
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.'));
        if !is_word {
            return refused("type must be a word of 1 to 64 of a-z, 0-9, _ and .");
        }
        if !self.args.is_object() {
            return refused("args must be an object");
        }
        if self.args.to_string().len() > MAX_ARGS_BYTES || depth(&self.args) > MAX_DEPTH {
            return refused("args must have at most 16 KiB and 8 levels");
        }
        if self.args.to_string().contains("\\u0000") {
            return refused("args must not have the zero character");
        }
        let key = self.args.get("stream_key");
        if key.is_some_and(|key| key != crate::twin::document::HIDDEN) {
            return refused("a stream key is a secret: start a session of /streams instead");
        }
        if !(1..=MAX_EXPIRES_IN_S).contains(&self.expires_in_s) {
            return refused("expires_in_s must be 1 to 604800");
        }
        Ok(())
    }
}

fn depth(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => members.values().map(depth).max().unwrap_or(0),
        _ => return 0,
    }
}

/// Queues a command and returns it as `show` does. The transaction is the caller's to commit.
///
/// # Errors
/// `Refused` for what no device would take, `Unknown` for the device, `Conflict` when it is not claimed or
/// has too many open.
pub async fn send(
    tx: &Transaction<'_>,
    edge_id: &str,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Value, AdminError> {
    wanted.check()?;
    // The row's lock orders the numbers by commit.
    let numbered = tx
        .query_opt(
            "update devices set last_command_n = last_command_n + 1
             where edge_id = $1 and deleted_at is null
             returning id, organization_id, last_command_n, status = 'unclaimed'",
            &[&edge_id],
        )
        .await?
        .ok_or(AdminError::Unknown("device"))?;
    let (device, organization): (Uuid, Uuid) = (numbered.get(0), numbered.get(1));
    let n: i64 = numbered.get(2);
    if numbered.get(3) {
        return Err(AdminError::Conflict("the device is not claimed".into()));
    }
    let open: i64 = tx
        .query_one(
            "select count(*) from commands where device_id = $1 and completed_at is null",
            &[&device],
        )
        .await?
        .get(0);
    if open >= MAX_OPEN {
        return Err(AdminError::Conflict(format!(
            "the device has {open} commands that have not ended"
        )));
    }
    let id = Uuid::now_v7();
    let issued = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let expires = issued
        .checked_add(SignedDuration::from_secs(wanted.expires_in_s))
        .map_err(|_| AdminError::Refused("expires_in_s is too large".into()))?;
    tx.execute(
        "insert into commands (id, organization_id, device_id, n, command_type, payload, issued_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[&id, &organization, &device, &n, &wanted.command_type, &wanted.args, &issued, &expires],
    )
    .await?;
    if wanted.command_type == leave::UNCLAIM {
        leave::asked(tx, device, issued).await?;
    }
    let after = json!({ "after": {
        "edge_id": edge_id, "n": n, "type": wanted.command_type, "args": wanted.args, "expires_at": expires,
    } });
    let entry = Entry {
        action: "COMMAND",
        entity_type: "command",
        entity_id: &id.to_string(),
        changes: after,
    };
    audit::append(tx, organization, &entry).await?;
    // Delivered with the commit.
    tx.execute("select pg_notify($1, '')", &[&CHANNEL]).await?;
    show(tx, id).await
}

/// Takes a command back that nobody has.
///
/// # Errors
/// `Unknown`, or `Conflict` once it was handed out: a document cannot be called back, only expire.
pub async fn cancel(tx: &Transaction<'_>, id: Uuid, now: Timestamp) -> Result<Value, AdminError> {
    let row = tx
        .query_opt(
            "select organization_id, status from commands where id = $1 for update",
            &[&id],
        )
        .await?
        .ok_or(AdminError::Unknown("command"))?;
    let (organization, status): (Uuid, &str) = (row.get(0), row.get(1));
    if status != "queued" {
        return Err(AdminError::Conflict(format!(
            "the command is {status}; only a queued one can be canceled"
        )));
    }
    tx.execute(
        "update commands set status = 'canceled', code = 'canceled', completed_at = $2, updated_at = now()
         where id = $1",
        &[&id, &now],
    )
    .await?;
    leave::taken_back(tx, id).await?;
    let changes = json!({ "before": { "status": status }, "after": { "status": "canceled" } });
    let entry = Entry {
        action: "CANCEL",
        entity_type: "command",
        entity_id: &id.to_string(),
        changes,
    };
    audit::append(tx, organization, &entry).await?;
    show(tx, id).await
}

/// A command as JSON.
///
/// # Errors
/// `Unknown` when there is no such command.
pub async fn show(tx: &Transaction<'_>, id: Uuid) -> Result<Value, AdminError> {
    let (columns, tables, _) = crate::admin::Listing::Commands.sql();
    let sql = format!("select to_jsonb(l) from (select {columns} from {tables} where t.id = $1) l");
    let statement = tx.prepare_cached(&sql).await?;
    let row = tx.query_opt(&statement, &[&id]).await?;
    Ok(row.ok_or(AdminError::Unknown("command"))?.get(0))
}

/// Whether a command, as `show` gives it, has ended.
pub fn has_ended(command: &Value) -> bool {
    !command["completed_at"].is_null()
}
