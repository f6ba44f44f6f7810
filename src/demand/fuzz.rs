//! Reader and policy under any stream: a decoder that lags, stalls and dies, a camera whose clock jumps. `MOTION_ROUNDS`
//! makes it a longer hunt (`make fuzz-motion`).

use proptest::prelude::*;

use super::reader::{AHEAD, RING_BYTES};
use super::tests::{HEIGHT, WIDTH, drawn, motion};
use super::*;
use crate::motion::synthetic::{config, rounds};
use crate::recording::ring::Item;
use crate::time::Mono;

/// A packet, and what a detector would say of its picture.
#[derive(Debug, Clone, Copy)]
struct Shot {
    at: Pts,
    key: bool,
    bytes: usize,
    body: u8,
    left: usize,
    says: Says,
}

/// Nothing moves before a camera of constant quality.
const ORDINARY: Shot = Shot {
    at: Pts(0),
    key: false,
    bytes: 2_000,
    body: 100,
    left: 20,
    says: Says::Quiet,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Quiet,
    Motion,
    SceneChanged,
    Warming,
}

impl Item for Shot {
    fn pts(&self) -> Pts {
        self.at
    }
    fn is_video(&self) -> bool {
        true
    }
    fn is_video_key(&self) -> bool {
        self.key
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A packet so many nanoseconds after the last one, or before it.
    Packet(i64, Shot),
    /// For so many packets the decoder puts out this many pictures a packet; 0: its verdicts are late, or never come.
    Speed(u32, usize),
    /// Another decoder: what is in this one is gone.
    Replaced,
    /// Another stream.
    Stream,
}

/// Only the transitions of the module's picture; what is to be read follows from the mode; the purse is bounded.
fn check(demand: &Demand, before: &mut Mode) -> Result<(), TestCaseError> {
    use Mode::*;
    let (from, to) = (*before, demand.mode());
    let allowed = match from {
        Learning => matches!(to, Looking | LongGops),
        KeyFrames => matches!(to, Looking | LongGops),
        Looking => matches!(to, KeyFrames | TellLittle | LongGops),
        TellLittle => matches!(to, Looking | LongGops),
        LongGops => to == Looking,
    };
    prop_assert!(from == to || allowed, "{:?} to {:?}", from, to);
    *before = to;
    let alone = demand.reads() == Reads::KeyFrames;
    prop_assert_eq!(alone, to == KeyFrames);
    prop_assert!(demand.purse <= PURSE && demand.purse.is_finite());
    prop_assert!((0.0..=1.0).contains(&demand.cries));
    Ok(())
}

struct Shell {
    reader: Reader<Shot>,
    codec: Replayed<Shot>,
    /// For so many packets the decoder puts out so many pictures a packet.
    speed: (u32, usize),
    clock: Pts,
    /// Newest key frame of the stream.
    key: Option<Pts>,
    mode: Mode,
    /// Newest picture that was judged.
    judged: Option<Pts>,
    /// Where the ring began anew, because a key frame was not later than the picture before it.
    anew: Pts,
}

impl Shell {
    fn new() -> Shell {
        Shell {
            reader: Reader::new(Some(Demand::new(&config(5)))),
            codec: Replayed::new(5.0),
            speed: (0, 1),
            clock: Pts(0),
            key: None,
            mode: Mode::Learning,
            judged: None,
            anew: Pts(0),
        }
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        check(self.reader.demand(), &mut self.mode)?;
        // A key frame that is decoded alone comes on top.
        prop_assert!(self.codec.backlog() <= AHEAD + 1);
        prop_assert!(self.reader.ring().bytes() <= RING_BYTES);
        let (decoded, packets) = self.reader.totals();
        prop_assert!(decoded <= self.codec.fed() && packets > 0 || decoded == 0);
        let share = self.reader.share();
        prop_assert!(
            share.is_none_or(|s| (0.0..=1.0).contains(&s)),
            "{:?}",
            share
        );
        Ok(())
    }

    fn packet(&mut self, shot: Shot) -> Result<(), TestCaseError> {
        let resets = self.reader.ring().losses().resets;
        prop_assert!(self.reader.push(&shot, Some(&mut self.codec), Mono(0)));
        if self.reader.ring().losses().resets != resets {
            (self.judged, self.anew) = (None, shot.at);
        }
        self.check()?;
        if shot.key {
            self.key = Some(shot.at);
        }
        if self.key.is_some_and(|key| shot.at.since(key) > LONGEST) {
            prop_assert_eq!(self.mode, Mode::LongGops, "key frames come too seldom");
        }
        self.work()
    }

    /// Lets the decoder do what it does in the time of a packet.
    fn work(&mut self) -> Result<(), TestCaseError> {
        let pictures = if self.speed.0 > 0 {
            self.speed.1
        } else {
            usize::MAX
        };
        self.speed.0 = self.speed.0.saturating_sub(1);
        for _ in 0..pictures {
            let Some((shot, mark)) = self.codec.picture() else {
                break;
            };
            self.picture(shot, mark)?;
            prop_assert!(self.reader.feed(&mut self.codec, Mono(0)));
            self.check()?;
        }
        Ok(())
    }

    fn picture(&mut self, shot: Shot, mark: Mark) -> Result<(), TestCaseError> {
        let luma = drawn(shot.body, shot.left);
        let frame = GrayFrame {
            luma: &luma,
            width: WIDTH,
            height: HEIGHT,
            stride: WIDTH,
            pts: shot.at,
        };
        let before = self.mode;
        let accepted = self.reader.picture(&frame, mark);
        self.check()?;
        if !accepted {
            if before != self.mode && self.mode == Mode::Looking {
                self.held_back(shot.at)?;
            }
            return Ok(());
        }
        prop_assert!(
            self.judged.is_none_or(|j| shot.at > j),
            "in order, each once"
        );
        self.judged = Some(shot.at);
        let verdict = match shot.says {
            Says::Quiet => Verdict::Quiet,
            Says::SceneChanged => Verdict::SceneChanged,
            Says::Warming => Verdict::Warming,
            Says::Motion => motion(shot.at),
        };
        self.reader.verdict(&verdict);
        self.check()?;
        if shot.says == Says::Motion {
            prop_assert!(self.mode != Mode::KeyFrames, "motion is looked at");
        }
        Ok(())
    }

    /// A suspicious key frame: what lies before it is read again, from a key frame that the ring still has unless the
    /// decoder was late, the camera paused, its clock stepped back or the ring overflowed.
    fn held_back(&self, at: Pts) -> Result<(), TestCaseError> {
        let Reads::From(from) = self.reader.demand().reads() else {
            return Err(TestCaseError::fail("suspicion without a look"));
        };
        prop_assert!(from < at, "{:?} {:?}", from, at);
        let ring = self.reader.ring();
        let Some(newest) = ring.newest() else {
            return Ok(());
        };
        // A camera that pauses for longer than the ring goes back takes the stretch before its pause away.
        if newest.since(from) <= REACH && from >= self.anew && ring.losses().gops == 0 {
            let number = ring.number_of_key(from).expect("it holds pictures");
            let (_, key) = ring.at(number).expect("it is there");
            prop_assert!(
                key.key && key.at <= from,
                "{:?} has gone, {:?} is the oldest",
                from,
                key.at
            );
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Packet(by, shot) => {
                let at = self.clock.0.saturating_add_signed(by).min(1 << 62);
                self.clock = Pts(at);
                self.packet(Shot {
                    at: self.clock,
                    ..shot
                })?;
            }
            Step::Speed(packets, pictures) => self.speed = (packets, pictures),
            Step::Replaced => {
                self.codec.replace();
                self.reader.restart();
            }
            Step::Stream => {
                let clock = self.clock;
                *self = Shell {
                    clock,
                    ..Shell::new()
                };
            }
        }
        Ok(())
    }
}

fn shot() -> impl Strategy<Value = Shot> {
    let says = prop_oneof![
        20 => Just(Says::Quiet), 2 => Just(Says::Motion), 1 => Just(Says::SceneChanged), 1 => Just(Says::Warming),
    ];
    let bytes = prop_oneof![4 => 1_000..4_000usize, 2 => 0..200_000usize, 1 => Just(3 << 20), 1 => Just(1 << 40)];
    (
        bytes,
        prop_oneof![6 => Just(100u8), 1 => any::<u8>()],
        0..52usize,
        says,
    )
        .prop_map(|(bytes, body, left, says)| Shot {
            at: Pts(0),
            key: false,
            bytes,
            body,
            left,
            says,
        })
}

/// Some packets of one camera: a rate, a distance of key frames, and how wild each picture is.
fn part() -> impl Strategy<Value = Vec<Step>> {
    let second = 1_000_000_000i64;
    let packets = (
        1..=120i64,
        prop_oneof![3 => 1..40usize, 1 => 40..2_000usize, 1 => Just(usize::MAX)],
        0..4u8,
    )
        .prop_flat_map(move |(fps, gop, wild)| {
            let shots = prop::collection::vec(
                prop_oneof![u32::from(wild) => shot(), 8 => Just(ORDINARY)],
                1..200,
            );
            let steps = prop_oneof![30 => Just(second / fps), 1 => Just(0i64), 1 => 0..10 * second];
            shots.prop_flat_map(move |shots| {
                let n = shots.len();
                (Just(shots), prop::collection::vec(steps.clone(), n)).prop_map(
                    move |(shots, by)| {
                        let step = |(n, (shot, by)): (usize, (Shot, i64))| {
                            let key = n % gop == 0 && (gop != usize::MAX || n > 0);
                            Step::Packet(by, Shot { key, ..shot })
                        };
                        shots
                            .into_iter()
                            .zip(by)
                            .enumerate()
                            .map(step)
                            .collect::<Vec<Step>>()
                    },
                )
            })
        });
    let jump = (prop_oneof![-7_200 * second..0, 0..7_200 * second], shot())
        .prop_map(|(by, shot)| vec![Step::Packet(by, Shot { key: true, ..shot })]);
    prop_oneof![
        8 => packets,
        2 => (0..300u32, 0..3usize).prop_map(|(n, pictures)| vec![Step::Speed(n, pictures)]),
        1 => jump,
        1 => Just(vec![Step::Replaced]),
        1 => Just(vec![Step::Stream]),
    ]
}

/// A calm camera: five pictures a second, a key frame every two seconds.
fn calm(seconds: u32) -> impl Iterator<Item = Step> {
    (0..seconds * 5).map(|n| {
        let key = n % 10 == 0;
        let shot = Shot {
            key,
            bytes: if key { 20_000 } else { 2_000 },
            ..ORDINARY
        };
        Step::Packet(200_000_000, shot)
    })
}

#[test]
fn a_clock_that_goes_back_ends_what_was_to_end_later() {
    let run = |steps: &mut dyn Iterator<Item = Step>, shell: &mut Shell| {
        for step in steps {
            shell.step(step).unwrap();
        }
    };
    let hour = 3_600_000_000_000;
    for says in [Says::Quiet, Says::Motion] {
        let mut shell = Shell::new();
        let key = Shot {
            key: true,
            bytes: 20_000,
            says,
            ..ORDINARY
        };
        run(&mut [Step::Packet(hour, key)].into_iter(), &mut shell);
        // It learns, or looks at something that moves.
        let seconds = if says == Says::Motion { 40 } else { 4 };
        run(&mut calm(seconds), &mut shell);
        run(
            &mut (0..4).map(|_| Step::Packet(1_000_000_000, key)),
            &mut shell,
        );
        run(
            &mut [Step::Packet(
                -hour,
                Shot {
                    says: Says::Quiet,
                    ..key
                },
            )]
            .into_iter(),
            &mut shell,
        );
        run(&mut calm(20), &mut shell);
        assert_eq!(shell.mode, Mode::KeyFrames, "{says:?}");
    }
}

#[test]
fn of_a_stretch_in_which_the_clock_steps_back_what_the_ring_has_is_decoded() {
    let mut shell = Shell::new();
    let picture = |key, body| Shot {
        key,
        body,
        ..ORDINARY
    };
    for step in calm(60) {
        shell.step(step).unwrap();
    }
    assert_eq!(shell.mode, Mode::KeyFrames);
    // A key frame, and another one at the position of the picture before it, too soon to be judged.
    let step = 200_000_000;
    for (by, key) in [(step, true), (step, false), (0, true), (step, false)] {
        shell.step(Step::Packet(by, picture(key, 100))).unwrap();
    }
    let anew = shell.anew;
    assert_eq!(shell.reader.ring().oldest(), Some(anew));
    shell
        .step(Step::Packet(5 * step, picture(true, 232)))
        .unwrap();
    assert_eq!(shell.mode, Mode::Looking);
    let from = shell.reader.demand().reads();
    assert!(matches!(from, Reads::From(from) if from < anew), "{from:?}");
    assert_eq!(shell.judged, Some(shell.clock), "all that came was seen");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_is_decoded_where_it_must_be_and_the_policy_finds_its_rest_again(
        parts in prop::collection::vec(part(), 1..12),
    ) {
        let mut shell = Shell::new();
        for step in parts.into_iter().flatten() {
            shell.step(step)?;
        }
        // Long enough for 96 short GOPs, and for a minute in which key frames tell little.
        shell.speed = (0, 1);
        for step in calm(330) {
            shell.step(step)?;
        }
        prop_assert_eq!(shell.mode, Mode::KeyFrames, "after minutes of calm");
        let before = shell.reader.totals();
        for step in calm(20) {
            shell.step(step)?;
        }
        let now = shell.reader.totals();
        let share = (now.0 - before.0) as f32 / (now.1 - before.1) as f32;
        prop_assert!((share - 0.1).abs() < 0.02, "key frames alone: {}", share);
    }

    /// Calls in any order, with any positions: what the reader never does.
    #[test]
    fn no_order_of_calls_breaks_the_policy(
        calls in prop::collection::vec((prop_oneof![any::<u64>(), 0..20_000_000_000u64], any::<bool>(), any::<usize>(), 0..6u8), 0..300),
        size in (0..40usize, 0..40usize),
        luma in prop::collection::vec(any::<u8>(), 0..1600),
    ) {
        let (mut demand, mut mode) = (Demand::new(&config(5)), Mode::Learning);
        for (pts, key, bytes, what) in calls {
            let frame = GrayFrame { luma: &luma, width: size.0, height: size.1, stride: size.0, pts: Pts(pts) };
            match what {
                0 | 1 => { demand.packet(Pts(pts), key, bytes); }
                2 | 3 => { demand.key_picture(&frame); }
                _ => demand.verdict(Pts(pts), if key { &Verdict::SceneChanged } else { &Verdict::Quiet }),
            }
            check(&demand, &mut mode)?;
        }
    }
}
