//! Golden verdicts: what the detector says of three short scenes, frame by frame at 5 a second. Who changes the detector
//! sees here what changed, and decides whether that is better.

use super::synthetic::{Body, Wall, config, play};
use super::*;

/// `W10 q32 M5`: ten frames of warming, 32 of quiet, five of motion (`S` is a changed scene).
fn letters(verdicts: &[(f32, Verdict)]) -> String {
    let mut runs: Vec<(char, usize)> = Vec::new();
    for (_, v) in verdicts {
        let letter = match v {
            Verdict::Warming => 'W',
            Verdict::Quiet => 'q',
            Verdict::Motion(_) => 'M',
            Verdict::SceneChanged => 'S',
        };
        match runs.last_mut() {
            Some((l, n)) if *l == letter => *n += 1,
            _ => runs.push((letter, 1)),
        }
    }
    let words: Vec<String> = runs.iter().map(|(l, n)| format!("{l}{n}")).collect();
    words.join(" ")
}

fn passer(t: f32, from: f32) -> Vec<Body> {
    let body = Body {
        x: (t - from) * 40.0 - 10.0,
        y: 90.0,
        w: 12.0,
        h: 30.0,
        contrast: 45.0,
    };
    if t >= from { vec![body] } else { vec![] }
}

#[test]
fn somebody_passes() {
    let verdicts = play(&config(5), &mut Wall::new(320, 180, 2.0), 18.0, |_, t| {
        passer(t, 6.0)
    });
    assert_eq!(letters(&verdicts), PASSES);
}

#[test]
fn the_light_goes_off_and_on() {
    let verdicts = play(
        &config(5),
        &mut Wall::new(320, 180, 2.0),
        18.0,
        |wall, t| {
            (wall.gain, wall.offset) = if (8.0..12.0).contains(&t) {
                (0.2, 5.0)
            } else {
                (1.0, 0.0)
            };
            vec![]
        },
    );
    assert_eq!(letters(&verdicts), SWITCHED);
}

#[test]
fn somebody_passes_before_a_trembling_camera_at_night() {
    let mut wall = Wall::new(320, 180, 6.0);
    wall.gain = 0.5;
    let verdicts = play(&config(5), &mut wall, 18.0, |wall, t| {
        wall.shift = (2.0 * (t * 9.0).sin(), 1.5 * (t * 13.0).cos());
        passer(t, 6.0)
    });
    assert_eq!(letters(&verdicts), NIGHT);
}

const PASSES: &str = "W11 q21 M40 q18";
const SWITCHED: &str = "W11 q29 S7 q14 S6 q23";
const NIGHT: &str = "W11 q21 M39 q19";
