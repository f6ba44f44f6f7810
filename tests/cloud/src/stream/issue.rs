//! An operator starts, renews and stops a session. Each is a command, and in the audit chain as such.

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::{secret_name, session_id};
use crate::admin::AdminError;
use crate::command;
use crate::ingest::lock_device;
use crate::secret::WrappingKey;
use crate::twin::document::HIDDEN;

/// Longest lease.
const MAX_LEASE_S: i64 = 4 * 3600;
/// So long a device may take to hear of it.
const COMMAND_S: i64 = 60;
/// Each protocol with the schemes of its addresses.
const PROTOCOLS: [(&str, &[&str]); 6] = [
    ("whip", &["https"]),
    ("rtmps", &["rtmps"]),
    ("rtmp", &["rtmp"]),
    ("srt", &["srt"]),
    ("rtsp", &["rtsp"]),
    ("rtsps", &["rtsps"]),
];

/// A session that is wanted.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Which camera.
    pub camera_id: String,
    /// `whip`, `rtmps`, `rtmp`, `srt`, `rtsp`, `rtsps`.
    pub protocol: String,
    /// Where the device publishes to. Its own twin decides whether it may.
    pub publish_endpoint: String,
    /// What it shows there.
    #[serde(default)]
    pub stream_key: Option<String>,
    /// Seconds; it ends then unless it is renewed.
    #[serde(default = "five_minutes")]
    pub lease_s: i64,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted")
            .field("camera_id", &self.camera_id)
            .field("protocol", &self.protocol)
            .field("publish_endpoint", &self.publish_endpoint)
            .field("lease_s", &self.lease_s)
            .finish_non_exhaustive()
    }
}

fn five_minutes() -> i64 {
    300
}

fn refused<T>(what: &str) -> Result<T, AdminError> {
    Err(AdminError::Refused(what.to_owned()))
}

impl Wanted {
    fn check(&self) -> Result<(), AdminError> {
        if !(1..=128).contains(&self.camera_id.chars().count()) {
            return refused("camera_id must have 1 to 128 characters");
        }
        let schemes = PROTOCOLS.iter().find(|(name, _)| *name == self.protocol);
        let Some((_, schemes)) = schemes else {
            return refused("protocol must be whip, rtmps, rtmp, srt, rtsp or rtsps");
        };
        let endpoint = self.publish_endpoint.parse::<Url>();
        let is_right = self.publish_endpoint.len() <= 2048
            && endpoint.is_ok_and(|url| {
                schemes.contains(&url.scheme())
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.fragment().is_none()
            });
        if !is_right {
            return refused(
                "publish_endpoint must be an address of the protocol, without login or fragment",
            );
        }
        let key_is_right = self.stream_key.as_ref().is_none_or(|key| {
            (1..=1024).contains(&key.len()) && !key.chars().any(char::is_control) && key != HIDDEN
        });
        if !key_is_right {
            return refused("stream_key must have 1 to 1024 characters");
        }
        check_lease(self.lease_s)
    }
}

fn check_lease(lease_s: i64) -> Result<(), AdminError> {
    if (10..=MAX_LEASE_S).contains(&lease_s) {
        Ok(())
    } else {
        refused("lease_s must be 10 to 14400")
    }
}

fn end_of(now: Timestamp, lease_s: i64) -> Timestamp {
    let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
    whole
        .checked_add(SignedDuration::from_secs(lease_s))
        .unwrap_or(whole)
}

/// Asks a device to publish a camera; returns the session.
///
/// # Errors
/// `Refused` for what no device takes, `Conflict` while the camera has a session.
pub async fn start(
    tx: &Transaction<'_>,
    wrapping: Option<&WrappingKey>,
    edge_id: &str,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Value, AdminError> {
    wanted.check()?;
    let device = tx
        .query_opt(
            "select id, organization_id from devices where edge_id = $1 and deleted_at is null",
            &[&edge_id],
        )
        .await?
        .ok_or(AdminError::Unknown("device"))?;
    let (device, organization): (Uuid, Uuid) = (device.get(0), device.get(1));
    lock_device(tx, device).await?;
    let open = tx
        .query_opt(
            "select id from stream_sessions where device_id = $1 and camera_id = $2
             and status in ('requested', 'live') and expires_at > $3",
            &[&device, &wanted.camera_id, &now],
        )
        .await?;
    if let Some(open) = open {
        return Err(AdminError::Conflict(format!(
            "the camera has a session: stop or renew {}",
            open.get::<_, Uuid>(0)
        )));
    }
    let (session, expires) = (Uuid::now_v7(), end_of(now, wanted.lease_s));
    let wrapped = match (&wanted.stream_key, wrapping) {
        (None, _) => None,
        (Some(key), Some(wrapping)) => {
            Some(wrapping.wrap_bytes(&secret_name(edge_id, session), key.as_bytes())?)
        }
        (Some(_), None) => return refused("a stream key needs the cloud's own key to be wrapped"),
    };
    let mut args = json!({
        "session_id": session, "camera_id": wanted.camera_id, "protocol": wanted.protocol,
        "publish_endpoint": wanted.publish_endpoint, "expires_at": expires,
    });
    if wrapped.is_some() {
        args["stream_key"] = HIDDEN.into();
    }
    let command = send(tx, edge_id, "stream.start", args, now).await?;
    tx.execute(
        "insert into stream_sessions (id, organization_id, device_id, camera_id, command_id, protocol,
                                      publish_endpoint, stream_key_wrapped, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        &[
            &session,
            &organization,
            &device,
            &wanted.camera_id,
            &command,
            &wanted.protocol,
            &wanted.publish_endpoint,
            &wrapped,
            &expires,
        ],
    )
    .await?;
    show(tx, session).await
}

async fn send(
    tx: &Transaction<'_>,
    edge_id: &str,
    command_type: &str,
    args: Value,
    now: Timestamp,
) -> Result<Uuid, AdminError> {
    let wanted = command::Wanted {
        expires_in_s: COMMAND_S,
        ..command::Wanted::new(command_type, args)
    };
    let sent = command::send(tx, edge_id, &wanted, now).await?;
    session_id(&sent).ok_or(AdminError::Unknown("command"))
}

/// The device and the status of a session.
async fn open(tx: &Transaction<'_>, session: Uuid) -> Result<String, AdminError> {
    let row = tx
        .query_opt(
            "select d.edge_id, s.status from stream_sessions s join devices d on d.id = s.device_id
             where s.id = $1 for update of s",
            &[&session],
        )
        .await?
        .ok_or(AdminError::Unknown("session"))?;
    let status: &str = row.get(1);
    if matches!(status, "requested" | "live") {
        Ok(row.get(0))
    } else {
        Err(AdminError::Conflict(format!("the session is {status}")))
    }
}

/// Asks for a session to go on for so long from now.
///
/// # Errors
/// `Unknown`, or `Conflict` when it is over.
pub async fn renew(
    tx: &Transaction<'_>,
    session: Uuid,
    lease_s: i64,
    now: Timestamp,
) -> Result<Value, AdminError> {
    check_lease(lease_s)?;
    let edge_id = open(tx, session).await?;
    let expires = end_of(now, lease_s);
    let args = json!({ "session_id": session, "expires_at": expires });
    send(tx, &edge_id, "stream.renew", args, now).await?;
    tx.execute(
        "update stream_sessions set expires_at = $2, updated_at = now() where id = $1",
        &[&session, &expires],
    )
    .await?;
    show(tx, session).await
}

/// Asks for a session to end now.
///
/// # Errors
/// `Unknown`, or `Conflict` when it is over.
pub async fn stop(
    tx: &Transaction<'_>,
    session: Uuid,
    now: Timestamp,
) -> Result<Value, AdminError> {
    let edge_id = open(tx, session).await?;
    let args = json!({ "session_id": session });
    send(tx, &edge_id, "stream.stop", args, now).await?;
    show(tx, session).await
}

/// A session as JSON, without its key.
///
/// # Errors
/// `Unknown` when there is no such session.
pub async fn show(tx: &Transaction<'_>, session: Uuid) -> Result<Value, AdminError> {
    let (columns, tables, _) = crate::admin::Listing::Streams.sql();
    let sql = format!("select to_jsonb(l) from (select {columns} from {tables} where t.id = $1) l");
    let row = tx
        .query_opt(&tx.prepare_cached(&sql).await?, &[&session])
        .await?;
    Ok(row.ok_or(AdminError::Unknown("session"))?.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_must_be_one_of_its_protocol() {
        let wanted = |protocol: &str, endpoint: &str| Wanted {
            camera_id: "cam-1".into(),
            protocol: protocol.into(),
            publish_endpoint: endpoint.into(),
            stream_key: None,
            lease_s: 60,
        };
        for (protocol, endpoint) in [
            ("rtmps", "rtmps://live.example.com/app"),
            ("srt", "srt://live.example.com:9000?streamid=x"),
            ("whip", "https://live.example.com/whip/1"),
            ("rtsp", "rtsp://live.example.com/1"),
        ] {
            assert!(wanted(protocol, endpoint).check().is_ok(), "{endpoint}");
        }
        for (protocol, endpoint) in [
            ("rtmps", "rtmp://live.example.com/app"),
            ("whip", "http://live.example.com/"),
            ("srt", "srt:"),
            ("file", "file:///etc/passwd"),
            ("rtmps", "rtmps://user@live.example.com/"),
            ("rtmps", "rtmps://live.example.com/#x"),
            ("rtmps", "not an address"),
        ] {
            assert!(wanted(protocol, endpoint).check().is_err(), "{endpoint}");
        }
        let mut right = wanted("srt", "srt://live.example.com:9000");
        right.lease_s = MAX_LEASE_S + 1;
        assert!(right.check().is_err());
    }
}
