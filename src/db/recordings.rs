//! Recording rows. The row decides: it is opened before the first byte is written and says `kept` only after the file
//! and its directory are on disk.

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{DbError, Run};
use crate::model::{CameraId, ClipState, EventId, RecordMode, RecordingId, Sha256, StreamInfo};
use crate::time::Mono;

const OPEN: &str = "insert into recordings
        (id, camera_id, event_id, boot, started_ns, mode, state, codec, width, height, has_audio, path, rev)
    values (:id, :camera, :event, :boot, :started, :mode, 'recording', :codec, :width, :height, :audio, :path, 1)";
const KEEP: &str = "update recordings set state = 'kept', ended_ns = started_ns + :duration_ms * 1000000,
        duration_ms = :duration_ms, size_bytes = :size, sha256 = :sha256, truncated = :truncated, rev = rev + 1
    where id = :id and state = 'recording'";

/// A clip that begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// Its identity.
    pub id: RecordingId,
    /// The event it belongs to, where there is one.
    pub event: Option<EventId>,
    /// When its first frame was captured.
    pub started: Mono,
    /// Motion or continuous.
    pub mode: RecordMode,
    /// Picture and codec.
    pub info: StreamInfo,
    /// Below the spool directory.
    pub path: String,
}

/// A file that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// Bytes.
    pub size_bytes: u64,
    /// From first to last frame.
    pub duration_ms: u64,
    /// Of the whole file.
    pub sha256: Sha256,
    /// The end is missing.
    pub truncated: bool,
}

/// A clip begins.
pub fn open(conn: &Connection, run: &Run, camera: &CameraId, o: &Opening) -> Result<(), DbError> {
    conn.prepare_cached(OPEN)?.execute(named_params! {
        ":id": o.id.0, ":camera": camera.as_str(), ":event": o.event.map(|e| e.0), ":boot": run.boot,
        ":started": o.started.0 as i64,
        ":mode": o.mode.as_str(),
        ":codec": o.info.codec.to_string(), ":width": o.info.width, ":height": o.info.height,
        ":audio": o.info.has_audio, ":path": o.path,
    })?;
    Ok(())
}

/// A clip is closed and on disk.
pub fn keep(conn: &Connection, id: RecordingId, file: &KeptFile) -> Result<(), DbError> {
    conn.prepare_cached(KEEP)?.execute(named_params! {
        ":id": id.0, ":duration_ms": file.duration_ms as i64, ":size": file.size_bytes as i64,
        ":sha256": &file.sha256.0[..], ":truncated": file.truncated,
    })?;
    Ok(())
}

/// A clip's state changes without a new file (`lost`, `deleted`).
pub fn mark(conn: &Connection, id: RecordingId, state: ClipState) -> Result<(), DbError> {
    conn.prepare_cached(
        "update recordings set state = ?2, rev = rev + 1 where id = ?1 and state <> ?2",
    )?
    .execute(params![id.0, state.as_str()])?;
    Ok(())
}

/// The first clip of an event of which something is kept.
pub fn first_clip(conn: &Connection, event: EventId) -> Result<Option<RecordingId>, DbError> {
    let id = conn
        .query_row(
            "select id from recordings where event_id = ?1 and state = 'kept' order by started_ns limit 1",
            params![event.0],
            |r| r.get(0),
        )
        .optional()?;
    Ok(id.map(RecordingId))
}

/// The state of a recording, and whether it was made on command.
pub fn state(conn: &Connection, id: RecordingId) -> Result<Option<(String, bool)>, DbError> {
    let row = conn
        .query_row(
            "select state, mode = 'manual' from recordings where id = ?1",
            params![id.0],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .optional()?;
    Ok(row)
}

/// A row as the start-up check and the command line read it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordingRow {
    /// Its identity.
    pub id: RecordingId,
    /// Its camera.
    pub camera: String,
    /// The event it belongs to.
    pub event: Option<EventId>,
    /// Row of the boot in which it began.
    pub boot: i64,
    /// When it began, on that boot's scale.
    pub started: Mono,
    /// `recording`, `kept`, `lost`, `deleted`.
    pub state: String,
    /// Codec word.
    pub codec: String,
    /// Picture width.
    pub width: u32,
    /// Picture height.
    pub height: u32,
    /// AAC is in it.
    pub has_audio: bool,
    /// `motion` or `continuous`.
    pub mode: String,
    /// Below the spool directory.
    pub path: String,
    /// Raised with every change.
    pub rev: u32,
}

const ROW_COLUMNS: &str = "r.id, r.camera_id, r.event_id, r.boot, r.started_ns, r.state, r.codec, r.width, r.height, r.has_audio, r.mode, r.path, r.rev";

fn row(r: &rusqlite::Row<'_>) -> rusqlite::Result<RecordingRow> {
    Ok(RecordingRow {
        id: RecordingId(r.get(0)?),
        camera: r.get(1)?,
        event: r.get::<_, Option<uuid::Uuid>>(2)?.map(EventId),
        boot: r.get(3)?,
        started: Mono(r.get::<_, i64>(4)? as u64),
        state: r.get(5)?,
        codec: r.get(6)?,
        width: r.get(7)?,
        height: r.get(8)?,
        has_audio: r.get(9)?,
        mode: r.get(10)?,
        path: r.get(11)?,
        rev: r.get(12)?,
    })
}

/// Clips that a crash left open: called before any camera starts.
pub fn unfinished(conn: &Connection) -> Result<Vec<RecordingRow>, DbError> {
    let mut stmt = conn.prepare(&format!(
        "select {ROW_COLUMNS} from recordings r where r.state = 'recording'"
    ))?;
    Ok(stmt.query_map([], row)?.collect::<Result<_, _>>()?)
}

/// One row.
pub fn find(conn: &Connection, id: RecordingId) -> Result<Option<RecordingRow>, DbError> {
    let sql = format!("select {ROW_COLUMNS} from recordings r where r.id = ?1");
    Ok(conn.query_row(&sql, params![id.0], row).optional()?)
}

/// The file of a row is there after all, or is not as the row said.
pub fn correct(conn: &Connection, id: RecordingId, file: &KeptFile) -> Result<(), DbError> {
    conn.execute(
        "update recordings set state = 'recording', garbage = 0, deleted_why = null where id = ?1",
        params![id.0],
    )?;
    keep(conn, id, file)
}
