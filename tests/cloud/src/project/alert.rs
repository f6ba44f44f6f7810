//! What wants a person: alerts from critical events, cameras that went down, and gaps.
//!
//! Each becomes a notification. An alert is raised once by its source (record, or event for motion) and `camera_down` is resolved by
//! any later `camera.up`, whichever of the two arrives first.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Payload, Ranks, camera, recording};
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::{Record, Severity};
use crate::notify::{self, Raised};

struct Alert<'a> {
    kind: String,
    source_uid: Uuid,
    event_uid: Option<Uuid>,
    camera_id: Option<&'a str>,
    title: String,
    message: Option<String>,
    severity: Severity,
    at: Timestamp,
    place: (i32, i64),
}

const INSERT: &str = "
    insert into alerts (organization_id, device_id, id, alert_type, source_uid, event_uid, camera_id,
                        title, message, severity, triggered_at, epoch_rank, rev)
    select $1, $2, a.* from unnest($3::uuid[], $4::text[], $5::uuid[], $6::uuid[], $7::text[],
                                   $8::text[], $9::text[], $10::text[], $11::timestamptz[],
                                   $12::integer[], $13::bigint[]) a
    on conflict (device_id, alert_type, source_uid) do nothing
    returning id, title, message, severity, event_uid";

const RESOLVE: &str = "
    update alerts a set status = 'resolved', resolved_at = c.up_at
    from cameras c
    where a.device_id = $1 and a.alert_type = 'camera_down' and a.status <> 'resolved'
      and c.device_id = a.device_id and c.camera_id = a.camera_id
      and c.camera_id = any($2) and (c.up_epoch_rank, c.up_rev) > (a.epoch_rank, a.rev)";

/// Raises and resolves a batch's alerts; cameras are projected before.
pub(super) async fn project(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
    ranks: &Ranks,
) -> Result<(), DbError> {
    let alerts: Vec<Alert<'_>> = records
        .iter()
        .filter_map(|record| raised_by(record, ranks))
        .collect();
    if !alerts.is_empty() {
        insert(tx, caller, &alerts).await?;
    }
    let cameras: BTreeSet<&str> = records
        .iter()
        .filter(|record| matches!(record.payload, Payload::Camera(..)))
        .filter_map(|record| record.payload.camera_id())
        .collect();
    if !cameras.is_empty() {
        let resolve = tx.prepare_cached(RESOLVE).await?;
        let cameras: Vec<&str> = cameras.into_iter().collect();
        tx.execute(&resolve, &[&caller.device_id, &cameras]).await?;
    }
    Ok(())
}

/// The alert a record raises, if any.
fn raised_by<'a>(record: &'a Record, ranks: &Ranks) -> Option<Alert<'a>> {
    let rank = ranks.get(&record.epoch).copied().unwrap_or_default();
    let alert = |kind: &str, title: String, message: Option<String>| Alert {
        kind: kind.to_owned(),
        source_uid: record.id,
        event_uid: None,
        camera_id: record.payload.camera_id(),
        title,
        message,
        severity: record.severity,
        at: record.time,
        place: (rank, record.sequence),
    };
    let critical = record.severity == Severity::Critical;
    match &record.payload {
        Payload::Camera(camera::Kind::Down, data) => {
            let name = data.name.as_deref().unwrap_or(&data.camera_id);
            let told: Vec<&str> = [&data.reason, &data.detail]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect();
            let message = (!told.is_empty()).then(|| told.join(": "));
            let raised = alert("camera_down", format!("{name} is down"), message);
            let severity = record.severity.max(Severity::Warning);
            Some(Alert {
                severity,
                place: (rank, data.rev),
                ..raised
            })
        }
        Payload::Motion(_, data) if critical => {
            let title = data
                .title
                .clone()
                .unwrap_or_else(|| "critical motion".to_owned());
            let raised = alert("motion", title, None);
            let event_uid = Some(data.event_id);
            Some(Alert {
                source_uid: data.event_id,
                event_uid,
                ..raised
            })
        }
        Payload::Recording(recording::Kind::Failed, data) => {
            let title = "a recording stays on the device".to_owned();
            let raised = alert("upload_failed", title, data.reason.clone());
            Some(Alert {
                severity: record.severity.max(Severity::Warning),
                event_uid: data.event_id,
                ..raised
            })
        }
        Payload::Notice(kind) => {
            let message = record.envelope.get("data").map(ToString::to_string);
            let title = match *kind {
                "sync_gap" => "records were given up on the device",
                _ => "the device's database was recovered",
            };
            let raised = alert(kind, title.to_owned(), message);
            Some(Alert {
                severity: record.severity.max(Severity::Warning),
                ..raised
            })
        }
        _ if critical => {
            let message = record.envelope.get("data").map(ToString::to_string);
            Some(alert(
                &alert_type(&record.kind),
                record.kind.clone(),
                message,
            ))
        }
        _ => None,
    }
}

/// The word for an alert of any type: `io.sentrycam.agent.health.v1` is `agent_health`.
fn alert_type(kind: &str) -> String {
    let short = kind.strip_prefix("io.sentrycam.").unwrap_or(kind);
    let short = short.strip_suffix(".v1").unwrap_or(short);
    let word = |c: char| {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '_'
        }
    };
    short.chars().map(word).take(64).collect()
}

async fn insert(
    tx: &Transaction<'_>,
    caller: &Caller,
    alerts: &[Alert<'_>],
) -> Result<(), DbError> {
    let statement = tx.prepare_cached(INSERT).await?;
    let rows = tx
        .query(
            &statement,
            &[
                &caller.organization_id,
                &caller.device_id,
                &alerts.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>(),
                &alerts
                    .iter()
                    .map(|alert| alert.kind.as_str())
                    .collect::<Vec<_>>(),
                &alerts
                    .iter()
                    .map(|alert| alert.source_uid)
                    .collect::<Vec<_>>(),
                &alerts
                    .iter()
                    .map(|alert| alert.event_uid)
                    .collect::<Vec<_>>(),
                &alerts
                    .iter()
                    .map(|alert| alert.camera_id)
                    .collect::<Vec<_>>(),
                &alerts
                    .iter()
                    .map(|alert| alert.title.as_str())
                    .collect::<Vec<_>>(),
                &alerts
                    .iter()
                    .map(|alert| alert.message.as_deref())
                    .collect::<Vec<_>>(),
                &alerts
                    .iter()
                    .map(|alert| alert.severity.word())
                    .collect::<Vec<_>>(),
                &alerts.iter().map(|alert| alert.at).collect::<Vec<_>>(),
                &alerts.iter().map(|alert| alert.place.0).collect::<Vec<_>>(),
                &alerts.iter().map(|alert| alert.place.1).collect::<Vec<_>>(),
            ],
        )
        .await?;
    for row in &rows {
        let raised = Raised {
            alert_id: row.get(0),
            title: row.get(1),
            body: row.get(2),
            severity: row.get(3),
            event_uid: row.get(4),
        };
        notify::raise(tx, caller.organization_id, caller.device_id, &raised).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::alert_type;

    #[test]
    fn any_type_has_a_word_that_the_database_takes() {
        assert_eq!(alert_type("io.sentrycam.agent.health.v1"), "agent_health");
        assert_eq!(alert_type("com.Example.\u{e4}b-c"), "com_example__b_c");
    }
}
