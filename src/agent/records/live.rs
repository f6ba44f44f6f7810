//! What is told of live sessions.

use serde_json::json;

use super::record;
use crate::live::End;
use crate::model::{CameraId, Class, LiveProtocol, RecordId, SessionId, Severity};
use crate::time::Mono;
use crate::wire::envelope::{Record, moment};

/// `stream.live` tells this of a session.
#[derive(Debug, Clone, Copy)]
pub struct LiveTold {
    /// Which.
    pub session: SessionId,
    /// How it is published.
    pub protocol: LiveProtocol,
    /// Since when.
    pub started: Mono,
    /// Taken by the server so far.
    pub bytes: u64,
    /// Of the session.
    pub rev: u64,
}

/// `stream.live`: a camera is published.
pub fn stream_live(id: RecordId, camera: &CameraId, told: LiveTold, at: Mono) -> Record {
    let data = json!({ "session_id": told.session, "camera_id": camera, "protocol": told.protocol,
                       "started_at": moment(told.started), "bytes": told.bytes, "rev": told.rev });
    record(
        id,
        "stream.live",
        Class::Alarm,
        Some(camera.as_str()),
        at,
        data,
    )
}

/// `stream.ended` and `stream.failed` tell this of a session.
#[derive(Debug, Clone, Copy)]
pub struct LiveEnd<'a> {
    /// Which.
    pub session: SessionId,
    /// Since when it was published, where it ever was.
    pub started: Option<Mono>,
    /// Why it is over.
    pub end: End,
    /// What went wrong last, for people.
    pub detail: Option<&'a str>,
    /// Taken by the server.
    pub bytes: u64,
    /// Of the session.
    pub rev: u64,
}

/// `stream.ended`, `stream.failed`: nothing follows.
pub fn stream_over(id: RecordId, camera: &CameraId, told: &LiveEnd<'_>, at: Mono) -> Record {
    let (kind, severity) = match told.end {
        End::Ended(_) => ("stream.ended", Severity::Info),
        End::Failed(_) => ("stream.failed", Severity::Warning),
    };
    let data = json!({ "session_id": told.session, "camera_id": camera, "started_at": told.started.map(moment),
                       "ended_at": moment(at), "reason": told.end.word(), "detail": told.detail,
                       "bytes": told.bytes, "rev": told.rev });
    Record {
        severity,
        ..record(id, kind, Class::Alarm, Some(camera.as_str()), at, data)
    }
}
