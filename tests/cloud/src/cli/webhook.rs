//! `sentrycam-cloud admin create-webhook | disable-webhook`

use anyhow::Result;
use clap::Subcommand;
use uuid::Uuid;

use super::admin::say;
use crate::admin;
use crate::db::Db;
use crate::notify::endpoint::{self, Wanted};
use crate::secret::WrappingKey;

/// Who is told of alerts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a webhook and print the secret that its messages are signed with, once. Wants SENTRYCAM_CLOUD_KEY.
    CreateWebhook {
        /// Id or name of its organization.
        #[arg(long)]
        organization: String,
        /// https://…
        #[arg(long)]
        url: String,
        /// info, warning or critical: alerts from this severity on.
        #[arg(long, default_value = "warning")]
        min_severity: String,
    },
    /// Switch a webhook off.
    DisableWebhook {
        /// Its id.
        id: Uuid,
    },
}

impl Command {
    /// Does it.
    pub async fn run(self, db: &Db, json: bool) -> Result<()> {
        match self {
            Self::CreateWebhook {
                organization,
                url,
                min_severity,
            } => {
                let organization = admin::find_organization(db, &organization).await?;
                let wrapping = WrappingKey::from_env()?;
                let wanted = Wanted {
                    url,
                    min_severity,
                    secret: None,
                };
                let mut client = db.client().await?;
                let tx = client.transaction().await?;
                let made = endpoint::create(&tx, &wrapping, organization, &wanted).await?;
                tx.commit().await?;
                let secret = made["secret"].as_str().unwrap_or_default().to_owned();
                say(json, made, &secret)?;
            }
            Self::DisableWebhook { id } => {
                let mut client = db.client().await?;
                let tx = client.transaction().await?;
                endpoint::disable(&tx, id, "switched off").await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }
}
