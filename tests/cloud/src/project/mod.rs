//! Projections: from records to the rows people look at.
//!
//! Every projection is a merge that does not care about order: what a row shows is a function of the
//! *set* of records seen, so that updates before their start, or after their end, or twice, change
//! nothing in the result. Rows are read, merged in Rust and written back; the device's lock, held by
//! ingest, makes that safe.
//!
//! | records | rows |
//! |---|---|
//! | `motion.started/updated/ended` | `events`, and `alerts` when critical |
//! | `recording.opened/closed/uploaded/deleted/lost/locked` | `recordings`, with what `uploads` says |
//! | `snapshot.taken/deleted` | `snapshots`, with what `uploads` says |
//! | `camera.up/down/degraded` | `cameras`, and `alerts` for down |
//! | `stream.live/ended/failed` | `stream_sessions` |
//! | `agent.started/stopping/heartbeat/health` | `devices` |
//! | `command.status` | `commands` |
//! | `twin.reported` | `twins` |
//! | `audit.entry` | `audit_logs` |
//! | `sync.gap`, `db.recovered`, anything else critical | `alerts` |

pub mod alert;
pub mod audit;
pub mod camera;
pub mod command;
pub mod device;
pub mod event;
pub mod parts;
pub mod recording;
pub mod snapshot;
pub mod stream;
pub mod twin;
pub mod upload;

use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::Transaction;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::Record;
use crate::stream::state;

/// What the cloud makes of a record's `data`.
#[derive(Debug, Clone)]
pub enum Payload {
    /// `motion.*`
    Motion(event::Kind, Box<event::Data>),
    /// `recording.*`
    Recording(recording::Kind, Box<recording::Data>),
    /// `snapshot.*`
    Snapshot(snapshot::Kind, Box<snapshot::Data>),
    /// `stream.*`
    Stream(state::Kind, Box<state::Data>),
    /// `camera.*`
    Camera(camera::Kind, Box<camera::Data>),
    /// `agent.*`; true for `agent.stopping`
    Agent(bool, Box<device::Data>),
    /// `command.status`
    Command(Box<command::Data>),
    /// `twin.reported`
    Twin(Box<twin::Data>),
    /// `audit.entry`
    Audit(Box<audit::Data>),
    /// `sync.gap`, `db.recovered`: the type of alert they raise
    Notice(&'static str),
    /// Stored, not projected.
    Other,
}

impl Payload {
    /// Reads `data` as its type wants it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(kind: &str, data: &Value) -> Result<Self, String> {
        let short = kind
            .strip_prefix("io.sentrycam.")
            .and_then(|kind| kind.strip_suffix(".v1"));
        Ok(match short {
            Some("motion.started") => Self::motion(event::Kind::Started, data)?,
            Some("motion.updated") => Self::motion(event::Kind::Updated, data)?,
            Some("motion.ended") => Self::motion(event::Kind::Ended, data)?,
            Some("recording.opened") => Self::recording(recording::Kind::Opened, data)?,
            Some("recording.closed") => Self::recording(recording::Kind::Closed, data)?,
            Some("recording.uploaded") => Self::recording(recording::Kind::Uploaded, data)?,
            Some("recording.deleted") => Self::recording(recording::Kind::Deleted, data)?,
            Some("recording.failed") => Self::recording(recording::Kind::Failed, data)?,
            Some("recording.lost") => Self::recording(recording::Kind::Lost, data)?,
            Some("recording.locked") => Self::recording(recording::Kind::Locked, data)?,
            Some("snapshot.taken") => Self::snapshot(snapshot::Kind::Taken, data)?,
            Some("snapshot.deleted") => Self::snapshot(snapshot::Kind::Deleted, data)?,
            Some("stream.live") => Self::stream(state::Kind::Live, data)?,
            Some("stream.ended") => Self::stream(state::Kind::Ended, data)?,
            Some("stream.failed") => Self::stream(state::Kind::Failed, data)?,
            Some("camera.up") => Self::camera(camera::Kind::Up, data)?,
            Some("camera.down") => Self::camera(camera::Kind::Down, data)?,
            Some("camera.degraded") => Self::camera(camera::Kind::Degraded, data)?,
            Some("agent.stopping") => Self::Agent(true, parse(data)?),
            Some("agent.started" | "agent.heartbeat" | "agent.health") => {
                Self::Agent(false, parse(data)?)
            }
            Some("command.status") => {
                let data: Box<command::Data> = parse(data)?;
                data.check()?;
                Self::Command(data)
            }
            Some("twin.reported") => {
                let data: Box<twin::Data> = parse(data)?;
                data.check()?;
                Self::Twin(data)
            }
            Some("audit.entry") => Self::Audit(parse(data)?),
            Some("sync.gap") => Self::Notice("sync_gap"),
            Some("db.recovered") => Self::Notice("db_recovered"),
            _ => Self::Other,
        })
    }

    fn motion(kind: event::Kind, data: &Value) -> Result<Self, String> {
        let data: Box<event::Data> = parse(data)?;
        data.check(kind)?;
        Ok(Self::Motion(kind, data))
    }

    fn recording(kind: recording::Kind, data: &Value) -> Result<Self, String> {
        let data: Box<recording::Data> = parse(data)?;
        let lost = kind == recording::Kind::Deleted && data.status.as_deref() == Some("failed");
        let kind = if lost { recording::Kind::Lost } else { kind };
        data.check(kind)?;
        Ok(Self::Recording(kind, data))
    }

    fn snapshot(kind: snapshot::Kind, data: &Value) -> Result<Self, String> {
        let data: Box<snapshot::Data> = parse(data)?;
        data.check(kind)?;
        Ok(Self::Snapshot(kind, data))
    }

    fn stream(kind: state::Kind, data: &Value) -> Result<Self, String> {
        let data: Box<state::Data> = parse(data)?;
        check_not_negative("rev", Some(data.rev))?;
        check_not_negative("bytes", data.bytes)?;
        Ok(Self::Stream(kind, data))
    }

    fn camera(kind: camera::Kind, data: &Value) -> Result<Self, String> {
        let data: Box<camera::Data> = parse(data)?;
        data.check()?;
        Ok(Self::Camera(kind, data))
    }

    /// The event or recording of which this is not the beginning.
    pub(crate) fn continues(&self) -> Option<Uuid> {
        match self {
            Self::Motion(kind, data) if *kind != event::Kind::Started => Some(data.event_id),
            Self::Recording(kind, data) if *kind != recording::Kind::Opened => {
                Some(data.recording_id)
            }
            _ => None,
        }
    }

    /// The camera it speaks about.
    pub(crate) fn camera_id(&self) -> Option<&str> {
        match self {
            Self::Motion(_, data) => Some(&data.camera_id),
            Self::Recording(_, data) => data.camera_id.as_deref(),
            Self::Snapshot(_, data) => data.camera_id.as_deref(),
            Self::Camera(_, data) => Some(&data.camera_id),
            _ => None,
        }
    }
}

fn parse<'de, T: Deserialize<'de>>(data: &'de Value) -> Result<T, String> {
    T::deserialize(data).map_err(|error| error.to_string())
}

/// Refuses a camera's name that the database would refuse.
fn check_camera_id(camera_id: &str) -> Result<(), String> {
    if (1..=128).contains(&camera_id.chars().count()) {
        Ok(())
    } else {
        Err("camera_id must have 1 to 128 characters".into())
    }
}

/// Refuses numbers below zero and revisions that do not count up.
fn check_not_negative(name: &str, value: Option<i64>) -> Result<(), String> {
    if value.is_some_and(|value| value < 0) {
        Err(format!("{name} < 0"))
    } else {
        Ok(())
    }
}

/// Refuses what no file has: sides below zero, a SHA-256 that is not 64 lower-case hexadecimal digits.
fn check_file(width: Option<i32>, height: Option<i32>, sha256: Option<&str>) -> Result<(), String> {
    if width.is_some_and(|w| w < 0) || height.is_some_and(|h| h < 0) {
        return Err("width and height must not be below 0".into());
    }
    let is_hex = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    if sha256.is_some_and(|sha256| !is_hex(sha256)) {
        return Err("sha256 must be 64 lower-case hexadecimal digits".into());
    }
    Ok(())
}

/// Where a record stands among its device's: the order of its epoch, then its own number.
pub type Place = (i32, i64);

/// The ranks of the epochs of these records.
pub type Ranks = HashMap<Uuid, i32>;

/// Projects records that were stored just now.
///
/// # Errors
/// When a statement fails; the caller rolls back to its savepoint.
pub async fn project(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
) -> Result<(), DbError> {
    if !records.is_empty() {
        let ranks = epoch_ranks(tx, caller, records).await?;
        let cameras: BTreeSet<&str> = records
            .iter()
            .filter_map(|record| record.payload.camera_id())
            .collect();
        camera::name_all(tx, caller, &cameras.into_iter().collect::<Vec<_>>()).await?;
        camera::project(tx, caller, records, &ranks).await?;
        event::project(tx, caller, records).await?;
        recording::project(tx, caller, records).await?;
        snapshot::project(tx, caller, records).await?;
        command::project(tx, caller, records, &ranks).await?;
        stream::project(tx, caller, records).await?;
        twin::project(tx, caller, records, &ranks).await?;
        audit::project(tx, caller, records).await?;
        alert::project(tx, caller, records, &ranks).await?;
        device::project(tx, caller, records, &ranks).await?;
    }
    device::seen(tx, caller.device_id).await
}

/// Ranks epochs by when they were first heard of.
async fn epoch_ranks(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
) -> Result<Ranks, DbError> {
    let select = tx
        .prepare_cached("select epoch, rank from edge_epochs where device_id = $1")
        .await?;
    let rows = tx.query(&select, &[&caller.device_id]).await?;
    let mut ranks: Ranks = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for record in records {
        if ranks.contains_key(&record.epoch) {
            continue;
        }
        let rank = ranks
            .values()
            .max()
            .map_or(1, |rank| rank.saturating_add(1));
        let insert = tx
            .prepare_cached(
                "insert into edge_epochs (device_id, organization_id, epoch, rank)
                 values ($1, $2, $3, $4)",
            )
            .await?;
        let (device, organization) = (&caller.device_id, &caller.organization_id);
        tx.execute(&insert, &[device, organization, &record.epoch, &rank])
            .await?;
        ranks.insert(record.epoch, rank);
    }
    Ok(ranks)
}
