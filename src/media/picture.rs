//! Packets as JPEG: snapshots and the pictures of an event. No camera and no other pipeline is touched.
//!
//! ```text
//! GOP ─▶ decoder (one thread) ─▶ the one frame ─▶ scale ─▶ RGB ─▶ 4:2:0, full range ─▶ [boxes] ─▶ JPEG
//! ```
//!
//! Each arrow is a pipeline that ends with its picture. Only the wanted frame is scaled and encoded. Its threads keep the
//! usual priority: GLib gives them to the next pipeline, which may be a capture, and only root takes a niceness back.

use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};
use gstreamer_video::{VideoFormat, VideoFrameExt, VideoFrameRef, VideoInfo};

use super::gst::{GstError, chain, make};
pub use super::outline::I420;
use super::{Packet, Track, sampler, teardown};
use crate::model::Retry;
use crate::time::Pts;

/// How long decoding one picture may take.
pub const PICTURE_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The first packet is no key frame; try the next one.
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

/// Decodes one video key frame and encodes it as JPEG with `quality` 1–100, at most `max_width` wide, square pixels,
/// aspect kept, never enlarged.
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
    let packets = std::slice::from_ref(packet);
    let (picture, _) = frame_of(packets, caps, packet.pts, max_width)?;
    jpeg_of(&picture, quality)
}

/// Decodes `packets` (video in decoding order, from a key frame on) up to the frame at `at`, or the last one before it;
/// returns it in small, with its position.
///
/// Blocks for at most [`PICTURE_LIMIT`] and the time to stop: call it on a blocking thread.
///
/// # Errors
/// See [`PictureError`].
pub fn frame_of(
    packets: &[Packet],
    caps: &gst::Caps,
    at: Pts,
    max_width: u32,
) -> Result<(I420, Pts), PictureError> {
    if packets
        .first()
        .is_none_or(|p| p.track != Track::Video || !p.key)
    {
        return Err(PictureError::NotKey);
    }
    let decoder = make(sampler::decoder_for(caps)?)?;
    decoder.set_property("max-threads", 1i32);
    let line = Line::start(caps, &[decoder])?;
    for packet in packets.iter().filter(|p| p.track == Track::Video) {
        let mut buffer = packet.buffer.copy();
        if let Some(b) = buffer.get_mut() {
            b.set_pts(gst::ClockTime::from_nseconds(packet.pts.0));
            b.set_dts(gst::ClockTime::NONE);
        }
        line.push(buffer)?;
    }
    line.end()?;
    let mut best = None;
    while let Some(sample) = line.pull()? {
        let pts = sample.buffer().and_then(gst::BufferRef::pts);
        let pts = Pts(pts.map_or(at.0, gst::ClockTime::nseconds));
        if pts > at && best.is_some() {
            break;
        }
        best = Some((sample, pts));
        if pts >= at {
            break;
        }
    }
    drop(line);
    let (sample, pts) =
        best.ok_or_else(|| PictureError::Broken("no picture in the packets".into()))?;
    Ok((small(&sample, max_width)?, pts))
}

/// Encodes a picture with `quality` 1–100. Blocks for some milliseconds.
///
/// # Errors
/// See [`PictureError`].
pub fn jpeg_of(picture: &I420, quality: u8) -> Result<Vec<u8>, PictureError> {
    let broken = || PictureError::Broken("odd size".into());
    let (width, height) = (picture.width as u32, picture.height as u32);
    let info = VideoInfo::builder(VideoFormat::I420, width, height)
        .build()
        .map_err(|_| broken())?;
    let mut bytes = vec![0; info.size()];
    let half = picture.width / 2;
    let planes = [
        (&picture.luma, picture.width),
        (&picture.cb, half),
        (&picture.cr, half),
    ];
    for (i, (plane, row)) in planes.into_iter().enumerate() {
        let stride = usize::try_from(info.stride()[i]).map_err(|_| broken())?;
        let space = bytes.get_mut(info.offset()[i]..).ok_or_else(broken)?;
        for (to, from) in space.chunks_mut(stride).zip(plane.chunks_exact(row)) {
            to.get_mut(..row).ok_or_else(broken)?.copy_from_slice(from);
        }
    }
    let jpeg = make("jpegenc")?;
    jpeg.set_property("quality", i32::from(quality.clamp(1, 100)));
    let caps = full_range(width as i32, height as i32)
        .field("framerate", gst::Fraction::new(0, 1))
        .build();
    let line = Line::start(&caps, &[jpeg])?;
    line.push(gst::Buffer::from_mut_slice(bytes))?;
    line.end()?;
    let sample = line.pull()?;
    let map = sample
        .as_ref()
        .and_then(|s| s.buffer()?.map_readable().ok());
    map.map(|m| m.to_vec())
        .ok_or_else(|| PictureError::Broken("empty picture".into()))
}

/// Encodes an RGB picture (`3 * width * height` bytes, `width` a multiple of 4) as PNG. Blocks for some milliseconds a
/// megapixel.
///
/// # Errors
/// See [`PictureError`].
pub fn png_of(rgb: Vec<u8>, width: usize, height: usize) -> Result<Vec<u8>, PictureError> {
    if !width.is_multiple_of(4)
        || Some(rgb.len()) != width.checked_mul(height).and_then(|n| n.checked_mul(3))
    {
        return Err(PictureError::Broken("odd size".into()));
    }
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "RGB")
        .field("width", width as i32)
        .field("height", height as i32)
        .field("framerate", gst::Fraction::new(0, 1))
        .build();
    let line = Line::start(&caps, &[make("pngenc")?])?;
    line.push(gst::Buffer::from_mut_slice(rgb))?;
    line.end()?;
    let sample = line.pull()?;
    let map = sample
        .as_ref()
        .and_then(|s| s.buffer()?.map_readable().ok());
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

/// 4:2:0 as JPEG means it: full range, BT.601.
fn full_range(width: i32, height: i32) -> gst::caps::Builder<gst::caps::NoFeature> {
    gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", width)
        .field("height", height)
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .field("colorimetry", "1:4:16:4")
}

/// A decoded picture at most `max_width` wide. Scales first, in the decoder's own format.
fn small(sample: &gst::Sample, max_width: u32) -> Result<I420, PictureError> {
    let broken = |text: &str| PictureError::Broken(text.to_owned());
    let (Some(caps), Some(buffer)) = (sample.caps_owned(), sample.buffer_owned()) else {
        return Err(broken("empty picture"));
    };
    let info = VideoInfo::from_caps(&caps).map_err(|_| broken("unknown picture format"))?;
    let par = (i64::from(info.par().numer()), i64::from(info.par().denom()));
    let width = i64::from(info.width()) * par.0.max(1) / par.1.max(1);
    let (width, height) = super::plane::fit(
        usize::try_from(width).unwrap_or(0).max(2),
        info.height() as usize,
        max_width.max(2) as usize,
    );
    let scale = make("videoscale")?;
    scale.set_property("add-borders", false);
    // Over RGB: from video range to full range alone, GStreamer 1.22 converts nothing.
    let (rgb, yuv) = (make("videoconvert")?, make("videoconvert")?);
    let (size, last) = (make("capsfilter")?, make("capsfilter")?);
    let wanted = gst::Caps::builder("video/x-raw")
        .field("format", "RGB")
        .field("width", width as i32)
        .field("height", height as i32)
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1));
    size.set_property("caps", wanted.build());
    last.set_property("caps", full_range(width as i32, height as i32).build());
    let line = Line::start(&caps, &[scale, rgb, size, yuv, last])?;
    line.push(buffer)?;
    line.end()?;
    let out = line.pull()?.ok_or_else(|| broken("it cannot be scaled"))?;
    planes(&out).ok_or_else(|| broken("it cannot be scaled"))
}

fn planes(sample: &gst::Sample) -> Option<I420> {
    let info = VideoInfo::from_caps(sample.caps()?).ok()?;
    let frame = VideoFrameRef::from_buffer_ref_readable(sample.buffer()?, &info).ok()?;
    let (width, height) = (info.width() as usize, info.height() as usize);
    let plane = |i: usize, width: usize, height: usize| {
        let stride = usize::try_from(*frame.plane_stride().get(i)?).ok()?;
        let rows = frame.plane_data(i as u32).ok()?;
        let mut out = Vec::with_capacity(width * height);
        for row in rows.chunks(stride.max(1)).take(height) {
            out.extend_from_slice(row.get(..width)?);
        }
        (out.len() == width * height).then_some(out)
    };
    Some(I420 {
        width,
        height,
        luma: plane(0, width, height)?,
        cb: plane(1, width / 2, height / 2)?,
        cr: plane(2, width / 2, height / 2)?,
    })
}

/// A pipeline from memory to memory, for one picture; dropped, it ends.
struct Line {
    pipeline: gst::Pipeline,
    source: AppSrc,
    sink: AppSink,
    until: gst::ClockTime,
}

impl Line {
    fn start(caps: &gst::Caps, elements: &[gst::Element]) -> Result<Line, PictureError> {
        let source = AppSrc::builder()
            .caps(caps)
            .format(gst::Format::Time)
            .max_bytes(0)
            .build();
        // What is decoded beyond the wanted frame waits here, and the decoder with it.
        let sink = AppSink::builder().sync(false).max_buffers(1).build();
        let pipeline = gst::Pipeline::new();
        let mut all = vec![source.upcast_ref()];
        all.extend(elements);
        all.push(sink.upcast_ref());
        chain(&pipeline, &all)?;
        let line = Line {
            until: gst::get_timestamp()
                + gst::ClockTime::from_nseconds(PICTURE_LIMIT.as_nanos() as u64),
            pipeline,
            source,
            sink,
        };
        match line.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(line),
            Err(_) => Err(PictureError::Broken("the decoder does not start".into())),
        }
    }

    fn push(&self, buffer: gst::Buffer) -> Result<(), PictureError> {
        let pushed = self.source.push_buffer(buffer);
        pushed.map(drop).map_err(|_| self.fault())
    }

    fn end(&self) -> Result<(), PictureError> {
        let ended = self.source.end_of_stream();
        ended.map(drop).map_err(|_| self.fault())
    }

    /// The next picture; `None` at the end.
    fn pull(&self) -> Result<Option<gst::Sample>, PictureError> {
        let left = self.until.saturating_sub(gst::get_timestamp());
        match self.sink.try_pull_sample(left) {
            Some(sample) => Ok(Some(sample)),
            None if self.sink.is_eos() => match self.error() {
                Some(text) => Err(PictureError::Broken(text)),
                None => Ok(None),
            },
            None => Err(self.fault()),
        }
    }

    fn fault(&self) -> PictureError {
        self.error()
            .map_or(PictureError::Slow, PictureError::Broken)
    }

    fn error(&self) -> Option<String> {
        let message = self
            .pipeline
            .bus()?
            .pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(e) => Some(e.error().message().to_owned()),
            _ => None,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        teardown::stop_within(&self.pipeline, sampler::STOP_LIMIT);
    }
}
