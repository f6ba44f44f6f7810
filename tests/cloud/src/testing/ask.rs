//! What an operator asks of devices, for tests: commands, cameras, settings, policies.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use uuid::Uuid;

use super::Cloud;
use crate::admin::AdminError;
use crate::command::{self, Wanted};
use crate::db::DbError;
use crate::notify::endpoint;
use crate::secret::WrappingKey;
use crate::stream;
use crate::twin::wish::{self, WantedPolicy};

impl Cloud {
    /// Sends a device a command and returns it as the admin API shows it; `["id"]` is its id.
    ///
    /// # Errors
    /// When it makes no sense, or the database refuses.
    pub async fn send_command(&self, edge_id: &str, wanted: Wanted) -> Result<Value> {
        let (db, edge_id, now) = (self.owner(), edge_id.to_owned(), self.clock.now(0));
        let sent = self.on_cloud(async move {
            let mut client = db.client().await?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            let sent = command::send(&tx, &edge_id, &wanted, now).await?;
            tx.commit().await.map_err(DbError::from)?;
            Ok::<_, AdminError>(sent)
        });
        Ok(sent.await??)
    }

    /// Asks a device for a live session and returns it as the admin API shows it; `["id"]` is its id.
    ///
    /// # Errors
    /// When it makes no sense, or the database refuses.
    pub async fn start_stream(&self, edge_id: &str, wanted: stream::Wanted) -> Result<Value> {
        let key = WrappingKey::from_bytes(&self.wrapping_key)?;
        let (db, edge_id, now) = (self.owner(), edge_id.to_owned(), self.clock.now(0));
        let started = self.on_cloud(async move {
            let mut client = db.client().await?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            let session = stream::start(&tx, Some(&key), &edge_id, &wanted, now).await?;
            tx.commit().await.map_err(DbError::from)?;
            Ok::<_, AdminError>(session)
        });
        Ok(started.await??)
    }

    /// Renews a live session for so many seconds from now, or stops it when there are none.
    ///
    /// # Errors
    /// When it is over, or the database refuses.
    pub async fn change_stream(&self, session: Uuid, lease_s: Option<i64>) -> Result<Value> {
        let (db, now) = (self.owner(), self.clock.now(0));
        let changed = self.on_cloud(async move {
            let mut client = db.client().await?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            let session = match lease_s {
                Some(lease_s) => stream::renew(&tx, session, lease_s, now).await?,
                None => stream::stop(&tx, session, now).await?,
            };
            tx.commit().await.map_err(DbError::from)?;
            Ok::<_, AdminError>(session)
        });
        Ok(changed.await??)
    }

    /// Makes a webhook of the first organization; `["secret"]` is what its messages are signed with.
    ///
    /// # Errors
    /// When the address is none, or the database refuses.
    pub async fn create_webhook(&self, url: &str, min_severity: &str) -> Result<Value> {
        let key = WrappingKey::from_bytes(&self.wrapping_key)?;
        let wanted = endpoint::Wanted {
            url: url.to_owned(),
            min_severity: min_severity.to_owned(),
            secret: None,
        };
        let (db, id) = (self.owner(), self.organization);
        let made = self.on_cloud(async move {
            let mut client = db.client().await?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            let made = endpoint::create(&tx, &key, id, &wanted).await?;
            tx.commit().await.map_err(DbError::from)?;
            Ok::<_, AdminError>(made)
        });
        Ok(made.await??)
    }

    /// Merges sections into a device's twin; returns it as the admin API shows it.
    ///
    /// # Errors
    /// When it makes no sense, or the database refuses.
    pub async fn set_twin(&self, edge_id: &str, patch: Value) -> Result<Value> {
        let (db, edge_id, now) = (self.owner(), edge_id.to_owned(), self.clock.now(0));
        let set = self.on_cloud(async move {
            let mut client = db.client().await?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            let shown = wish::set_settings(&tx, &edge_id, &patch, now).await?;
            tx.commit().await.map_err(DbError::from)?;
            Ok::<_, AdminError>(shown)
        });
        Ok(set.await??)
    }

    /// Puts a camera into a device's twin; `password` may be among its members.
    ///
    /// # Errors
    /// When it makes no sense, or the database refuses.
    pub async fn set_camera(&self, edge_id: &str, camera_id: &str, camera: Value) -> Result<Value> {
        let key = WrappingKey::from_bytes(&self.wrapping_key)?;
        let (edge_id, camera_id) = (edge_id.to_owned(), camera_id.to_owned());
        let (db, now) = (self.owner(), self.clock.now(0));
        let set = self.on_cloud(async move {
            let mut client = db.client().await?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            let shown = wish::set_camera(&tx, &key, &edge_id, &camera_id, &camera, now).await?;
            tx.commit().await.map_err(DbError::from)?;
            Ok::<_, AdminError>(shown)
        });
        Ok(set.await??)
    }

    /// Makes a policy of the first organization; returns it with its id.
    ///
    /// # Errors
    /// When it makes no sense, or the database refuses.
    pub async fn set_policy(&self, policy: Value) -> Result<Value> {
        let wanted: WantedPolicy = serde_json::from_value(policy)?;
        let (db, id, now) = (self.owner(), self.organization, self.clock.now(0));
        let set = self.on_cloud(async move {
            let mut client = db.client().await?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            let made = wish::set_policy(&tx, id, None, &wanted, now).await?;
            tx.commit().await.map_err(DbError::from)?;
            Ok::<_, AdminError>(made)
        });
        Ok(set.await??)
    }

    /// A device's twin, desired and reported.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn twin(&self, edge_id: &str) -> Result<Value> {
        let (db, edge_id) = (self.owner(), edge_id.to_owned());
        let found = self.on_cloud(async move {
            let mut client = db.client().await?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            wish::show(&tx, &edge_id).await
        });
        Ok(found.await??)
    }

    /// A command as it is now.
    ///
    /// # Errors
    /// When there is no such command.
    pub async fn command(&self, id: Uuid) -> Result<Value> {
        let db = self.owner();
        let found = self.on_cloud(async move {
            let mut client = db.client().await?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            command::show(&tx, id).await
        });
        Ok(found.await??)
    }

    /// Waits for the end of a command and returns it.
    ///
    /// # Errors
    /// When it does not end in time; says where it is.
    pub async fn wait_command(&self, id: Uuid, at_most: Duration) -> Result<Value> {
        let ended = format!("(select completed_at is not null from commands where id = '{id}')");
        let waited = self.wait_for(&ended, at_most).await;
        let found = self.command(id).await?;
        waited.with_context(|| found.to_string())?;
        Ok(found)
    }
}
