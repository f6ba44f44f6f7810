//! Floor 0: the words that everything else speaks. No behaviour beyond reading and writing itself.

pub mod class;
pub mod event;
pub mod ids;
pub mod limits;
pub mod recording;
pub mod secret;
pub mod stream;

pub use class::Class;
pub use event::{MotionEvent, Region, Severity};
pub use ids::{BootId, CameraId, EpochId, EventId, RecordId, RecordingId};
pub use recording::{ClipState, RecordMode};
pub use secret::Secret;
pub use stream::{DownReason, StreamInfo, VideoCodec};
