//! Floor 0: the words that everything else speaks. No behaviour beyond reading and writing itself.

pub mod class;
pub mod digest;
pub mod event;
pub mod ids;
pub mod limits;
pub mod live;
pub mod network;
pub mod recording;
pub mod retry;
pub mod secret;
pub mod stream;

pub use class::Class;
pub use digest::Sha256;
pub use event::{MotionEvent, PictureKind, Region, Severity};
pub use ids::{
    BootId, CameraId, CommandId, EpochId, EventId, RecordId, RecordingId, SessionId, SnapshotId,
};
pub use live::LiveProtocol;
pub use network::Network;
pub use recording::{ClipState, RecordMode};
pub use retry::Retry;
pub use secret::Secret;
pub use stream::{DownReason, StreamInfo, VideoCodec};
