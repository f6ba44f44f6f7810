//! A test pattern: a ball that moves, encoded like a camera that does not encode.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::capture::{Build, LumaWish};
use super::gst::{GstError, chain, h26x_caps, make};
use super::{Track, encoder, key_frames, luma};
use crate::config::SourceConfig;
use crate::model::DownReason;

/// Raw frames that wait for the encoder; when it cannot keep up, the oldest is dropped.
const RAW_QUEUE: u32 = 4;

pub(super) fn build(b: &Build<'_>, source: &SourceConfig) -> Result<(), DownReason> {
    let SourceConfig::Test {
        width,
        height,
        fps,
        bitrate_kbps,
    } = source
    else {
        return Err(DownReason::Failed("not a test source".into()));
    };
    let src = make("videotestsrc")?;
    src.set_property("is-live", true);
    src.set_property_from_str("pattern", "ball");
    let size = make("capsfilter")?;
    size.set_property("caps", raw_caps(None, *width, *height, *fps));
    chain(b.pipeline, &[&src, &size])?;
    encode(b, &size, *fps, *bitrate_kbps, b.luma)
}

/// Caps of raw video.
pub(super) fn raw_caps(format: Option<&str>, width: u32, height: u32, fps: u32) -> gst::Caps {
    let n = |v: u32| i32::try_from(v).unwrap_or(i32::MAX);
    gst::Caps::builder("video/x-raw")
        .field_if_some("format", format)
        .field("width", n(width))
        .field("height", n(height))
        .field("framerate", gst::Fraction::new(n(fps), 1))
        .build()
}

/// Appends everything from raw frames to the appsink: `videoconvert ! queue ! encoder ! h264parse ! avc ! appsink`.
pub(super) fn encode(
    b: &Build<'_>,
    raw: &gst::Element,
    fps: u32,
    kbps: u32,
    wish: Option<LumaWish>,
) -> Result<(), DownReason> {
    let encoder = encoder::best()
        .ok_or_else(|| DownReason::Unsupported("no h.264 encoder works on this machine".into()))?;
    let convert = make("videoconvert")?;
    let format = make("capsfilter")?;
    format.set_property(
        "caps",
        gst::Caps::builder("video/x-raw")
            .field("format", encoder.raw_format())
            .build(),
    );
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", RAW_QUEUE);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    queue.set_property_from_str("leaky", "downstream");
    let (enc, enc_caps) = encoder.build(fps, kbps)?;
    let profile = make("capsfilter")?;
    profile.set_property("caps", enc_caps);
    let parse = make("h264parse")?;
    let avc = make("capsfilter")?;
    avc.set_property("caps", h26x_caps("video/x-h264", "avc"));
    let sink = b.flow.sink(Track::Video, false);
    chain(
        b.pipeline,
        &[
            &convert,
            &format,
            &queue,
            &enc,
            &profile,
            &parse,
            &avc,
            sink.upcast_ref(),
        ],
    )?;
    raw.link(&convert).map_err(GstError::from)?;
    key_frames::tap(&enc, fps);
    if let (Some(wish), Some(pad)) = (wish, enc.static_pad("sink")) {
        luma::tap(&pad, b.flow, wish);
    }
    Ok(())
}
