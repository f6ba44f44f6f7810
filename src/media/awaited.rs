//! Which of the decoded pictures were chosen, and their time in the decoder. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::demand::Mark;
use crate::time::Pts;

/// Most chosen pictures that may be in the decoder; beyond them the oldest is given up.
const MOST_WANTED: usize = 64;

/// A chosen picture in the decoder.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    /// Its time in the decoder.
    at: Pts,
    pts: Pts,
    mark: Mark,
}

/// Chosen pictures that have not come out of the decoder yet, by their time in the decoder.
#[derive(Debug, Default)]
pub(super) struct Wanted(VecDeque<Awaited>);

impl Wanted {
    /// The picture of `pts` goes in as `at`. One from before those that wait is a step backwards of the clock: they are
    /// given up, as is what is left of another run.
    pub(super) fn add(&mut self, at: Pts, pts: Pts, mark: Mark) {
        self.0.retain(|w| w.at < at && w.mark.run == mark.run);
        if self.0.len() == MOST_WANTED {
            self.0.pop_front();
        }
        self.0.push_back(Awaited { at, pts, mark });
    }

    /// Nothing is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Pts and mark of the picture that came out as `at`, where it is a chosen one, or the first after a chosen one that
    /// was lost.
    pub(super) fn is(&mut self, at: Pts) -> Option<(Pts, Mark)> {
        let over = self.0.iter().take_while(|w| w.at <= at).count();
        let last = self.0.drain(..over).next_back()?;
        let mark = Mark {
            key: last.mark.key && last.at == at,
            ..last.mark
        };
        Some((last.pts + at.since(last.at), mark))
    }
}

/// The decoder's time: rises for ever, since GStreamer's decoders put their newest time on every picture that lies before
/// it, and what is read again lies before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rising {
    /// Pts of the first packet of this run, and its time.
    from: Option<(Pts, Pts)>,
    newest: Pts,
}

/// Between two runs: more than pictures may come before their key frame.
const BETWEEN: Duration = Duration::from_secs(2);

impl Rising {
    /// The next packet begins a run.
    pub(super) fn restart(&mut self) {
        self.from = None;
    }

    /// The time for `pts`. A step backwards of the clock begins a run, too.
    pub(super) fn at(&mut self, pts: Pts) -> Pts {
        if self
            .from
            .is_some_and(|(first, _)| first.since(pts) > BETWEEN)
        {
            self.from = None;
        }
        let (first, zero) = *self.from.get_or_insert((pts, self.newest + BETWEEN));
        let at = if pts >= first {
            zero + pts.since(first)
        } else {
            zero - first.since(pts)
        };
        self.newest = self.newest.max(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::motion::synthetic::rounds;

    #[test]
    fn chosen_pictures_are_known_again_and_a_lost_one_is_replaced_by_the_next() {
        let mark = Mark { key: true, run: 0 };
        let mut wanted = Wanted::default();
        (0..100).for_each(|n| wanted.add(Pts(n * 10), Pts(1_000 + n * 10), mark));
        let mut is = |at| wanted.is(Pts(at));
        assert_eq!(is(0), None, "only so many are kept");
        assert_eq!(is(360), Some((Pts(1_360), mark)));
        assert_eq!((is(361), is(360)), (None, None));
        let other = Mark { key: false, run: 0 };
        assert_eq!(is(372), Some((Pts(1_372), other)), "370 was lost");
        assert_eq!(is(990), Some((Pts(1_990), mark)));
        assert_eq!(is(991), None);
        wanted.add(Pts(5_000), Pts(0), mark);
        wanted.add(Pts(5_001), Pts(1), mark);
        let again = Mark { run: 1, ..mark };
        wanted.add(Pts(6_000), Pts(0), again);
        assert_eq!(wanted.is(Pts(6_000)), Some((Pts(0), again)), "rewound");
        assert!(wanted.is_empty());
    }

    #[test]
    fn the_decoders_time_rises_whatever_is_read_again() {
        let s = |n: u64| Pts(n * 1_000_000_000);
        let mut rising = Rising::default();
        let first = rising.at(s(10));
        assert_eq!(rising.at(s(14)).since(first), Duration::from_secs(4));
        assert!(rising.at(s(13)) > first, "a B-frame stays in order");
        rising.restart();
        let again = rising.at(s(12));
        assert!(again > rising.at(s(11)) && rising.at(s(11)) > first + Duration::from_secs(4));
        let newest = rising.at(s(15));
        assert!(
            rising.at(s(1)) > newest,
            "the camera's clock went backwards"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4 * rounds(), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_decoders_time_rises_from_run_to_run_and_pictures_are_known_again(
            steps in prop::collection::vec((prop_oneof![12 => 0i64..2_000, 2 => -1_500i64..0, 1 => any::<i64>()], 0..12u8), 1..300),
        ) {
            let (mut rising, mut wanted) = (Rising::default(), Wanted::default());
            let (mut pts, mut run, mut zero) = (Pts(5_000_000_000), 0u64, None::<(Pts, Pts)>);
            let mut newest = Pts(0);
            for (by, what) in steps {
                if what == 0 {
                    rising.restart();
                    (run, zero) = (run + 1, None);
                }
                pts = Pts(pts.0.saturating_add_signed(by.saturating_mul(1_000_000)).min(1 << 60));
                if zero.is_some_and(|(first, _)| first.since(pts) > BETWEEN) {
                    zero = None;
                }
                let at = rising.at(pts);
                match zero {
                    Some((first, zero)) if pts >= first => prop_assert_eq!(at.since(zero), pts.since(first)),
                    Some((first, zero)) => prop_assert_eq!(zero.since(at), first.since(pts)),
                    None => {
                        prop_assert!(at >= newest + BETWEEN, "a run begins after all of the one before");
                        zero = Some((pts, at));
                    }
                }
                newest = newest.max(at);
                let mark = Mark { key: what == 1, run };
                wanted.add(at, pts, mark);
                prop_assert!(wanted.0.len() <= MOST_WANTED && !wanted.is_empty());
                prop_assert!(wanted.0.iter().is_sorted_by_key(|w| w.at) && wanted.0.iter().all(|w| w.mark.run == run));
                if what % 3 == 0 {
                    prop_assert_eq!(wanted.is(at), Some((pts, mark)));
                    prop_assert!(wanted.is_empty());
                }
            }
        }
    }
}
