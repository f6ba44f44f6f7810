//! Where a file is cut: segments of a continuous recording, and parts of an event's clip.
//!
//! ```text
//!            key frame: Open           old enough + key frame, or new caps + key frame: Reopen
//!  waiting ──────────────────▶ open ──┐
//!     ▲  other packets: Skip    │  ▲──┘       other packets: Append
//!     └── Close (end of clip) ──┘
//! ```
//!
//! Guarantees that every file begins with a key frame and holds packets of one set of caps only, and that between two
//! files of the same caps no packet is lost. Video packets decide; audio follows into the open file. The recorder
//! task owns the rules.

use std::time::Duration;

use crate::time::Pts;

/// What to do with a video packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It cannot be decoded or is not wanted: drop it.
    Skip,
    /// Open a file, part `part` (0, 1, …) of the recording, and write it there.
    Open {
        /// Counts the files of one rule.
        part: u32,
    },
    /// Write it to the open file.
    Append,
    /// Close the open file, open the next part, and write it there.
    Reopen {
        /// Counts the files of one rule.
        part: u32,
    },
    /// Close the open file; the packet is past the end.
    Close,
}

/// State that both rules share: which file is open and whether its caps still hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct File {
    opened: Option<Pts>,
    parts: u32,
    stale: bool,
}

impl File {
    fn next(&mut self, pts: Pts, key: bool, wants_cut: bool) -> Step {
        let was_open = self.opened.is_some();
        if was_open && !self.stale && !(key && wants_cut) {
            return Step::Append;
        }
        if !key {
            // After new caps nothing fits the open file before the next key frame.
            return Step::Skip;
        }
        let part = self.parts;
        self.parts += 1;
        self.opened = Some(pts);
        self.stale = false;
        if was_open {
            Step::Reopen { part }
        } else {
            Step::Open { part }
        }
    }
}

/// Continuous mode: a segment is cut at the first key frame after its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRule {
    length: Duration,
    file: File,
}

impl SegmentRule {
    /// Segments of `length`.
    pub fn new(length: Duration) -> SegmentRule {
        SegmentRule {
            length,
            file: File::default(),
        }
    }

    /// Decides on a video packet.
    pub fn packet(&mut self, pts: Pts, key: bool) -> Step {
        let old = self
            .file
            .opened
            .is_some_and(|o| pts.since(o) >= self.length);
        self.file.next(pts, key, old)
    }

    /// Resolution, codec or parameter sets changed: the open file takes nothing more.
    pub fn caps_changed(&mut self) {
        self.file.stale = self.file.opened.is_some();
    }

    /// The session ended and the shell closed the file: the next key frame opens another part.
    pub fn gap(&mut self) {
        self.file.opened = None;
        self.file.stale = false;
    }
}

/// Clip of one event: from the key frame at or before its window (the ring knows it) to the window's end; new caps
/// continue the event in another part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClipRule {
    until: Option<Pts>,
    file: File,
    done: bool,
}

impl ClipRule {
    /// A clip whose end is not known yet.
    pub fn new() -> ClipRule {
        ClipRule::default()
    }

    /// The event ended: packets after `clip_until` are not wanted.
    pub fn end_at(&mut self, clip_until: Pts) {
        self.until = Some(clip_until);
    }

    /// Decides on a video packet; the first ones come from the ring.
    pub fn packet(&mut self, pts: Pts, key: bool) -> Step {
        if self.done {
            return Step::Skip;
        }
        if self.until.is_some_and(|u| pts > u) {
            self.done = true;
            return match self.file.opened.take() {
                Some(_) => Step::Close,
                None => Step::Skip,
            };
        }
        self.file.next(pts, key, false)
    }

    /// Resolution, codec or parameter sets changed: the open part takes nothing more.
    pub fn caps_changed(&mut self) {
        self.file.stale = self.file.opened.is_some();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(s: u64) -> Pts {
        Pts(s * 1_000_000_000)
    }

    #[test]
    fn a_segment_is_cut_at_the_first_key_frame_after_its_length() {
        let mut rule = SegmentRule::new(Duration::from_secs(10));
        assert_eq!(rule.packet(at(0), false), Step::Skip);
        assert_eq!(rule.packet(at(1), true), Step::Open { part: 0 });
        assert_eq!(rule.packet(at(5), true), Step::Append);
        assert_eq!(rule.packet(at(12), false), Step::Append);
        assert_eq!(rule.packet(at(13), true), Step::Reopen { part: 1 });
        rule.caps_changed();
        assert_eq!(rule.packet(at(14), false), Step::Skip);
        assert_eq!(rule.packet(at(15), true), Step::Reopen { part: 2 });
        rule.gap();
        assert_eq!(rule.packet(at(0), true), Step::Open { part: 3 });
    }

    #[test]
    fn new_caps_continue_a_clip_in_another_part() {
        let mut rule = ClipRule::new();
        assert_eq!(rule.packet(at(1), true), Step::Open { part: 0 });
        rule.caps_changed();
        assert_eq!(rule.packet(at(2), true), Step::Reopen { part: 1 });
        rule.end_at(at(3));
        assert_eq!(rule.packet(at(3), false), Step::Append);
        assert_eq!(rule.packet(at(4), true), Step::Close);
        assert_eq!(rule.packet(at(5), true), Step::Skip);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_file_begins_with_a_key_frame_and_no_packet_between_is_lost(
            packets in prop::collection::vec((any::<bool>(), prop::bool::weighted(0.1)), 0..200),
            length in 0u64..20,
        ) {
            let mut rule = SegmentRule::new(Duration::from_secs(length));
            let (mut open, mut stale, mut part) = (false, false, 0);
            for (i, (key, caps)) in packets.into_iter().enumerate() {
                if caps {
                    rule.caps_changed();
                    stale = open;
                }
                match rule.packet(at(i as u64), key) {
                    Step::Skip => prop_assert!(!key && (!open || stale)),
                    Step::Append => prop_assert!(open && !stale),
                    step @ (Step::Open { part: p } | Step::Reopen { part: p }) => {
                        prop_assert!(key);
                        prop_assert_eq!(p, part);
                        prop_assert_eq!(open, matches!(step, Step::Reopen { .. }));
                        (open, stale, part) = (true, false, p + 1);
                    }
                    Step::Close => prop_assert!(false, "a segment has no end of its own"),
                }
            }
        }
    }
}
