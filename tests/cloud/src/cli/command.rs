//! `sentrycam-cloud admin send | command | cancel`

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::print;
use crate::command::{self, Wanted, issue};
use crate::db::Db;

/// How often `--wait` looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Send a command.
#[derive(Debug, Args)]
pub struct Send {
    /// The device.
    edge_id: String,
    /// snapshot, recording.start, reboot, …
    #[arg(value_name = "TYPE")]
    command_type: String,
    /// Its arguments, a JSON object; the id of a picture or recording that it makes is added where it is missing.
    #[arg(long, default_value = "{}")]
    args: String,
    /// How long it may be begun, such as 30s, 5m, 2h; at most a week.
    #[arg(long, default_value = "5m")]
    expires_in: SignedDuration,
    /// Wait for its end and show each step; fails unless it succeeded.
    #[arg(long)]
    wait: bool,
}

/// One command.
#[derive(Debug, Args)]
pub struct One {
    /// Its id.
    id: Uuid,
    /// Wait for its end and show each step; fails unless it succeeded.
    #[arg(long)]
    wait: bool,
}

/// Take a command back.
#[derive(Debug, Args)]
pub struct Cancel {
    /// Its id.
    id: Uuid,
}

impl Send {
    /// Does it.
    pub async fn run(self, db: &Db, json: bool) -> Result<()> {
        let mut args = serde_json::from_str(&self.args).context("--args must be JSON")?;
        if let Some((name, id)) = name_what_is_made(&self.command_type, &mut args) {
            eprintln!("{name} {id}");
        }
        let wanted = Wanted {
            command_type: self.command_type,
            args,
            expires_in_s: self.expires_in.as_secs(),
        };
        let mut client = db.client().await?;
        let tx = client.transaction().await?;
        let sent = command::send(&tx, &self.edge_id, &wanted, Timestamp::now()).await?;
        tx.commit().await?;
        finish(db, sent, self.wait, json).await
    }
}

/// What the command makes is named by who asks for it: a person need not think of an id.
fn name_what_is_made(command_type: &str, args: &mut Value) -> Option<(&'static str, Uuid)> {
    let name = match command_type {
        "snapshot" => "snapshot_id",
        "recording.start" => "recording_id",
        _ => return None,
    };
    let args = args.as_object_mut().filter(|a| !a.contains_key(name))?;
    let id = Uuid::now_v7();
    args.insert(name.into(), id.to_string().into());
    Some((name, id))
}

impl One {
    /// Does it.
    pub async fn run(self, db: &Db, json: bool) -> Result<()> {
        let found = look(db, self.id).await?;
        finish(db, found, self.wait, json).await
    }
}

impl Cancel {
    /// Does it.
    pub async fn run(self, db: &Db, json: bool) -> Result<()> {
        let mut client = db.client().await?;
        let tx = client.transaction().await?;
        let canceled = command::cancel(&tx, self.id, Timestamp::now()).await?;
        tx.commit().await?;
        finish(db, canceled, false, json).await
    }
}

async fn look(db: &Db, id: Uuid) -> Result<Value> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    Ok(command::show(&tx, id).await?)
}

/// Waits if that is wanted, shows the command, and fails when it was waited for in vain.
pub(super) async fn finish(db: &Db, mut command: Value, wait: bool, json: bool) -> Result<()> {
    let id: Uuid = serde_json::from_value(command["id"].clone())?;
    if wait {
        command = follow(db, command, id).await?;
    }
    if json {
        print(&command)?;
    } else if !wait {
        let kind = super::table::cell(&command["command_type"]);
        print(format!("{id} {kind} {}", step(&command)))?;
    } else if !command["result"].is_null() {
        print(&command["result"])?;
    }
    let status = super::table::cell(&command["status"]);
    anyhow::ensure!(!wait || status == "succeeded", "the command ended {status}");
    Ok(())
}

/// Shows each step until the end.
async fn follow(db: &Db, mut command: Value, id: Uuid) -> Result<Value> {
    let mut shown = String::new();
    loop {
        let step = step(&command);
        if step != shown {
            eprintln!("{}  {step}", Timestamp::now().strftime("%H:%M:%S"));
            shown = step;
        }
        if issue::has_ended(&command) {
            return Ok(command);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        command = look(db, id).await?;
    }
}

/// Status, progress and reason in a line.
fn step(command: &Value) -> String {
    ["status", "progress", "code", "error"]
        .into_iter()
        .map(|name| super::table::cell(&command[name]))
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_made_gets_an_id_unless_it_has_one() {
        let mut args = json!({ "camera_id": "c" });
        let (name, id) = name_what_is_made("snapshot", &mut args).unwrap();
        assert_eq!((name, &args["snapshot_id"]), ("snapshot_id", &json!(id)));
        assert_eq!(name_what_is_made("snapshot", &mut args), None);
        assert_eq!(name_what_is_made("reboot", &mut args), None);
        assert_eq!(name_what_is_made("recording.start", &mut json!([])), None);
    }
}
