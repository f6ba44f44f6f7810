//! A key frame as JPEG: snapshots and the picture of an event. No camera and no other pipeline is touched.

use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};

use super::gst::{GstError, chain, make};
use super::{Packet, Track, sampler, teardown};
use crate::model::Retry;

/// How long decoding and encoding one picture may take.
pub const PICTURE_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The packet is no key frame; try the next one.
    #[error("not a key frame")]
    NotKey,
    /// The decoder or encoder refuses it; another key frame may do.
    #[error("cannot decode the picture: {0}")]
    Broken(String),
    /// It took longer than [`PICTURE_LIMIT`].
    #[error("decoding the picture takes too long")]
    Slow,
    /// GStreamer is not complete.
    #[error(transparent)]
    Build(#[from] GstError),
}

impl PictureError {
    /// What the caller can do.
    pub fn retry(&self) -> Retry {
        match self {
            PictureError::NotKey => Retry::Never,
            PictureError::Broken(_) | PictureError::Slow => Retry::Later,
            PictureError::Build(_) => Retry::Fatal,
        }
    }
}

/// Decodes one video key frame and encodes it as JPEG (4:2:0 where the camera sends that) with `quality` 1–100, at most
/// `max_width` wide, square pixels, aspect kept, never enlarged.
///
/// Blocks for at most [`PICTURE_LIMIT`] and the time to stop: call it on a blocking thread.
///
/// # Errors
/// See [`PictureError`].
pub fn jpeg_of_key_frame(
    packet: &Packet,
    caps: &gst::Caps,
    max_width: u32,
    quality: u8,
) -> Result<Vec<u8>, PictureError> {
    if packet.track != Track::Video || !packet.key {
        return Err(PictureError::NotKey);
    }
    let decoder = make(sampler::decoder_for(caps)?)?;
    decoder.set_property("max-threads", 1i32);
    let scale = make("videoscale")?;
    scale.set_property("add-borders", false);
    let size = make("capsfilter")?;
    size.set_property("caps", wanted_size(caps, max_width));
    // Scales first, in the decoder's own format; converts only what JPEG cannot hold (10 bit).
    let convert = make("videoconvert")?;
    let jpeg = make("jpegenc")?;
    jpeg.set_property("quality", i32::from(quality.clamp(1, 100)));
    let source = AppSrc::builder()
        .caps(caps)
        .format(gst::Format::Time)
        .build();
    let sink = AppSink::builder().sync(false).max_buffers(1).build();
    let pipeline = gst::Pipeline::new();
    chain(
        &pipeline,
        &[
            source.upcast_ref(),
            &decoder,
            &scale,
            &size,
            &convert,
            &jpeg,
            sink.upcast_ref(),
        ],
    )?;
    let sample = decode(&pipeline, &source, &sink, packet);
    teardown::stop_within(&pipeline, sampler::STOP_LIMIT);
    let sample = sample?;
    let map = sample.buffer().and_then(|b| b.map_readable().ok());
    map.map(|m| m.to_vec())
        .ok_or_else(|| PictureError::Broken("empty picture".into()))
}

/// Width and height of a JPEG, from its frame header.
pub fn jpeg_size(jpeg: &[u8]) -> Option<(u32, u32)> {
    let mut rest = jpeg.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let [0xff, marker, high, low, ..] = *rest else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        // SOF0 to SOF15, without the three markers between them that are none.
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let number = |at: usize| {
                let bytes = rest.get(at..at + 2)?;
                Some(u32::from(u16::from_be_bytes([bytes[0], bytes[1]])))
            };
            return Some((number(7)?, number(5)?));
        }
        rest = rest.get(2 + length..)?;
    }
}

fn decode(
    pipeline: &gst::Pipeline,
    source: &AppSrc,
    sink: &AppSink,
    packet: &Packet,
) -> Result<gst::Sample, PictureError> {
    let broken = |text: &str| PictureError::Broken(text.to_owned());
    pipeline
        .set_state(gst::State::Playing)
        .map_err(|_| broken("the decoder does not start"))?;
    let mut buffer = packet.buffer.copy();
    if let Some(b) = buffer.get_mut() {
        b.set_pts(gst::ClockTime::ZERO);
        b.set_dts(gst::ClockTime::ZERO);
    }
    source
        .push_buffer(buffer)
        .and_then(|_| source.end_of_stream())
        .map_err(|_| broken("the decoder takes no packet"))?;
    let limit = gst::ClockTime::from_nseconds(PICTURE_LIMIT.as_nanos() as u64);
    if let Some(sample) = sink.try_pull_sample(limit) {
        return Ok(sample);
    }
    let error = pipeline
        .bus()
        .and_then(|b| b.pop_filtered(&[gst::MessageType::Error]));
    match error.as_ref().map(|m| m.view()) {
        Some(gst::MessageView::Error(e)) => Err(broken(e.error().message())),
        _ if sink.is_eos() => Err(broken("no picture in the packet")),
        _ => Err(PictureError::Slow),
    }
}

/// Caps with the size to scale to: square pixels, even, at most `max_width`.
fn wanted_size(caps: &gst::Caps, max_width: u32) -> gst::Caps {
    let builder = gst::Caps::builder("video/x-raw");
    let size = caps.structure(0).and_then(|s| {
        let par = s.get::<gst::Fraction>("pixel-aspect-ratio").ok();
        let (n, d) = par.map_or((1, 1), |p| (i64::from(p.numer()), i64::from(p.denom())));
        let width = i64::from(s.get::<i32>("width").ok()?) * n.max(1) / d.max(1);
        let height = i64::from(s.get::<i32>("height").ok()?);
        (width > 0 && height > 0).then_some((width as usize, height as usize))
    });
    let Some((width, height)) = size else {
        return builder.build();
    };
    let (w, h) = super::plane::fit(width, height, max_width.max(2) as usize);
    builder
        .field("width", w as i32)
        .field("height", h as i32)
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .build()
}
