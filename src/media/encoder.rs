//! The H.264 encoder for cameras that do not encode: the best one that has proven itself on this machine.
//!
//! Hardware comes first, but is never believed: each candidate must encode a few frames in a throw-away pipeline in
//! time before it is used. The answer is kept for the life of the process. A hardware encoder that fails in a running
//! session is struck off, so that the next session uses the next one.
//!
//! x264 comes before OpenH264: for 795 frames of a street at 768×576 its `ultrafast` preset took 1.8 s of CPU where
//! OpenH264's lowest complexity took 2.0 s (x86-64).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::gst::{GstError, exists, make};
use super::teardown;

/// Time between key frames.
pub const KEY_INTERVAL_S: u32 = 2;

/// The same in frames, which is what encoders count.
pub(super) fn gop(fps: u32) -> u32 {
    fps.max(1).saturating_mul(KEY_INTERVAL_S)
}

/// The longest that an encoder may take for its test frames.
const PROBE_PATIENCE: Duration = Duration::from_secs(4);

const PROBE_FRAMES: i32 = 5;

/// An H.264 encoder that this program knows how to set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoder {
    /// V4L2 memory-to-memory (Raspberry Pi up to 4).
    V4l2,
    /// VA-API, the newer plugin.
    Va,
    /// VA-API, the older plugin.
    Vaapi,
    /// x264 in software.
    X264,
    /// Cisco's OpenH264 in software.
    OpenH264,
}

/// All of them, best first.
pub const CANDIDATES: [Encoder; 5] = [
    Encoder::V4l2,
    Encoder::Va,
    Encoder::Vaapi,
    Encoder::X264,
    Encoder::OpenH264,
];

#[derive(Default)]
struct Known {
    best: Option<Encoder>,
    struck: Vec<Encoder>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known {
    best: None,
    struck: Vec::new(),
});

impl Encoder {
    /// GStreamer's element.
    pub fn element(self) -> &'static str {
        match self {
            Encoder::V4l2 => "v4l2h264enc",
            Encoder::Va => "vah264enc",
            Encoder::Vaapi => "vaapih264enc",
            Encoder::X264 => "x264enc",
            Encoder::OpenH264 => "openh264enc",
        }
    }

    /// True where the CPU does not pay.
    pub fn hardware(self) -> bool {
        matches!(self, Encoder::V4l2 | Encoder::Va | Encoder::Vaapi)
    }

    /// The raw format it takes without conversion.
    pub fn raw_format(self) -> &'static str {
        match self {
            Encoder::Va | Encoder::Vaapi => "NV12",
            Encoder::V4l2 | Encoder::X264 | Encoder::OpenH264 => "I420",
        }
    }

    /// The encoder, set up for live video without B-frames, and the caps that must follow it.
    pub(super) fn build(self, fps: u32, kbps: u32) -> Result<(gst::Element, gst::Caps), GstError> {
        let e = make(self.element())?;
        let gop = gop(fps);
        let mut caps = gst::Caps::builder("video/x-h264");
        match self {
            Encoder::V4l2 => {
                let controls = gst::Structure::builder("controls")
                    .field("repeat_sequence_header", 1i32)
                    .field("video_bitrate", clamp(kbps.saturating_mul(1000)))
                    .field("h264_i_frame_period", clamp(gop))
                    .build();
                e.set_property("extra-controls", controls);
                // The Pi's driver refuses 1080p unless a level is asked for.
                caps = caps.field("level", "4");
            }
            Encoder::Va => {
                e.set_property("bitrate", kbps);
                e.set_property("key-int-max", gop);
                e.set_property("b-frames", 0u32);
            }
            Encoder::Vaapi => {
                e.set_property("bitrate", kbps);
                e.set_property("keyframe-period", gop);
                e.set_property("max-bframes", 0u32);
            }
            Encoder::X264 => {
                e.set_property_from_str("tune", "zerolatency");
                e.set_property_from_str("speed-preset", "ultrafast");
                e.set_property("bitrate", kbps);
                e.set_property("key-int-max", gop);
                e.set_property("bframes", 0u32);
            }
            Encoder::OpenH264 => {
                e.set_property_from_str("complexity", "low");
                e.set_property_from_str("rate-control", "bitrate");
                e.set_property("bitrate", kbps.saturating_mul(1000));
                e.set_property("gop-size", gop);
            }
        }
        Ok((e, caps.build()))
    }
}

/// The best encoder of this machine, `None` where there is none. Blocks for seconds the first time: not for the async
/// runtime.
pub fn best() -> Option<Encoder> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.best.is_none() {
        let struck = known.struck.clone();
        known.best = first_working(&CANDIDATES, &struck, works);
        tracing::info!(
            encoder = known.best.map(Encoder::element),
            "h.264 encoder chosen"
        );
    }
    known.best
}

/// The encoder in use, without probing.
pub fn live() -> Option<Encoder> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).best
}

/// Strikes an encoder off (it failed or hung in use); the next session uses the next one.
pub fn disqualify(encoder: Encoder) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if !known.struck.contains(&encoder) {
        tracing::warn!(encoder = encoder.element(), "h.264 encoder is struck off");
        known.struck.push(encoder);
    }
    if known.best == Some(encoder) {
        known.best = None;
    }
}

/// Strikes off the hardware encoder that posted an error. Software ones stay: their errors are the input's.
pub(super) fn blame(element: &gst::Element) {
    let Some(factory) = element.factory() else {
        return;
    };
    if let Some(e) = CANDIDATES
        .iter()
        .find(|e| e.hardware() && factory.name() == e.element())
    {
        disqualify(*e);
    }
}

fn first_working(
    candidates: &[Encoder],
    struck: &[Encoder],
    works: impl Fn(Encoder) -> bool,
) -> Option<Encoder> {
    candidates
        .iter()
        .copied()
        .find(|e| !struck.contains(e) && works(*e))
}

/// Really encodes a few frames.
pub fn works(encoder: Encoder) -> bool {
    if !exists(encoder.element()) {
        return false;
    }
    match trial(encoder) {
        Ok(ok) => ok,
        Err(e) => {
            tracing::debug!(encoder = encoder.element(), error = %e, "encoder does not work");
            false
        }
    }
}

fn trial(encoder: Encoder) -> Result<bool, GstError> {
    let pipeline = gst::Pipeline::new();
    let src = make("videotestsrc")?;
    src.set_property("num-buffers", PROBE_FRAMES);
    let raw = make("capsfilter")?;
    raw.set_property(
        "caps",
        gst::Caps::builder("video/x-raw")
            .field("format", encoder.raw_format())
            .field("width", 640i32)
            .field("height", 480i32)
            .field("framerate", gst::Fraction::new(15, 1))
            .build(),
    );
    let (enc, caps) = encoder.build(15, 1000)?;
    let out = make("capsfilter")?;
    out.set_property("caps", caps);
    let parse = make("h264parse")?;
    let sink = gstreamer_app::AppSink::builder()
        .sync(false)
        .wait_on_eos(false)
        .build();
    super::gst::chain(
        &pipeline,
        &[&src, &raw, &enc, &out, &parse, sink.upcast_ref()],
    )?;
    let started = teardown::to_playing(&pipeline);
    let bus = pipeline.bus();
    let ended = started
        && bus.is_some_and(|b| {
            let patience = gst::ClockTime::try_from(PROBE_PATIENCE).ok();
            b.timed_pop_filtered(patience, &[gst::MessageType::Eos, gst::MessageType::Error])
                .is_some_and(|m| m.type_() == gst::MessageType::Eos)
        });
    let mut frames = 0;
    while ended && sink.try_pull_sample(gst::ClockTime::ZERO).is_some() {
        frames += 1;
    }
    teardown::to_null(pipeline);
    Ok(frames == PROBE_FRAMES)
}

fn clamp(v: u32) -> i32 {
    i32::try_from(v).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_candidate_takes_over() {
        let soft = |e: Encoder| !e.hardware();
        assert_eq!(first_working(&CANDIDATES, &[], soft), Some(Encoder::X264));
        assert_eq!(
            first_working(&CANDIDATES, &[Encoder::X264], soft),
            Some(Encoder::OpenH264)
        );
        assert_eq!(first_working(&CANDIDATES, &CANDIDATES, |_| true), None);
    }
}
