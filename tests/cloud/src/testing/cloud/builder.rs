//! Starting a cloud that differs from the usual one.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use uuid::Uuid;

use super::super::Cluster;
use super::Cloud;
use crate::broker::Broker;
use crate::cert::DevCert;
use crate::claiming::{Limits, Settings};
use crate::clock::Clock;
use crate::db::Db;
use crate::faults::Faults;
use crate::notify;
use crate::object_server::ObjectServer;
use crate::secret::random;

/// What can differ from the usual.
#[derive(Debug, Default)]
pub struct CloudBuilder {
    cluster: Option<&'static Cluster>,
    listen: Option<SocketAddr>,
    authority: Option<String>,
    certificate: Option<DevCert>,
    claiming: Option<Settings>,
    broker: bool,
    storage: bool,
    url_life: Option<Duration>,
    notify: Option<notify::Settings>,
}

impl CloudBuilder {
    /// Starts a real S3-compatible server beside the cloud, on `localhost` with the cloud's certificate.
    pub fn storage(mut self) -> Self {
        self.storage = true;
        self
    }

    /// Repeats notifications so instead of as usual.
    pub fn notify(mut self, settings: notify::Settings) -> Self {
        self.notify = Some(settings);
        self
    }

    /// Starts a storage, with presigned addresses that live so long.
    pub fn url_life(mut self, life: Duration) -> Self {
        self.url_life = Some(life);
        self.storage()
    }

    /// Claims with these times and limits instead of the usual ones of tests: one poll a second, no limits.
    pub fn claiming(mut self, settings: Settings) -> Self {
        self.claiming = Some(settings);
        self
    }

    /// Starts a real Mosquitto beside the cloud and sends claimed devices to it.
    pub fn broker(mut self) -> Self {
        self.broker = true;
        self
    }

    /// Uses this cluster instead of the shared one.
    pub fn cluster(mut self, cluster: &'static Cluster) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// Listens here instead of on a free port of 127.0.0.1.
    pub fn listen(mut self, listen: SocketAddr) -> Self {
        self.listen = Some(listen);
        self
    }

    /// Expects this authority in signatures instead of `localhost:<port>`.
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.authority = Some(authority.into());
        self
    }

    /// Serves with this certificate instead of one that is always valid.
    pub fn certificate(mut self, certificate: DevCert) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Starts.
    ///
    /// # Errors
    /// When PostgreSQL or the server does not start.
    pub async fn start(self) -> Result<Cloud> {
        let cluster = match self.cluster {
            Some(cluster) => cluster,
            None => tokio::task::spawn_blocking(Cluster::shared).await??,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("cloud")
            .enable_all()
            .build()?;
        let database = runtime
            .spawn(async move { cluster.create_database().await })
            .await??;
        let certificate = match self.certificate {
            Some(certificate) => certificate,
            None => DevCert::generate()?,
        };
        let directory = TempDir::with_prefix("cloud-")?;
        certificate.write(directory.path())?;
        let mut cloud = Cloud {
            owner: Db::connect_as_owner(&cluster.owner_url(&database))?,
            runtime: Some(runtime),
            cluster,
            database,
            wrapping_key: random()?,
            certificate,
            directory,
            faults: Faults::default(),
            clock: Clock::default(),
            listen: self.listen.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()),
            authority: self.authority,
            organization: Uuid::nil(),
            server: None,
            broker: None,
            objects: None,
            storage: None,
            notify: self.notify.unwrap_or_default(),
            claiming: self.claiming.unwrap_or_else(|| Settings {
                interval_s: 1,
                limits: Limits::none(),
                ..Settings::default()
            }),
        };
        if self.broker {
            let mqtt = cloud.directory.path().join("mqtt");
            cloud.broker = Some(Broker::start(&mqtt, &cloud.certificate)?);
        }
        if self.storage {
            let (directory, tls) = (cloud.directory.path().join("objects"), cloud.tls());
            let started = cloud.on_cloud(async move {
                ObjectServer::start(&directory, ([127, 0, 0, 1], 0).into(), &tls)
            });
            let objects = started.await??;
            let mut settings = objects.settings("localhost", cloud.ca_pem());
            settings.url_life = self.url_life.unwrap_or(settings.url_life);
            cloud.storage = Some(settings);
            cloud.objects = Some(objects);
        }
        cloud.organization = cloud.create_organization("Test").await?;
        cloud.start_again().await?;
        Ok(cloud)
    }
}
