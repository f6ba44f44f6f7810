//! Grey pictures for detection out of raw frames that are on their way to the encoder: no decoder, no extra branch.
//!
//! [`tap`] shrinks the luma in a pad probe on the encoder's input, at most at the wished rate.

use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use super::OwnedGray;
use super::capture::LumaWish;
use super::flow::Flow;
use super::plane::{Plane, fit, shrink};
use crate::demand::Pace;
use crate::time::Pts;

/// Taps the raw frames (I420 or NV12) that pass `pad`.
pub(super) fn tap(pad: &gst::Pad, flow: &Arc<Flow>, wish: LumaWish) {
    let flow = Arc::downgrade(flow);
    let pace = Mutex::new(Pace::new(wish.fps));
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let (Some(flow), Some(buffer)) = (flow.upgrade(), info.buffer())
            && let Some(gray) = due(pad, buffer, &pace, wish.max_width)
        {
            flow.luma(gray);
        }
        gst::PadProbeReturn::Ok
    });
}

fn due(
    pad: &gst::Pad,
    buffer: &gst::Buffer,
    pace: &Mutex<Pace>,
    max_width: usize,
) -> Option<OwnedGray> {
    let segment = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = segment
        .segment()
        .downcast_ref::<gst::ClockTime>()
        .cloned()?;
    let pts = Pts(segment.to_running_time(buffer.pts()?)?.nseconds());
    let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
    if !pace.choose(pts, false) {
        return None;
    }
    drop(pace);
    let info = gst_video::VideoInfo::from_caps(pad.current_caps()?.as_ref()).ok()?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer.as_ref(), &info).ok()?;
    let plane = Plane {
        bytes: frame.plane_data(0).ok()?,
        width: frame.width() as usize,
        height: frame.height() as usize,
        stride: usize::try_from(*frame.plane_stride().first()?).ok()?,
        step: 1,
        shift: 0,
        little_endian: true,
    };
    let (width, height) = fit(plane.width, plane.height, max_width);
    let luma = shrink(&plane, width, height)?;
    Some(OwnedGray {
        luma,
        width,
        height,
        pts,
    })
}
