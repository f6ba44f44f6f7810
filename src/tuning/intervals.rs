//! Scores of detected intervals against labelled events, in seconds on the clip's own time line.
//!
//! An event is found when a detection overlaps it (stretched by [`SLACK`]). Detected time outside of the events (stretched by
//! [`BEFORE`] and [`AFTER`]: people come before the label, and the end is a matter of taste) and outside of what the labels
//! leave open is false; a detection that is nothing but false is a false alarm.

/// From when to when, in seconds.
pub type Interval = (f64, f64);

/// What an overlap may miss.
const SLACK: f64 = 0.2;
/// How long before an event detecting is right.
const BEFORE: f64 = 1.0;
/// How long after it.
const AFTER: f64 = 5.0;
/// Movements closer than this are one detection.
const JOIN: f64 = 3.0;

/// The labels of one clip.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels {
    /// Length of the clip.
    pub seconds: f64,
    /// What happens.
    pub events: Vec<Interval>,
    /// Where both answers are right.
    pub open: Vec<Interval>,
}

/// Counts over one clip or many.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Labelled events.
    pub events: usize,
    /// Of these, found.
    pub found: usize,
    /// Detections.
    pub detections: usize,
    /// Of these, false.
    pub false_alarms: usize,
    /// Falsely detected time.
    pub false_seconds: f64,
    /// Length of what was seen.
    pub seconds: f64,
    /// For each event found, how long after its beginning the detection began, negative where it was before. A detection
    /// that runs on from an earlier event says nothing of a beginning and is left out.
    pub late: Vec<f64>,
}

impl Tally {
    /// Adds another clip's.
    pub fn add(&mut self, other: &Tally) {
        self.events += other.events;
        self.found += other.found;
        self.detections += other.detections;
        self.false_alarms += other.false_alarms;
        self.false_seconds += other.false_seconds;
        self.seconds += other.seconds;
        self.late.extend(&other.late);
    }

    /// Median of [`Tally::late`]; nothing where nothing was found.
    pub fn median_late(&self) -> Option<f64> {
        median(self.late.clone())
    }

    /// How far detections begin from their events in the median, too early being as wrong as too late.
    pub fn start_error(&self) -> Option<f64> {
        median(self.late.iter().map(|l| l.abs()).collect())
    }
}

fn median(mut v: Vec<f64>) -> Option<f64> {
    v.sort_by(f64::total_cmp);
    let n = v.len();
    (n > 0).then(|| (v[(n - 1) / 2] + v[n / 2]) / 2.0)
}

/// Joins what moved frame by frame: `since` when and until when, in order.
#[derive(Debug, Clone, Default)]
pub struct Joined(pub Vec<Interval>);

impl Joined {
    /// A frame at `at` shows a movement that began at `since`.
    pub fn moves(&mut self, since: f64, at: f64) {
        match self.0.last_mut() {
            Some(last) if since - last.1 <= JOIN => last.1 = last.1.max(at),
            _ => self.0.push((since, at)),
        }
    }
}

/// Scores one clip.
pub fn score(labels: &Labels, detected: &[Interval]) -> Tally {
    let stretched = |before: f64, after: f64| -> Vec<Interval> {
        labels
            .events
            .iter()
            .map(|e| (e.0 - before, e.1 + after))
            .collect()
    };
    let right = stretched(BEFORE, AFTER);
    let mut excused = right.clone();
    excused.extend(&labels.open);
    let mut tally = Tally {
        events: labels.events.len(),
        detections: detected.len(),
        seconds: labels.seconds,
        ..Tally::default()
    };
    for (event, wide) in labels.events.iter().zip(stretched(SLACK, SLACK)) {
        let first = detected
            .iter()
            .filter(|d| overlap(**d, wide) > 0.0 || (d.0 == d.1 && wide.0 <= d.0 && d.0 <= wide.1))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some(first) = first {
            tally.found += 1;
            let runs_on = |e: &&Interval| e.0 < event.0 && overlap(*first, **e) > 0.0;
            if !labels.events.iter().any(|e| runs_on(&e)) {
                tally.late.push(first.0 - event.0);
            }
        }
    }
    for d in detected {
        let wrong: f64 = without(*d, &excused).iter().map(|i| i.1 - i.0).sum();
        tally.false_seconds += wrong;
        let touches = right.iter().any(|r| overlap(*d, *r) > 0.0);
        let open = labels.open.iter().any(|o| o.0 <= d.0 && d.1 <= o.1);
        if !touches && (wrong > 0.0 || !open) {
            tally.false_alarms += 1;
        }
    }
    tally
}

fn overlap(a: Interval, b: Interval) -> f64 {
    (a.1.min(b.1) - a.0.max(b.0)).max(0.0)
}

fn without(whole: Interval, cuts: &[Interval]) -> Vec<Interval> {
    let mut left = vec![whole];
    for c in cuts {
        left = left
            .into_iter()
            .flat_map(|(a, b)| [(a, b.min(c.0)), (a.max(c.1), b)])
            .filter(|(a, b)| b > a)
            .collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels() -> Labels {
        Labels {
            seconds: 60.0,
            events: vec![(10.0, 12.0), (30.0, 40.0)],
            open: vec![(50.0, 55.0)],
        }
    }

    #[test]
    fn found_late_and_false_are_told_apart() {
        let t = score(&labels(), &[(2.0, 5.0), (10.5, 20.0), (51.0, 54.0)]);
        assert_eq!(
            (t.events, t.found, t.detections, t.false_alarms),
            (2, 1, 3, 1)
        );
        // 3 s at the beginning, 3 s beyond 12 + 5.
        assert!((t.false_seconds - 6.0).abs() < 1e-9);
        assert_eq!(t.median_late(), Some(0.5));
    }

    #[test]
    fn a_detection_that_begins_too_early_is_as_wrong_as_one_that_begins_too_late() {
        let t = score(&labels(), &[(8.0, 12.0), (31.0, 40.0)]);
        assert_eq!(t.late, [-2.0, 1.0]);
        assert_eq!((t.median_late(), t.start_error()), (Some(-0.5), Some(1.5)));
        // One detection over both events has one beginning.
        let t = score(&labels(), &[(10.25, 40.0)]);
        assert_eq!((t.found, t.late), (2, vec![0.25]));
    }

    #[test]
    fn silence_finds_nothing_and_is_never_wrong() {
        let t = score(&labels(), &[]);
        assert_eq!((t.found, t.false_alarms, t.median_late()), (0, 0, None));
    }

    #[test]
    fn what_is_close_is_one_detection() {
        let mut joined = Joined::default();
        for (since, at) in [(1.0, 1.4), (1.0, 1.6), (4.0, 4.5), (9.0, 9.1)] {
            joined.moves(since, at);
        }
        assert_eq!(joined.0, [(1.0, 4.5), (9.0, 9.1)]);
    }

    proptest! {
        #[test]
        fn false_time_is_never_more_than_detected_time(
            cuts in prop::collection::vec((0.0f64..60.0, 0.0f64..20.0), 0..6),
            detected in prop::collection::vec((0.0f64..60.0, 0.0f64..20.0), 0..6),
        ) {
            let spans = |v: Vec<(f64, f64)>| -> Vec<Interval> { v.into_iter().map(|(a, n)| (a, a + n)).collect() };
            let (events, detected) = (spans(cuts), spans(detected));
            let t = score(&Labels { seconds: 80.0, events, open: vec![] }, &detected);
            let total: f64 = detected.iter().map(|d| d.1 - d.0).sum();
            prop_assert!(t.false_seconds >= 0.0 && t.false_seconds <= total + 1e-6);
            prop_assert!(t.found <= t.events && t.false_alarms <= t.detections);
        }
    }
}
