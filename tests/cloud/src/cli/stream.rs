//! `sentrycam-cloud admin start-stream | renew-stream | stop-stream`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::db::Db;
use crate::secret::WrappingKey;
use crate::stream::{self, Wanted};

/// Live sessions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask a device to publish a camera; prints the session's id.
    #[command(name = "start-stream")]
    Start {
        /// The device.
        edge_id: String,
        /// Its camera.
        camera_id: String,
        /// Where to: rtmps://…, srt://…, rtsps://…, or https://… (WHIP).
        publish_endpoint: String,
        /// A file with the stream's key. Wants SENTRYCAM_CLOUD_KEY.
        #[arg(long)]
        key_file: Option<PathBuf>,
        /// How long, unless it is renewed; at most 4h.
        #[arg(long, default_value = "5m")]
        lease: SignedDuration,
    },
    /// Let a session go on for so long from now.
    #[command(name = "renew-stream")]
    Renew {
        /// The session.
        id: Uuid,
        /// How long; at most 4h.
        #[arg(long, default_value = "5m")]
        lease: SignedDuration,
    },
    /// End a session.
    #[command(name = "stop-stream")]
    Stop {
        /// The session.
        id: Uuid,
    },
}

impl Command {
    /// Does it.
    pub async fn run(self, db: &Db, json: bool) -> Result<()> {
        let now = Timestamp::now();
        let mut client = db.client().await?;
        let tx = client.transaction().await?;
        let session = match self {
            Self::Start {
                edge_id,
                camera_id,
                publish_endpoint,
                key_file,
                lease,
            } => {
                let (stream_key, wrapping) = match key_file {
                    Some(path) => {
                        let text = std::fs::read_to_string(&path);
                        let text = text.with_context(|| path.display().to_string())?;
                        (Some(text.trim().to_owned()), Some(WrappingKey::from_env()?))
                    }
                    None => (None, None),
                };
                let scheme = publish_endpoint.split(':').next().unwrap_or_default();
                let protocol = if scheme == "https" { "whip" } else { scheme }.to_owned();
                let wanted = Wanted {
                    camera_id,
                    protocol,
                    publish_endpoint,
                    stream_key,
                    lease_s: lease.as_secs(),
                };
                stream::start(&tx, wrapping.as_ref(), &edge_id, &wanted, now).await?
            }
            Self::Renew { id, lease } => stream::renew(&tx, id, lease.as_secs(), now).await?,
            Self::Stop { id } => stream::stop(&tx, id, now).await?,
        };
        tx.commit().await?;
        let text = |name: &str| match &session[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if json {
            println!("{session}");
        } else {
            println!(
                "{} {} until {}",
                text("id"),
                text("status"),
                text("expires_at")
            );
        }
        Ok(())
    }
}
