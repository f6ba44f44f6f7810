//! The broker's clients follow the database: who should be there is written in the transaction of the claim or of
//! the unclaim, and the broker is told afterwards, again and again until it agrees.
//!
//! A password is kept, wrapped, only until the broker has its own hash of it.

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::Mqtt;
use crate::broker::ControlError;
use crate::db::{self, Db, DbError};
use crate::secret::{Secret, SecretError, WrappingKey};

/// Why the broker does not agree with the database yet.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The database did not answer.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The broker did not.
    #[error(transparent)]
    Broker(#[from] ControlError),
    /// A password does not open: it was wrapped with another key.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl From<tokio_postgres::Error> for SyncError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Db(error.into())
    }
}

/// The associated data keeps passwords and edge secrets from being exchanged for each other.
fn context(edge_id: &str) -> String {
    format!("{edge_id}/mqtt")
}

pub(super) fn wrap(
    key: &WrappingKey,
    edge_id: &str,
    password: &Secret,
) -> Result<Vec<u8>, SecretError> {
    key.wrap(&context(edge_id), password)
}

/// The client of a claim that is being confirmed; nothing when there is no broker.
pub(super) async fn want_present(tx: &Transaction<'_>, claim: Uuid) -> Result<(), DbError> {
    tx.execute(
        "insert into mqtt_clients (device_id, organization_id, edge_id, wanted, password_wrapped)
         select device_id, organization_id, edge_id, 'present', mqtt_secret_wrapped
         from device_claiming_queue where claim_id = $1 and mqtt_secret_wrapped is not null
         on conflict (device_id) do update set wanted = 'present', password_wrapped = excluded.password_wrapped,
             generation = mqtt_clients.generation + 1, updated_at = now()",
        &[&claim],
    )
    .await?;
    tx.execute(
        "update devices d set mqtt_client_id = m.edge_id from mqtt_clients m, device_claiming_queue q
         where q.claim_id = $1 and m.device_id = q.device_id and d.id = q.device_id",
        &[&claim],
    )
    .await?;
    Ok(())
}

/// The client of a device that was given back.
pub(crate) async fn want_absent(tx: &Transaction<'_>, device: Uuid) -> Result<(), DbError> {
    tx.execute(
        "update mqtt_clients set wanted = 'absent', password_wrapped = null, generation = generation + 1,
                updated_at = now()
         where device_id = $1 and wanted = 'present'",
        &[&device],
    )
    .await?;
    tx.execute(
        "update devices set mqtt_client_id = null where id = $1",
        &[&device],
    )
    .await?;
    Ok(())
}

/// Tells the broker what it does not know yet; returns how many clients that were.
///
/// # Errors
/// The first that the broker does not take; the next call begins with it again.
pub async fn sync(db: &Db, key: &WrappingKey, mqtt: &Mqtt) -> Result<usize, SyncError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.task", "broker").await?;
    let statement = tx
        .prepare_cached(
            "select device_id, edge_id, wanted, password_wrapped, generation from mqtt_clients
             where applied < generation order by updated_at limit 100 for update skip locked",
        )
        .await?;
    let rows = tx.query(&statement, &[]).await?;
    for row in &rows {
        let (device, edge_id): (Uuid, String) = (row.get(0), row.get(1));
        let wrapped: Option<Vec<u8>> = row.get(3);
        match wrapped {
            Some(wrapped) => {
                let password = key.unwrap(&context(&edge_id), &wrapped)?;
                mqtt.control
                    .add_device(&edge_id, &password.expose_base64url())
                    .await?;
            }
            None => mqtt.control.remove_device(&edge_id).await?,
        }
        tx.execute(
            "update mqtt_clients set applied = $2, password_wrapped = null where device_id = $1 and generation = $2",
            &[&device, &row.get::<_, i64>(4)],
        )
        .await?;
        tracing::info!(edge_id, wanted = row.get::<_, &str>(2), "broker told");
    }
    tx.commit().await?;
    Ok(rows.len())
}
