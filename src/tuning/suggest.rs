//! Which settings keep everything wanted and the least of what is unwanted: trials in, a choice out.
//!
//! A trial is a sensitivity with exclude zones, really replayed over every clip; nothing is estimated. A clip's label says
//! of a clip, or of a span of it, whether its events are wanted; of the rest of a wanted clip nothing is known.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::time::Duration;

use super::heat::Heat;
use super::replay::Seen;
use super::zones::{CAUTIONS, Polygon, area, propose};
use crate::config::{Config, MotionConfig, Zone};
use crate::time::Pts;

/// A zone may not take more of the picture than this.
pub const MOST_AREA: f32 = 0.5;
/// Exclude zones of a camera, the ones that are there already included.
const MOST_ZONES: usize = 16;
/// Sensitivities that are tried with zones: the nearest to the one in force.
const MOST_WITH_ZONES: usize = 4;
/// Wanted time counts in steps of this share, so that a frame more or less decides nothing.
const STEP: f64 = 0.1;

/// What is known of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Whether its events shall be found.
    pub wanted: bool,
    /// Only this part of it; `None`: all.
    pub span: Option<(Pts, Pts)>,
}

/// What is tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// 1 to 10.
    pub sensitivity: u8,
    /// Exclude zones beyond those that are configured.
    pub zones: Vec<Polygon>,
}

/// What a trial came to over all clips.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct Tally {
    /// Clips labelled wanted.
    pub wanted: usize,
    /// Of these, with an event where it is wanted.
    pub found: usize,
    /// Seconds of wanted events.
    pub found_s: f64,
    /// Clips labelled unwanted.
    pub unwanted: usize,
    /// Of these, with an event.
    pub false_clips: usize,
    /// Their events.
    pub false_events: usize,
    /// Seconds of these.
    pub false_s: f64,
}

impl Label {
    /// The part of an event that the label speaks of.
    fn part(&self, event: &Seen) -> Option<Duration> {
        let (from, to) = self.span.unwrap_or((Pts(0), Pts(u64::MAX)));
        let (begin, end) = (event.started_at.max(from), event.ended_at.min(to));
        (begin <= end).then(|| end.since(begin))
    }

    /// Whether a frame at this position is spoken of.
    pub fn holds(&self, at: Pts) -> bool {
        self.span.is_none_or(|(from, to)| (from..=to).contains(&at))
    }
}

impl Tally {
    /// Counts one clip's events.
    pub fn count(&mut self, label: Label, events: &[Seen]) {
        let parts: Vec<Duration> = events.iter().filter_map(|e| label.part(e)).collect();
        let seconds = parts.iter().sum::<Duration>().as_secs_f64();
        if label.wanted {
            self.wanted += 1;
            self.found += usize::from(!parts.is_empty());
            self.found_s += seconds;
        } else {
            self.unwanted += 1;
            self.false_clips += usize::from(!parts.is_empty());
            self.false_events += parts.len();
            self.false_s += seconds;
        }
    }
}

/// The trials worth making, after every sensitivity was tried without zones: `alone` and `unwanted` by sensitivity
/// (1 first), `wanted` what moved in wanted clips at the highest. Sensitivities that miss what a higher one finds, or that
/// have no false alarm, need no zones; of the others those nearest to `current` are tried.
pub fn with_zones(
    alone: &[Tally],
    unwanted: &[Heat],
    wanted: &Heat,
    current: u8,
    configured: usize,
) -> Vec<Trial> {
    let most = alone.iter().map(|t| t.found).max().unwrap_or(0);
    let room = MOST_ZONES.saturating_sub(configured);
    let mut worth: Vec<(u8, &Heat)> = (1u8..)
        .zip(alone.iter().zip(unwanted))
        .filter(|(_, (tally, _))| tally.found == most && tally.false_events > 0)
        .map(|(sensitivity, (_, heat))| (sensitivity, heat))
        .collect();
    worth.sort_by_key(|(sensitivity, _)| sensitivity.abs_diff(current));
    worth.truncate(MOST_WITH_ZONES);
    let mut trials: Vec<Trial> = Vec::new();
    for (sensitivity, heat) in worth {
        for caution in CAUTIONS {
            let zones = propose(heat, wanted, caution, room);
            let trial = Trial { sensitivity, zones };
            let fits = !trial.zones.is_empty() && area(&trial.zones) <= MOST_AREA;
            if fits && !trials.contains(&trial) {
                trials.push(trial);
            }
        }
    }
    trials
}

/// Index of the best trial; `current` is the sensitivity in force. `None` without trials.
///
/// In order: most wanted clips found, fewest false events, most wanted time (in steps of a tenth), the smallest part of
/// the picture given up, nearest to the current sensitivity, the higher one.
pub fn best(trials: &[(Trial, Tally)], current: u8) -> Option<usize> {
    let longest = trials.iter().map(|(_, t)| t.found_s).fold(0.0, f64::max);
    let steps = |t: &Tally| match longest {
        l if l > 0.0 => (t.found_s / l / STEP).round() as i64,
        _ => 0,
    };
    let order = |a: &(Trial, Tally), b: &(Trial, Tally)| -> Ordering {
        b.1.found
            .cmp(&a.1.found)
            .then(a.1.false_events.cmp(&b.1.false_events))
            .then(steps(&b.1).cmp(&steps(&a.1)))
            .then(area(&a.0.zones).total_cmp(&area(&b.0.zones)))
            .then(
                a.0.sensitivity
                    .abs_diff(current)
                    .cmp(&b.0.sensitivity.abs_diff(current)),
            )
            .then(b.0.sensitivity.cmp(&a.0.sensitivity))
    };
    (0..trials.len()).min_by(|a, b| order(&trials[*a], &trials[*b]))
}

/// What to paste into the configuration, after the camera's `[camera.motion]` where that holds nothing else.
pub fn snippet(trial: &Trial, configured: usize) -> String {
    let mut text = format!("[camera.motion]\nsensitivity = {}\n", trial.sensitivity);
    for (i, zone) in trial.zones.iter().enumerate() {
        let corners: Vec<String> = zone
            .iter()
            .map(|(x, y)| format!("[{x:.3}, {y:.3}]"))
            .collect();
        let n = configured + i + 1;
        let _ = write!(
            text,
            "[[camera.motion.exclude]]\nname = \"suggested-{n}\"\npoints = [{}]\n",
            corners.join(", ")
        );
    }
    text
}

/// The settings of a trial, read from its own snippet as the agent would read it; `None` where it is not valid.
pub fn settings(of: &MotionConfig, trial: &Trial) -> Option<MotionConfig> {
    let snippet = snippet(trial, of.exclude.len());
    let text = format!("[[camera]]\nid = \"clip\"\ntest = true\n{snippet}");
    let config = Config::parse(&text, &|_| Err("not read".into())).ok()?;
    let read = config.cameras.into_iter().next()?.motion;
    let exclude: Vec<Zone> = of.exclude.iter().cloned().chain(read.exclude).collect();
    Some(MotionConfig {
        sensitivity: read.sensitivity,
        exclude,
        ..of.clone()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Region;
    use crate::recording::event::EndReason;

    fn s(n: u64) -> Pts {
        Pts(n * 1_000_000_000)
    }

    fn event(from: u64, to: u64) -> Seen {
        Seen {
            started_at: s(from),
            ended_at: s(to),
            clip_from: s(from),
            clip_until: s(to),
            reason: EndReason::Quiet,
            continues: false,
            peak_score: 0.5,
            peak_at: s(from),
            largest: None,
            tracks: Default::default(),
            zones: Vec::new(),
        }
    }

    fn tally(found: usize, false_events: usize, found_s: f64) -> Tally {
        Tally {
            wanted: 3,
            found,
            found_s,
            unwanted: 3,
            false_clips: false_events.min(3),
            false_events,
            false_s: false_events as f64,
        }
    }

    fn trial(sensitivity: u8, zones: &[Polygon]) -> Trial {
        Trial {
            sensitivity,
            zones: zones.to_vec(),
        }
    }

    fn corner() -> Polygon {
        vec![(0.0, 0.0), (0.25, 0.0), (0.25, 0.25), (0.0, 0.25)]
    }

    #[test]
    fn a_label_counts_only_what_it_speaks_of() {
        let events = [event(2, 4), event(10, 20)];
        let mut t = Tally::default();
        let wanted = |span| Label { wanted: true, span };
        t.count(wanted(None), &events);
        t.count(wanted(Some((s(18), s(30)))), &events);
        t.count(wanted(Some((s(5), s(9)))), &events);
        assert_eq!((t.wanted, t.found, t.found_s), (3, 2, 14.0));
        t.count(
            Label {
                wanted: false,
                span: None,
            },
            &events,
        );
        t.count(
            Label {
                wanted: false,
                span: None,
            },
            &[],
        );
        assert_eq!(
            (t.unwanted, t.false_clips, t.false_events, t.false_s),
            (2, 1, 2, 12.0)
        );
        assert_eq!(t.found, 2);
    }

    #[test]
    fn what_is_wanted_comes_first_then_silence_then_the_smallest_change() {
        let all = [
            (trial(3, &[]), tally(2, 0, 20.0)),
            (trial(5, &[]), tally(3, 4, 30.0)),
            (trial(5, &[corner()]), tally(3, 1, 30.0)),
            (trial(6, &[corner()]), tally(3, 1, 30.5)),
            (trial(4, &[]), tally(3, 1, 12.0)),
        ];
        assert_eq!(best(&all, 5), Some(2));
        assert_eq!(best(&all, 9), Some(3));
        assert_eq!(best(&all[..2], 5), Some(1));
        assert_eq!(best(&[], 5), None);
    }

    #[test]
    fn settings_that_are_right_are_left_alone() {
        let all: Vec<_> = (1..=10)
            .map(|n| (trial(n, &[]), tally(3, 0, 30.0)))
            .collect();
        assert_eq!(best(&all, 7), Some(6));
    }

    #[test]
    fn zones_are_tried_only_where_they_can_help() {
        let mut tree = Heat::default();
        tree.add(
            &[Region {
                x: 0.0,
                y: 0.0,
                w: 0.3,
                h: 0.3,
                ..Region::default()
            }],
            1.0,
        );
        let heats = vec![tree; 4];
        let alone = [
            tally(2, 0, 1.0),
            tally(3, 0, 1.0),
            tally(3, 1, 1.0),
            tally(3, 3, 1.0),
        ];
        let trials = with_zones(&alone, &heats, &Heat::default(), 5, 0);
        let mut tried: Vec<u8> = trials.iter().map(|t| t.sensitivity).collect();
        tried.dedup();
        assert_eq!(tried, [4, 3]);
        assert!(with_zones(&alone, &heats, &Heat::default(), 5, MOST_ZONES).is_empty());
    }

    #[test]
    fn the_snippet_is_read_back_as_it_was_meant() {
        let text = "[[camera]]\nid = \"c\"\ntest = true\n[camera.motion]\nfps = 10\n\
            [[camera.motion.exclude]]\nname = \"street\"\npoints = [[0, 0], [1, 0], [1, 0.2]]\n";
        let of = Config::parse(text, &|_| Err("none".into()))
            .unwrap()
            .cameras[0]
            .motion
            .clone();
        let read = settings(&of, &trial(3, &[corner()])).unwrap();
        assert_eq!((read.sensitivity, read.fps), (3, 10.0));
        let names: Vec<&str> = read.exclude.iter().map(|z| z.name.as_str()).collect();
        assert_eq!(names, ["street", "suggested-2"]);
        assert_eq!(read.exclude[1].points, corner());
    }

    proptest! {
        #[test]
        fn the_choice_never_gives_up_what_another_finds(
            all in prop::collection::vec((1..=10u8, 0..4usize, 0..6usize, 0.0..50.0f64), 1..20),
            current in 1..=10u8,
        ) {
            let all: Vec<_> = all.into_iter().map(|(n, f, e, t)| (trial(n, &[]), tally(f, e, t))).collect();
            let chosen = &all[best(&all, current).unwrap()].1;
            for (_, other) in &all {
                prop_assert!(other.found <= chosen.found);
                prop_assert!(other.found < chosen.found || other.false_events >= chosen.false_events);
            }
        }
    }
}
