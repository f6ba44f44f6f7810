//! The loop that delivers: takes what is due, sends it, writes down what came of it.
//!
//! Before a delivery is sent it is put off for a minute, so that a crash in between repeats it then, and two
//! servers never send the same one at the same time. No body of an answer is read.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Settings, endpoint, retry_after, rfc3339, seconds, signature};
use crate::admin::AdminError;
use crate::db::{self, DbError};
use crate::http::App;

/// Deliveries of one pass, at the same time.
const AT_ONCE: i64 = 16;
/// Longest text of an error.
const MAX_ERROR: usize = 512;

/// A delivery that is due.
#[derive(Debug, Clone, Copy)]
struct Due {
    organization: Uuid,
    id: Uuid,
    endpoint: Uuid,
    attempts: i32,
}

/// What is sent.
struct Message {
    url: String,
    key: Vec<u8>,
    body: String,
}

/// What came of an attempt.
enum Outcome {
    Delivered(u16),
    Failed {
        status: Option<u16>,
        error: String,
        /// The receiver's own wish.
        after: Option<Duration>,
        /// It says that it is gone for good.
        gone: bool,
    },
}

/// Delivers what is due; returns how many were tried.
///
/// # Errors
/// When the database does not answer; the next pass goes on.
pub async fn pass(
    app: &Arc<App>,
    http: &reqwest::Client,
    settings: &Arc<Settings>,
) -> Result<usize, DbError> {
    let due = take(app).await?;
    let mut sending = JoinSet::new();
    for one in due.iter().copied() {
        let (app, http, settings) = (app.clone(), http.clone(), settings.clone());
        sending.spawn(async move {
            if let Err(error) = one_delivery(&app, &http, &settings, one).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(delivery_id = %one.id, error, "delivery not tried");
            }
        });
    }
    while sending.join_next().await.is_some() {}
    Ok(due.len())
}

async fn take(app: &App) -> Result<Vec<Due>, DbError> {
    let mut client = app.db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.dispatcher", "on").await?;
    let statement = tx
        .prepare_cached(
            "update notification_deliveries d set attempts = attempts + 1, last_attempt_at = now(),
                    next_attempt_at = now() + interval '60 seconds'
             from (select id from notification_deliveries
                   where status = 'pending' and next_attempt_at <= now()
                   order by next_attempt_at limit $1 for update skip locked) p
             where d.id = p.id
             returning d.organization_id, d.id, d.endpoint_id, d.attempts",
        )
        .await?;
    let rows = tx.query(&statement, &[&AT_ONCE]).await?;
    tx.commit().await?;
    let due = |row: &tokio_postgres::Row| Due {
        organization: row.get(0),
        id: row.get(1),
        endpoint: row.get(2),
        attempts: row.get(3),
    };
    Ok(rows.iter().map(due).collect())
}

async fn one_delivery(
    app: &App,
    http: &reqwest::Client,
    settings: &Settings,
    due: Due,
) -> Result<(), AdminError> {
    let message = compose(app, settings, due).await?;
    let outcome = send(http, settings, due, &message).await;
    note(app, settings, due, outcome).await
}

const COMPOSE: &str = "
    select e.url, e.secret_wrapped, n.id, n.title, n.body, n.severity, n.event_uid, a.id, a.alert_type, a.status,
           a.camera_id, a.triggered_at, d.edge_id, d.name, c.name, v.occurred_at, v.ended_at, v.recording_id,
           (select s.object_key from snapshots s
            where s.device_id = n.device_id and s.event_uid = n.event_uid and s.status = 'available'
            order by s.kind desc, s.id limit 1)
    from notification_deliveries l
      join notification_endpoints e on e.id = l.endpoint_id
      join notifications n on n.id = l.notification_id
      join alerts a on a.id = n.alert_id
      join devices d on d.id = n.device_id
      left join cameras c on c.device_id = a.device_id and c.camera_id = a.camera_id
      left join events v on v.device_id = n.device_id and v.event_uid = n.event_uid
    where l.id = $1";

/// The message as it is now: a thumbnail that has come since is in it.
async fn compose(app: &App, settings: &Settings, due: Due) -> Result<Message, AdminError> {
    let mut client = app.db.client().await?;
    let tx = client.transaction().await?;
    db::set_tenant(&tx, due.organization).await?;
    let row = tx
        .query_one(&tx.prepare_cached(COMPOSE).await?, &[&due.id])
        .await?;
    tx.commit().await?;
    let key = app
        .wrapping_key
        .unwrap_bytes(&endpoint::secret_name(due.endpoint), row.get(1))?;
    let thumbnail: Option<String> = row.get(18);
    let thumbnail_url = match (&app.storage, thumbnail) {
        (Some(storage), Some(key)) => {
            Some(storage.get_url(&key, settings.url_life, Timestamp::now()))
        }
        _ => None,
    };
    let text = |column: usize| row.get::<_, Option<String>>(column);
    let time = |column: usize| row.get::<_, Option<Timestamp>>(column).map(rfc3339);
    let id = |column: usize| row.get::<_, Option<Uuid>>(column);
    let event: Value = match id(6) {
        Some(event) => json!({
            "event_id": event, "started_at": time(15), "ended_at": time(16), "recording_id": id(17),
        }),
        None => Value::Null,
    };
    let body = json!({
        "type": "alert.raised",
        "timestamp": time(11),
        "data": {
            "notification_id": id(2), "alert_id": id(7), "alert_type": text(8), "status": text(9),
            "severity": text(5), "title": text(3), "message": text(4),
            "edge_id": text(12), "device_name": text(13), "camera_id": text(10), "camera_name": text(14),
            "event": event, "thumbnail_url": thumbnail_url,
        },
    });
    Ok(Message {
        url: row.get(0),
        key,
        body: body.to_string(),
    })
}

async fn send(http: &reqwest::Client, settings: &Settings, due: Due, message: &Message) -> Outcome {
    let id = format!("msg_{}", due.id.simple());
    let timestamp = Timestamp::now().as_second();
    let sent = http
        .post(&message.url)
        .timeout(settings.timeout)
        .header("content-type", "application/json")
        .header(
            "user-agent",
            concat!("sentrycam-cloud/", env!("CARGO_PKG_VERSION")),
        )
        .header("webhook-id", &id)
        .header("webhook-timestamp", timestamp)
        .header(
            "webhook-signature",
            signature::sign(&message.key, &id, timestamp, &message.body),
        )
        .body(message.body.clone())
        .send()
        .await;
    match sent {
        Ok(response) if response.status().is_success() => {
            Outcome::Delivered(response.status().as_u16())
        }
        Ok(response) => {
            let status = response.status().as_u16();
            let after = response.headers().get("retry-after");
            Outcome::Failed {
                status: Some(status),
                error: format!("the receiver answered {status}"),
                after: retry_after(after.and_then(|after| after.to_str().ok())),
                gone: status == 410,
            }
        }
        Err(error) => Outcome::Failed {
            status: None,
            error: chain(&error.without_url()),
            after: None,
            gone: false,
        },
    }
}

/// An error and its causes in a line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ").chars().take(MAX_ERROR).collect()
}

async fn note(
    app: &App,
    settings: &Settings,
    due: Due,
    outcome: Outcome,
) -> Result<(), AdminError> {
    let mut client = app.db.client().await?;
    let tx = client.transaction().await?;
    db::set_tenant(&tx, due.organization).await?;
    match outcome {
        Outcome::Delivered(status) => {
            tx.execute(
                "update notification_deliveries set status = 'delivered', delivered_at = now(),
                        next_attempt_at = null, last_status = $2, last_error = null
                 where id = $1",
                &[&due.id, &i32::from(status)],
            )
            .await?;
            tx.execute(
                "update notifications n set notified_at = coalesce(n.notified_at, now())
                 from notification_deliveries l where l.id = $1 and n.id = l.notification_id",
                &[&due.id],
            )
            .await?;
            tx.execute(
                "update events v set notified_at = coalesce(v.notified_at, now())
                 from notification_deliveries l join notifications n on n.id = l.notification_id
                 where l.id = $1 and v.device_id = n.device_id and v.event_uid = n.event_uid",
                &[&due.id],
            )
            .await?;
            tracing::info!(delivery_id = %due.id, attempts = due.attempts, "notification delivered");
        }
        Outcome::Failed {
            status,
            error,
            after,
            gone,
        } => {
            let pause = settings.pause(due.attempts).filter(|_| !gone);
            let pause = pause.map(|pause| after.map_or(pause, |after| after.max(pause)));
            tracing::warn!(delivery_id = %due.id, attempts = due.attempts, error, "notification not delivered");
            tx.execute(
                "update notification_deliveries set
                   status = case when $2::double precision is null then 'failed' else 'pending' end,
                   next_attempt_at = now() + $2::double precision * interval '1 second',
                   last_status = $3, last_error = $4
                 where id = $1",
                &[&due.id, &seconds(pause), &status.map(i32::from), &error],
            )
            .await?;
            if gone {
                endpoint::disable(&tx, due.endpoint, "the receiver answered 410").await?;
            }
        }
    }
    tx.commit().await?;
    Ok(())
}
