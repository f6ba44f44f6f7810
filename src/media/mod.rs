//! The GStreamer, RTSP and V4L2 adapter: the only folder that names `gstreamer*`, `retina` and `v4l`.
//!
//! [`capture`] turns a camera into [`Packet`]s, [`sampler`] turns packets into grey frames, [`clip`] writes packets
//! into MP4, [`publish`] brings them to a media server, [`probe`] describes cameras. Each consumer has its own small
//! pipeline, so that a broken one never hurts the capture. A packet's bytes are reference counted and never copied.

mod awaited;
mod caps;
pub mod capture;
pub mod clip;
pub mod clip_frames;
pub mod clip_pictures;
mod clip_sync;
pub mod demux;
pub mod encoder;
pub mod film;
mod flow;
pub mod gst;
mod h26x;
pub mod join;
mod key_frames;
mod luma;
mod nal;
pub mod outline;
pub mod picture;
mod plane;
pub mod probe;
pub mod publish;
mod retina_caps;
mod retina_frames;
pub mod sampler;
mod sink;
mod skew;
mod source_file;
mod source_retina;
mod source_rtsp;
mod source_test;
mod source_v4l2;
pub mod stamps;
pub mod teardown;
mod tls;
pub mod v4l2;
pub mod v4l2_mode;

use std::time::Duration;

use crate::model::{DownReason, StreamInfo, VideoCodec};
use crate::motion::GrayFrame;
use crate::recording::ring::Item;
use crate::time::{Anchor, Pts};

pub use self::gst::init;
pub use capture::{CaptureSession, LumaWish, Stats};
pub use gstreamer::Caps;

/// [`init`] for whoever may not block: the first of all scans every plugin.
///
/// # Errors
/// GStreamer does not start.
pub async fn ready() -> Result<(), DownReason> {
    let done = tokio::task::spawn_blocking(init).await;
    Ok(done.map_err(|e| DownReason::Failed(e.to_string()))??)
}

/// Codec of a video track; `None` where it is none that is recorded.
pub fn codec_of(video: &Caps) -> Option<VideoCodec> {
    caps::codec(video)
}

/// Which of a camera's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// The stream that is recorded.
    Main,
    /// The low-resolution stream for detection, where the camera has one.
    Sub,
}

/// Which elementary stream a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Track {
    /// One access unit of H.264 or H.265 (`stream-format=avc|hvc1`, `alignment=au`).
    Video,
    /// One raw AAC frame.
    Audio,
}

/// The unit that capture hands on: one access unit.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Video or audio.
    pub track: Track,
    /// Position in the session; map it with the session's [`Anchor`].
    pub pts: Pts,
    /// A decoder can start here (always true for audio).
    pub key: bool,
    /// The bytes with the original pts, dts and duration; reference counted.
    pub buffer: gstreamer::Buffer,
}

/// Caps of a session's tracks as the muxer and decoder need them (codec_data included).
#[derive(Debug, Clone)]
pub struct TrackCaps {
    /// `video/x-h264` or `video/x-h265`.
    pub video: gstreamer::Caps,
    /// `audio/mpeg, mpegversion=4` where the camera sends AAC.
    pub audio: Option<gstreamer::Caps>,
}

/// What a capture session tells its camera task, in order.
#[derive(Debug, Clone)]
pub enum CaptureEvent {
    /// The first key frame is there; packets follow.
    Up {
        info: StreamInfo,
        caps: TrackCaps,
        anchor: Anchor,
    },
    /// The next access unit.
    Packet(Packet),
    /// A raw luma picture (V4L2 raw cameras only): detection needs no decoder.
    Luma(OwnedGray),
    /// Resolution, codec or parameter sets changed; the next packet is a key frame in the new caps.
    Changed { info: StreamInfo, caps: TrackCaps },
    /// The session is over; nothing follows.
    Down(DownReason),
}

/// A grey picture that owns its bytes; `stride` equals `width`.
#[derive(Debug, Clone)]
pub struct OwnedGray {
    /// `width * height` bytes.
    pub luma: Vec<u8>,
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// When it was captured.
    pub pts: Pts,
}

impl OwnedGray {
    /// As the detector takes it.
    pub fn view(&self) -> GrayFrame<'_> {
        GrayFrame {
            luma: &self.luma,
            width: self.width,
            height: self.height,
            stride: self.width,
            pts: self.pts,
        }
    }
}

impl Item for Packet {
    fn pts(&self) -> Pts {
        self.pts
    }

    fn is_video(&self) -> bool {
        self.track == Track::Video
    }

    fn is_video_key(&self) -> bool {
        self.key && self.track == Track::Video
    }

    fn bytes(&self) -> usize {
        self.size()
    }
}

impl Packet {
    /// Bytes of payload.
    pub fn size(&self) -> usize {
        self.buffer.size()
    }

    /// How long it lasts where the stream says so.
    pub fn duration(&self) -> Option<Duration> {
        self.buffer
            .duration()
            .map(|d| Duration::from_nanos(d.nseconds()))
    }
}
