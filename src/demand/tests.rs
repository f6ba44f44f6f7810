use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::motion::Activity;

pub(super) const WIDTH: usize = 64;
pub(super) const HEIGHT: usize = 36;

fn ms(n: u64) -> Pts {
    Pts(n * 1_000_000)
}

fn config() -> MotionConfig {
    crate::motion::synthetic::config(5)
}

/// One picture of a made-up stream.
#[derive(Debug, Clone, Copy)]
struct Shot {
    at: Pts,
    key: bool,
    bytes: usize,
    /// Luma of a body of 12×12 pixels; the background has 100.
    body: u8,
    /// Its left edge.
    left: usize,
    /// What a detector would say.
    moves: bool,
}

fn quiet(seconds: u64, fps: u64, gop_ms: u64) -> Vec<Shot> {
    let gop = (gop_ms * fps / 1000).max(1);
    let shot = |n| Shot {
        at: ms(n * 1000 / fps),
        key: n % gop == 0,
        bytes: if n % gop == 0 { 50_000 } else { 2_000 },
        body: 100,
        left: 20,
        moves: false,
    };
    (0..seconds * fps).map(shot).collect()
}

fn picture(shot: &Shot) -> Vec<u8> {
    drawn(shot.body, shot.left)
}

/// A body of 12×12 pixels of this luma, its left edge here; the background has 100.
pub(super) fn drawn(body: u8, left: usize) -> Vec<u8> {
    let mut luma = vec![100; WIDTH * HEIGHT];
    for row in luma.chunks_mut(WIDTH).skip(8).take(12) {
        row[left..left + 12].fill(body);
    }
    luma
}

/// What a detector says of a picture in which something moves.
pub(super) fn motion(at: Pts) -> Verdict {
    Verdict::Motion(Activity {
        score: 0.5,
        area: 0.1,
        regions: Vec::new(),
        zones: Vec::new(),
        since: at,
    })
}

/// What a shell does, with a decoder that is never behind.
struct Shell {
    demand: Demand,
    decoded: BTreeSet<usize>,
    /// Numbers of key frames that were held back.
    held: Vec<usize>,
    modes: Vec<(Pts, Mode)>,
    /// Numbers of what the detector was shown: of two with one position the first.
    saw: Vec<usize>,
}

fn watch(shots: &[Shot]) -> Shell {
    let mut shell = Shell {
        demand: Demand::new(&config()),
        decoded: BTreeSet::new(),
        held: Vec::new(),
        modes: Vec::new(),
        saw: Vec::new(),
    };
    let mut cursor = Some(0);
    let mut seen: Option<Pts> = None;
    for (n, shot) in shots.iter().enumerate() {
        let mut alone = shell.demand.packet(shot.at, shot.key, shot.bytes);
        loop {
            if shell
                .modes
                .last()
                .is_none_or(|m| m.1 != shell.demand.mode())
            {
                shell.modes.push((shot.at, shell.demand.mode()));
            }
            let i = match shell.demand.reads() {
                Reads::KeyFrames => {
                    cursor = None;
                    if !std::mem::take(&mut alone) || seen.is_some_and(|s| s >= shot.at) {
                        break;
                    }
                    n
                }
                Reads::From(from) => {
                    let key = |s: &Shot| s.key && s.at <= from;
                    let begin = shots[..=n].iter().rposition(key).unwrap_or(0);
                    let i = *cursor.get_or_insert(begin);
                    if i > n {
                        break;
                    }
                    cursor = Some(i + 1);
                    i
                }
            };
            shell.decoded.insert(i);
            let s = &shots[i];
            if seen.is_some_and(|seen| s.at <= seen) {
                continue;
            }
            let luma = picture(s);
            let frame = GrayFrame {
                luma: &luma,
                width: WIDTH,
                height: HEIGHT,
                stride: WIDTH,
                pts: s.at,
            };
            if s.key && !shell.demand.key_picture(&frame) {
                shell.held.push(i);
                continue;
            }
            seen = Some(s.at);
            shell.saw.push(i);
            let verdict = if s.moves {
                motion(s.at)
            } else {
                Verdict::Quiet
            };
            shell.demand.verdict(s.at, &verdict);
        }
    }
    shell
}

impl Shell {
    fn share(&self, shots: &[Shot], from: Pts, to: Pts) -> f32 {
        let within = |i: &usize| shots[*i].at >= from && shots[*i].at < to;
        let all = (0..shots.len()).filter(within).count();
        let decoded = self.decoded.iter().filter(|i| within(i)).count();
        decoded as f32 / all.max(1) as f32
    }
}

#[test]
fn a_quiet_scene_costs_its_key_frames() {
    let shots = quiet(120, 10, 2000);
    let shell = watch(&shots);
    assert_eq!(shell.demand.mode(), Mode::KeyFrames);
    let after = shots.iter().filter(|s| s.at > ms(12_000));
    let share = shell.share(&shots, ms(12_001), ms(120_000));
    let keys = after.clone().filter(|s| s.key).count() as f32 / after.count() as f32;
    assert!((share - keys).abs() < 1e-6, "{share} of {keys}");
}

#[test]
fn what_begins_between_two_key_frames_is_decoded_from_the_first_of_them() {
    let mut shots = quiet(60, 10, 2000);
    for s in shots
        .iter_mut()
        .filter(|s| (ms(31_300)..ms(36_000)).contains(&s.at))
    {
        (s.body, s.moves) = (180, true);
    }
    let shell = watch(&shots);
    assert_eq!(shell.share(&shots, ms(30_000), ms(36_000) + HOLD), 1.0);
    assert!(shell.share(&shots, ms(20_000), ms(30_000)) < 0.1);
    assert!(shell.share(&shots, ms(46_000), ms(60_000)) < 0.1);
    assert!(shell.saw.is_sorted(), "the detector sees them in order");
    let words: Vec<Mode> = shell.modes.iter().map(|m| m.1).collect();
    assert_eq!(
        words[..4],
        [
            Mode::Learning,
            Mode::KeyFrames,
            Mode::Looking,
            Mode::KeyFrames
        ]
    );
}

#[test]
fn a_zone_that_is_more_sensitive_than_its_camera_is_judged_by_its_own_measure() {
    let largest = |sensitivity: u8, zone: Option<u8>| {
        let mut config = crate::motion::synthetic::config(sensitivity);
        let mut gate = crate::motion::synthetic::rectangle("gate", (0.0, 0.0), (1.0, 1.0));
        gate.sensitivity = zone;
        config.include = vec![gate];
        let mut judge = Judge::new(&config);
        let quiet = quiet(40, 1, 1000);
        let mut found = 0.0f32;
        for (n, shot) in quiet.iter().enumerate() {
            let luma = picture(&Shot {
                body: if n == 39 { 106 } else { 100 },
                ..*shot
            });
            let frame = GrayFrame {
                luma: &luma,
                width: WIDTH,
                height: HEIGHT,
                stride: WIDTH,
                pts: shot.at,
            };
            if let Finding::Change(change) = judge.observe(&frame) {
                found = found.max(change);
            }
        }
        found
    };
    assert!(largest(3, Some(9)) > 2.0 * largest(3, None));
    assert_eq!(largest(3, Some(9)), largest(9, None));
}

#[test]
fn what_stays_is_looked_at_once() {
    let mut shots = quiet(90, 10, 2000);
    for s in shots.iter_mut().filter(|s| s.at >= ms(31_300)) {
        s.body = 180;
    }
    let shell = watch(&shots);
    assert_eq!(shell.share(&shots, ms(30_000), ms(33_000)), 1.0);
    assert!(shell.share(&shots, ms(36_000), ms(90_000)) < 0.1);
}

#[test]
fn long_gops_are_decoded_from_their_key_frame_and_short_ones_are_trusted_again_later() {
    let mut shots = quiet(40, 10, 2000);
    let tail = quiet(200, 10, 2000);
    // From 40 s on one GOP of 8 s.
    shots.extend(quiet(8, 10, 8000).iter().map(|s| Shot {
        at: s.at + Duration::from_secs(40),
        ..*s
    }));
    shots.extend(tail.iter().map(|s| Shot {
        at: s.at + Duration::from_secs(48),
        ..*s
    }));
    let shell = watch(&shots);
    assert_eq!(
        shell.share(&shots, ms(40_000), ms(48_000)),
        1.0,
        "the first one too"
    );
    assert!(
        shell.modes.contains(&(ms(42_300), Mode::LongGops)),
        "{:?}",
        shell.modes
    );
    assert_eq!(shell.demand.mode(), Mode::KeyFrames);
    let all = quiet(120, 10, 4000);
    let long = watch(&all);
    assert_eq!(
        (long.demand.mode(), long.decoded.len()),
        (Mode::LongGops, all.len())
    );
}

#[test]
fn looking_for_nothing_has_a_budget_and_then_everything_is_decoded() {
    let mut shots = quiet(600, 10, 2000);
    for (n, s) in shots.iter_mut().enumerate() {
        // Every key frame looks different, nothing moves.
        (s.body, s.left) = (200, n / 20 * 29 % 51);
    }
    let shell = watch(&shots);
    let first = shell.modes.iter().find(|m| m.1 == Mode::TellLittle);
    let (at, _) = first.expect("it gives up on key frames");
    let spent = shell.share(&shots, ms(0), *at) * at.0 as f32 / 1e9;
    let allowed = 12.0 + PURSE + BUDGET * at.0 as f32 / 1e9 + 5.0;
    assert!(spent <= allowed, "{spent} s of {allowed} s until {at:?}");
    let calm = shots.len() - 1;
    let mut later = shots.clone();
    later.extend(quiet(400, 10, 2000).iter().map(|s| Shot {
        at: shots[calm].at + s.at.since(Pts(0)) + Duration::from_millis(100),
        ..*s
    }));
    assert_eq!(
        watch(&later).demand.mode(),
        Mode::KeyFrames,
        "and trusts them again when they are calm"
    );
}

#[test]
fn sizes_tell_on_a_camera_of_constant_quality_what_no_key_frame_shows() {
    let mut shots = quiet(120, 10, 2000);
    // Gone again before the next key frame.
    for s in shots
        .iter_mut()
        .filter(|s| (ms(80_400)..ms(81_700)).contains(&s.at))
    {
        (s.body, s.moves, s.bytes) = (180, true, 9_000);
    }
    let shell = watch(&shots);
    assert!(shell.demand.sizes_tell());
    assert_eq!(shell.share(&shots, ms(80_000), ms(83_000)), 1.0);
    assert!(shell.saw.iter().any(|i| shots[*i].at == ms(80_400)));
}

fn wild() -> impl Strategy<Value = Vec<Shot>> {
    let shot = (
        prop_oneof![8 => 0..400u64, 1 => 0..5_000u64],
        prop::bool::weighted(0.15),
        prop_oneof![Just(0usize), 1..100_000usize, Just(usize::MAX)],
        prop_oneof![4 => Just(100u8), 1 => Just(200u8)],
        prop::bool::weighted(0.05),
    );
    prop::collection::vec(shot, 1..400).prop_map(|steps| {
        let mut at = Pts(0);
        steps
            .into_iter()
            .map(|(step, key, bytes, body, moves)| {
                at = at + Duration::from_millis(step);
                Shot {
                    at,
                    key,
                    bytes,
                    body,
                    left: 20,
                    moves,
                }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn a_stretch_whose_key_frame_is_suspicious_is_decoded_whatever_the_stream(shots in wild()) {
        let shell = watch(&shots);
        prop_assert!(shell.saw.is_sorted());
        for &held in &shell.held {
            // From the key frame that was accepted before it, which the detector has seen.
            let accepted = |i: &usize| shots[*i].key && shots[*i].at < shots[held].at;
            if let Some(&from) = shell.saw.iter().rev().find(|i| accepted(i)) {
                prop_assert!((from..held).all(|i| shell.decoded.contains(&i)), "{from}..{held}");
            }
        }
    }

    #[test]
    fn a_gop_that_is_too_long_is_decoded_as_a_whole(shots in wild()) {
        let shell = watch(&shots);
        let keys: Vec<usize> = (0..shots.len()).filter(|i| shots[*i].key).collect();
        for pair in keys.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            if shots[to - 1].at.since(shots[from].at) > LONGEST {
                prop_assert!((from..to).all(|i| shell.decoded.contains(&i)), "{from}..{to}");
            }
        }
    }

    #[test]
    fn motion_is_never_left(shots in wild()) {
        let shell = watch(&shots);
        for &n in shell.saw.iter().filter(|n| shots[**n].moves) {
            let s = &shots[n];
            let next = |i: &usize| shots[*i].at.since(s.at) < HOLD;
            prop_assert!((n..shots.len()).take_while(next).all(|i| shell.decoded.contains(&i)), "after {n}");
        }
    }
}
