//! Object storage on the command line: one that is there, or a private one of this process.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::object_server::ObjectServer;
use crate::server::Tls;
use crate::storage::Settings;

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
                (server.settings(&self.s3_host, ca_pem), Some(server))
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
