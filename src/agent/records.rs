//! The records that the agent sends, one function a type: the only place that knows their payloads.
//!
//! Payloads are documented in `docs/protocol.md`; moments are boot-time readings, rendered when sent.

mod live;
mod lock;

use serde_json::{Value, json};

use crate::command::State;
use crate::db::commands::Said;
use crate::db::events::EventFacts;
use crate::db::recordings::{KeptFile, Opening};
use crate::db::snapshots::Picture;
use crate::model::{
    CameraId, Class, CommandId, EventId, RecordId, RecordingId, Region, Severity, StreamInfo,
};
use crate::recording::storage::Storage;
use crate::time::Mono;
use crate::wire::envelope::{Record, moment};

pub use live::{LiveEnd, LiveTold, stream_live, stream_over};
pub use lock::lock;

fn record(
    id: RecordId,
    kind: &'static str,
    class: Class,
    camera: Option<&str>,
    at: Mono,
    data: Value,
) -> Record {
    Record {
        id,
        kind,
        class,
        subject: camera.map(str::to_owned),
        severity: Severity::Info,
        at,
        data,
    }
}

/// What a motion record tells besides the facts of the event.
#[derive(Debug, Clone, Copy)]
pub struct MotionDetail<'a> {
    /// How much motion on this camera matters.
    pub severity: Severity,
    /// Latest score, 0..1.
    pub score: f32,
    /// What moves, strongest first.
    pub regions: &'a [Region],
}

/// `motion.started`.
pub fn motion_started(
    id: RecordId,
    camera: &CameraId,
    title: &str,
    facts: &EventFacts,
    detail: MotionDetail<'_>,
    started: Mono,
    preroll_s: f64,
) -> Record {
    let data = json!({
        "event_id": facts.id, "camera_id": camera, "started_at": moment(started), "title": title,
        "triggered_by": "motion", "score": detail.score, "peak_score": facts.peak_score, "regions": detail.regions,
        "zones": facts.zones, "preroll_s": preroll_s, "rev": facts.rev,
    });
    Record {
        severity: detail.severity,
        ..record(
            id,
            "motion.started",
            Class::Alarm,
            Some(camera.as_str()),
            started,
            data,
        )
    }
}

/// `motion.updated`.
pub fn motion_updated(
    id: RecordId,
    camera: &CameraId,
    facts: &EventFacts,
    detail: MotionDetail<'_>,
    at: Mono,
) -> Record {
    let data = json!({
        "event_id": facts.id, "camera_id": camera, "score": detail.score, "peak_score": facts.peak_score,
        "regions": detail.regions, "zones": facts.zones, "rev": facts.rev,
    });
    Record {
        severity: detail.severity,
        ..record(
            id,
            "motion.updated",
            Class::Alarm,
            Some(camera.as_str()),
            at,
            data,
        )
    }
}

/// How an event ended.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// How much motion on this camera matters.
    pub severity: Severity,
    /// First motion.
    pub started: Mono,
    /// Last motion.
    pub ended: Mono,
    /// `quiet`, `cut`, `camera_lost`, `stopped`, `crash`.
    pub reason: &'a str,
    /// Its first clip.
    pub recording: Option<RecordingId>,
}

/// `motion.ended`.
pub fn motion_ended(id: RecordId, camera: &str, facts: &EventFacts, ending: Ending<'_>) -> Record {
    let data = json!({
        "event_id": facts.id, "camera_id": camera, "started_at": moment(ending.started),
        "ended_at": moment(ending.ended), "duration_ms": ending.ended.since(ending.started).as_millis() as u64,
        "peak_score": facts.peak_score, "zones": facts.zones, "reason": ending.reason,
        "recording_id": ending.recording, "rev": facts.rev,
    });
    Record {
        severity: ending.severity,
        ..record(
            id,
            "motion.ended",
            Class::Alarm,
            Some(camera),
            ending.ended,
            data,
        )
    }
}

/// `recording.opened`.
pub fn recording_opened(id: RecordId, camera: &CameraId, o: &Opening) -> Record {
    let data = json!({
        "recording_id": o.id, "camera_id": camera, "event_id": o.event, "started_at": moment(o.started),
        "mode": o.mode.as_str(), "codec": o.info.codec, "width": o.info.width, "height": o.info.height,
        "has_audio": o.info.has_audio, "status": "recording", "rev": 1,
    });
    record(
        id,
        "recording.opened",
        Class::Metadata,
        Some(camera.as_str()),
        o.started,
        data,
    )
}

/// What `recording.closed` tells of the clip besides its file.
#[derive(Debug, Clone)]
pub struct ClosedClip {
    /// Its identity.
    pub id: RecordingId,
    /// Its camera.
    pub camera: String,
    /// Its event.
    pub event: Option<EventId>,
    /// First frame.
    pub started: Mono,
    /// `motion` or `continuous`.
    pub mode: String,
    /// Codec word.
    pub codec: String,
    /// Picture width.
    pub width: u32,
    /// Picture height.
    pub height: u32,
    /// AAC is in it.
    pub has_audio: bool,
    /// Below the spool directory.
    pub path: String,
    /// Of the row.
    pub rev: u32,
}

/// `recording.closed`: the file is on disk and playable.
pub fn recording_closed(id: RecordId, clip: &ClosedClip, file: &KeptFile) -> Record {
    let ended = clip.started + std::time::Duration::from_millis(file.duration_ms);
    let data = json!({
        "recording_id": clip.id, "camera_id": clip.camera, "event_id": clip.event,
        "started_at": moment(clip.started), "ended_at": moment(ended), "duration_ms": file.duration_ms,
        "size_bytes": file.size_bytes, "sha256": file.sha256.to_string(), "truncated": file.truncated,
        "path_name": clip.path, "has_audio": clip.has_audio, "codec": clip.codec, "width": clip.width,
        "height": clip.height, "mode": clip.mode, "status": "awaiting_upload", "rev": clip.rev,
    });
    record(
        id,
        "recording.closed",
        Class::Metadata,
        Some(&clip.camera),
        ended,
        data,
    )
}

/// `recording.deleted`: the bytes are gone, on purpose or not (`reason` says which).
pub fn recording_deleted(
    id: RecordId,
    camera: &str,
    recording: RecordingId,
    reason: &str,
    rev: u32,
    at: Mono,
) -> Record {
    let data = json!({ "recording_id": recording, "camera_id": camera, "reason": reason,
                       "status": if reason == "lost" { "failed" } else { "deleted" }, "rev": rev });
    record(
        id,
        "recording.deleted",
        Class::Metadata,
        Some(camera),
        at,
        data,
    )
}

/// `recording.uploaded`: the cloud said that it has verified the file.
pub fn recording_uploaded(
    id: RecordId,
    camera: &str,
    recording: RecordingId,
    rev: u32,
    at: Mono,
) -> Record {
    let data = json!({ "recording_id": recording, "camera_id": camera, "rev": rev });
    let (kind, class) = ("recording.uploaded", Class::Metadata);
    record(id, kind, class, Some(camera), at, data)
}

/// `recording.failed`: the clip will not be uploaded as it is. An alarm: evidence stays on the device alone.
pub fn recording_failed(
    id: RecordId,
    camera: &str,
    recording: RecordingId,
    code: &str,
    rev: u32,
    at: Mono,
) -> Record {
    let data =
        json!({ "recording_id": recording, "camera_id": camera, "reason": code, "rev": rev });
    Record {
        severity: Severity::Warning,
        ..record(id, "recording.failed", Class::Alarm, Some(camera), at, data)
    }
}

/// `agent.health`: the same of a picture.
pub fn upload_failed(id: RecordId, camera: &str, file: &str, code: &str, at: Mono) -> Record {
    let data = json!({ "status": "degraded",
                       "upload": { "state": "failed", "camera_id": camera, "file": file, "code": code } });
    Record {
        severity: Severity::Warning,
        ..record(id, "agent.health", Class::Alarm, None, at, data)
    }
}

/// `snapshot.deleted`: the bytes are gone.
pub fn snapshot_deleted(
    id: RecordId,
    camera: &str,
    snapshot: uuid::Uuid,
    reason: &str,
    rev: u32,
    at: Mono,
) -> Record {
    let data = json!({ "snapshot_id": snapshot, "camera_id": camera, "reason": reason, "status": "deleted", "rev": rev });
    record(
        id,
        "snapshot.deleted",
        Class::Metadata,
        Some(camera),
        at,
        data,
    )
}

/// `agent.health`: the clip disk is in another state. An alarm, unlike the figures: it must not be replaced unsent.
pub fn storage_health(
    id: RecordId,
    at: Mono,
    storage: Storage,
    detail: &str,
    free_bytes: u64,
) -> Record {
    let status = if storage == Storage::Ok {
        "ok"
    } else {
        "degraded"
    };
    let data = json!({
        "status": status,
        "storage": { "state": storage, "advice": storage.advice(), "detail": detail, "free_bytes": free_bytes },
    });
    let severity = match storage {
        Storage::Ok => Severity::Info,
        Storage::Slow => Severity::Warning,
        _ => Severity::Critical,
    };
    Record {
        severity,
        ..record(id, "agent.health", Class::Alarm, None, at, data)
    }
}

/// Where a camera's frames come from.
pub struct Source<'a> {
    /// The camera's, for people.
    pub name: &'a str,
    /// `rtsp`, `v4l2`, `file`, `test`.
    pub kind: &'a str,
    /// Of RTSP, without user and query.
    pub url: Option<&'a str>,
}

/// `camera.up`.
pub fn camera_up(
    id: RecordId,
    camera: &CameraId,
    source: &Source<'_>,
    info: &StreamInfo,
    rev: u64,
    at: Mono,
) -> Record {
    let data = json!({ "camera_id": camera, "name": source.name, "source_kind": source.kind, "url": source.url, "codec": info.codec,
                       "width": info.width, "height": info.height, "fps": info.fps, "has_audio": info.has_audio,
                       "rev": rev });
    record(
        id,
        "camera.up",
        Class::Alarm,
        Some(camera.as_str()),
        at,
        data,
    )
}

/// `camera.down`.
pub fn camera_down(
    id: RecordId,
    camera: &CameraId,
    name: &str,
    reason: &str,
    detail: &str,
    rev: u64,
    at: Mono,
) -> Record {
    let data = json!({ "camera_id": camera, "name": name, "reason": reason, "detail": detail, "rev": rev });
    Record {
        severity: Severity::Warning,
        ..record(
            id,
            "camera.down",
            Class::Alarm,
            Some(camera.as_str()),
            at,
            data,
        )
    }
}

/// `camera.degraded`: it delivers, but something of it does not work (detection, recording).
pub fn camera_degraded(
    id: RecordId,
    camera: &str,
    reason: &str,
    detail: &str,
    rev: u64,
    at: Mono,
) -> Record {
    let data = json!({ "camera_id": camera, "reason": reason, "detail": detail, "rev": rev });
    Record {
        severity: Severity::Warning,
        ..record(id, "camera.degraded", Class::Alarm, Some(camera), at, data)
    }
}

/// `agent.started`, `agent.stopping`, `agent.heartbeat`, `agent.health`.
pub fn agent(id: RecordId, kind: &'static str, at: Mono, data: Value) -> Record {
    let class = if matches!(kind, "agent.heartbeat" | "agent.health") {
        Class::Metric
    } else {
        Class::Alarm
    };
    record(id, kind, class, None, at, data)
}

/// `twin.reported`: what became of the twin.
pub fn twin_reported(id: RecordId, at: Mono, report: Value) -> Record {
    record(id, "twin.reported", Class::Critical, None, at, report)
}

/// `snapshot.taken`: the file is on disk.
pub fn snapshot_taken(id: RecordId, p: &Picture, command: Option<CommandId>) -> Record {
    let data = json!({
        "snapshot_id": p.id, "camera_id": p.camera, "taken_at": moment(p.taken), "width": p.width, "height": p.height,
        "size_bytes": p.size_bytes, "sha256": p.sha256.to_string(), "path_name": p.path, "content_type": "image/jpeg",
        "command_id": command, "event_id": p.event, "kind": p.kind, "status": "awaiting_upload", "rev": 1,
    });
    record(
        id,
        "snapshot.taken",
        Class::Metadata,
        Some(p.camera.as_str()),
        p.taken,
        data,
    )
}

/// `command.status`: a command is in another state.
pub fn command_status(
    id: RecordId,
    command: CommandId,
    rev: u32,
    state: State,
    said: &Said,
    at: Mono,
) -> Record {
    let mut data = json!({ "command_id": command, "rev": rev, "state": state.as_str(), "code": said.code,
                           "detail": said.detail });
    if let Some(result) = &said.result {
        data["result"] = result.clone();
    }
    let severity = match state {
        State::Failed | State::TimedOut | State::Canceled | State::Rejected => Severity::Warning,
        State::Acknowledged | State::InProgress | State::Succeeded => Severity::Info,
    };
    Record {
        severity,
        ..record(id, "command.status", Class::Critical, None, at, data)
    }
}

/// `command.status` of a command that runs: how far it is.
pub fn command_progress(
    id: RecordId,
    command: CommandId,
    rev: u32,
    progress: &Value,
    at: Mono,
) -> Record {
    let said = Said::default();
    let mut record = command_status(id, command, rev, State::InProgress, &said, at);
    record.data["progress"] = progress.clone();
    record
}

/// `claim.claimed`, `claim.unclaimed`, `claim.factory_reset`.
pub fn claim(id: RecordId, kind: &'static str, at: Mono, data: Value) -> Record {
    record(id, kind, Class::Critical, None, at, data)
}

/// `db.recovered`.
pub fn db_recovered(id: RecordId, at: Mono, salvaged: u64, damaged_tables: u64) -> Record {
    let data = json!({ "salvaged": salvaged, "damaged_tables": damaged_tables });
    Record {
        severity: Severity::Critical,
        ..record(id, "db.recovered", Class::Critical, None, at, data)
    }
}

/// `audit.entry`: the broker gave this device's session to somebody else again and again.
pub fn clone_suspected(id: RecordId, edge_id: &str, at: Mono) -> Record {
    let data = json!({ "actor": "device", "action": "clone_suspected", "entity_type": "device",
                       "entity_id": edge_id, "changes": null, "at": moment(at) });
    Record {
        severity: Severity::Critical,
        ..record(id, "audit.entry", Class::Critical, None, at, data)
    }
}
