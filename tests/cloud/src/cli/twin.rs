//! `sentrycam-cloud admin twin | set-twin | set-camera | remove-camera | set-policy | remove-policy`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::print;
use crate::admin;
use crate::db::Db;
use crate::secret::WrappingKey;
use crate::twin::wish::{self, WantedPolicy};

/// What devices are to be.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a device's twin, desired and reported.
    Twin {
        /// The device.
        edge_id: String,
    },
    /// Merge sections into a device's twin: recording, motion, upload, stream, cloud, network, local_api.
    SetTwin {
        /// The device.
        edge_id: String,
        /// JSON merge patch, such as '{"recording": {"post_roll": "9 s"}}'; null removes.
        patch: String,
    },
    /// Put a camera into a device's twin or change it. From the first on, the twin says which cameras there are.
    SetCamera {
        /// The device.
        edge_id: String,
        /// The camera's id.
        camera_id: String,
        /// The camera as in the device's file, as JSON: '{"url": "rtsp://…", "user": "admin"}'.
        #[arg(default_value = "{}")]
        camera: String,
        /// A file with nothing but its password; without it, the known one stays.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// Take a camera out of a device's twin.
    RemoveCamera {
        /// The device.
        edge_id: String,
        /// The camera's id.
        camera_id: String,
    },
    /// Make a policy, or replace one.
    SetPolicy {
        /// Id or name of its organization.
        #[arg(long)]
        organization: String,
        /// The policy to replace.
        #[arg(long)]
        id: Option<Uuid>,
        /// JSON: '{"name": "night", "modules": ["motion"], "thresholds": {"motion": 0.4}}'.
        policy: String,
    },
    /// Remove a policy.
    RemovePolicy {
        /// The policy.
        id: Uuid,
    },
}

impl Command {
    /// Does it.
    pub async fn run(self, db: &Db, json: bool) -> Result<()> {
        let mut client = db.client().await?;
        let tx = client.transaction().await?;
        let now = Timestamp::now();
        let parse = |text: &str| -> Result<Value> {
            serde_json::from_str(text).context("the argument must be JSON")
        };
        let shown = match self {
            Self::Twin { edge_id } => wish::show(&tx, &edge_id).await?,
            Self::SetTwin { edge_id, patch } => {
                wish::set_settings(&tx, &edge_id, &parse(&patch)?, now).await?
            }
            Self::SetCamera {
                edge_id,
                camera_id,
                camera,
                password_file,
            } => {
                let mut wanted = parse(&camera)?;
                if let Some(path) = password_file {
                    let text = std::fs::read_to_string(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?;
                    wanted["password"] = text.trim_end_matches(['\n', '\r']).into();
                }
                let key = WrappingKey::from_env()?;
                wish::set_camera(&tx, &key, &edge_id, &camera_id, &wanted, now).await?
            }
            Self::RemoveCamera { edge_id, camera_id } => {
                wish::remove_camera(&tx, &edge_id, &camera_id, now).await?
            }
            Self::SetPolicy {
                organization,
                id,
                policy,
            } => {
                let organization = admin::find_organization(db, &organization).await?;
                let wanted: WantedPolicy = serde_json::from_str(&policy)?;
                wish::set_policy(&tx, organization, id, &wanted, now).await?
            }
            Self::RemovePolicy { id } => wish::remove_policy(&tx, id, now).await?,
        };
        tx.commit().await?;
        if json {
            print(&shown)?;
        } else {
            print(serde_json::to_string_pretty(&shown)?)?;
        }
        Ok(())
    }
}
