//! The policy under any stream: a reader as the agent has it (ring, cursor, rewinding), a decoder that lags, stalls and
//! dies, a camera whose clock jumps. `MOTION_ROUNDS` makes it a longer hunt (`make fuzz-motion`).

mod shell;

use proptest::prelude::*;

use self::shell::{Says, Shell, Shot, Step};
use super::*;
use crate::motion::synthetic::rounds;

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
            let ordinary = Shot {
                at: Pts(0),
                key: false,
                bytes: 2_000,
                body: 100,
                left: 20,
                says: Says::Quiet,
            };
            let shots = prop::collection::vec(
                prop_oneof![u32::from(wild) => shot(), 8 => Just(ordinary)],
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
            at: Pts(0),
            key,
            bytes: if key { 20_000 } else { 2_000 },
            body: 100,
            left: 20,
            says: Says::Quiet,
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
            at: Pts(0),
            key: true,
            bytes: 20_000,
            body: 100,
            left: 20,
            says,
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
        assert_eq!(shell.demand.mode(), Mode::KeyFrames, "{says:?}");
    }
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
        prop_assert_eq!(shell.demand.mode(), Mode::KeyFrames, "after minutes of calm");
        let before = (shell.packets, shell.decoded);
        for step in calm(20) {
            shell.step(step)?;
        }
        let share = (shell.decoded - before.1) as f32 / (shell.packets - before.0) as f32;
        prop_assert!((share - 0.1).abs() < 0.02, "key frames alone: {}", share);
    }

    /// Calls in any order, with any positions: what the reader never does.
    #[test]
    fn no_order_of_calls_breaks_the_policy(
        calls in prop::collection::vec((prop_oneof![any::<u64>(), 0..20_000_000_000u64], any::<bool>(), any::<usize>(), 0..6u8), 0..300),
        size in (0..40usize, 0..40usize),
        luma in prop::collection::vec(any::<u8>(), 0..1600),
    ) {
        let mut shell = Shell::new();
        for (pts, key, bytes, what) in calls {
            let frame = GrayFrame { luma: &luma, width: size.0, height: size.1, stride: size.0, pts: Pts(pts) };
            match what {
                0 | 1 => { shell.demand.packet(Pts(pts), key, bytes); }
                2 | 3 => { shell.demand.key_picture(&frame); }
                _ => shell.demand.verdict(Pts(pts), if key { &Verdict::SceneChanged } else { &Verdict::Quiet }),
            }
            shell.check()?;
        }
    }
}
