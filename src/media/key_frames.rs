//! Key frames by time: an encoder counts frames, and where it cannot keep up, frames are dropped before it, so that its
//! key frames are far apart and a clip begins long before its event.
//!
//! [`tap`] watches what goes into the encoder and asks for a key frame where the time is over and the count is not.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video::UpstreamForceKeyUnitEvent;

use super::encoder::KEY_INTERVAL_S;
use crate::time::Pts;

const INTERVAL: Duration = Duration::from_secs(KEY_INTERVAL_S as u64);

/// What an encoder with a key frame every `every` frames has got since its last one.
#[derive(Debug, Clone)]
struct Since {
    every: u32,
    frames: u32,
    key: Option<Pts>,
}

impl Since {
    /// Whether a key frame has to be asked for with the frame at `pts`, which goes in now.
    fn ask(&mut self, pts: Pts) -> bool {
        self.frames += 1;
        let Some(key) = self.key.filter(|key| *key <= pts) else {
            (self.frames, self.key) = (0, Some(pts));
            return false;
        };
        let counted = self.frames >= self.every;
        let over = counted || pts.since(key) >= INTERVAL;
        if over {
            (self.frames, self.key) = (0, Some(pts));
        }
        over && !counted
    }
}

/// Asks `encoder`, which was built for a camera of `fps`, for key frames that its count brings too late.
pub(super) fn tap(encoder: &gst::Element, fps: u32) {
    let (Some(input), Some(output)) = (encoder.static_pad("sink"), encoder.static_pad("src"))
    else {
        return;
    };
    let since = Mutex::new(Since {
        every: super::encoder::gop(fps),
        frames: 0,
        key: None,
    });
    let output = output.downgrade();
    input.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let pts = info.buffer().and_then(|b| b.pts());
        let mut since = since.lock().unwrap_or_else(PoisonError::into_inner);
        if pts.is_some_and(|pts| since.ask(Pts(pts.nseconds())))
            && let Some(output) = output.upgrade()
        {
            output.send_event(
                UpstreamForceKeyUnitEvent::builder()
                    .all_headers(true)
                    .build(),
            );
        }
        gst::PadProbeReturn::Ok
    });
}

#[cfg(test)]
mod tests {
    use super::super::encoder::{CANDIDATES, Encoder, works};
    use super::super::gst::{chain, init, make};
    use super::super::source_test::raw_caps;
    use super::super::teardown;
    use super::*;

    fn asked(every: u32, times: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut since = Since {
            every,
            frames: 0,
            key: None,
        };
        times.filter(|ms| since.ask(Pts(ms * 1_000_000))).collect()
    }

    #[test]
    fn nothing_is_asked_for_while_the_count_keeps_up_with_the_time() {
        assert!(asked(20, (0..200).map(|n| n * 100)).is_empty());
        // A camera that is slower than it said.
        assert_eq!(asked(20, (0..24).map(|n| n * 125)), [2000]);
        // Its clock steps back.
        assert_eq!(asked(20, [5000, 5100, 0, 100, 2000].into_iter()), [2000]);
    }

    #[test]
    fn one_in_ten_frames_has_key_frames_in_time() {
        let asked = asked(20, (0..10).map(|n| n * 1000));
        assert_eq!(asked, [2000, 4000, 6000, 8000]);
    }

    /// Moments of the key frames that `encoder` makes of 20 s at 10 a second, of which one in `of` reaches it.
    fn key_frames(encoder: Encoder, of: u64, tapped: bool) -> Vec<u64> {
        let pipeline = gst::Pipeline::new();
        let src = make("videotestsrc").unwrap();
        src.set_property("num-buffers", 200);
        let raw = make("capsfilter").unwrap();
        raw.set_property("caps", raw_caps(Some(encoder.raw_format()), 320, 240, 10));
        let (enc, caps) = encoder.build(10, 500).unwrap();
        let out = make("capsfilter").unwrap();
        out.set_property("caps", caps);
        let sink = gstreamer_app::AppSink::builder()
            .sync(false)
            .wait_on_eos(false)
            .build();
        chain(&pipeline, &[&src, &raw, &enc, &out, sink.upcast_ref()]).unwrap();
        raw.static_pad("src")
            .unwrap()
            .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let at = info.buffer().and_then(|b| b.pts()).unwrap().mseconds() / 100;
                match at % of {
                    0 => gst::PadProbeReturn::Ok,
                    _ => gst::PadProbeReturn::Drop,
                }
            });
        if tapped {
            tap(&enc, 10);
        }
        assert!(teardown::to_playing(&pipeline));
        let mut keys = Vec::new();
        let mut zero = None;
        while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(20)) {
            let buffer = sample.buffer().unwrap();
            let pts = buffer.pts().unwrap().mseconds();
            // x264 moves all time stamps by a thousand hours.
            let zero = *zero.get_or_insert(pts);
            if !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
                keys.push(pts - zero);
            }
        }
        teardown::to_null(pipeline);
        keys
    }

    #[test]
    fn a_slow_encoder_makes_key_frames_by_time() {
        init().unwrap();
        let even: Vec<u64> = (0..10).map(|n| n * 2000).collect();
        let mut tried = 0;
        for encoder in CANDIDATES.into_iter().filter(|e| works(*e)) {
            assert_eq!(key_frames(encoder, 1, true), even, "{encoder:?}");
            assert_eq!(key_frames(encoder, 10, true), even, "{encoder:?}");
            let without = key_frames(encoder, 10, false);
            assert!(without.len() < 3, "{encoder:?}: {without:?}");
            tried += 1;
        }
        assert!(tried > 0, "there is no encoder here");
    }
}
