//! One cloud for one test: its own database in the shared cluster, its own server on its own threads.
//!
//! The server has a runtime of its own, so a test may block its thread without stopping the cloud.

mod builder;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::Cluster;
use crate::admin::{self, Listing};
use crate::broker::Broker;
use crate::cert::DevCert;
use crate::claiming::{Mqtt, Settings};
use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::db::{Db, DbError};
use crate::faults::Faults;
use crate::mqtt::{self, Access};
use crate::notify;
use crate::object_server::ObjectServer;
use crate::secret::WrappingKey;
use crate::server::{Options, Server, Tls};
use crate::storage;
pub use builder::CloudBuilder;

/// A running cloud with one organization.
#[derive(Debug)]
pub struct Cloud {
    runtime: Option<Runtime>,
    cluster: &'static Cluster,
    database: String,
    owner: Db,
    pub(super) wrapping_key: [u8; 32],
    certificate: DevCert,
    directory: TempDir,
    faults: Faults,
    pub(super) clock: Clock,
    listen: SocketAddr,
    authority: Option<String>,
    pub(super) organization: Uuid,
    server: Option<Server>,
    broker: Option<Broker>,
    objects: Option<ObjectServer>,
    storage: Option<storage::Settings>,
    notify: notify::Settings,
    pub(super) claiming: Settings,
}

impl Cloud {
    /// Starts a cloud with everything as usual.
    ///
    /// # Errors
    /// When PostgreSQL or the server does not start.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Starts a cloud that differs.
    pub fn builder() -> CloudBuilder {
        CloudBuilder::default()
    }

    /// `https://localhost:<port>`; the same after `start_again`.
    pub fn api_base(&self) -> String {
        let authority = self.authority.clone();
        format!(
            "https://{}",
            authority.unwrap_or_else(|| format!("localhost:{}", self.listen.port()))
        )
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The certificate authority to trust, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.certificate.ca_pem
    }

    /// The same as a file.
    pub fn ca_path(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The broker, when there is one.
    pub fn broker(&self) -> Option<&Broker> {
        self.broker.as_ref()
    }

    /// The object storage, when there is one.
    pub fn objects(&self) -> Option<&ObjectServer> {
        self.objects.as_ref()
    }

    /// How the cloud uses it, to be changed before `start_again`.
    pub fn storage_settings(&mut self) -> Option<&mut storage::Settings> {
        self.storage.as_mut()
    }

    fn tls(&self) -> Tls {
        Tls {
            cert_pem: self.certificate.cert_pem.clone().into_bytes(),
            key_pem: self.certificate.key_pem.clone().into_bytes(),
        }
    }

    /// The server's connection to the broker, when there is one.
    pub fn link(&self) -> Option<&mqtt::Mqtt> {
        self.server.as_ref().and_then(|server| server.link.as_ref())
    }

    /// The fault rules, and what was seen.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The cloud's clock, to skew it.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The organization that was made at the start.
    pub fn organization(&self) -> Uuid {
        self.organization
    }

    /// Connection string of the superuser, to whom row-level security does not apply: the oracle.
    pub fn owner_url(&self) -> String {
        self.cluster.owner_url(&self.database)
    }

    /// Connection string of the server's role.
    pub fn app_url(&self) -> String {
        self.cluster.app_url(&self.database)
    }

    /// The superuser's pool; use it inside `on_cloud`, since its connections live on the cloud's runtime.
    pub fn owner(&self) -> Db {
        self.owner.clone()
    }

    /// Runs a future on the cloud's threads.
    ///
    /// # Errors
    /// When it panics.
    pub async fn on_cloud<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let runtime = self.runtime.as_ref().context("the cloud was dropped")?;
        Ok(runtime.spawn(future).await?)
    }

    /// Makes another organization, with room for a thousand boxes.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create_organization(&self, name: &str) -> Result<Uuid> {
        let (db, name) = (self.owner(), name.to_owned());
        let id = self
            .on_cloud(async move { admin::create_organization(&db, &name).await })
            .await??;
        // Tests of licences give their own.
        self.execute(&format!(
            "update organizations set max_edge_servers = 1000, max_cameras = 1000 where id = '{id}'"
        ))
        .await?;
        Ok(id)
    }

    /// Makes a device of the first organization.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create_device(&self, name: &str) -> Result<Credentials> {
        self.create_device_of(self.organization, name).await
    }

    /// Makes a device of an organization.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create_device_of(&self, organization: Uuid, name: &str) -> Result<Credentials> {
        let (db, name, base) = (self.owner(), name.to_owned(), self.api_base());
        let key = WrappingKey::from_bytes(&self.wrapping_key)?;
        let created = self.on_cloud(async move {
            admin::create_device(&db, &key, organization, &name, &base).await
        });
        Ok(created.await??)
    }

    /// Makes a device of the first organization and writes its credentials file.
    ///
    /// # Errors
    /// When the database or the file system refuses.
    pub async fn write_credentials(&self, name: &str, path: &Path) -> Result<Credentials> {
        let credentials = self.create_device(name).await?;
        credentials.write(path)?;
        Ok(credentials)
    }

    /// Revokes a device's keys.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn revoke(&self, edge_id: &str) -> Result<()> {
        let (db, edge_id) = (self.owner(), edge_id.to_owned());
        Ok(self
            .on_cloud(async move { admin::revoke(&db, &edge_id).await })
            .await??)
    }

    /// Gives a device back: signed 410 from now on.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn unclaim(&self, edge_id: &str) -> Result<()> {
        let (db, edge_id) = (self.owner(), edge_id.to_owned());
        Ok(self
            .on_cloud(async move { admin::unclaim(&db, &edge_id).await })
            .await??)
    }

    /// Suspends the first organization, or lifts that.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn suspend(&self, suspended: bool) -> Result<()> {
        let (db, id) = (self.owner(), self.organization);
        Ok(self
            .on_cloud(async move { admin::suspend(&db, id, suspended).await })
            .await??)
    }

    /// Makes a Bearer key of the first organization: `admin`, `moderator`, `user` or `viewer`.
    ///
    /// # Errors
    /// When there is no such role.
    pub async fn create_api_key(&self, role: &str) -> Result<String> {
        let (db, id, role) = (self.owner(), self.organization, role.to_owned());
        let made =
            self.on_cloud(async move { admin::create_api_key(&db, id, "test", &role).await });
        Ok(made.await??)
    }

    /// Rows as the operator sees them (all organizations), newest first, at most 100,000.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list(&self, listing: Listing) -> Result<Vec<Value>> {
        let db = self.owner();
        let listed = self.on_cloud(async move {
            let mut client = db.client().await?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            admin::list(&tx, listing, None, 100_000).await
        });
        Ok(listed.await??)
    }

    /// Rows of any query, each as a JSON object, as superuser.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn query(&self, sql: &str) -> Result<Vec<Value>> {
        let (db, sql) = (self.owner(), format!("select to_jsonb(q) from ({sql}) q"));
        let queried = self.on_cloud(async move {
            let rows = db.client().await?.query(&sql, &[]).await?;
            Ok::<_, DbError>(rows.iter().map(|row| row.get(0)).collect())
        });
        Ok(queried.await??)
    }

    /// Waits until a condition holds in the database, such as
    /// `(select count(*) from events where status = 'ended') = 3`.
    ///
    /// # Errors
    /// When it does not hold in time, or the database refuses.
    pub async fn wait_for(&self, condition: &str, at_most: Duration) -> Result<()> {
        let sql = format!("select coalesce(({condition}), false) as holds");
        let until = tokio::time::Instant::now() + at_most;
        while self.query(&sql).await?.first().map(|row| &row["holds"]) != Some(&Value::Bool(true)) {
            anyhow::ensure!(
                tokio::time::Instant::now() < until,
                "after {at_most:?} still not: {condition}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Runs statements as superuser.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let (db, sql) = (self.owner(), sql.to_owned());
        let executed = self.on_cloud(async move {
            Ok::<_, DbError>(db.client().await?.batch_execute(&sql).await?)
        });
        Ok(executed.await??)
    }

    /// Lets deliveries wait longer for the thumbnail of their event than a slow machine takes to make it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn wait_long_for_thumbnails(&self) -> Result<()> {
        self.execute(
            "create function wait_long() returns trigger language plpgsql as $$ begin
               if new.next_attempt_at > now() then new.next_attempt_at := now() + interval '60 s'; end if;
               return new;
             end $$;
             create trigger wait_long before insert on notification_deliveries for each row execute function wait_long()",
        )
        .await
    }

    /// Stops the server in order; connections to it are refused until `start_again`.
    ///
    /// # Errors
    /// When it panics.
    pub async fn stop(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => self.on_cloud(server.stop()).await,
            None => Ok(()),
        }
    }

    /// Breaks every connection at once, in the middle of whatever goes on.
    ///
    /// # Errors
    /// When it panics.
    pub async fn kill(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => self.on_cloud(server.kill()).await,
            None => Ok(()),
        }
    }

    /// Starts the server again on the same port with the same database, keys and certificate.
    ///
    /// # Errors
    /// When it does not start, or runs.
    pub async fn start_again(&mut self) -> Result<()> {
        anyhow::ensure!(self.server.is_none(), "the server runs already");
        let options = Options {
            listen: self.listen,
            database: self.app_url(),
            authority: self.authority.clone(),
            tls: Some(self.tls()),
            storage: self.storage.clone(),
            notify: self.notify.clone(),
            wrapping_key: WrappingKey::from_bytes(&self.wrapping_key)?,
            faults: Some(self.faults.clone()),
            clock: self.clock.clone(),
            link: self.broker.as_ref().map(Access::of),
            claiming: self.claiming.clone(),
            mqtt: self.broker.as_ref().map(|broker| Mqtt {
                host: "localhost".to_owned(),
                port: broker.port(),
                control: broker.control(),
            }),
        };
        let server = self.on_cloud(Server::start(options)).await??;
        self.listen = server.address;
        self.server = Some(server);
        Ok(())
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        drop(self.server.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
