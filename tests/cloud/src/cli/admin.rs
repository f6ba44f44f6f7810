//! `sentrycam-cloud admin …`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{claim, command, print, storage, stream, table, twin, webhook};
use crate::admin::{self, Listing};
use crate::db::Db;
use crate::secret::WrappingKey;

/// The operator's commands.
#[derive(Debug, Args)]
pub struct Admin {
    /// Connection string, such as "host=/run/postgresql user=postgres dbname=sentrycam".
    #[arg(
        long,
        global = true,
        env = "SENTRYCAM_CLOUD_DATABASE",
        hide_env_values = true
    )]
    database: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an organization and print its id.
    CreateOrganization {
        /// Its name.
        #[arg(long)]
        name: String,
    },
    /// Make a device and write its credentials file (0600).
    CreateDevice {
        /// Id or name of its organization.
        #[arg(long)]
        organization: String,
        /// The device's name.
        #[arg(long)]
        name: String,
        /// Where the device finds this cloud: https://host:port.
        #[arg(long)]
        api_base: String,
        /// The file to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Revoke a device's keys: it is unknown from now on.
    Revoke {
        /// The device.
        edge_id: String,
    },
    /// End a device's claim: it is asked to wipe itself; after 24 h without its word it is unclaimed all the same.
    Unclaim(claim::Unclaim),
    /// Suspend an organization: its devices get 403 and wait.
    Suspend {
        /// Id or name.
        #[arg(long)]
        organization: String,
        /// Lift the suspension.
        #[arg(long)]
        undo: bool,
    },
    /// Make a Bearer key of the admin API and print it, once.
    CreateApiKey {
        /// Id or name of its organization.
        #[arg(long)]
        organization: String,
        /// What it is for.
        #[arg(long)]
        name: String,
        /// admin, moderator, user or viewer.
        #[arg(long, default_value = "viewer")]
        role: String,
    },
    /// List devices.
    Devices(List),
    /// List cameras.
    Cameras(List),
    /// List events.
    Events(List),
    /// List recordings.
    Recordings(List),
    /// List pictures.
    Snapshots(List),
    /// List uploads.
    Uploads(List),
    #[command(flatten)]
    Stream(stream::Command),
    /// List live sessions.
    Streams(List),
    #[command(flatten)]
    Webhook(webhook::Command),
    /// List webhooks.
    Webhooks(List),
    /// List notifications.
    Notifications(List),
    /// List deliveries of notifications.
    Deliveries(List),
    /// List alerts.
    Alerts(List),
    /// List records as they were sent.
    Records(List),
    /// List audit entries.
    Audit(List),
    #[command(flatten)]
    Twin(twin::Command),
    /// List policies.
    Policies(List),
    /// List commands.
    Commands(List),
    /// Make a claim code and print it, once. Wants SENTRYCAM_CLOUD_KEY.
    CreateClaimCode(claim::CreateCode),
    /// List claim codes, without the codes.
    ClaimCodes(List),
    /// List claim windows that are open or bound.
    Claims(claim::Windows),
    /// Bind a box to an organization, by the user code that it shows or by the id of its window.
    Bind(claim::Bind),
    /// Ask a device to change its key.
    Rotate(claim::Rotate),
    /// List the keys of devices, without the secrets.
    Keys(List),
    /// Show what an organization may have, or give it a licence.
    License(claim::License),
    /// List licences.
    Licenses(List),
    /// Send a device a command.
    Send(command::Send),
    /// Show a command.
    #[command(name = "command")]
    One(command::One),
    /// Take a command back that was not handed out yet.
    Cancel(command::Cancel),
}

#[derive(Debug, Args)]
struct List {
    /// Only this device.
    #[arg(long)]
    edge_id: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: i64,
}

impl Admin {
    /// Does what was asked for.
    pub async fn run(self) -> Result<()> {
        let database = self
            .database
            .context("--database or SENTRYCAM_CLOUD_DATABASE is needed")?;
        let db = Db::connect_as_owner(&database)?;
        let (listing, list) = match self.command {
            Command::CreateOrganization { name } => {
                let id = admin::create_organization(&db, &name).await?;
                return say(
                    self.json,
                    json!({ "id": id, "name": name }),
                    &id.to_string(),
                );
            }
            Command::CreateDevice {
                organization,
                name,
                api_base,
                out,
            } => {
                let organization = admin::find_organization(&db, &organization).await?;
                let key = WrappingKey::from_env()?;
                let made = admin::create_device(&db, &key, organization, &name, &api_base).await?;
                made.write(&out)
                    .with_context(|| format!("cannot write {}", out.display()))?;
                let public =
                    json!({ "edge_id": made.edge_id, "edge_key": made.edge_key, "file": out });
                return say(self.json, public, &made.edge_id);
            }
            Command::Revoke { edge_id } => {
                admin::revoke(&db, &edge_id).await?;
                let said = json!({ "edge_id": edge_id, "keys": "revoked" });
                return say(
                    self.json,
                    said,
                    &format!("the keys of {edge_id} are revoked"),
                );
            }
            Command::Unclaim(unclaim) => return unclaim.run(&db, self.json).await,
            Command::Suspend { organization, undo } => {
                let id = admin::find_organization(&db, &organization).await?;
                admin::suspend(&db, id, !undo).await?;
                let status = if undo { "active" } else { "suspended" };
                let said = json!({ "id": id, "status": status });
                return say(self.json, said, &format!("{organization} is {status}"));
            }
            Command::CreateApiKey {
                organization,
                name,
                role,
            } => {
                let organization = admin::find_organization(&db, &organization).await?;
                let key = admin::create_api_key(&db, organization, &name, &role).await?;
                return say(self.json, json!({ "key": key }), &key);
            }
            Command::Send(send) => return send.run(&db, self.json).await,
            Command::One(one) => return one.run(&db, self.json).await,
            Command::Cancel(cancel) => return cancel.run(&db, self.json).await,
            Command::Twin(command) => return command.run(&db, self.json).await,
            Command::Policies(list) => (Listing::Policies, list),
            Command::Commands(list) => (Listing::Commands, list),
            Command::CreateClaimCode(code) => return code.run(&db, self.json).await,
            Command::Claims(windows) => return windows.run(&db, self.json).await,
            Command::Bind(bind) => return bind.run(&db, self.json).await,
            Command::Rotate(rotate) => return rotate.run(&db, self.json).await,
            Command::License(license) => return license.run(&db, self.json).await,
            Command::ClaimCodes(list) => (Listing::ClaimCodes, list),
            Command::Keys(list) => (Listing::Keys, list),
            Command::Licenses(list) => (Listing::Licenses, list),
            Command::Devices(list) => (Listing::Devices, list),
            Command::Cameras(list) => (Listing::Cameras, list),
            Command::Events(list) => (Listing::Events, list),
            Command::Recordings(list) => (Listing::Recordings, list),
            Command::Snapshots(list) => (Listing::Snapshots, list),
            Command::Uploads(list) => (Listing::Uploads, list),
            Command::Stream(command) => return command.run(&db, self.json).await,
            Command::Streams(list) => (Listing::Streams, list),
            Command::Webhook(command) => return command.run(&db, self.json).await,
            Command::Webhooks(list) => (Listing::Webhooks, list),
            Command::Notifications(list) => (Listing::Notifications, list),
            Command::Deliveries(list) => (Listing::Deliveries, list),
            Command::Alerts(list) => (Listing::Alerts, list),
            Command::Records(list) => (Listing::Records, list),
            Command::Audit(list) => (Listing::Audit, list),
        };
        let mut client = db.client().await?;
        let tx = client.transaction().await?;
        let mut rows = admin::list(&tx, listing, list.edge_id.as_deref(), list.limit).await?;
        if let (Listing::Recordings | Listing::Snapshots, Some(storage)) =
            (listing, storage::from_env()?)
        {
            storage::add_addresses(&storage, &mut rows);
        }
        if self.json {
            print(serde_json::to_string_pretty(&rows)?)?;
        } else {
            print(table::of(listing, &rows))?;
        }
        Ok(())
    }
}

pub(super) fn say(as_json: bool, value: serde_json::Value, text: &str) -> Result<()> {
    if as_json { print(value) } else { print(text) }
}
