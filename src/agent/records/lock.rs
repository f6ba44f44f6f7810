//! A lock and its record, in one transaction: of a command, or of `sentrycam clips lock` beside the agent.

use serde_json::json;

use super::record;
use crate::db::{Connection, DbError, Run, outbox, retention};
use crate::model::{Class, RecordId, RecordingId};
use crate::time::Mono;
use crate::wire::envelope::Record;

/// `recording.locked`: a person keeps it from retention, or no longer.
fn recording_locked(
    id: RecordId,
    camera: &str,
    recording: RecordingId,
    locked: bool,
    rev: u32,
    at: Mono,
) -> Record {
    let data =
        json!({ "recording_id": recording, "camera_id": camera, "locked": locked, "rev": rev });
    let (kind, class) = ("recording.locked", Class::Metadata);
    record(id, kind, class, Some(camera), at, data)
}

/// Locks a clip or no longer, and puts the record of it. `None`: there is no such clip; else its state, and a record only
/// where it is `kept` or `recording`.
///
/// # Errors
/// [`DbError`]; the caller's transaction decides what stays.
pub fn lock(
    conn: &Connection,
    run: &Run,
    id: RecordingId,
    locked: bool,
    record: RecordId,
    at: Mono,
) -> Result<Option<String>, DbError> {
    let state = retention::lock(conn, id, locked)?;
    if matches!(state.as_deref(), Some("kept" | "recording"))
        && let Some((rev, camera)) = retention::revise(conn, id)?
    {
        let told = recording_locked(record, &camera, id, locked, rev, at);
        outbox::put(conn, run, &told)?;
    }
    Ok(state)
}
