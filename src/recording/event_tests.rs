//! Tests of the event machine: the life of single events, and properties over any sequence of verdicts.

use proptest::prelude::*;

use super::*;
use crate::model::RecordMode;

const MS: u64 = 1_000_000;

fn machine(pre_s: u64, post_s: u64, max_s: u64) -> EventMachine {
    EventMachine::new(&RecordingConfig {
        mode: RecordMode::Motion,
        pre_roll: Duration::from_secs(pre_s),
        post_roll: Duration::from_secs(post_s),
        max_event: Duration::from_secs(max_s),
        segment: Duration::from_secs(60),
        quota: None,
        upload: None,
        audio: false,
    })
}

fn at(ms: u64) -> Pts {
    Pts(ms * MS)
}

fn motion(score: f32, zones: &[usize], since: Pts) -> Verdict {
    Verdict::Motion(Activity {
        score,
        area: 0.01,
        regions: vec![Region::default()],
        zones: zones.to_vec(),
        since,
    })
}

fn moves(m: &mut EventMachine, ms: u64) -> Vec<Action> {
    m.observe(at(ms), &motion(0.5, &[], at(ms)))
}

#[test]
fn an_event_starts_at_the_first_moving_frame_and_ends_at_the_last() {
    let mut m = machine(5, 10, 300);
    let start = m.observe(at(20_600), &motion(0.5, &[1], at(20_000)));
    assert!(matches!(
        &start[..],
        [Action::Start { started_at, clip_from, continues: false, facts }]
            if *started_at == at(20_000) && *clip_from == at(15_000) && facts.rev == 1 && facts.zones == [1]
    ));
    assert!(m.observe(at(25_000), &Verdict::Quiet).is_empty());
    assert!(moves(&mut m, 29_000).is_empty());
    assert_eq!(m.deadline(), Some(at(39_000)));
    assert!(m.tick(at(38_999)).is_empty());
    let end = m.tick(at(39_000));
    assert!(matches!(
        &end[..],
        [Action::End { ended_at, clip_until, reason: EndReason::Quiet, facts, .. }]
            if *ended_at == at(29_000) && *clip_until == at(39_000) && facts.rev == 2
    ));
    assert!(!m.is_active());
}

#[test]
fn a_changed_scene_and_warming_neither_start_nor_extend() {
    let mut m = machine(5, 2, 300);
    assert!(m.observe(at(1000), &Verdict::SceneChanged).is_empty());
    assert!(m.observe(at(1200), &Verdict::Warming).is_empty());
    moves(&mut m, 2000);
    assert!(m.observe(at(3000), &Verdict::SceneChanged).is_empty());
    let end = m.observe(at(4000), &Verdict::SceneChanged);
    assert!(matches!(&end[..], [Action::End { ended_at, .. }] if *ended_at == at(2000)));
}

#[test]
fn a_lost_camera_ends_the_event_and_positions_start_anew() {
    let mut m = machine(5, 10, 300);
    moves(&mut m, 50_000);
    m.observe(at(52_000), &Verdict::Quiet);
    let end = m.gap();
    assert!(matches!(
        &end[..],
        [Action::End { ended_at, clip_until, reason: EndReason::CameraLost, .. }]
            if *ended_at == at(50_000) && *clip_until == at(52_000)
    ));
    assert!(m.gap().is_empty());
    let start = moves(&mut m, 3000);
    assert!(
        matches!(&start[..], [Action::Start { started_at, clip_from, .. }] if *started_at == at(3000) && *clip_from == Pts(0))
    );
}

#[test]
fn a_long_event_is_cut_without_a_hole_in_its_clips() {
    let mut m = machine(5, 10, 30);
    moves(&mut m, 10_000);
    moves(&mut m, 20_000);
    moves(&mut m, 30_000);
    moves(&mut m, 39_800);
    let cut = moves(&mut m, 40_000);
    assert!(matches!(
        &cut[..],
        [
            Action::End { ended_at, clip_until, reason: EndReason::Cut, .. },
            Action::Start { started_at, clip_from, continues: true, .. },
        ] if *ended_at == at(39_800) && clip_until == clip_from && *started_at == at(40_000)
    ));
}

#[test]
fn movement_found_after_the_post_roll_is_another_event() {
    let mut m = machine(5, 2, 300);
    moves(&mut m, 1000);
    let both = moves(&mut m, 9000);
    assert!(matches!(
        &both[..],
        [
            Action::End { .. },
            Action::Start {
                continues: false,
                ..
            }
        ]
    ));
}

#[test]
fn updates_carry_news_and_come_at_most_once_a_second() {
    let mut m = machine(5, 10, 300);
    m.observe(at(1000), &motion(0.2, &[0], at(1000)));
    assert!(m.observe(at(1200), &motion(0.6, &[0], at(1000))).is_empty());
    assert!(m.observe(at(1400), &motion(0.3, &[2], at(1000))).is_empty());
    let update = m.observe(at(2000), &Verdict::Quiet);
    assert!(matches!(
        &update[..],
        [Action::Update { facts }]
            if facts.rev == 2 && facts.peak_score == 0.6 && facts.score == 0.3 && facts.zones == [0, 2]
    ));
    assert!(
        m.observe(at(5000), &motion(0.65, &[2], at(1000)))
            .is_empty()
    );
}

/// One input of the machine.
#[derive(Debug, Clone)]
enum Input {
    Frame {
        after_ms: u64,
        verdict: u8,
        lag_ms: u64,
        score: f32,
        zone: usize,
    },
    Tick {
        after_ms: u64,
    },
    Gap,
}

fn input() -> impl Strategy<Value = Input> {
    let frame = (0u64..6000, 0u8..6, 0u64..4000, 0.0f32..1.0, 0usize..4).prop_map(
        |(after_ms, verdict, lag_ms, score, zone)| Input::Frame {
            after_ms,
            verdict,
            lag_ms,
            score,
            zone,
        },
    );
    prop_oneof![
        12 => frame,
        2 => (0u64..9000).prop_map(|after_ms| Input::Tick { after_ms }),
        1 => Just(Input::Gap),
    ]
}

/// Runs a sequence; returns the actions and the positions of the frames of motion, session by session.
fn run(m: &mut EventMachine, inputs: &[Input]) -> Vec<(Vec<Action>, Vec<Pts>)> {
    let mut sessions = vec![(Vec::new(), Vec::new())];
    let mut ms = 0;
    for input in inputs.iter().chain([&Input::Gap]) {
        let (actions, moving) = sessions.last_mut().unwrap();
        match input {
            Input::Frame {
                after_ms,
                verdict,
                lag_ms,
                score,
                zone,
            } => {
                ms += after_ms;
                let verdict = match verdict {
                    0 => Verdict::Quiet,
                    1 => Verdict::Warming,
                    2 => Verdict::SceneChanged,
                    _ => {
                        moving.push(at(ms));
                        motion(*score, &[*zone], at(ms.saturating_sub(*lag_ms)))
                    }
                };
                actions.extend(m.observe(at(ms), &verdict));
            }
            Input::Tick { after_ms } => {
                ms += after_ms;
                actions.extend(m.tick(at(ms)));
            }
            Input::Gap => {
                actions.extend(m.gap());
                sessions.push((Vec::new(), Vec::new()));
                ms = 0;
            }
        }
    }
    sessions
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_keeps_the_promises(
        inputs in prop::collection::vec(input(), 0..80),
        (pre, post, max) in (0u64..10, 0u64..8, 0u64..20),
    ) {
        let mut first = machine(pre, post, max);
        let mut second = first.clone();
        let sessions = run(&mut first, &inputs);
        prop_assert_eq!(&sessions, &run(&mut second, &inputs));
        for (actions, moving) in sessions {
            let mut events: Vec<(Pts, Pts)> = Vec::new();
            let mut open: Option<(Pts, Pts, u32)> = None;
            let mut cut_at = None;
            for action in actions {
                match action {
                    Action::Start { started_at, clip_from, continues, facts } => {
                        prop_assert!(open.is_none());
                        prop_assert!(clip_from <= started_at);
                        prop_assert_eq!(facts.rev, 1);
                        prop_assert_eq!(continues.then_some(clip_from), cut_at.take());
                        if let Some((_, ended)) = events.last() {
                            prop_assert!(started_at > *ended);
                        }
                        open = Some((started_at, clip_from, 1));
                    }
                    Action::Update { facts } => {
                        let o = open.as_mut().unwrap();
                        o.2 += 1;
                        prop_assert_eq!(facts.rev, o.2);
                    }
                    Action::End { started_at, ended_at, clip_until, reason, facts } => {
                        let o = open.take().unwrap();
                        prop_assert_eq!((started_at, facts.rev), (o.0, o.2 + 1));
                        prop_assert!(started_at <= ended_at && ended_at <= clip_until);
                        prop_assert!(facts.zones.windows(2).all(|z| z[0] < z[1]));
                        cut_at = (reason == EndReason::Cut).then_some(clip_until);
                        events.push((started_at, ended_at));
                    }
                }
            }
            prop_assert!(open.is_none());
            for p in moving {
                let within = events.iter().filter(|(a, b)| (*a..=*b).contains(&p)).count();
                prop_assert_eq!(within, 1, "{:?} in {:?}", p, events);
            }
        }
    }
}
