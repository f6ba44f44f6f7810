//! Describes cameras for set-up and `doctor`: which there are, what a source really delivers, and one picture of it.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

use super::picture::jpeg_of_key_frame;
use super::{CaptureEvent, CaptureSession, Packet, StreamKind, Track, TrackCaps};
use crate::config::SourceConfig;
use crate::model::{DownReason, StreamInfo, VideoCodec};
use crate::time::{Mono, Pts};

pub use super::v4l2::V4l2Camera;

/// How much of a stream is measured, in its own time.
const MEASURE: Duration = Duration::from_secs(2);

/// Room for the packets of a few seconds; what does not fit is not measured.
const CHANNEL: usize = 512;

/// What a source really delivers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// Codec.
    pub codec: VideoCodec,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames a second, as declared, else as measured.
    pub fps: f32,
    /// H.264 or H.265 profile, in GStreamer's words.
    pub profile: Option<String>,
    /// Measured bits a second of the video.
    pub bitrate_bps: Option<u64>,
    /// Frames from one key frame to the next, where two came in the time measured.
    pub gop: Option<u32>,
    /// Everything the source offers, recorded or not: `video H264`, `audio PCMA`.
    pub offers: Vec<String>,
    /// AAC is there to be recorded.
    pub aac: bool,
    /// The first key frame as JPEG, where it decodes.
    #[serde(skip)]
    pub jpeg: Option<Vec<u8>>,
}

/// All V4L2 capture devices. Blocks for milliseconds a device.
pub fn probe_v4l2() -> Vec<V4l2Camera> {
    super::v4l2::enumerate()
}

/// Opens a source, watches it for about two seconds of its own time and takes a picture. `timeout` bounds the wait for
/// the first key frame and the measuring; what was seen until then is answered.
///
/// # Errors
/// Why the source delivers nothing; [`DownReason::Stalled`] where nothing came in time.
pub async fn describe(
    source: &SourceConfig,
    timeout: Duration,
    now: Mono,
) -> Result<Description, DownReason> {
    let (tx, mut rx) = mpsc::channel(CHANNEL);
    let session = CaptureSession::start(StreamKind::Main, source, None, true, now, tx)?;
    let mut seen = Seen::default();
    let watched = tokio::time::timeout(timeout, async {
        while let Some(event) = rx.recv().await {
            if seen.apply(event)? {
                return Ok(());
            }
        }
        Err(DownReason::Ended)
    })
    .await;
    let offers = session.offers();
    session.stop();
    match watched {
        Ok(Err(reason)) if seen.up.is_none() => return Err(reason),
        Err(_) if seen.up.is_none() => return Err(DownReason::Stalled),
        _ => {}
    }
    let jpeg = match (seen.up.as_ref(), seen.first_key.clone()) {
        (Some((_, caps)), Some(key)) => {
            let caps = caps.video.clone();
            tokio::task::spawn_blocking(move || jpeg_of_key_frame(&key, &caps, 3840, 85).ok())
                .await
                .ok()
                .flatten()
        }
        _ => None,
    };
    seen.describe(offers, jpeg).ok_or(DownReason::Stalled)
}

/// What was seen of a stream.
#[derive(Default)]
struct Seen {
    up: Option<(StreamInfo, TrackCaps)>,
    first_key: Option<Packet>,
    first: Option<Pts>,
    last: Pts,
    bytes: u64,
    frames: u32,
    keys: Vec<u32>,
}

impl Seen {
    /// True where enough was seen.
    fn apply(&mut self, event: CaptureEvent) -> Result<bool, DownReason> {
        match event {
            CaptureEvent::Up { info, caps, .. } => self.up = Some((info, caps)),
            CaptureEvent::Down(reason) => return Err(reason),
            CaptureEvent::Packet(p) if p.track == Track::Video => {
                let first = *self.first.get_or_insert(p.pts);
                if p.key {
                    self.keys.push(self.frames);
                }
                self.frames += 1;
                self.bytes += p.size() as u64;
                self.last = self.last.max(p.pts);
                if self.first_key.is_none() {
                    self.first_key = Some(p);
                }
                return Ok(self.last.since(first) >= MEASURE);
            }
            _ => {}
        }
        Ok(false)
    }

    fn describe(self, offers: Vec<String>, jpeg: Option<Vec<u8>>) -> Option<Description> {
        let (info, caps) = self.up?;
        let seconds = self.last.since(self.first?).as_secs_f64();
        let measured = (self.frames > 1 && seconds > 0.0).then(|| {
            (
                f64::from(self.frames - 1) / seconds,
                self.bytes as f64 * 8.0 / seconds,
            )
        });
        let declared = Some(info.fps).filter(|f| *f > 0.0);
        Some(Description {
            codec: info.codec,
            width: info.width,
            height: info.height,
            fps: declared.unwrap_or(measured.map_or(0.0, |(fps, _)| fps as f32)),
            profile: caps
                .video
                .structure(0)
                .and_then(|s| s.get::<String>("profile").ok()),
            bitrate_bps: measured.map(|(_, bps)| bps as u64),
            gop: self.keys.windows(2).next().map(|w| w[1] - w[0]),
            offers,
            aac: info.has_audio,
            jpeg,
        })
    }
}
