//! `device_offline`: the alert that no device can raise itself. It is resolved when the device is back.

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::{Raised, raise};
use crate::db::{self, Db, DbError};

/// Offline and silent on both ways for three minutes: a restart is no alert.
const SILENT: &str = "d.status = 'offline' and d.last_seen_at is not null
    and greatest(d.last_seen_at, d.presence_at) < now() - interval '180 seconds'
    and not exists (select 1 from alerts a where a.device_id = d.id
                    and a.alert_type = 'device_offline' and a.status <> 'resolved')";

/// Heard of again, or no longer anybody's.
const OVER: &str =
    "d.status <> 'offline' and exists (select 1 from alerts a where a.device_id = d.id
    and a.alert_type = 'device_offline' and a.status <> 'resolved')";

/// Raises and resolves; returns how many of both.
///
/// # Errors
/// When the database does not answer; the next pass does it.
pub async fn pass(db: &Db) -> Result<usize, DbError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.dispatcher", "on").await?;
    let sql = format!(
        "select d.organization_id, d.id, {OVER} from devices d
         where d.deleted_at is null and (({SILENT}) or ({OVER})) limit 100"
    );
    let rows = tx.query(&tx.prepare_cached(&sql).await?, &[]).await?;
    tx.commit().await?;
    for row in &rows {
        let (organization, device): (Uuid, Uuid) = (row.get(0), row.get(1));
        let tx = client.transaction().await?;
        db::set_tenant(&tx, organization).await?;
        if row.get(2) {
            resolve(&tx, device).await?;
        } else {
            offline(&tx, organization, device).await?;
        }
        tx.commit().await?;
    }
    Ok(rows.len())
}

/// Looked at again: another server may have done it.
async fn offline(tx: &Transaction<'_>, organization: Uuid, device: Uuid) -> Result<(), DbError> {
    let id = Uuid::now_v7();
    let sql = format!(
        "insert into alerts (id, organization_id, device_id, alert_type, source_uid, title, message, severity,
                             triggered_at, epoch_rank, rev)
         select $1, d.organization_id, d.id, 'device_offline', $1, left(d.name, 200) || ' is offline',
                'not heard of since ' || to_char(greatest(d.last_seen_at, d.presence_at) at time zone 'UTC',
                                                 'YYYY-MM-DD HH24:MI:SS') || ' UTC',
                'warning', now(), 0, 0
         from devices d where d.id = $2 and {SILENT}
         on conflict do nothing returning title, message"
    );
    let insert = tx.prepare_cached(&sql).await?;
    let Some(row) = tx.query_opt(&insert, &[&id, &device]).await? else {
        return Ok(());
    };
    let raised = Raised {
        alert_id: id,
        title: row.get(0),
        body: row.get(1),
        severity: "warning".to_owned(),
        event_uid: None,
    };
    raise(tx, organization, device, &raised).await
}

async fn resolve(tx: &Transaction<'_>, device: Uuid) -> Result<(), DbError> {
    let sql = "update alerts set status = 'resolved', resolved_at = now()
               where device_id = $1 and alert_type = 'device_offline' and status <> 'resolved'";
    tx.execute(&tx.prepare_cached(sql).await?, &[&device])
        .await?;
    Ok(())
}
