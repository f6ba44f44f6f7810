//! What the command line and the status ask of the store: read-only, bounded, newest first.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, named_params};
use serde::Serialize;
use uuid::Uuid;

use super::DbError;
use super::batch::quality;
use super::retention::FileId;
use crate::model::{CameraId, Class, RecordingId};
use crate::time::{Mono, TimeQuality, Wall};
use crate::wire::envelope::BootClock;

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// One camera only.
    pub camera: Option<String>,
    /// Not before this.
    pub since: Option<Wall>,
    /// Rows at most.
    pub limit: u32,
}

/// An event for people and programs.
#[derive(Debug, Clone, Serialize)]
pub struct EventLine {
    /// Its identity.
    pub id: Uuid,
    /// Its camera.
    pub camera: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339; absent while it goes on.
    pub ended_at: Option<String>,
    /// How far the times can be trusted.
    pub timequality: TimeQuality,
    /// `active` or `ended`.
    pub state: String,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// 0..1.
    pub peak_score: f64,
    /// Zones entered.
    pub zones: serde_json::Value,
    /// Path of its first clip below the spool directory.
    pub clip: Option<String>,
    /// Path of its strongest frame below the spool directory.
    pub thumbnail: Option<String>,
    /// The same with boxes around what moved.
    pub annotated: Option<String>,
    /// Why there is no picture although there should be one.
    pub no_picture: Option<String>,
}

/// A clip for people and programs.
#[derive(Debug, Clone, Serialize)]
pub struct ClipLine {
    /// Its identity.
    pub id: Uuid,
    /// Its camera.
    pub camera: String,
    /// The event it shows.
    pub event: Option<Uuid>,
    /// RFC 3339.
    pub started_at: String,
    /// How far the time can be trusted.
    pub timequality: TimeQuality,
    /// Seconds.
    pub duration_s: Option<f64>,
    /// Bytes.
    pub size_bytes: Option<u64>,
    /// `recording`, `kept`, `lost`, `deleted`.
    pub state: String,
    /// The end is missing.
    pub truncated: bool,
    /// `motion` or `continuous`.
    pub mode: String,
    /// Codec and size, e.g. `h264 1920x1080`.
    pub format: String,
    /// Below the spool directory.
    pub path: String,
    /// A person wants it kept.
    pub locked: bool,
    /// Why it was deleted: `age`, `camera_quota`, `quota`, `space`.
    pub deleted_why: Option<String>,
    /// `due`, `local`, `uploading`, `uploaded`.
    pub upload: String,
}

const WALL_US: &str = "started_ns / 1000 + b.offset_us";

fn time(ns: i64, offset_us: i64) -> String {
    BootClock {
        offset_us,
        quality: TimeQuality::None,
    }
    .wall(Mono(ns as u64))
    .rfc3339()
}

/// Events, newest first.
pub fn events(conn: &Connection, filter: &Filter) -> Result<Vec<EventLine>, DbError> {
    let mut stmt = conn.prepare(&format!(
        "select e.id, e.camera_id, e.started_ns, e.ended_ns, b.offset_us, b.quality, e.state, e.end_reason,
                e.peak_score, e.zones,
                (select r.path from recordings r where r.event_id = e.id order by r.started_ns limit 1),
                (select s.path from snapshots s where s.event_id = e.id and s.kind = 'thumbnail' and s.state = 'kept'),
                (select s.path from snapshots s where s.event_id = e.id and s.kind = 'annotated' and s.state = 'kept'),
                e.no_picture
         from events e join boots b on b.id = e.boot
         where (:camera is null or e.camera_id = :camera) and (:since is null or e.{WALL_US} >= :since)
         order by e.boot desc, e.started_ns desc limit :limit"
    ))?;
    let rows = stmt.query_map(
        named_params! { ":camera": filter.camera, ":since": filter.since.map(|w| w.0), ":limit": filter.limit },
        |r| {
            let offset: i64 = r.get(4)?;
            Ok(EventLine {
                id: r.get(0)?,
                camera: r.get(1)?,
                started_at: time(r.get(2)?, offset),
                ended_at: r.get::<_, Option<i64>>(3)?.map(|ns| time(ns, offset)),
                timequality: quality(r.get(5)?),
                state: r.get(6)?,
                end_reason: r.get(7)?,
                peak_score: r.get(8)?,
                zones: serde_json::from_str(&r.get::<_, String>(9)?).unwrap_or_default(),
                clip: r.get(10)?,
                thumbnail: r.get(11)?,
                annotated: r.get(12)?,
                no_picture: r.get(13)?,
            })
        },
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Clips, newest first.
pub fn clips(conn: &Connection, filter: &Filter) -> Result<Vec<ClipLine>, DbError> {
    let mut stmt = conn.prepare(&format!(
        "select r.id, r.camera_id, r.event_id, r.started_ns, b.offset_us, b.quality, r.duration_ms, r.size_bytes,
                r.state, r.truncated, r.mode, r.codec || ' ' || r.width || 'x' || r.height, r.path,
                r.locked, r.deleted_why, r.upload
         from recordings r join boots b on b.id = r.boot
         where (:camera is null or r.camera_id = :camera) and (:since is null or r.{WALL_US} >= :since)
         order by r.boot desc, r.started_ns desc limit :limit"
    ))?;
    let rows = stmt.query_map(
        named_params! { ":camera": filter.camera, ":since": filter.since.map(|w| w.0), ":limit": filter.limit },
        |r| {
            Ok(ClipLine {
                id: r.get(0)?,
                camera: r.get(1)?,
                event: r.get(2)?,
                started_at: time(r.get(3)?, r.get(4)?),
                timequality: quality(r.get(5)?),
                duration_s: r.get::<_, Option<i64>>(6)?.map(|ms| ms as f64 / 1000.0),
                size_bytes: r.get::<_, Option<i64>>(7)?.map(|n| n as u64),
                state: r.get(8)?,
                truncated: r.get(9)?,
                mode: r.get(10)?,
                format: r.get(11)?,
                path: r.get(12)?,
                locked: r.get(13)?,
                deleted_why: r.get(14)?,
                upload: r.get(15)?,
            })
        },
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When a clip that is kept was made, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipSpan {
    /// Names its file.
    pub id: RecordingId,
    /// First frame.
    pub start: Wall,
    /// End of the last one.
    pub end: Wall,
}

/// Clips of a camera that are kept and show some of `from..until`, oldest first.
pub fn covering(
    conn: &Connection,
    camera: &CameraId,
    from: Wall,
    until: Wall,
) -> Result<Vec<ClipSpan>, DbError> {
    let mut stmt = conn.prepare(&format!(
        "select r.id, r.{WALL_US}, r.duration_ms from recordings r join boots b on b.id = r.boot
         where r.camera_id = :camera and r.state = 'kept' and r.{WALL_US} < :until
             and r.{WALL_US} + r.duration_ms * 1000 > :from
         order by 2"
    ))?;
    let rows = stmt.query_map(
        named_params! { ":camera": camera.as_str(), ":from": from.0, ":until": until.0 },
        |r| {
            let start = Wall(r.get(1)?);
            let length = Duration::from_millis(r.get::<_, i64>(2)? as u64);
            Ok(ClipSpan {
                id: RecordingId(r.get(0)?),
                start,
                end: start + length,
            })
        },
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The outbox in figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Backlog {
    /// Unsent rows of P0, P1, P2, P3.
    pub rows: [u64; 4],
    /// Bytes of them.
    pub bytes: [u64; 4],
    /// Records that the cloud refused.
    pub dead: u64,
    /// When the oldest unsent record was made, RFC 3339.
    pub oldest_at: Option<String>,
    /// Seconds since then, where it was in this boot.
    pub oldest_age_s: Option<u64>,
}

/// The outbox in figures; `now` is on the scale of boot row `boot`.
pub fn backlog(conn: &Connection, boot: i64, now: Mono) -> Result<Backlog, DbError> {
    let usage = super::outbox::usage(conn)?;
    let oldest: Option<(i64, i64, i64)> = conn
        .query_row(
            "select o.boottime_ns, o.boot, b.offset_us from outbox o join boots b on b.id = o.boot order by o.seq limit 1",
            [],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )
        .optional()?;
    Ok(Backlog {
        rows: usage.map(|u| u.rows),
        bytes: usage.map(|u| u.bytes),
        dead: conn.query_row("select count(*) from dead_letter", [], |r| {
            r.get::<_, i64>(0)
        })? as u64,
        oldest_at: oldest.map(|(ns, _, offset)| time(ns, offset)),
        oldest_age_s: oldest
            .filter(|o| o.1 == boot)
            .map(|o| now.since(Mono(o.0 as u64)).as_secs()),
    })
}

/// A record of the outbox or the dead letters, for people and programs.
#[derive(Debug, Clone, Serialize)]
pub struct OutboxLine {
    /// Sequence number.
    pub seq: i64,
    /// Its identity.
    pub id: Uuid,
    /// `P0` to `P3`.
    pub class: &'static str,
    /// Type of the record.
    pub kind: String,
    /// Camera, where there is one.
    pub subject: Option<String>,
    /// RFC 3339.
    pub made_at: String,
    /// Times it was sent.
    pub attempts: i64,
    /// Why the cloud refused it; absent while it waits.
    pub refused: Option<String>,
    /// The stored record.
    pub body: serde_json::Value,
}

/// Records that wait, or that were refused, oldest first.
pub fn outbox(conn: &Connection, dead: bool, limit: u32) -> Result<Vec<OutboxLine>, DbError> {
    let sql = if dead {
        "select o.seq, o.id, o.class, o.body, o.boottime_ns, b.offset_us, 0, o.code || ': ' || o.detail
         from dead_letter o join boots b on b.id = o.boot order by o.seq limit ?1"
    } else {
        "select o.seq, o.id, o.class, o.body, o.boottime_ns, b.offset_us, o.attempts, null
         from outbox o join boots b on b.id = o.boot order by o.seq limit ?1"
    };
    let mut stmt = conn.prepare(sql)?;
    let rows = stmt.query_map([limit], |r| {
        let body: serde_json::Value =
            serde_json::from_str(&r.get::<_, String>(3)?).unwrap_or_default();
        Ok(OutboxLine {
            seq: r.get(0)?,
            id: r.get(1)?,
            class: Class::from_index(r.get(2)?).map_or("?", Class::name),
            kind: body["type"]
                .as_str()
                .unwrap_or("?")
                .trim_start_matches("io.sentrycam.")
                .to_owned(),
            subject: body["subject"].as_str().map(str::to_owned),
            made_at: time(r.get(4)?, r.get(5)?),
            attempts: r.get(6)?,
            refused: r.get(7)?,
            body,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// References to rows that are not there.
pub fn broken_references(conn: &Connection) -> Result<i64, DbError> {
    Ok(
        conn.query_row("select count(*) from pragma_foreign_key_check", [], |r| {
            r.get(0)
        })?,
    )
}

/// A row that has, had or will have a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Which.
    pub id: FileId,
    /// Its camera.
    pub camera: String,
    /// `recording`, `kept`, `lost`, `deleted`.
    pub state: String,
    /// Bytes, once it is closed.
    pub size_bytes: Option<u64>,
}

/// All rows of clips and pictures.
pub fn all_files(conn: &Connection) -> Result<Vec<FileRow>, DbError> {
    let mut stmt = conn.prepare(
        "select 0, id, camera_id, state, size_bytes from recordings
         union all select 1, id, camera_id, state, size_bytes from snapshots",
    )?;
    let rows = stmt.query_map([], |r| {
        let id = r.get(1)?;
        Ok(FileRow {
            id: if r.get::<_, i64>(0)? == 0 {
                FileId::Clip(id)
            } else {
                FileId::Picture(id)
            },
            camera: r.get(2)?,
            state: r.get(3)?,
            size_bytes: r.get::<_, Option<i64>>(4)?.map(|n| n as u64),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::open::testing;

    /// Queries that run while the agent works must not scan a growing table.
    #[test]
    fn hot_queries_use_an_index() {
        let (_dir, conn, _run) = testing::store();
        for sql in [
            "select seq, bytes from outbox where class = 1 and batch is null order by seq limit 9",
            "select batch from outbox where batch is not null limit 1",
            "select seq from outbox where batch = x'00'",
            "select seq, body from outbox where coalesce_key = 'x' and batch is null",
            "select id from events where state = 'active'",
            "select id from recordings r where r.state = 'recording'",
            "select path from recordings r where r.event_id = x'00' order by r.started_ns limit 1",
            "select e.id, (select s.path from snapshots s where s.event_id = e.id and s.kind = 'thumbnail' and s.state = 'kept')
             from events e where e.id = x'00'",
        ] {
            let mut stmt = conn.prepare(&format!("explain query plan {sql}")).unwrap();
            let plan: Vec<String> = stmt
                .query_map([], |r| r.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert!(
                plan.iter()
                    .all(|step| !step.starts_with("SCAN") || step.contains("INDEX")),
                "{sql}: {plan:?}"
            );
        }
    }
}
