//! Telling people: every alert becomes a notification, and a delivery to each webhook that wants its severity.
//!
//! ```text
//! alert ─▶ notification ─▶ delivery: pending ── 2xx ──▶ delivered
//!                            ▲   └ anything else: again after 5 s, 5 min, … 24 h ─▶ failed after the tenth
//! ```
//! A delivery for an event waits a little for the event's thumbnail. At least once: a receiver tells repeats by
//! `webhook-id`, which is the same for every attempt.

pub mod deliver;
pub mod endpoint;
pub mod offline;
pub mod signature;

use std::time::Duration;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use uuid::Uuid;

use crate::db::DbError;

/// How deliveries are repeated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Pauses after the first, second, … failed attempt; the attempt after the last pause is the last.
    pub pauses: Vec<Duration>,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Life of the address of a thumbnail.
    pub url_life: Duration,
}

impl Default for Settings {
    /// The schedule that Standard Webhooks proposes.
    fn default() -> Self {
        let seconds = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
        Self {
            pauses: seconds.map(Duration::from_secs).to_vec(),
            timeout: Duration::from_secs(10),
            url_life: Duration::from_secs(24 * 3600),
        }
    }
}

impl Settings {
    /// The pause after so many attempts that failed; none when that was the last.
    fn pause(&self, attempts: i32) -> Option<Duration> {
        let failed = usize::try_from(attempts).ok()?.checked_sub(1)?;
        self.pauses.get(failed).copied()
    }
}

/// An alert that was raised just now.
#[derive(Debug)]
pub struct Raised {
    /// `alerts.id`.
    pub alert_id: Uuid,
    /// Of the alert.
    pub title: String,
    /// Of the alert.
    pub body: Option<String>,
    /// Of the alert.
    pub severity: String,
    /// The event it is about.
    pub event_uid: Option<Uuid>,
}

/// A delivery that belongs to an event waits so long for its thumbnail.
const THUMBNAIL_WAIT_S: f64 = 10.0;

/// Makes the notification of an alert and its deliveries, in the alert's transaction.
///
/// # Errors
/// When a statement fails.
pub async fn raise(
    tx: &Transaction<'_>,
    organization: Uuid,
    device: Uuid,
    alert: &Raised,
) -> Result<(), DbError> {
    let id = Uuid::now_v7();
    let notification = tx
        .prepare_cached(
            "insert into notifications (id, organization_id, device_id, alert_id, title, body, severity, event_uid)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .await?;
    tx.execute(
        &notification,
        &[
            &id,
            &organization,
            &device,
            &alert.alert_id,
            &alert.title,
            &alert.body,
            &alert.severity,
            &alert.event_uid,
        ],
    )
    .await?;
    let wanting = tx
        .prepare_cached(
            "select id from notification_endpoints where organization_id = $1 and is_active
             and array_position(array['info', 'warning', 'critical'], min_severity)
                 <= array_position(array['info', 'warning', 'critical'], $2)",
        )
        .await?;
    let endpoints = tx
        .query(&wanting, &[&organization, &alert.severity])
        .await?;
    let delivery = tx
        .prepare_cached(
            "insert into notification_deliveries (id, organization_id, notification_id, endpoint_id, next_attempt_at)
             select $1, $2, $3, $4, now() + case when $5::uuid is null or exists (
               select 1 from snapshots where device_id = $6 and event_uid = $5 and status = 'available'
             ) then interval '0' else $7 * interval '1 second' end",
        )
        .await?;
    for endpoint in endpoints {
        let endpoint: Uuid = endpoint.get(0);
        tx.execute(
            &delivery,
            &[
                &Uuid::now_v7(),
                &organization,
                &id,
                &endpoint,
                &alert.event_uid,
                &device,
                &THUMBNAIL_WAIT_S,
            ],
        )
        .await?;
    }
    Ok(())
}

/// An event's thumbnail is there: what waited for it goes now.
///
/// # Errors
/// When the statement fails.
pub async fn thumbnail_is_there(
    tx: &Transaction<'_>,
    device: Uuid,
    snapshot: Uuid,
) -> Result<(), DbError> {
    let sql = "
        update notification_deliveries d set next_attempt_at = now()
        from notifications n join snapshots s on s.device_id = n.device_id and s.event_uid = n.event_uid
        where n.id = d.notification_id and d.status = 'pending' and d.attempts = 0 and d.next_attempt_at > now()
          and s.device_id = $1 and s.snapshot_uid = $2 and s.status = 'available'";
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, &[&device, &snapshot]).await?;
    Ok(())
}

/// When a delivery is tried again, by the database's clock; none when it is not.
fn seconds(pause: Option<Duration>) -> Option<f64> {
    pause.map(|pause| pause.as_secs_f64())
}

/// `Retry-After` in seconds, at most a day.
fn retry_after(value: Option<&str>) -> Option<Duration> {
    let seconds: u64 = value?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(86_400)))
}

/// What a message says of when it was raised.
fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenth_failure_is_the_last() {
        let settings = Settings::default();
        assert_eq!(settings.pause(1), Some(Duration::from_secs(5)));
        assert_eq!(settings.pause(9), Some(Duration::from_secs(86_400)));
        assert_eq!(settings.pause(10), None);
        assert_eq!(settings.pause(0), None);
    }

    #[test]
    fn retry_after_is_bounded() {
        assert_eq!(retry_after(Some("7")), Some(Duration::from_secs(7)));
        assert_eq!(
            retry_after(Some("99999999")),
            Some(Duration::from_secs(86_400))
        );
        assert_eq!(retry_after(Some("Fri, 21 Nov 2026 00:00:00 GMT")), None);
        assert_eq!(retry_after(None), None);
    }
}
