//! What an operator asks of devices, for tests: commands, cameras, settings, policies.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use uuid::Uuid;

use super::Cloud;
use crate::admin::AdminError;
use crate::command::{self, Wanted};
use crate::db::DbError;
use crate::secret::WrappingKey;
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
