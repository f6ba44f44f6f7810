//! What an operator does: organizations, devices, keys, and looking at what came in.
//!
//! The functions work with any role: a superuser sees everything, the server's role sees the
//! organization it has named. Each change appends to the organization's audit chain, without secrets.

mod listing;

use deadpool_postgres::Transaction;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::credentials::{Credentials, new_edge_id, new_edge_key};
use crate::db::{self, Db, DbError};
use crate::project::audit::{self, Entry};
use crate::secret::{Secret, SecretError, WrappingKey, random_base64url, sha256_hex};
pub use listing::{Listing, list};

/// Why an operator's wish was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The database refused.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A secret could not be made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// There is no such thing.
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// Several have this name.
    #[error("several {0}s have that name; use the id")]
    Ambiguous(&'static str),
    /// What is wanted makes no sense; says why.
    #[error("{0}")]
    Refused(String),
    /// It makes sense, but not now; says why.
    #[error("{0}")]
    Conflict(String),
}

impl From<tokio_postgres::Error> for AdminError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Db(error.into())
    }
}

/// Makes an organization.
///
/// # Errors
/// When the database refuses, for example an empty name.
pub async fn create_organization(db: &Db, name: &str) -> Result<Uuid, AdminError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let id = Uuid::now_v7();
    db::set_tenant(&tx, id).await?;
    tx.execute(
        "insert into organizations (id, name) values ($1, $2)",
        &[&id, &name],
    )
    .await?;
    record(
        &tx,
        id,
        "CREATE",
        "organization",
        &id.to_string(),
        json!({ "after": { "name": name } }),
    )
    .await?;
    tx.commit().await?;
    Ok(id)
}

/// Finds an organization by id or by name.
///
/// # Errors
/// `Unknown`, or `Ambiguous` for a name that several have.
pub async fn find_organization(db: &Db, id_or_name: &str) -> Result<Uuid, AdminError> {
    let client = db.client().await?;
    let rows = client
        .query(
            "select id from organizations where (id::text = $1 or name = $1) and deleted_at is null",
            &[&id_or_name],
        )
        .await?;
    match rows.as_slice() {
        [row] => Ok(row.get(0)),
        [] => Err(AdminError::Unknown("organization")),
        _ => Err(AdminError::Ambiguous("organization")),
    }
}

/// Makes a claimed device with its first key; what it returns is the only copy of the secret in clear.
///
/// # Errors
/// When the database refuses or there are no random bytes.
pub async fn create_device(
    db: &Db,
    wrapping: &WrappingKey,
    organization: Uuid,
    name: &str,
    api_base: &str,
) -> Result<Credentials, AdminError> {
    let (edge_id, edge_key, edge_secret) = (new_edge_id(), new_edge_key()?, Secret::random()?);
    let wrapped = wrapping.wrap(&edge_id, &edge_secret)?;
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_tenant(&tx, organization).await?;
    let tenant_name = tx
        .query_opt(
            "select name from organizations where id = $1",
            &[&organization],
        )
        .await?
        .ok_or(AdminError::Unknown("organization"))?
        .get(0);
    let device = Uuid::now_v7();
    tx.execute(
        "insert into devices (id, organization_id, edge_id, name, claimed_at) values ($1, $2, $3, $4, now())",
        &[&device, &organization, &edge_id, &name],
    )
    .await?;
    tx.execute(
        "insert into edge_credentials (id, organization_id, device_id, edge_key, secret_wrapped)
         values ($1, $2, $3, $4, $5)",
        &[&Uuid::now_v7(), &organization, &device, &edge_key, &wrapped],
    )
    .await?;
    let after = json!({ "after": { "name": name, "edge_key": edge_key, "edge_secret": "***" } });
    record(&tx, organization, "CREATE", "device", &edge_id, after).await?;
    tx.commit().await?;
    Ok(Credentials {
        edge_id,
        edge_key,
        edge_secret,
        api_base: api_base.trim_end_matches('/').to_owned(),
        tenant_id: organization,
        tenant_name,
        device_name: name.to_owned(),
    })
}

/// Revokes every key of a device: from now on it is unknown (401 `unknown-key`).
///
/// # Errors
/// `Unknown` when there is no such device.
pub async fn revoke(db: &Db, edge_id: &str) -> Result<(), AdminError> {
    let sql =
        "update edge_credentials c set state = 'revoked', retired_at = coalesce(retired_at, now())
               from devices d where d.id = c.device_id and d.edge_id = $1
               returning d.organization_id";
    change(db, sql, edge_id, "REVOKE", "device").await
}

/// Ends a claim at once, without the device's word: its next request gets a signed 410 `unclaimed`, and its MQTT
/// client goes. `command::leave` asks the device first.
///
/// # Errors
/// `Unknown` when there is no such device.
pub async fn unclaim(db: &Db, edge_id: &str) -> Result<(), AdminError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    unclaim_in(&tx, edge_id).await?;
    tx.commit().await?;
    Ok(())
}

/// The same in a transaction, which may have named a tenant.
///
/// # Errors
/// `Unknown` when there is no such device.
pub async fn unclaim_in(tx: &Transaction<'_>, edge_id: &str) -> Result<(), AdminError> {
    if end_claim(tx, edge_id, "the owner did not ask the device").await? {
        Ok(())
    } else {
        Err(AdminError::Unknown("device"))
    }
}

/// Makes a device nobody's: its keys are revoked (those that work until now still get a signed 410, see
/// `edge::verify`), one that was never confirmed goes, open commands are canceled, and the broker forgets it. False
/// when there is no such device.
///
/// # Errors
/// When a statement fails.
pub(crate) async fn end_claim(
    tx: &Transaction<'_>,
    edge_id: &str,
    why: &str,
) -> Result<bool, DbError> {
    let row = tx
        .query_opt(
            "update devices set status = 'unclaimed', unclaimed_at = coalesce(unclaimed_at, now()),
                    unclaim_due = null, updated_at = now()
             where edge_id = $1 and deleted_at is null returning organization_id, id",
            &[&edge_id],
        )
        .await?;
    let Some(row) = row else {
        return Ok(false);
    };
    let (organization, device): (Uuid, Uuid) = (row.get(0), row.get(1));
    for sql in [
        "delete from edge_credentials where device_id = $1 and state = 'next'",
        "update edge_credentials set state = 'revoked', retired_at = now()
         where device_id = $1 and (state = 'current' or state = 'retired' and retired_at > now() - interval '24 hours')",
        "update commands set status = 'canceled', code = 'unclaimed', error = 'the device was unclaimed',
                completed_at = now(), updated_at = now()
         where device_id = $1 and completed_at is null",
    ] {
        tx.execute(sql, &[&device]).await?;
    }
    crate::claiming::mqtt::want_absent(tx, device).await?;
    let changes = json!({ "after": { "status": "unclaimed", "why": why } });
    record(tx, organization, "UNCLAIM", "device", edge_id, changes).await?;
    Ok(true)
}

/// Suspends an organization (403 `suspended` for its devices), or lifts that.
///
/// # Errors
/// `Unknown` when there is no such organization.
pub async fn suspend(db: &Db, organization: Uuid, suspended: bool) -> Result<(), AdminError> {
    let (status, action) = if suspended {
        ("suspended", "SUSPEND")
    } else {
        ("active", "RESUME")
    };
    let sql = format!(
        "update organizations set status = '{status}', updated_at = now() where id::text = $1 returning id"
    );
    change(db, &sql, &organization.to_string(), action, "organization").await
}

async fn change(
    db: &Db,
    sql: &str,
    entity_id: &str,
    action: &str,
    entity_type: &'static str,
) -> Result<(), AdminError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let rows = tx.query(sql, &[&entity_id]).await?;
    let organization: Uuid = rows.first().ok_or(AdminError::Unknown(entity_type))?.get(0);
    record(&tx, organization, action, entity_type, entity_id, json!({})).await?;
    tx.commit().await?;
    Ok(())
}

/// Makes a Bearer key of the admin API; what it returns is the only copy.
///
/// # Errors
/// `Unknown` for a role that does not exist.
pub async fn create_api_key(
    db: &Db,
    organization: Uuid,
    name: &str,
    role: &str,
) -> Result<String, AdminError> {
    let key = format!(
        "ca_{}_{}",
        random_base64url::<6>()?,
        random_base64url::<32>()?
    );
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_tenant(&tx, organization).await?;
    let id = Uuid::now_v7();
    let made = tx
        .execute(
            "insert into api_keys (id, organization_id, name, key_hash, role_id)
             select $1, $2, $3, $4, r.id from roles r where r.name = $5",
            &[
                &id,
                &organization,
                &name,
                &sha256_hex(key.as_bytes()),
                &role,
            ],
        )
        .await?;
    if made == 0 {
        return Err(AdminError::Unknown("role"));
    }
    let after = json!({ "after": { "name": name, "role": role, "key": "***" } });
    record(
        &tx,
        organization,
        "CREATE",
        "api_key",
        &id.to_string(),
        after,
    )
    .await?;
    tx.commit().await?;
    Ok(key)
}

pub(crate) async fn record(
    tx: &Transaction<'_>,
    organization: Uuid,
    action: &str,
    entity_type: &str,
    entity_id: &str,
    changes: Value,
) -> Result<(), DbError> {
    audit::append(
        tx,
        organization,
        &Entry {
            action,
            entity_type,
            entity_id,
            changes,
        },
    )
    .await
}
