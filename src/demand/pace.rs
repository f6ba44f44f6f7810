//! When a picture is due.

use std::time::Duration;

use crate::time::Pts;

/// Chooses about `fps` pictures a second by their pts, evenly, whatever the camera's own rate.
#[derive(Debug, Clone)]
pub struct Pace {
    interval: Duration,
    next: Option<Pts>,
    /// The newest key frame that was chosen.
    key: Option<Pts>,
}

/// A key frame is chosen, whatever the grid, when the last chosen one is this long ago: key frames are compared with
/// each other (decode on demand).
const KEYS_APART: Duration = Duration::from_millis(800);

impl Pace {
    /// `fps` ≤ 0 or not a number chooses every picture.
    pub fn new(fps: f32) -> Pace {
        let interval = Duration::try_from_secs_f32(1.0 / fps).unwrap_or_default();
        Pace {
            interval,
            next: None,
            key: None,
        }
    }

    /// Whether the picture at `pts` is chosen, which is noted. A key frame may be where another picture is not.
    pub fn choose(&mut self, pts: Pts, key: bool) -> bool {
        let chosen = self.due(pts) || key && self.key_due(pts);
        match (chosen, key) {
            (true, true) => self.take_key(pts),
            (true, false) => self.take(pts),
            (false, _) => {}
        }
        chosen
    }

    /// Whether the picture at `pts` is wanted; a clock that went backwards by more than two intervals starts again.
    fn due(&self, pts: Pts) -> bool {
        let slack = self.interval / 10;
        self.next
            .is_none_or(|n| pts + slack >= n || pts + self.interval * 3 < n)
    }

    /// Forgets the grid.
    pub fn restart(&mut self) {
        self.next = None;
        self.key = None;
    }

    /// Notes that the picture at `pts` was chosen.
    fn take(&mut self, pts: Pts) {
        let even = self.next.map(|n| n + self.interval);
        // Keeps the even grid where pictures come in time, and starts a new one after a gap or a step backwards.
        let in_time = |n: &Pts| *n > pts && n.since(pts) <= self.interval * 2;
        self.next = Some(even.filter(in_time).unwrap_or(pts + self.interval));
    }

    /// Whether the key frame at `pts` is chosen: it comes about half an interval or less before the next picture that is
    /// wanted, or long after the last chosen key frame.
    fn key_due(&self, pts: Pts) -> bool {
        let apart = |k: Pts| pts < k || pts.since(k) >= KEYS_APART;
        self.due(pts)
            || self.next.is_none_or(|n| pts + self.interval * 3 / 5 >= n)
            || self.key.is_none_or(apart)
    }

    /// Notes that the key frame at `pts` was chosen: the grid begins there.
    fn take_key(&mut self, pts: Pts) {
        self.key = Some(pts);
        self.next = Some(pts + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::motion::synthetic::rounds;

    fn chosen(fps: f32, pictures: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut pace = Pace::new(fps);
        pictures
            .filter(|ms| {
                let pts = Pts(ms * 1_000_000);
                let due = pace.due(pts);
                if due {
                    pace.take(pts);
                }
                due
            })
            .collect()
    }

    #[test]
    fn the_pace_is_even_for_any_camera_rate() {
        for camera in [5u64, 10, 12, 15, 24, 25, 30, 60] {
            let n = chosen(5.0, (0..camera * 10).map(|i| i * 1_000 / camera)).len();
            assert!((49..=51).contains(&n), "{camera} fps: {n}");
        }
        assert_eq!(chosen(10.0, (0..20).map(|i| i * 500)).len(), 20);
        assert_eq!(chosen(0.0, 0..20).len(), 20);
    }

    #[test]
    fn the_pace_survives_gaps_and_steps() {
        let n = chosen(
            5.0,
            (0..50)
                .map(|i| 90_000 + i * 40)
                .chain((0..50).map(|i| i * 40)),
        );
        assert_eq!(n.len(), 20);
        assert_eq!(
            chosen(5.0, [0, 200, 60_000, 60_040, 60_200].into_iter()),
            [0, 200, 60_000, 60_200]
        );
    }

    #[test]
    fn a_key_frame_that_comes_a_little_early_begins_the_grid_anew() {
        let ms = |n: u64| Pts(n * 1_000_000);
        let mut pace = Pace::new(5.0);
        pace.take_key(ms(0));
        assert!(!pace.key_due(ms(70)) && pace.key_due(ms(100)) && !pace.due(ms(100)));
        pace.take_key(ms(100));
        assert!(!pace.due(ms(270)) && pace.due(ms(300)));
        (1..10).for_each(|n| pace.take(ms(100 + 200 * n)));
        assert!(pace.key_due(ms(1970)), "long after the last one");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4 * rounds(), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_clock_does_pictures_are_chosen_about_so_often(
            fps in prop_oneof![4 => 1.0f32..30.0, 1 => prop::sample::select(vec![0.0, -1.0, 0.01, 1e9, f32::NAN, f32::INFINITY])],
            steps in prop::collection::vec((prop_oneof![20 => 0i64..200, 1 => -100_000i64..100_000, 1 => any::<i64>()], prop::bool::weighted(0.1)), 1..300),
        ) {
            let mut pace = Pace::new(fps);
            let interval = pace.interval;
            let (mut at, mut last) = (Pts(1_000_000_000_000), None::<Pts>);
            // A stretch of rising time: its begin, and the pictures between key frames chosen since.
            let (mut begin, mut chosen, mut keys) = (at, 0u32, 0u32);
            for (by, key) in steps {
                let before = at;
                at = Pts(at.0.saturating_add_signed(by.saturating_mul(1_000_000)).min(1 << 62));
                if at < before {
                    (begin, chosen, keys) = (at, 0, 0);
                }
                let wanted = if key { pace.key_due(at) } else { pace.due(at) };
                if wanted {
                    if key { pace.take_key(at) } else { pace.take(at) }
                    last = Some(at);
                    chosen += 1;
                    keys += u32::from(key);
                } else {
                    let last = last.expect("the first picture is chosen");
                    let away = at.since(last).max(last.since(at));
                    prop_assert!(away <= interval * 3, "{:?} without a picture, every {:?}", away, interval);
                }
                // A key frame begins the grid anew, three fifths of an interval early at most.
                let even = interval * (chosen - keys).saturating_sub(2 + keys);
                prop_assert!(even <= at.since(begin) + interval * 2, "{} pictures in {:?}", chosen, at.since(begin));
            }
        }
    }
}
