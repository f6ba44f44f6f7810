//! The appsinks of a session: each sample becomes a stamped packet and goes to the [`Flow`].

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use gstreamer as gst;
use gstreamer_app as gst_app;

use super::flow::{Flow, State, Wake};
use super::{Packet, Track};
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
        self.stats.packets.fetch_add(1, Relaxed);
        self.stats.bytes.fetch_add(buffer.size() as u64, Relaxed);
        let mut s = self.lock();
        if s.closed {
            return Err(gst::FlowError::Eos);
        }
        let done = match self.packet(&mut s, track, buffer, segment) {
            Some(packet) => self.hand_over(&mut s, packet, caps),
            None => {
                self.count_drop(1);
                Ok(())
            }
        };
        if done.is_err() {
            s.closed = true;
            self.wake(Wake::Stop);
            return Err(gst::FlowError::Eos);
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// Stamps a buffer with running time; `None` drops it.
    fn packet(
        &self,
        s: &mut State,
        track: Track,
        mut buffer: gst::Buffer,
        segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    ) -> Option<Packet> {
        if buffer.flags().contains(gst::BufferFlags::CORRUPTED) {
            return None;
        }
        let running = |t: Option<gst::ClockTime>| match &segment {
            Some(seg) => seg
                .to_running_time_full(t?)
                .and_then(|r| r.positive())
                .map(|r| Pts(r.nseconds())),
            None => t.map(|t| Pts(t.nseconds())),
        };
        let (pts, dts) = (running(buffer.pts()), running(buffer.dts()));
        let (stamper, dts) = match track {
            Track::Video => (
                &mut s.video,
                dts.filter(|_| self.trust_dts || pts.is_none()),
            ),
            Track::Audio => (&mut s.audio, None),
        };
        let stamp = stamper.stamp(pts, dts)?;
        if stamp.repaired {
            self.stats.repaired.fetch_add(1, Relaxed);
        }
        let key = track == Track::Audio || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let meta = buffer.make_mut();
        meta.set_pts(gst::ClockTime::from_nseconds(stamp.pts.0));
        meta.set_dts(gst::ClockTime::from_nseconds(stamp.dts.0));
        Some(Packet {
            track,
            pts: stamp.pts,
            key,
            buffer,
        })
    }
}
