//! The words of live view: how a camera is published, and how a session ends.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::stream::VideoCodec;

/// How a live session is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiveProtocol {
    /// RTSP RECORD (RFC 2326) over TCP.
    Rtsp,
    /// The same in TLS.
    Rtsps,
    /// RTMP.
    Rtmp,
    /// The same in TLS.
    Rtmps,
    /// MPEG-TS over SRT.
    Srt,
    /// WebRTC-HTTP ingestion (RFC 9725).
    Whip,
}

impl LiveProtocol {
    /// All of them.
    pub const ALL: [LiveProtocol; 6] = [
        LiveProtocol::Rtsp,
        LiveProtocol::Rtsps,
        LiveProtocol::Rtmp,
        LiveProtocol::Rtmps,
        LiveProtocol::Srt,
        LiveProtocol::Whip,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            LiveProtocol::Rtsp => "rtsp",
            LiveProtocol::Rtsps => "rtsps",
            LiveProtocol::Rtmp => "rtmp",
            LiveProtocol::Rtmps => "rtmps",
            LiveProtocol::Srt => "srt",
            LiveProtocol::Whip => "whip",
        }
    }

    /// The scheme of its addresses.
    pub fn scheme(self) -> &'static str {
        match self {
            LiveProtocol::Whip => "https",
            other => other.as_str(),
        }
    }

    /// The port where an address names none.
    pub fn default_port(self) -> Option<u16> {
        match self {
            LiveProtocol::Rtsp => Some(554),
            LiveProtocol::Rtsps => Some(322),
            LiveProtocol::Rtmp => Some(1935),
            LiveProtocol::Rtmps | LiveProtocol::Whip => Some(443),
            LiveProtocol::Srt => None,
        }
    }

    /// Goes in TLS.
    pub fn is_tls(self) -> bool {
        matches!(
            self,
            LiveProtocol::Rtsps | LiveProtocol::Rtmps | LiveProtocol::Whip
        )
    }

    /// Whether it can carry a codec as the camera sends it. FLV has no number for H.265.
    pub fn carries(self, codec: VideoCodec) -> bool {
        !matches!(
            (self, codec),
            (LiveProtocol::Rtmp | LiveProtocol::Rtmps, VideoCodec::H265)
        )
    }
}

impl fmt::Display for LiveProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
