//! The twin's row: compiled from its parts, its version, and its signed document.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::document::{self, Camera, Policy};
use crate::admin::AdminError;
use crate::db::{Db, DbError};
use crate::jws;
use crate::license;
use crate::secret::{WrappingKey, sha256_hex};

/// A device as far as its twin is concerned.
#[derive(Debug, Clone)]
pub struct Target {
    /// `devices.id`.
    pub device_id: Uuid,
    /// Its tenant.
    pub organization_id: Uuid,
    /// `aud`.
    pub edge_id: String,
}

/// Finds a device, and locks its twin against other changes until the transaction ends.
///
/// # Errors
/// `Unknown` when there is no such device.
pub async fn lock(tx: &Transaction<'_>, edge_id: &str) -> Result<Target, AdminError> {
    let row = tx
        .query_opt(
            "select id, organization_id from devices where edge_id = $1 and deleted_at is null",
            &[&edge_id],
        )
        .await?
        .ok_or(AdminError::Unknown("device"))?;
    let target = Target {
        device_id: row.get(0),
        organization_id: row.get(1),
        edge_id: edge_id.to_owned(),
    };
    let insert = tx
        .prepare_cached(
            "insert into twins (device_id, organization_id) values ($1, $2) on conflict do nothing",
        )
        .await?;
    tx.execute(&insert, &[&target.device_id, &target.organization_id])
        .await?;
    tx.execute(
        "select 1 from twins where device_id = $1 for update",
        &[&target.device_id],
    )
    .await?;
    Ok(target)
}

/// Compiles the document again; a change gives it the next version. Returns the version.
///
/// # Errors
/// `Refused` when it has become too large; the transaction must not be committed then.
pub async fn compile(
    tx: &Transaction<'_>,
    target: &Target,
    now: Timestamp,
) -> Result<i64, AdminError> {
    let twin = tx
        .query_one(
            "select settings, manages_cameras, doc, secrets_digest, version from twins where device_id = $1",
            &[&target.device_id],
        )
        .await?;
    let (settings, manages): (Value, bool) = (twin.get(0), twin.get(1));
    let limits = license::limits(tx, target.organization_id, now).await?;
    // A camera without a place in the licence is not named, so its device stops it.
    let rows = tx
        .query(
            "select c.camera_id, c.desired, c.password_wrapped from cameras c
             left join camera_places p on p.device_id = c.device_id and p.camera_id = c.camera_id
             where c.device_id = $1 and c.desired is not null and c.deleted_at is null
               and (p.place is null or p.place <= $2) order by c.camera_id",
            &[&target.device_id, &i64::from(limits.max_cameras)],
        )
        .await?;
    let cameras: Vec<Camera> = rows
        .iter()
        .map(|row| Camera {
            camera_id: row.get(0),
            desired: row.get(1),
            has_password: row.get::<_, Option<&[u8]>>(2).is_some(),
        })
        .collect();
    let wrapped: Vec<u8> = rows
        .iter()
        .filter_map(|row| row.get::<_, Option<&[u8]>>(2))
        .flatten()
        .copied()
        .collect();
    let digest = sha256_hex(&wrapped);
    let policies = policies(tx, target).await?;
    let licensed = match limits.status.as_str() {
        "active" => limits.modules,
        _ => Vec::new(),
    };
    let cameras = manages.then_some(cameras.as_slice());
    let hosts: Vec<String> = tx
        .query_one("select upload_hosts from storage_settings", &[])
        .await?
        .get(0);
    let settings = document::with_upload_hosts(settings, &hosts);
    let doc = document::compile(&settings, cameras, &policies, &licensed);
    let (before, before_digest): (Value, &str) = (twin.get(2), twin.get(3));
    let version: i64 = twin.get(4);
    let nothing_yet = version == 0 && doc == json!({});
    if nothing_yet || (version > 0 && doc == before && digest == before_digest) {
        return Ok(version);
    }
    if doc.to_string().len() > document::MAX_BYTES {
        return Err(AdminError::Refused("the twin has become too large".into()));
    }
    let changed = Timestamp::from_second(now.as_second()).unwrap_or(now);
    tx.execute(
        "update twins set doc = $2, secrets_digest = $3, version = version + 1, changed_at = $4
         where device_id = $1",
        &[&target.device_id, &doc, &digest, &changed],
    )
    .await?;
    // Delivered with the commit.
    tx.execute(
        "select pg_notify($1, '')",
        &[&crate::command::issue::CHANNEL],
    )
    .await?;
    Ok(version + 1)
}

/// Where this cloud keeps evidence: every twin says so from its next look on.
///
/// # Errors
/// When the statement fails.
pub async fn set_upload_hosts(db: &Db, hosts: &[String]) -> Result<(), DbError> {
    let sql = "update storage_settings set upload_hosts = $1, updated_at = now() where upload_hosts <> $1";
    db.client().await?.execute(sql, &[&hosts]).await?;
    Ok(())
}

/// The organization's policies and the device's own, in a fixed order.
async fn policies(tx: &Transaction<'_>, target: &Target) -> Result<Vec<Policy>, DbError> {
    let rows = tx
        .query(
            "select id, name, cameras, modules, thresholds, actions, feature_flags from ai_policies
             where organization_id = $1 and (device_id is null or device_id = $2)
               and is_enabled and deleted_at is null order by id",
            &[&target.organization_id, &target.device_id],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Policy {
            id: row.get::<_, Uuid>(0).to_string(),
            name: row.get(1),
            cameras: row.get(2),
            modules: row.get(3),
            thresholds: row.get(4),
            actions: row.get(5),
            feature_flags: row.get(6),
        })
        .collect())
}

/// A twin ready to be signed. It holds secrets.
pub struct Document {
    /// Its version.
    pub version: i64,
    edge_id: String,
    iat: i64,
    doc: Value,
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Document({}, version {}, ***)",
            self.edge_id, self.version
        )
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: i64,
    version: i64,
    doc: &'a Value,
}

impl Document {
    /// What is signed.
    pub fn claims(&self) -> impl Serialize + '_ {
        Claims {
            iss: jws::ISSUER,
            aud: &self.edge_id,
            iat: self.iat,
            version: self.version,
            doc: &self.doc,
        }
    }
}

/// The twin of a device with its secrets; none while it has no twin.
///
/// # Errors
/// When a statement fails or a secret does not open.
pub async fn document(
    tx: &Transaction<'_>,
    target: &Target,
    wrapping: &WrappingKey,
) -> Result<Option<Document>, AdminError> {
    let row = tx
        .query_opt(
            "select version, doc, changed_at from twins where device_id = $1 and version > 0",
            &[&target.device_id],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let mut doc: Value = row.get(1);
    let rows = tx
        .query(
            "select camera_id, password_wrapped from cameras
             where device_id = $1 and desired is not null and password_wrapped is not null",
            &[&target.device_id],
        )
        .await?;
    let mut secrets = HashMap::new();
    for secret in &rows {
        let (camera_id, wrapped): (String, &[u8]) = (secret.get(0), secret.get(1));
        let name = secret_name(&target.edge_id, &camera_id);
        let bytes = wrapping.unwrap_bytes(&name, wrapped)?;
        secrets.insert(camera_id, String::from_utf8_lossy(&bytes).into_owned());
    }
    document::reveal(&mut doc, |camera_id| secrets.get(camera_id).cloned());
    Ok(Some(Document {
        version: row.get(0),
        edge_id: target.edge_id.clone(),
        iat: row.get::<_, Timestamp>(2).as_second(),
        doc,
    }))
}

/// Takes the next version for a document that is no twin, so that the next real one is newer: for faults.
///
/// # Errors
/// When the statement fails.
pub async fn use_version(tx: &Transaction<'_>, target: &Target) -> Result<(), DbError> {
    tx.execute(
        "update twins set version = version + 1 where device_id = $1",
        &[&target.device_id],
    )
    .await?;
    Ok(())
}

/// What a camera's password is bound to.
pub fn secret_name(edge_id: &str, camera_id: &str) -> String {
    format!("{edge_id}/{camera_id}")
}

/// The version of a device's twin; 0 without one.
///
/// # Errors
/// When the statement fails.
pub async fn version(tx: &Transaction<'_>, device_id: Uuid) -> Result<i64, DbError> {
    let statement = tx
        .prepare_cached("select version from twins where device_id = $1")
        .await?;
    let row = tx.query_opt(&statement, &[&device_id]).await?;
    Ok(row.map_or(0, |row| row.get(0)))
}
