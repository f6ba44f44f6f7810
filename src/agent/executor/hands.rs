//! What commands act with: the cameras, the spool, the machine, the keys. What is not there makes a command unsupported.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::rotate::Rotation;
use crate::agent::camera::Desk;
use crate::agent::live::LiveHandle;
use crate::agent::media_upload::UploadHandle;
use crate::agent::status::StatusHub;
use crate::board::logind::Logind;
use crate::cloud::SharedKeys;
use crate::command::Kind;
use crate::command::kinds::Wipe;
use crate::spool::Spool;
use crate::units::ByteSize;

/// Removes what `unclaim` says; called once the cloud knows, or had time enough to.
pub type Unclaim = Arc<dyn Fn(Wipe) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Describes something as it is now.
pub type Describe = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Wakes somebody.
pub type Ring = Arc<dyn Fn() + Send + Sync>;

/// What commands act with.
#[derive(Clone)]
pub struct Hands {
    /// Running cameras.
    pub desk: Desk,
    /// Live sessions, where there can be any.
    pub live: Option<LiveHandle>,
    /// Where files go.
    pub spool: Spool,
    /// Nothing is written to the spool with less than this free.
    pub min_free: ByteSize,
    /// Whoever fetches the twin, where there is one.
    pub twin: Option<Ring>,
    /// Restarts the machine.
    pub machine: Logind,
    /// Whose commands these are.
    pub keys: SharedKeys,
    /// Changes the key, where that can be done.
    pub rotation: Option<Rotation>,
    /// Makes the device nobody's, where that can be done.
    pub unclaim: Option<Unclaim>,
    /// The media upload, where there is one.
    pub uploads: Option<UploadHandle>,
    /// What the agent says of itself.
    pub status: StatusHub,
    /// Says what is in force, without its secrets.
    pub config: Describe,
}

impl Hands {
    /// The kinds of commands that can be carried out.
    pub fn able(&self) -> Vec<Kind> {
        let has = |kind: &Kind| match kind {
            Kind::TwinRefresh => self.twin.is_some(),
            Kind::StreamStart | Kind::StreamRenew | Kind::StreamStop => self.live.is_some(),
            Kind::KeyRotate => self.rotation.is_some(),
            Kind::Unclaim => self.unclaim.is_some(),
            Kind::RecordingUpload => self.uploads.is_some(),
            Kind::RecordingStart
            | Kind::RecordingStop
            | Kind::RecordingLock
            | Kind::RecordingUnlock
            | Kind::Snapshot
            | Kind::SyncNow
            | Kind::Reboot
            | Kind::DiagCollect => true,
        };
        Kind::ALL.into_iter().filter(has).collect()
    }
}
