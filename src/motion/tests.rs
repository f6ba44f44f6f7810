//! What the detector promises, on synthetic scenes.

use proptest::prelude::*;

use super::synthetic::{Body, Wall, config, moving, play, pts, rectangle, rounds};
use super::*;

/// No motion at any time.
const NEVER: [f32; 0] = [];

fn body(x: f32, y: f32, w: f32, h: f32, contrast: f32) -> Body {
    Body {
        x,
        y,
        w,
        h,
        contrast,
    }
}

/// A person who crosses the picture between 5 s and 13 s.
fn passer(t: f32, contrast: f32) -> Vec<Body> {
    let inside = (5.0..13.0).contains(&t);
    inside
        .then(|| body((t - 5.0) * 40.0 - 10.0, 90.0, 12.0, 30.0, contrast))
        .into_iter()
        .collect()
}

#[test]
fn a_passer_by_is_found_from_the_first_to_the_last_frame() {
    let mut wall = Wall::new(320, 180, 2.0);
    let verdicts = play(&config(5), &mut wall, 20.0, |_, t| passer(t, 40.0));
    let times = moving(&verdicts);
    assert!((5.0..6.2).contains(&times[0]), "{times:?}");
    assert!((12.0..14.0).contains(times.last().unwrap()), "{times:?}");
    assert!(times.len() > 30, "{times:?}");
    let first = verdicts.iter().find_map(|(_, v)| match v {
        Verdict::Motion(a) => Some(a.clone()),
        _ => None,
    });
    let first = first.unwrap();
    assert!((pts(4.9)..pts(5.5)).contains(&first.since), "{first:?}");
    assert!(first.score > 0.0 && first.score <= 1.0 && first.regions.len() == 1);
}

#[test]
fn noise_stays_quiet_at_the_highest_sensitivity() {
    for sigma in [0.0, 2.0, 5.0, 10.0] {
        let verdicts = play(
            &config(10),
            &mut Wall::new(160, 120, sigma),
            40.0,
            |_, _| vec![],
        );
        assert_eq!(moving(&verdicts), NEVER, "sigma {sigma}");
        assert!(verdicts[20..].iter().all(|(_, v)| *v == Verdict::Quiet));
    }
}

#[test]
fn a_faint_person_is_found_in_the_noise_of_night() {
    let mut wall = Wall::new(320, 180, 8.0);
    let times = moving(&play(&config(5), &mut wall, 20.0, |_, t| passer(t, 14.0)));
    assert!(times.len() > 10, "{times:?}");
}

#[test]
fn a_thousandth_of_the_picture_is_found_at_five_and_not_at_one() {
    let scene = |_: &mut Wall, t: f32| vec![body(t * 15.0, 61.0, 7.0, 8.0, 45.0)];
    let at = |s| {
        moving(&play(
            &config(s),
            &mut Wall::new(320, 180, 2.0),
            18.0,
            scene,
        ))
    };
    assert!(at(5).len() > 60, "{:?}", at(5));
    assert_eq!(at(1), NEVER);
}

#[test]
fn three_ten_thousandths_are_found_at_ten() {
    let scene = |_: &mut Wall, t: f32| vec![body(t * 10.0, 61.0, 4.0, 4.0, 60.0)];
    let times = moving(&play(
        &config(10),
        &mut Wall::new(320, 180, 2.0),
        18.0,
        scene,
    ));
    assert!(times.len() > 40, "{times:?}");
}

#[test]
fn something_slow_is_found() {
    let scene = |_: &mut Wall, t: f32| match t > 5.0 {
        true => vec![body(100.0 + (t - 5.0) * 3.0, 80.0, 16.0, 24.0, 35.0)],
        false => vec![],
    };
    let times = moving(&play(
        &config(5),
        &mut Wall::new(320, 180, 2.0),
        20.0,
        scene,
    ));
    assert!(times.len() > 40, "{times:?}");
}

#[test]
fn a_light_switch_is_a_changed_scene_and_no_motion() {
    let verdicts = play(
        &config(8),
        &mut Wall::new(320, 180, 2.0),
        40.0,
        |wall, t| {
            let dark = (10.0..20.0).contains(&t);
            (wall.gain, wall.offset) = if dark { (0.2, 5.0) } else { (1.0, 0.0) };
            vec![]
        },
    );
    assert_eq!(moving(&verdicts), NEVER);
    assert!(
        verdicts
            .iter()
            .any(|(t, v)| (10.0..10.5).contains(t) && *v == Verdict::SceneChanged)
    );
    assert!(
        verdicts
            .iter()
            .all(|(t, v)| *t < 25.0 || *v == Verdict::Quiet)
    );
}

#[test]
fn exposure_that_steps_or_pumps_is_no_motion() {
    let step = |wall: &mut Wall, t: f32| {
        wall.gain = if t > 8.0 { 0.7 } else { 1.0 };
        vec![]
    };
    let pump = |wall: &mut Wall, t: f32| {
        wall.gain = 1.0 + 0.2 * (t * 0.8).sin();
        vec![]
    };
    assert_eq!(
        moving(&play(&config(8), &mut Wall::new(320, 180, 2.0), 20.0, step)),
        NEVER
    );
    assert_eq!(
        moving(&play(&config(8), &mut Wall::new(320, 180, 2.0), 40.0, pump)),
        NEVER
    );
}

#[test]
fn mains_flicker_is_no_motion() {
    let scene = |wall: &mut Wall, t: f32| {
        wall.bands = (0.08, t * 17.0);
        vec![]
    };
    assert_eq!(
        moving(&play(
            &config(8),
            &mut Wall::new(160, 120, 2.0),
            40.0,
            scene
        )),
        NEVER
    );
}

#[test]
fn a_reconnect_to_another_picture_warms_up_in_silence() {
    let mut wall = Wall::new(160, 120, 2.0);
    let mut detector = CellDetector::new(&config(10));
    for i in 0..100 {
        let t = i as f32 / 5.0;
        if i == 50 {
            detector.reset();
            (wall.gain, wall.offset) = (0.5, 60.0);
        }
        let bodies = if i >= 50 {
            vec![body(20.0, 20.0, 60.0, 60.0, 50.0)]
        } else {
            vec![]
        };
        let verdict = detector.observe(&wall.frame(&bodies, pts(t)));
        let warming = i <= 10 || (50..=60).contains(&i);
        assert_eq!(verdict == Verdict::Warming, warming, "{t}");
        assert!(!matches!(verdict, Verdict::Motion(_)), "{t}");
    }
}

#[test]
fn what_stops_is_absorbed_and_leaves_no_ghost() {
    let scene = |_: &mut Wall, t: f32| match t {
        _ if t < 5.0 => vec![],
        _ if t < 10.0 => vec![body((t - 5.0) * 30.0, 80.0, 30.0, 24.0, 45.0)],
        _ if t < 70.0 => vec![body(150.0, 80.0, 30.0, 24.0, 45.0)],
        _ if t < 75.0 => vec![body(150.0 + (t - 70.0) * 40.0, 80.0, 30.0, 24.0, 45.0)],
        _ => vec![],
    };
    let verdicts = play(&config(5), &mut Wall::new(320, 180, 2.0), 100.0, scene);
    let times = moving(&verdicts);
    let between = times.iter().filter(|t| (15.0..70.0).contains(*t)).count();
    assert_eq!(between, 0, "{times:?}");
    assert!(times.iter().any(|t| (70.0..75.0).contains(t)), "{times:?}");
    assert!(*times.last().unwrap() < 77.0, "{times:?}");
}

#[test]
fn an_excluded_area_never_reports_and_zones_are_named_by_index() {
    let mut settings = config(8);
    settings.exclude = vec![rectangle("tree", (0.0, 0.4), (1.0, 1.0))];
    let scene = |_: &mut Wall, t: f32| passer(t, 40.0);
    let times = moving(&play(&settings, &mut Wall::new(320, 180, 2.0), 20.0, scene));
    assert_eq!(times, NEVER);

    settings.exclude.clear();
    settings.include = vec![
        rectangle("sky", (0.0, 0.0), (1.0, 0.3)),
        rectangle("door", (0.5, 0.3), (1.0, 1.0)),
    ];
    let verdicts = play(&settings, &mut Wall::new(320, 180, 2.0), 20.0, scene);
    assert!(moving(&verdicts)[0] > 9.0);
    for (_, v) in &verdicts {
        if let Verdict::Motion(a) = v {
            assert_eq!(a.zones, [1]);
            assert!(a.regions.iter().all(|r| r.x >= 0.48));
        }
    }
}

#[test]
fn a_zone_may_be_more_or_less_sensitive_than_the_camera() {
    let scene = |_: &mut Wall, t: f32| vec![body(t * 15.0, 61.0, 7.0, 8.0, 45.0)];
    let at = |general, zone| {
        let mut settings = config(general);
        let mut all = rectangle("all", (0.0, 0.0), (1.0, 1.0));
        all.sensitivity = zone;
        settings.include = vec![all];
        let mut wall = Wall::new(320, 180, 2.0);
        moving(&play(&settings, &mut wall, 18.0, scene)).len()
    };
    assert_eq!((at(1, None), at(5, Some(1))), (0, 0));
    assert!(at(1, Some(5)) > 60 && at(5, None) > 60);
}

#[test]
fn a_trembling_camera_is_quiet_and_somebody_in_its_picture_is_found() {
    let tremble = |t: f32| (3.0 * (t * 9.0).sin(), 2.5 * (t * 13.0).cos());
    let shaken = |wall: &mut Wall, t: f32| {
        wall.shift = tremble(t);
    };
    let quiet = play(
        &config(8),
        &mut Wall::new(320, 180, 2.0),
        30.0,
        |wall, t| {
            shaken(wall, t);
            vec![]
        },
    );
    assert_eq!(moving(&quiet), NEVER);
    let found = play(
        &config(5),
        &mut Wall::new(320, 180, 2.0),
        20.0,
        |wall, t| {
            shaken(wall, t);
            passer(t, 40.0)
        },
    );
    let times = moving(&found);
    assert!(times.len() > 25 && times[0] < 6.5, "{times:?}");
}

#[test]
fn a_nudged_camera_is_a_changed_scene_or_nothing_and_calm_again_in_seconds() {
    let verdicts = play(
        &config(8),
        &mut Wall::new(320, 180, 2.0),
        40.0,
        |wall, t| {
            wall.shift = if t > 15.0 { (70.0, 31.0) } else { (0.0, 0.0) };
            vec![]
        },
    );
    assert_eq!(moving(&verdicts), NEVER);
    assert!(verdicts.iter().any(|(_, v)| *v == Verdict::SceneChanged));
    assert!(
        verdicts
            .iter()
            .all(|(t, v)| *t < 22.0 || *v == Verdict::Quiet)
    );
}

#[test]
fn a_hand_before_the_lens_is_tampering_and_no_motion_for_long() {
    let mut detector = CellDetector::new(&config(5));
    let mut wall = Wall::new(320, 180, 2.0);
    let mut told = Vec::new();
    for i in 0..300 {
        let t = i as f32 / 5.0;
        (wall.gain, wall.offset) = if (30.0..50.0).contains(&t) {
            (0.02, 20.0)
        } else {
            (1.0, 0.0)
        };
        detector.observe(&wall.frame(&[], pts(t)));
        told.push((t, detector.tamper()));
    }
    let at = |s: f32| told[(s * 5.0) as usize].1;
    assert_eq!(
        (at(29.0), at(40.0), at(59.0)),
        (None, Some(Tamper::Covered), None)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds() / 3, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_higher_sensitivity_reports_whatever_a_lower_one_reports(
        low in 1u8..10, more in 1u8..9, (w, h) in (3.0f32..40.0, 3.0f32..40.0),
        speed in 2.0f32..60.0, contrast in -50.0f32..50.0, sigma in 0.0f32..6.0,
    ) {
        let scene = |_: &mut Wall, t: f32| vec![body((t - 4.0) * speed, 40.0, w, h, contrast)];
        let at = |s| moving(&play(&config(s), &mut Wall::new(160, 120, sigma), 10.0, scene));
        let (few, many) = (at(low), at((low + more).min(10)));
        prop_assert!(few.iter().all(|t| many.contains(t)), "{:?} {:?}", few, many);
    }

    #[test]
    fn an_excluded_area_never_reports_whatever_moves_there(
        x in 0.0f32..1.0, w in 2.0f32..50.0, speed in 1.0f32..80.0, contrast in -90.0f32..90.0,
    ) {
        let mut settings = config(10);
        settings.exclude = vec![rectangle("road", (0.0, 0.45), (1.0, 1.0))];
        let scene = |_: &mut Wall, t: f32| vec![body(x * 160.0 + (t - 4.0) * speed, 60.0, w, 30.0, contrast)];
        let verdicts = play(&settings, &mut Wall::new(160, 120, 2.0), 10.0, scene);
        prop_assert_eq!(moving(&verdicts), Vec::<f32>::new());
    }

    #[test]
    fn a_ramp_of_brightness_is_quiet_whatever_its_size_and_speed(
        from in 0.5f32..1.4, to in 0.5f32..1.4, seconds in 0.2f32..30.0, sigma in 0.0f32..4.0,
    ) {
        let verdicts = play(&config(10), &mut Wall::new(160, 120, sigma), 25.0, |wall, t| {
            wall.gain = from + (to - from) * ((t - 6.0) / seconds).clamp(0.0, 1.0);
            vec![]
        });
        prop_assert_eq!(moving(&verdicts), Vec::<f32>::new());
    }

    #[test]
    fn where_something_walks_does_not_matter(x in 10.0f32..60.0, y in 10.0f32..80.0) {
        let at = |dx: f32, dy: f32| {
            let scene = |_: &mut Wall, t: f32| match t < 5.0 {
                true => vec![],
                false => vec![body(dx + (t - 5.0) * 20.0, dy, 12.0, 24.0, 60.0)],
            };
            moving(&play(&config(5), &mut Wall::new(320, 180, 1.0), 9.0, scene)).len() as i32
        };
        prop_assert!((at(x, y) - at(x + 64.0, y + 36.0)).abs() <= 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds() / 4, failure_persistence: None, ..ProptestConfig::default() })]

    /// Large enough to be aligned: a scene of any softness, nudged by any distance, at any moment.
    #[test]
    fn no_nudge_of_no_scene_panics(
        contrast in 2.0f32..40.0, length in 24.0f32..160.0, diagonal in 0.0f32..1.0,
        nudges in prop::collection::vec((-20isize..=20, -20isize..=20, 1usize..3), 1..4),
    ) {
        const W: usize = 320;
        const H: usize = 180;
        let shade = |x: isize, y: isize| {
            let (x, y) = (x as f32, y as f32);
            let turn = std::f32::consts::TAU / length;
            let v = ((x + diagonal * y) * turn).sin() + ((y - diagonal * x) * turn * 1.3).cos();
            (120.0 + contrast * v / 2.0) as u8
        };
        let mut detector = CellDetector::new(&config(5));
        let mut at = 0;
        for (dx, dy, frames) in [(0, 0, 8)].into_iter().chain(nudges) {
            let luma: Vec<u8> = (0..(W * H) as isize)
                .map(|i| shade(i % W as isize + dx, i / W as isize + dy))
                .collect();
            for _ in 0..frames {
                at += 200_000_000;
                detector.observe(&GrayFrame { luma: &luma, width: W, height: H, stride: W, pts: Pts(at) });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_size_stride_or_content_panics(
        frames in prop::collection::vec(
            (1usize..70, 1usize..40, 0usize..9, any::<bool>(), any::<u64>(), 0u64..9_000_000_000, 0usize..3),
            1..30,
        ),
        sensitivity in any::<u8>(),
    ) {
        let mut settings = config(sensitivity);
        settings.include = vec![rectangle("a", (0.1, 0.1), (0.9, 0.6))];
        settings.exclude = vec![rectangle("b", (0.4, 0.4), (0.5, 0.9))];
        let mut detector = CellDetector::new(&settings);
        let (mut width, mut height) = (0, 0);
        for (w, h, pad, resize, seed, at, missing) in frames {
            if resize || width == 0 {
                (width, height) = (w, h);
            }
            let stride = width + pad;
            let mut state = seed | 1;
            let luma: Vec<u8> = (0..(stride * (height - 1) + width).saturating_sub(missing))
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            for _ in 0..4 {
                let frame = GrayFrame { luma: &luma, width, height, stride, pts: Pts(at) };
                if let Verdict::Motion(a) = detector.observe(&frame) {
                    prop_assert!((0.0..=1.0).contains(&a.score) && (0.0..=1.0).contains(&a.area));
                    prop_assert!(a.regions.len() <= 8 && a.since <= frame.pts);
                    prop_assert!(a.regions.iter().all(|r| r.x >= 0.0 && r.x + r.w <= 1.001 && r.y + r.h <= 1.001));
                }
            }
        }
    }
}
