//! The catalogue: every type of command with its arguments, its bounds, its time limit and how often it may run.
//!
//! Arguments are bounded and typed; an unknown type or an unknown argument is refused, never skipped.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::stream::{StreamRenew, StreamStart, StreamStop};
use crate::model::{CameraId, EventId, RecordingId, SnapshotId};

/// A type of command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `recording.start`
    RecordingStart,
    /// `recording.stop`
    RecordingStop,
    /// `recording.lock`
    RecordingLock,
    /// `recording.unlock`
    RecordingUnlock,
    /// `recording.upload`
    RecordingUpload,
    /// `snapshot`
    Snapshot,
    /// `stream.start`
    StreamStart,
    /// `stream.renew`
    StreamRenew,
    /// `stream.stop`
    StreamStop,
    /// `twin.refresh`
    TwinRefresh,
    /// `sync.now`
    SyncNow,
    /// `reboot`
    Reboot,
    /// `key.rotate`
    KeyRotate,
    /// `unclaim`
    Unclaim,
    /// `diag.collect`
    DiagCollect,
}

impl Kind {
    /// All that this version knows.
    pub const ALL: [Kind; 15] = [
        Kind::RecordingStart,
        Kind::RecordingStop,
        Kind::RecordingLock,
        Kind::RecordingUnlock,
        Kind::RecordingUpload,
        Kind::Snapshot,
        Kind::StreamStart,
        Kind::StreamRenew,
        Kind::StreamStop,
        Kind::TwinRefresh,
        Kind::SyncNow,
        Kind::Reboot,
        Kind::KeyRotate,
        Kind::Unclaim,
        Kind::DiagCollect,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::RecordingStart => "recording.start",
            Kind::RecordingStop => "recording.stop",
            Kind::RecordingLock => "recording.lock",
            Kind::RecordingUnlock => "recording.unlock",
            Kind::RecordingUpload => "recording.upload",
            Kind::Snapshot => "snapshot",
            Kind::StreamStart => "stream.start",
            Kind::StreamRenew => "stream.renew",
            Kind::StreamStop => "stream.stop",
            Kind::TwinRefresh => "twin.refresh",
            Kind::SyncNow => "sync.now",
            Kind::Reboot => "reboot",
            Kind::KeyRotate => "key.rotate",
            Kind::Unclaim => "unclaim",
            Kind::DiagCollect => "diag.collect",
        }
    }

    /// By its word.
    pub fn from_word(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// How long it may run.
    pub fn timeout(self) -> Duration {
        Duration::from_secs(match self {
            Kind::RecordingStart
            | Kind::RecordingStop
            | Kind::RecordingLock
            | Kind::RecordingUnlock
            | Kind::RecordingUpload
            | Kind::Snapshot => 10,
            Kind::StreamStart => 15,
            Kind::StreamRenew | Kind::StreamStop => 5,
            Kind::TwinRefresh | Kind::SyncNow => 30,
            Kind::KeyRotate | Kind::DiagCollect => 120,
            Kind::Unclaim => 300,
            Kind::Reboot => 600,
        })
    }

    /// Running it twice is running it once: it may run again after a crash.
    pub fn idempotent(self) -> bool {
        match self {
            Kind::RecordingStop
            | Kind::RecordingLock
            | Kind::RecordingUnlock
            | Kind::RecordingUpload
            | Kind::Snapshot
            | Kind::StreamRenew
            | Kind::StreamStop
            | Kind::TwinRefresh
            | Kind::SyncNow
            | Kind::KeyRotate
            | Kind::Unclaim
            | Kind::DiagCollect => true,
            Kind::RecordingStart | Kind::StreamStart | Kind::Reboot => false,
        }
    }

    /// Does no harm when it runs late: it may run while the time is not known.
    pub fn safe_without_time(self) -> bool {
        match self {
            Kind::RecordingStop
            | Kind::StreamStop
            | Kind::TwinRefresh
            | Kind::SyncNow
            | Kind::DiagCollect => true,
            // A lock may be one that takes another off again.
            Kind::RecordingStart
            | Kind::RecordingLock
            | Kind::RecordingUnlock
            | Kind::RecordingUpload
            | Kind::Snapshot
            | Kind::StreamStart
            | Kind::StreamRenew
            | Kind::Reboot
            | Kind::KeyRotate
            | Kind::Unclaim => false,
        }
    }
}

/// What `unclaim` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wipe {
    /// The keys; what was recorded stays.
    Credentials,
    /// The keys, the database and the clips.
    All,
}

/// A part of a diagnostic bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The status document.
    Status,
    /// The configuration without its secrets.
    Config,
    /// The last log lines.
    Log,
    /// Whether the database is sound, and its rows in figures.
    Db,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 4] = [Part::Status, Part::Config, Part::Log, Part::Db];
}

/// What is to be done, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Record a camera from now on.
    RecordingStart(RecordingStart),
    /// End such a recording.
    RecordingStop(OneRecording),
    /// Keep a recording, whatever the quotas say.
    RecordingLock(RecordingLock),
    /// Let it go like any other.
    RecordingUnlock(OneRecording),
    /// Bring a recording to the cloud that policy keeps here.
    RecordingUpload(OneRecording),
    /// Take a picture.
    Snapshot(Snapshot),
    /// Publish a camera for so long.
    StreamStart(StreamStart),
    /// Publish it longer.
    StreamRenew(StreamRenew),
    /// End that.
    StreamStop(StreamStop),
    /// Ask for the twin.
    TwinRefresh,
    /// Bring the outbox to the cloud.
    SyncNow,
    /// Restart the machine.
    Reboot(Reboot),
    /// Change the key.
    KeyRotate,
    /// Belong to nobody.
    Unclaim(Unclaim),
    /// Collect what helps to find a fault.
    DiagCollect(DiagCollect),
}

/// Arguments of `recording.start`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingStart {
    /// Which camera.
    pub camera_id: CameraId,
    /// The recording's identity, chosen by the cloud.
    pub recording_id: RecordingId,
    /// Ends by itself after this, 1–3600 s.
    pub max_duration_s: u32,
    /// The event that it belongs to.
    #[serde(default)]
    pub event_id: Option<EventId>,
}

/// Arguments of `recording.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingLock {
    /// Which.
    pub recording_id: RecordingId,
    /// `false` lets it go like any other.
    #[serde(default = "yes")]
    pub locked: bool,
}

fn yes() -> bool {
    true
}

/// Arguments of `recording.stop`, `unlock` and `upload`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneRecording {
    /// Which.
    pub recording_id: RecordingId,
}

/// Arguments of `snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Which camera.
    pub camera_id: CameraId,
    /// The picture's identity, chosen by the cloud.
    pub snapshot_id: SnapshotId,
    /// Pixels, 64–3840.
    #[serde(default = "usual_width")]
    pub max_width: u32,
    /// Of the JPEG, 1–100.
    #[serde(default = "usual_quality")]
    pub quality: u32,
}

fn usual_width() -> u32 {
    1920
}

fn usual_quality() -> u32 {
    85
}

/// Arguments of `reboot`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reboot {
    /// Wait before, 0–300 s.
    #[serde(default)]
    pub delay_s: u32,
}

/// Arguments of `unclaim`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unclaim {
    /// What goes.
    pub wipe: Wipe,
}

/// Arguments of `diag.collect`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiagCollect {
    /// What is collected; all where it is not said.
    #[serde(default = "all_parts")]
    pub parts: Vec<Part>,
}

fn all_parts() -> Vec<Part> {
    Part::ALL.into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Why a command is not one of ours: a code and words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOurs {
    /// `unsupported`: unknown type or argument; `args`: missing, of the wrong kind or out of range.
    pub code: &'static str,
    /// Which.
    pub detail: String,
}

impl Command {
    /// Checks type and arguments.
    ///
    /// # Errors
    /// [`NotOurs`].
    pub fn parse(word: &str, args: &Value) -> Result<Command, NotOurs> {
        let kind = Kind::from_word(word).ok_or_else(|| NotOurs {
            code: "unsupported",
            detail: super::detail(&format!("no command {word:?}")),
        })?;
        let command = match kind {
            Kind::RecordingStart => Command::RecordingStart(read(args)?),
            Kind::RecordingStop => Command::RecordingStop(read(args)?),
            Kind::RecordingLock => Command::RecordingLock(read(args)?),
            Kind::RecordingUnlock => Command::RecordingUnlock(read(args)?),
            Kind::RecordingUpload => Command::RecordingUpload(read(args)?),
            Kind::Snapshot => Command::Snapshot(read(args)?),
            Kind::StreamStart => Command::StreamStart(read(args)?),
            Kind::StreamRenew => Command::StreamRenew(read(args)?),
            Kind::StreamStop => Command::StreamStop(read(args)?),
            Kind::TwinRefresh => read::<Nothing>(args).map(|_| Command::TwinRefresh)?,
            Kind::SyncNow => read::<Nothing>(args).map(|_| Command::SyncNow)?,
            Kind::Reboot => Command::Reboot(read(args)?),
            Kind::KeyRotate => read::<Nothing>(args).map(|_| Command::KeyRotate)?,
            Kind::Unclaim => Command::Unclaim(read(args)?),
            Kind::DiagCollect => Command::DiagCollect(read(args)?),
        };
        command.check_ranges()?;
        Ok(command)
    }

    fn check_ranges(&self) -> Result<(), NotOurs> {
        match self {
            Command::RecordingStart(a) => range("max_duration_s", a.max_duration_s, 1, 3600),
            Command::Snapshot(a) => range("max_width", a.max_width, 64, 3840)
                .and_then(|()| range("quality", a.quality, 1, 100)),
            Command::StreamStart(a) => a.check(),
            Command::Reboot(a) => range("delay_s", a.delay_s, 0, 300),
            Command::DiagCollect(a) => range("number of parts", a.parts.len() as u32, 1, 8),
            _ => Ok(()),
        }
    }

    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Command::RecordingStart(_) => Kind::RecordingStart,
            Command::RecordingStop(_) => Kind::RecordingStop,
            Command::RecordingLock(_) => Kind::RecordingLock,
            Command::RecordingUnlock(_) => Kind::RecordingUnlock,
            Command::RecordingUpload(_) => Kind::RecordingUpload,
            Command::Snapshot(_) => Kind::Snapshot,
            Command::StreamStart(_) => Kind::StreamStart,
            Command::StreamRenew(_) => Kind::StreamRenew,
            Command::StreamStop(_) => Kind::StreamStop,
            Command::TwinRefresh => Kind::TwinRefresh,
            Command::SyncNow => Kind::SyncNow,
            Command::Reboot(_) => Kind::Reboot,
            Command::KeyRotate => Kind::KeyRotate,
            Command::Unclaim(_) => Kind::Unclaim,
            Command::DiagCollect(_) => Kind::DiagCollect,
        }
    }

    /// What may be asked for once only, whatever the command's own id.
    pub fn once_key(&self) -> Option<String> {
        match self {
            Command::RecordingStart(a) => Some(format!("recording.start/{}", a.recording_id)),
            Command::Snapshot(a) => Some(format!("snapshot/{}", a.snapshot_id)),
            Command::StreamStart(a) => Some(format!("stream.start/{}", a.session_id)),
            _ => None,
        }
    }
}

fn range(name: &str, value: u32, least: u32, most: u32) -> Result<(), NotOurs> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(NotOurs {
        code: "args",
        detail: format!("{name} is {value}, not {least} to {most}"),
    })
}

fn read<T: DeserializeOwned>(args: &Value) -> Result<T, NotOurs> {
    T::deserialize(args).map_err(|e| {
        let text = e.to_string();
        let code = if text.starts_with("unknown field") {
            "unsupported"
        } else {
            "args"
        };
        NotOurs {
            code,
            detail: super::detail(&text),
        }
    })
}

#[cfg(test)]
#[path = "kinds_tests.rs"]
mod tests;
