//! What uploads say about a recording or a picture, beside the device's records.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use uuid::Uuid;

use crate::db::DbError;
use crate::storage::keys::Kind;

/// The newest upload of a thing that was not given up.
#[derive(Debug, Clone)]
pub struct Latest {
    /// `uploading`, `available` or `failed`.
    pub status: String,
    /// Where the object is.
    pub bucket: String,
    /// Its key there.
    pub object_key: String,
    /// When it was verified.
    pub available_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The newest uploads of these things.
pub async fn latest(
    tx: &Transaction<'_>,
    device_id: Uuid,
    kind: Kind,
    uids: &[Uuid],
) -> Result<HashMap<Uuid, Latest>, DbError> {
    let select = tx
        .prepare_cached(
            "select distinct on (object_uid) object_uid, status, bucket, object_key, available_at, error
             from uploads
             where device_id = $1 and kind = $2 and object_uid = any($3)
               and status in ('uploading', 'available', 'failed')
             order by object_uid, id desc",
        )
        .await?;
    let rows = tx
        .query(&select, &[&device_id, &kind.word(), &uids])
        .await?;
    let latest = |row: &tokio_postgres::Row| Latest {
        status: row.get(1),
        bucket: row.get(2),
        object_key: row.get(3),
        available_at: row.get(4),
        error: row.get(5),
    };
    Ok(rows.iter().map(|row| (row.get(0), latest(row))).collect())
}

/// The status word of the records and the uploads together. What is verified stays available, whatever the
/// device does with its own copy.
pub fn status(device: &'static str, upload: Option<&Latest>) -> &'static str {
    match (upload.map(|upload| upload.status.as_str()), device) {
        (Some("available"), _) => "available",
        (_, "deleted" | "failed") => device,
        (Some("uploading"), _) => "uploading",
        (Some("failed"), _) => "failed",
        _ => device,
    }
}

/// Why it is failed or deleted.
pub fn error<'a>(
    status: &str,
    device: Option<&'a str>,
    upload: Option<&'a Latest>,
) -> Option<&'a str> {
    match status {
        "available" => None,
        "failed" => device.or(upload.and_then(|upload| upload.error.as_deref())),
        _ => device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_verified_stays_available() {
        let upload = |status: &str| Latest {
            status: status.to_owned(),
            bucket: String::new(),
            object_key: String::new(),
            available_at: None,
            error: Some("other bytes".to_owned()),
        };
        for (device, uploaded, both) in [
            ("recording", None, "recording"),
            ("awaiting_upload", None, "awaiting_upload"),
            ("recording", Some("uploading"), "uploading"),
            ("awaiting_upload", Some("uploading"), "uploading"),
            ("awaiting_upload", Some("failed"), "failed"),
            ("awaiting_upload", Some("available"), "available"),
            ("deleted", Some("available"), "available"),
            ("failed", Some("available"), "available"),
            ("deleted", Some("uploading"), "deleted"),
            ("failed", Some("uploading"), "failed"),
            ("deleted", None, "deleted"),
        ] {
            let uploaded = uploaded.map(upload);
            assert_eq!(
                status(device, uploaded.as_ref()),
                both,
                "{device} {uploaded:?}"
            );
        }
        let failed = upload("failed");
        assert_eq!(error("failed", None, Some(&failed)), Some("other bytes"));
        assert_eq!(error("available", Some("retention"), Some(&failed)), None);
    }
}
