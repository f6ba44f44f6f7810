//! Repairs time stamps: whatever a camera sends, decode times rise strictly and every packet has a pts. Pure.
//!
//! RTP carries presentation times only. Without B-frames dts equals pts; with them the decode time is the smallest
//! pts of the last *n* packets, where *n* is the reordering seen so far (as FFmpeg does it), which needs no look-ahead
//! and so no delay. The very first B-frame of a session may get a dts above its pts, once.

use std::time::Duration;

use crate::time::Pts;

/// Deepest reordering that H.264 and H.265 allow.
const MAX_REORDER: usize = 16;

/// A pts this much before the last one is a jump of the camera's clock, not a B-frame.
const BACKWARD: Duration = Duration::from_secs(2);

/// A pts this much after the last one is a jump of the camera's clock, not a pause.
const FORWARD: Duration = Duration::from_secs(60);

/// What to write on a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Presentation time.
    pub pts: Pts,
    /// Decode time, strictly above the one before.
    pub dts: Pts,
    /// The time stamp was missing or impossible and was made up.
    pub repaired: bool,
}

/// The time stamps of one track of one session.
#[derive(Debug, Clone, Default)]
pub struct Stamper {
    recent: Vec<Pts>,
    reorder: usize,
    last_dts: Option<Pts>,
    last_pts: Option<Pts>,
    step: Duration,
}

impl Stamper {
    /// Judges the next packet in decode order. `dts` is believed where it rises (files); give `None` where the source
    /// has none of its own (RTP). `None` is answered where nothing sane can be said: drop the packet.
    pub fn stamp(&mut self, pts: Option<Pts>, dts: Option<Pts>) -> Option<Stamp> {
        let mut repaired = false;
        let pts = match (pts.or(dts), self.last_pts) {
            (Some(p), Some(last)) if p.since(last) > FORWARD || last.since(p) > BACKWARD => {
                repaired = true;
                last + self.step()
            }
            (Some(p), _) => p,
            (None, Some(last)) => {
                repaired = true;
                last + self.step()
            }
            (None, None) => return None,
        };
        let floor = self.last_dts.map(|d| d + Duration::from_nanos(1));
        let dts = match dts.filter(|d| *d <= pts && floor.is_none_or(|f| *d >= f)) {
            Some(d) => d,
            None => self.derive(pts).max(floor.unwrap_or_default()),
        };
        if let Some(last) = self.last_pts.filter(|l| pts > *l) {
            let gap = pts.since(last);
            if gap <= Duration::from_secs(1) {
                self.step = gap;
            }
        }
        self.last_pts = Some(pts);
        self.last_dts = Some(dts);
        Some(Stamp { pts, dts, repaired })
    }

    fn step(&self) -> Duration {
        if self.step.is_zero() {
            Duration::from_millis(40)
        } else {
            self.step
        }
    }

    fn derive(&mut self, pts: Pts) -> Pts {
        let later = self.recent.iter().filter(|p| **p > pts).count();
        self.reorder = self.reorder.max(later).min(MAX_REORDER);
        self.recent.push(pts);
        if self.recent.len() > MAX_REORDER + 1 {
            self.recent.remove(0);
        }
        let from = self.recent.len().saturating_sub(self.reorder + 1);
        self.recent[from..].iter().copied().min().unwrap_or(pts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: u64) -> Option<Pts> {
        Some(Pts(n * 1_000_000))
    }

    #[test]
    fn without_b_frames_dts_equals_pts() {
        let mut s = Stamper::default();
        for n in [0, 40, 80, 120] {
            let t = s.stamp(ms(n), None).unwrap();
            assert_eq!(
                (t.pts, t.dts, t.repaired),
                (Pts(n * 1_000_000), Pts(n * 1_000_000), false)
            );
        }
    }

    #[test]
    fn b_frames_keep_their_pts_and_get_a_dts_below_it() {
        let mut s = Stamper::default();
        let mut late = 0;
        for gop in 0..10 {
            for n in [0, 120, 40, 80] {
                let t = s.stamp(ms(gop * 160 + n), None).unwrap();
                assert_eq!(t.pts, Pts((gop * 160 + n) * 1_000_000));
                late += u32::from(t.dts > t.pts);
            }
        }
        assert!(late <= 2, "{late}");
    }

    #[test]
    fn missing_and_jumping_stamps_are_made_up() {
        let mut s = Stamper::default();
        assert_eq!(s.stamp(None, None), None);
        s.stamp(ms(0), None).unwrap();
        s.stamp(ms(40), None).unwrap();
        let t = s.stamp(None, None).unwrap();
        assert_eq!((t.pts, t.repaired), (Pts(80_000_000), true));
        let t = s.stamp(ms(90_000_000), None).unwrap();
        assert_eq!((t.pts, t.repaired), (Pts(120_000_000), true));
    }

    proptest! {
        #[test]
        fn dts_always_rises(stamps in prop::collection::vec(
            (prop::option::of(0u64..20_000), prop::option::of(0u64..20_000)), 1..200)) {
            let mut s = Stamper::default();
            let mut last = None;
            for (p, d) in stamps {
                if let Some(t) = s.stamp(p.map(|v| Pts(v * 1_000_000)), d.map(|v| Pts(v * 1_000_000))) {
                    prop_assert!(last.is_none_or(|l| t.dts > l));
                    last = Some(t.dts);
                }
            }
        }
    }
}
