//! The person's side of claiming, for tests that play the box.

use anyhow::{Context, Result};
use serde_json::Value;
use uuid::Uuid;

use super::Cloud;
use crate::admin::AdminError;
use crate::claiming::bind::{self, Binder};
use crate::claiming::codes;
use crate::db::DbError;
use crate::secret::WrappingKey;

impl Cloud {
    /// Makes a claim code of an organization, `XXXX-XXXX`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create_claim_code(&self, organization: Uuid, device_name: &str) -> Result<String> {
        let (db, name, now) = (self.owner(), device_name.to_owned(), self.clock().now(0));
        let key = WrappingKey::from_bytes(&self.wrapping_key)?;
        let made = self.on_cloud(async move {
            let mut client = db.client().await?;
            let tx = client.transaction().await.map_err(DbError::from)?;
            let life = codes::MAX_LIFE_S;
            let made = codes::create(&tx, &key, organization, Some(&name), life, now).await?;
            tx.commit().await.map_err(DbError::from)?;
            Ok::<_, AdminError>(made)
        });
        let made = made.await??;
        Ok(made["claim_code"].as_str().context("no code")?.to_owned())
    }

    /// Binds the box that shows a user code, as the first organization.
    ///
    /// # Errors
    /// What the person would be told.
    pub async fn bind(&self, user_code: &str, device_name: &str) -> Result<Value> {
        let (db, organization, now) = (self.owner(), self.organization(), self.clock().now(0));
        let key = WrappingKey::from_bytes(&self.wrapping_key)?;
        let (code, name) = (user_code.to_owned(), device_name.to_owned());
        let limits = self.claiming.limits.clone();
        let bound = self.on_cloud(async move {
            let binder = Binder {
                organization,
                device_name: Some(&name),
                network: None,
            };
            bind::by_user_code(&db, &key, &limits, &binder, &code, now).await
        });
        bound
            .await?
            .map_err(|problem| anyhow::anyhow!("{}: {}", problem.code, problem.detail))
    }

    /// Wants the box of an open window, as the first organization; `["press"]` says how often to press its button.
    ///
    /// # Errors
    /// What the person would be told.
    pub async fn bind_by_button(&self, claim: Uuid, device_name: &str) -> Result<Value> {
        let (db, organization, now) = (self.owner(), self.organization(), self.clock().now(0));
        let name = device_name.to_owned();
        let bound = self.on_cloud(async move {
            let binder = Binder {
                organization,
                device_name: Some(&name),
                network: None,
            };
            bind::by_list_entry(&db, &binder, claim, now).await
        });
        bound
            .await?
            .map_err(|problem| anyhow::anyhow!("{}: {}", problem.code, problem.detail))
    }
}
