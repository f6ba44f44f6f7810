//! Event rows. Start and end are written together with their outbox record; ids decide, so a repeated write is harmless.

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{DbError, Run};
use crate::model::{CameraId, EventId};
use crate::time::Mono;

const START: &str =
    "insert into events (id, camera_id, boot, started_ns, state, rev, peak_score, zones)
    values (:id, :camera, :boot, :started, 'active', 1, :score, :zones)";
const UPDATE: &str =
    "update events set rev = :rev, peak_score = max(peak_score, :score), zones = :zones
    where id = :id and state = 'active' and rev < :rev";
const END: &str =
    "update events set state = 'ended', ended_ns = :ended, end_reason = :reason, rev = :rev,
    peak_score = max(peak_score, :score) where id = :id and state = 'active'";

/// Where an event stands.
#[derive(Debug, Clone, PartialEq)]
pub struct EventFacts {
    /// Its identity.
    pub id: EventId,
    /// Highest score so far, 0..1.
    pub peak_score: f32,
    /// Names of zones entered so far.
    pub zones: Vec<String>,
    /// Raised with every change.
    pub rev: u32,
}

/// An event begins.
pub fn start(
    conn: &Connection,
    run: &Run,
    camera: &CameraId,
    at: Mono,
    facts: &EventFacts,
) -> Result<(), DbError> {
    conn.prepare_cached(START)?.execute(named_params! {
        ":id": facts.id.0, ":camera": camera.as_str(), ":boot": run.boot, ":started": at.0 as i64,
        ":score": f64::from(facts.peak_score.clamp(0.0, 1.0)), ":zones": zones(facts),
    })?;
    Ok(())
}

/// More is known of an active event.
pub fn update(conn: &Connection, facts: &EventFacts) -> Result<(), DbError> {
    conn.prepare_cached(UPDATE)?.execute(named_params! {
        ":id": facts.id.0, ":rev": facts.rev,
        ":score": f64::from(facts.peak_score.clamp(0.0, 1.0)), ":zones": zones(facts),
    })?;
    Ok(())
}

/// An event is over; `at` is its last motion.
pub fn end(conn: &Connection, facts: &EventFacts, at: Mono, reason: &str) -> Result<(), DbError> {
    conn.prepare_cached(END)?.execute(named_params! {
        ":id": facts.id.0, ":ended": at.0 as i64, ":reason": reason, ":rev": facts.rev,
        ":score": f64::from(facts.peak_score.clamp(0.0, 1.0)),
    })?;
    Ok(())
}

/// An event has no picture, and why.
pub fn without_picture(conn: &Connection, id: EventId, why: &str) -> Result<(), DbError> {
    conn.prepare_cached("update events set no_picture = ?2 where id = ?1")?
        .execute(params![id.0, why])?;
    Ok(())
}

fn zones(facts: &EventFacts) -> String {
    serde_json::Value::from(facts.zones.clone()).to_string()
}

/// An event that a crash left active.
#[derive(Debug, Clone, PartialEq)]
pub struct Orphan {
    /// What is known of it.
    pub facts: EventFacts,
    /// Its camera.
    pub camera: String,
    /// The row of the boot in which it began.
    pub boot: i64,
    /// When it began, on that boot's scale.
    pub started: Mono,
}

/// Events that are still active although no camera task runs: called before any starts.
pub fn orphans(conn: &Connection) -> Result<Vec<Orphan>, DbError> {
    let mut stmt = conn
        .prepare("select id, camera_id, boot, started_ns, rev, peak_score, zones from events where state = 'active'")?;
    let rows = stmt.query_map([], |r| {
        Ok(Orphan {
            facts: EventFacts {
                id: EventId(r.get(0)?),
                rev: r.get(4)?,
                peak_score: r.get::<_, f64>(5)? as f32,
                zones: serde_json::from_str(&r.get::<_, String>(6)?).unwrap_or_default(),
            },
            camera: r.get(1)?,
            boot: r.get(2)?,
            started: Mono(r.get::<_, i64>(3)? as u64),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The latest moment that the recordings of an event prove, on the scale of the boot it began in.
pub fn last_proof(conn: &Connection, id: EventId) -> Result<Option<Mono>, DbError> {
    let ns: Option<Option<i64>> = conn
        .query_row(
            "select max(ended_ns) from recordings where event_id = ?1",
            params![id.0],
            |r| r.get(0),
        )
        .optional()?;
    Ok(ns.flatten().map(|n| Mono(n as u64)))
}

/// Whether there is a row.
pub fn exists(conn: &Connection, id: EventId) -> Result<bool, DbError> {
    let count: i64 = conn
        .prepare_cached("select count(*) from events where id = ?1")?
        .query_row(params![id.0], |r| r.get(0))?;
    Ok(count > 0)
}
