//! What a camera delivers, and why it may not.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A video codec that is recorded without transcoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodec {
    /// ITU-T H.264 / AVC.
    H264,
    /// ITU-T H.265 / HEVC.
    H265,
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VideoCodec::H264 => "h264",
            VideoCodec::H265 => "h265",
        })
    }
}

/// The picture that a stream carries, as its caps tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// Codec of the packets.
    pub codec: VideoCodec,
    /// Picture width in pixels.
    pub width: u32,
    /// Picture height in pixels.
    pub height: u32,
    /// Frames a second as declared; zero where the camera does not say.
    pub fps: f32,
    /// AAC is delivered beside the video.
    pub has_audio: bool,
}

/// Why a camera delivers nothing (`reason` of `camera.down`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", content = "detail", rename_all = "snake_case")]
pub enum DownReason {
    /// Nothing answers: refused connection, no route, no such host, no such device.
    Unreachable(String),
    /// The camera refuses the user name or password.
    Unauthorized,
    /// The camera answers that the path does not exist.
    NotFound(String),
    /// Connected, but no frame came for the configured time.
    Stalled,
    /// The camera ended the stream.
    Ended,
    /// The camera delivers nothing that can be recorded (codec, format).
    Unsupported(String),
    /// Anything else that ended the pipeline.
    Failed(String),
}

impl DownReason {
    /// The word on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            DownReason::Unreachable(_) => "unreachable",
            DownReason::Unauthorized => "unauthorized",
            DownReason::NotFound(_) => "not_found",
            DownReason::Stalled => "stalled",
            DownReason::Ended => "ended",
            DownReason::Unsupported(_) => "unsupported",
            DownReason::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DownReason::Unreachable(d) => write!(f, "unreachable: {d}"),
            DownReason::Unauthorized => f.write_str("the camera refuses the user name or password"),
            DownReason::NotFound(d) => write!(f, "not found: {d}"),
            DownReason::Stalled => f.write_str("connected, but no frame arrives"),
            DownReason::Ended => f.write_str("the camera ended the stream"),
            DownReason::Unsupported(d) => write!(f, "unsupported: {d}"),
            DownReason::Failed(d) => f.write_str(d),
        }
    }
}
