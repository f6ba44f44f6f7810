//! Grey pictures for detection out of raw frames that are on their way to the encoder: no decoder, no extra branch.
//!
//! [`shrink`] is pure; [`tap`] runs it in a pad probe on the encoder's input, at most at the wished rate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use super::OwnedGray;
use super::capture::LumaWish;
use super::flow::Flow;
use crate::time::Pts;

/// Shrinks a luma plane by the smallest whole factor that makes it at most `max_width` wide; each result pixel is the
/// mean of its block. `None` where the plane is shorter than it claims.
pub fn shrink(
    plane: &[u8],
    width: usize,
    height: usize,
    stride: usize,
    max_width: usize,
    pts: Pts,
) -> Option<OwnedGray> {
    let f = width.div_ceil(max_width.max(1)).max(1);
    let (w, h) = (width / f, height / f);
    if w == 0 || h == 0 || stride < width || plane.len() < stride * (height - 1) + width {
        return None;
    }
    let mut luma = Vec::with_capacity(w * h);
    let mut sums = vec![0u32; w];
    let area = u32::try_from(f * f).ok()?;
    for rows in plane.chunks(stride * f).take(h) {
        sums.fill(0);
        for row in rows.chunks(stride) {
            for (sum, block) in sums.iter_mut().zip(row[..w * f].chunks_exact(f)) {
                *sum += block.iter().map(|p| u32::from(*p)).sum::<u32>();
            }
        }
        luma.extend(sums.iter().map(|s| (s / area) as u8));
    }
    Some(OwnedGray {
        luma,
        width: w,
        height: h,
        pts,
    })
}

/// Taps the raw frames (I420 or NV12) that pass `pad`.
pub(super) fn tap(pad: &gst::Pad, flow: &Arc<Flow>, wish: LumaWish) {
    let flow = Arc::downgrade(flow);
    let period = Duration::from_secs_f32(1.0 / wish.fps.clamp(0.1, 60.0));
    let next = Mutex::new(Pts(0));
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let (Some(flow), Some(buffer)) = (flow.upgrade(), info.buffer())
            && let Some(gray) = due(pad, buffer, &next, period, wish.max_width)
        {
            flow.luma(gray);
        }
        gst::PadProbeReturn::Ok
    });
}

fn due(
    pad: &gst::Pad,
    buffer: &gst::Buffer,
    next: &Mutex<Pts>,
    period: Duration,
    max_width: usize,
) -> Option<OwnedGray> {
    let segment = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = segment
        .segment()
        .downcast_ref::<gst::ClockTime>()
        .cloned()?;
    let pts = Pts(segment.to_running_time(buffer.pts()?)?.nseconds());
    {
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        if pts < *next {
            return None;
        }
        // A grid instead of pts + period: the rate is met although frames come in their own steps.
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
        *next = Pts((pts.0 / period_ns + 1) * period_ns);
    }
    let info = gst_video::VideoInfo::from_caps(pad.current_caps()?.as_ref()).ok()?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer.as_ref(), &info).ok()?;
    let stride = usize::try_from(*frame.plane_stride().first()?).ok()?;
    let (w, h) = (frame.width() as usize, frame.height() as usize);
    shrink(frame.plane_data(0).ok()?, w, h, stride, max_width, pts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_averaged_and_strides_honoured() {
        let plane: Vec<u8> = (0..4u8)
            .flat_map(|y| [y * 10, y * 10 + 2, 100, 104, 255, 255])
            .collect();
        let g = shrink(&plane, 4, 4, 6, 2, Pts(7)).unwrap();
        assert_eq!((g.width, g.height, g.pts), (2, 2, Pts(7)));
        assert_eq!(g.luma, vec![6, 102, 26, 102]);
        assert_eq!(shrink(&plane, 4, 4, 6, 320, Pts(0)).unwrap().luma.len(), 16);
        assert!(shrink(&plane[..10], 4, 4, 6, 2, Pts(0)).is_none());
    }
}
