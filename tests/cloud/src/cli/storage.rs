//! Object storage on the command line: one that is there, or a private one of this process.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

use crate::object_server::ObjectServer;
use crate::server::Tls;
use crate::storage::{Settings, Storage};

/// Where evidence is kept.
#[derive(Debug, clap::Args)]
pub struct StorageArgs {
    /// An S3-compatible storage as devices reach it: https://host[:port].
    #[arg(
        long,
        env = "SENTRYCAM_CLOUD_S3_ENDPOINT",
        conflicts_with = "s3_dir",
        requires = "s3_access_key",
        requires = "s3_secret_key"
    )]
    s3_endpoint: Option<String>,
    /// Its bucket; made when it is not there.
    #[arg(long, env = "SENTRYCAM_CLOUD_S3_BUCKET", default_value = "sentrycam")]
    s3_bucket: String,
    /// Its region.
    #[arg(long, env = "SENTRYCAM_CLOUD_S3_REGION", default_value = "us-east-1")]
    s3_region: String,
    /// Access key id; give it by the environment.
    #[arg(long, env = "SENTRYCAM_CLOUD_S3_ACCESS_KEY", hide_env_values = true)]
    s3_access_key: Option<String>,
    /// Secret access key; give it by the environment.
    #[arg(long, env = "SENTRYCAM_CLOUD_S3_SECRET_KEY", hide_env_values = true)]
    s3_secret_key: Option<String>,
    /// The authority of its certificate, PEM.
    #[arg(long, env = "SENTRYCAM_CLOUD_S3_CA")]
    s3_ca: Option<PathBuf>,
    /// Start a private S3 server on this directory, for tests and the demo; it ends with the cloud.
    #[arg(long, requires = "s3_ca")]
    s3_dir: Option<PathBuf>,
    /// Its TLS port on 127.0.0.1; 0 picks one.
    #[arg(long, default_value_t = 0)]
    s3_port: u16,
    /// What devices call it; must be a name of the certificate.
    #[arg(long, default_value = "localhost")]
    s3_host: String,
}

/// Life of an address that is printed.
const PRINTED_LIFE: Duration = Duration::from_secs(3600);

/// The storage that the environment names, to print addresses of it; none where it names none.
pub fn from_env() -> Result<Option<Storage>> {
    let variable = |name: &str| std::env::var(format!("SENTRYCAM_CLOUD_S3_{name}")).ok();
    let Some(endpoint) = variable("ENDPOINT") else {
        return Ok(None);
    };
    let access = variable("ACCESS_KEY").context("SENTRYCAM_CLOUD_S3_ACCESS_KEY is needed")?;
    let secret = variable("SECRET_KEY").context("SENTRYCAM_CLOUD_S3_SECRET_KEY is needed")?;
    let mut settings = Settings::new(endpoint, &access, &secret);
    settings.bucket = variable("BUCKET").unwrap_or(settings.bucket);
    settings.region = variable("REGION").unwrap_or(settings.region);
    Ok(Some(Storage::new(settings)?))
}

/// Adds `url` to what is available, for an hour.
pub fn add_addresses(storage: &Storage, rows: &mut [Value]) {
    for row in rows {
        if row["status"] == "available"
            && let Some(key) = row["object_key"].as_str()
        {
            row["url"] = storage.get_url(key, PRINTED_LIFE, Timestamp::now()).into();
        }
    }
}

impl StorageArgs {
    /// The storage to use, if any, and the server to keep if it is ours.
    pub fn open(&self, tls: Option<&Tls>) -> Result<(Option<Settings>, Option<ObjectServer>)> {
        let ca_pem = match &self.s3_ca {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.with_context(|| path.display().to_string())?)
            }
            None => None,
        };
        let (mut settings, server) = match (&self.s3_dir, &self.s3_endpoint) {
            (Some(directory), _) => {
                let tls = tls.context("--s3-dir needs --tls-cert and --tls-key")?;
                let listen = ([127, 0, 0, 1], self.s3_port).into();
                let server = ObjectServer::start(directory, listen, tls)?;
                let ca_pem = ca_pem.as_deref().unwrap_or_default();
                let settings = server.settings(&self.s3_host, ca_pem);
                write_env(directory, &settings)?;
                (settings, Some(server))
            }
            (None, Some(endpoint)) => {
                let access = self.s3_access_key.as_deref().context("no access key")?;
                let secret = self.s3_secret_key.as_deref().context("no secret key")?;
                let mut settings = Settings::new(endpoint, access, secret);
                settings.ca_pem = ca_pem;
                (settings, None)
            }
            (None, None) => return Ok((None, None)),
        };
        settings.bucket.clone_from(&self.s3_bucket);
        settings.region.clone_from(&self.s3_region);
        Ok((Some(settings), server))
    }
}

/// What `admin` needs to print addresses of the private server: a file to be sourced by a shell, 0600.
fn write_env(directory: &Path, settings: &Settings) -> Result<()> {
    let path = directory.join("env");
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    let prefix = "export SENTRYCAM_CLOUD_S3_";
    writeln!(file, "{prefix}ENDPOINT={}", settings.public_endpoint)?;
    writeln!(file, "{prefix}ACCESS_KEY={}", settings.access_key)?;
    writeln!(file, "{prefix}SECRET_KEY={}", settings.secret_key)?;
    Ok(())
}
