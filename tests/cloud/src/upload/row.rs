//! The rows of `uploads`, and what their changes do to recordings and pictures.
//!
//! Every change takes the device's lock, as ingest does, so that a row that people look at is always
//! that of the newest upload and the newest records together.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::plan::{Checked, part_size};
use crate::db::{self, Db, DbError};
use crate::ingest::lock_device;
use crate::project;
use crate::storage::keys::{Kind, object_key};

/// Who uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Tenant.
    pub organization_id: Uuid,
    /// `devices.id`.
    pub device_id: Uuid,
}

/// A row.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Its id.
    pub id: Uuid,
    /// Recording or picture.
    pub kind: Kind,
    /// Its id on the device.
    pub uid: Uuid,
    /// `uploading`, `available`, `failed`, `aborted`, `expired`.
    pub status: String,
    /// Bytes.
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Of the object.
    pub content_type: String,
    /// In the bucket.
    pub key: String,
    /// 0 for a plain PUT.
    pub part_size: u64,
    /// The storage's id of a multipart upload.
    pub storage_id: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

const COLUMNS: &str =
    "id, kind, object_uid, status, size_bytes, sha256, content_type, object_key, part_size,
                       storage_upload_id, error";

impl Upload {
    fn of(row: &Row) -> Self {
        let size = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
        Self {
            id: row.get(0),
            kind: Kind::from_word(row.get(1)).unwrap_or(Kind::Recording),
            uid: row.get(2),
            status: row.get(3),
            size: size(4),
            sha256: row.get(5),
            content_type: row.get(6),
            key: row.get(7),
            part_size: size(8),
            storage_id: row.get(9),
            error: row.get(10),
        }
    }
}

/// What is known of a thing's uploads.
#[derive(Debug, Default)]
pub struct Known {
    /// The one under way or done.
    pub live: Option<Upload>,
    /// How many failed with this very file.
    pub failed: i64,
}

/// Looks at the uploads of a thing; the device is locked until the transaction ends.
pub async fn known(tx: &Transaction<'_>, owner: Owner, wanted: &Checked) -> Result<Known, DbError> {
    lock_device(tx, owner.device_id).await?;
    let key: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&owner.device_id, &wanted.kind.word(), &wanted.uid];
    let sql = format!(
        "select {COLUMNS} from uploads where device_id = $1 and kind = $2 and object_uid = $3
         and status in ('uploading', 'available')"
    );
    let live = tx.query_opt(&tx.prepare_cached(&sql).await?, &key).await?;
    let failed = tx
        .query_one(
            "select count(*) from uploads where device_id = $1 and kind = $2 and object_uid = $3
             and status = 'failed' and sha256 = $4",
            &[key[0], key[1], key[2], &wanted.sha256],
        )
        .await?;
    Ok(Known {
        live: live.as_ref().map(Upload::of),
        failed: failed.get(0),
    })
}

/// Begins one; there must be no live one.
pub async fn insert(
    tx: &Transaction<'_>,
    owner: Owner,
    wanted: &Checked,
    bucket: &str,
    now: Timestamp,
) -> Result<Upload, DbError> {
    let (organization, device) = (owner.organization_id, owner.device_id);
    let key = object_key(organization, device, wanted.kind, wanted.uid, wanted.ending);
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let sql = format!(
        "insert into uploads (id, organization_id, device_id, kind, object_uid, status, size_bytes, sha256,
                              content_type, bucket, object_key, part_size, touched_at)
         values ($1, $2, $3, $4, $5, 'uploading', $6, $7, $8, $9, $10, $11, $12) returning {COLUMNS}"
    );
    let row = tx
        .query_one(
            &sql,
            &[
                &Uuid::now_v7(),
                &organization,
                &device,
                &wanted.kind.word(),
                &wanted.uid,
                &number(wanted.size),
                &wanted.sha256,
                &wanted.content_type,
                &bucket,
                &key,
                &number(part_size(wanted.size)),
                &now,
            ],
        )
        .await?;
    let upload = Upload::of(&row);
    refresh(tx, owner, &upload).await?;
    Ok(upload)
}

/// Notes that somebody asked about it.
pub async fn touch(tx: &Transaction<'_>, id: Uuid, now: Timestamp) -> Result<(), DbError> {
    let sql = "update uploads set touched_at = greatest(touched_at, $2) where id = $1";
    tx.execute(sql, &[&id, &now]).await?;
    Ok(())
}

/// How an upload ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    /// Verified.
    Available,
    /// The object was not the file; says how.
    Failed(&'a str),
    /// By the device.
    Aborted,
    /// Nobody came back, or another file took its place.
    Expired,
}

/// Ends an upload that is under way; false when it has ended already.
pub async fn end(
    tx: &Transaction<'_>,
    owner: Owner,
    upload: &Upload,
    end: End<'_>,
    now: Timestamp,
) -> Result<bool, DbError> {
    lock_device(tx, owner.device_id).await?;
    let (status, error) = match end {
        End::Available => ("available", None),
        End::Failed(error) => ("failed", Some(error)),
        End::Aborted => ("aborted", None),
        End::Expired => ("expired", None),
    };
    let ended = tx
        .execute(
            "update uploads set status = $2, error = $3, storage_upload_id = null,
                    available_at = case when $2 = 'available' then $4::timestamptz end
             where id = $1 and status = 'uploading'",
            &[&upload.id, &status, &error, &now],
        )
        .await?;
    refresh(tx, owner, upload).await?;
    Ok(ended == 1)
}

/// The row that people look at follows.
async fn refresh(tx: &Transaction<'_>, owner: Owner, upload: &Upload) -> Result<(), DbError> {
    match upload.kind {
        Kind::Recording => project::recording::refresh(tx, owner, upload.uid).await,
        Kind::Snapshot => project::snapshot::refresh(tx, owner, upload.uid).await,
    }
}

/// Sets or clears the storage's id; false when it was no longer `before`.
pub async fn set_storage_id(
    db: &Db,
    owner: Owner,
    id: Uuid,
    before: Option<&str>,
    after: Option<&str>,
) -> Result<bool, DbError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_tenant(&tx, owner.organization_id).await?;
    let set = tx
        .execute(
            "update uploads set storage_upload_id = $3
             where id = $1 and status = 'uploading' and storage_upload_id is not distinct from $2",
            &[&id, &before, &after],
        )
        .await?;
    tx.commit().await?;
    Ok(set == 1)
}

/// A device's own upload.
pub async fn find(tx: &Transaction<'_>, owner: Owner, id: Uuid) -> Result<Option<Upload>, DbError> {
    let sql = format!("select {COLUMNS} from uploads where id = $1 and device_id = $2");
    let row = tx.query_opt(&sql, &[&id, &owner.device_id]).await?;
    Ok(row.as_ref().map(Upload::of))
}

/// Uploads of all tenants that nobody asked about since then.
pub async fn idle(db: &Db, since: Timestamp) -> Result<Vec<(Owner, Upload)>, DbError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.dispatcher", "on").await?;
    let sql = format!(
        "select {COLUMNS}, organization_id, device_id from uploads
         where status = 'uploading' and touched_at < $1 order by touched_at limit 100"
    );
    let rows = tx.query(&sql, &[&since]).await?;
    let both = |row: &Row| {
        let owner = Owner {
            organization_id: row.get(11),
            device_id: row.get(12),
        };
        (owner, Upload::of(row))
    };
    Ok(rows.iter().map(both).collect())
}
