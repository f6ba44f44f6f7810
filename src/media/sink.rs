//! The appsinks of a session: each sample goes to the [`Flow`] with its running time.

use std::sync::Arc;

use gstreamer as gst;
use gstreamer_app as gst_app;

use super::Track;
use super::flow::{Arrived, Flow, Gone, Wake};
use crate::model::DownReason;
use crate::time::Pts;

impl Flow {
    /// An appsink for `track` that feeds this flow. `paced` plays in real time (files).
    pub(super) fn sink(self: &Arc<Flow>, track: Track, paced: bool) -> gst_app::AppSink {
        let (flow, eos) = (Arc::clone(self), Arc::clone(self));
        let sink = gst_app::AppSink::builder()
            .sync(paced)
            .async_(false)
            .build();
        sink.set_enable_last_sample(false);
        sink.set_max_lateness(-1);
        sink.set_qos(false);
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    flow.sample(track, sample)
                })
                .eos(move |_| {
                    if track == Track::Video {
                        eos.wake(Wake::Down(DownReason::Ended));
                    }
                })
                .build(),
        );
        sink
    }

    fn sample(
        &self,
        track: Track,
        sample: gst::Sample,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (Some(caps), Some(buffer)) = (sample.caps_owned(), sample.buffer_owned()) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let segment = sample
            .segment()
            .and_then(|s| s.downcast_ref::<gst::ClockTime>())
            .cloned();
        drop(sample);
        let in_segment = segment
            .as_ref()
            .is_some_and(|s| s.flags().contains(gst::SegmentFlags::SEGMENT));
        if self.lock().only_segments && !in_segment {
            return Ok(gst::FlowSuccess::Ok);
        }
        let running = |t: Option<gst::ClockTime>| match &segment {
            Some(seg) => seg
                .to_running_time_full(t?)
                .and_then(|r| r.positive())
                .map(|r| Pts(r.nseconds())),
            None => t.map(|t| Pts(t.nseconds())),
        };
        let arrived = Arrived {
            track,
            pts: running(buffer.pts()),
            dts: running(buffer.dts()),
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            damaged: buffer.flags().contains(gst::BufferFlags::CORRUPTED),
            buffer,
        };
        self.take(arrived, caps)
            .map(|()| gst::FlowSuccess::Ok)
            .map_err(|Gone| gst::FlowError::Eos)
    }
}
