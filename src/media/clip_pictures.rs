//! A recorded clip as small RGB pictures to draw on, every picture of it, as fast as the machine decodes.
//!
//! ```text
//! filesrc ! decodebin ! videoscale (in the decoder's own format) ! videoconvert ! RGB ! appsink
//! ```

use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video::{VideoFrameExt, VideoFrameRef, VideoInfo};

use super::clip_frames::{ClipFault, Decoding};
use super::gst::make;
use crate::time::Pts;

/// A picture in RGB.
#[derive(Debug, Clone)]
pub struct RgbPicture {
    /// `3 * width * height` bytes, without padding.
    pub rgb: Vec<u8>,
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Its position in the clip.
    pub pts: Pts,
}

/// All pictures of a clip, in order; an error is the last item.
#[derive(Debug)]
pub struct ClipPictures {
    decoding: Decoding,
    over: bool,
}

impl ClipPictures {
    /// Opens a clip; its pictures become `width` wide, with square pixels and their aspect kept.
    ///
    /// # Errors
    /// See [`ClipFault`].
    pub fn open(path: &Path, width: u32) -> Result<ClipPictures, ClipFault> {
        let decoding = Decoding::open(path, || {
            let (scale, convert) = (make("videoscale")?, make("videoconvert")?);
            scale.set_property("add-borders", false);
            let filter = make("capsfilter")?;
            let caps = gst::Caps::builder("video/x-raw")
                .field("format", "RGB")
                .field("width", i32::try_from(width).unwrap_or(i32::MAX))
                .field("pixel-aspect-ratio", gst::Fraction::new(1, 1));
            filter.set_property("caps", caps.build());
            Ok(vec![scale, convert, filter])
        })?;
        Ok(ClipPictures {
            decoding,
            over: false,
        })
    }

    /// Pictures a second as the clip declares them, 1 to 120; 25 where it does not.
    pub fn fps(&self) -> u32 {
        let rate = self
            .decoding
            .caps()
            .and_then(|c| VideoInfo::from_caps(&c).ok())
            .map(|i| i.fps());
        match rate.map(|r| (r.numer(), r.denom())) {
            Some((n, d)) if n > 0 && d > 0 => {
                u32::try_from((n + d / 2) / d).unwrap_or(25).clamp(1, 120)
            }
            _ => 25,
        }
    }

    fn take(&mut self) -> Result<Option<RgbPicture>, ClipFault> {
        let Some((sample, pts)) = self.decoding.next()? else {
            return Ok(None);
        };
        match rgb(&sample, pts) {
            Some(picture) => Ok(Some(picture)),
            None => Err(self.decoding.broken("a picture without colours".into())),
        }
    }
}

impl Iterator for ClipPictures {
    type Item = Result<RgbPicture, ClipFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = self.take().transpose();
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}

fn rgb(sample: &gst::Sample, pts: Pts) -> Option<RgbPicture> {
    let info = VideoInfo::from_caps(sample.caps()?).ok()?;
    let frame = VideoFrameRef::from_buffer_ref_readable(sample.buffer()?, &info).ok()?;
    let (width, height) = (info.width() as usize, info.height() as usize);
    let stride = usize::try_from(*frame.plane_stride().first()?).ok()?;
    let mut rgb = Vec::with_capacity(width * height * 3);
    for row in frame.plane_data(0).ok()?.chunks(stride.max(1)).take(height) {
        rgb.extend_from_slice(row.get(..width * 3)?);
    }
    let whole = rgb.len() == width * height * 3;
    whole.then_some(RgbPicture {
        rgb,
        width,
        height,
        pts,
    })
}
