//! Snapshot rows: a picture in the spool, taken on command or of an event. The row is written after its file is on disk.

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{DbError, Run};
use crate::model::{CameraId, EventId, PictureKind, Sha256, SnapshotId};
use crate::time::Mono;

const KEEP: &str = "insert into snapshots (id, camera_id, boot, taken_ns, state, width, height, path, size_bytes, sha256,
        rev, event_id, kind)
    values (:id, :camera, :boot, :taken, 'kept', :width, :height, :path, :size, :sha256, 1, :event, :kind)";

/// A picture that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its identity.
    pub id: SnapshotId,
    /// Its camera.
    pub camera: CameraId,
    /// When the frame was captured.
    pub taken: Mono,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Below the spool directory.
    pub path: String,
    /// Bytes.
    pub size_bytes: u64,
    /// Of the file.
    pub sha256: Sha256,
    /// The event that it shows.
    pub event: Option<EventId>,
    /// What it shows.
    pub kind: PictureKind,
}

/// A picture is on disk.
pub fn keep(conn: &Connection, run: &Run, p: &Picture) -> Result<(), DbError> {
    conn.prepare_cached(KEEP)?.execute(named_params! {
        ":id": p.id.0, ":camera": p.camera.as_str(), ":boot": run.boot, ":taken": p.taken.0 as i64,
        ":width": p.width, ":height": p.height, ":path": p.path, ":size": p.size_bytes as i64,
        ":sha256": &p.sha256.0[..], ":event": p.event.map(|e| e.0), ":kind": p.kind.as_str(),
    })?;
    Ok(())
}

/// A picture is not there any more; its new revision, where it should have been.
pub fn lost(conn: &Connection, id: SnapshotId) -> Result<Option<u32>, DbError> {
    let mut stmt = conn.prepare(
        "update snapshots set state = 'lost', rev = rev + 1 where id = ?1 and state = 'kept' returning rev",
    )?;
    let mut rows = stmt.query(params![id.0])?;
    Ok(rows.next()?.map(|r| r.get(0)).transpose()?)
}

/// The file of a row is there after all, or is not as the row said.
pub fn correct(conn: &Connection, p: &Picture) -> Result<(), DbError> {
    conn.execute(
        "update snapshots set state = 'kept', garbage = 0, deleted_why = null, width = :width, height = :height,
             size_bytes = :size, sha256 = :sha256, rev = rev + 1 where id = :id",
        named_params! { ":id": p.id.0, ":width": p.width, ":height": p.height, ":size": p.size_bytes as i64,
                        ":sha256": &p.sha256.0[..] },
    )?;
    Ok(())
}

/// Whether there is a row.
pub fn exists(conn: &Connection, id: SnapshotId) -> Result<bool, DbError> {
    let row = conn
        .query_row(
            "select 1 from snapshots where id = ?1",
            params![id.0],
            |_| Ok(()),
        )
        .optional()?;
    Ok(row.is_some())
}
