//! The view, plainly: every pixel looks for its field, and what is told follows from the list of all looks.

use proptest::prelude::*;

use super::*;

/// Edges of each field relative to the brightness, their mean, and how far apart the fields' brightness is.
fn measure(picture: &[i16], width: usize, height: usize) -> (Vec<f64>, f64, f64) {
    let (mut edges, mut light) = (vec![0i64; COLS * ROWS], vec![0i64; COLS * ROWS]);
    let at = |x: usize, y: usize| i64::from(picture[y * width + x]);
    // The last column and row have no neighbour.
    for y in 0..height - 1 {
        for x in 0..width - 1 {
            let inside = |c: &usize| c * width / COLS <= x && x < (c + 1) * width / COLS;
            let col = (0..COLS).find(inside).unwrap();
            let field = y * ROWS / height * COLS + col;
            for other in [at(x + 1, y), at(x, y + 1)] {
                edges[field] += (other.abs_diff(at(x, y)) as i64 - 12).max(0);
            }
            light[field] += at(x, y);
        }
    }
    let pixels = (width * height) as f64;
    let brightness = light.iter().sum::<i64>() as f64 / pixels;
    let field = pixels / (COLS * ROWS) as f64;
    let edges: Vec<f64> = edges
        .iter()
        .map(|e| *e as f64 / brightness.max(80.0) / field)
        .collect();
    let light: Vec<f64> = light.iter().map(|l| *l as f64 / field).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let middle = mean(&light);
    let apart: Vec<f64> = light.iter().map(|l| (l - middle).abs()).collect();
    (edges.clone(), mean(&edges), mean(&apart))
}

/// Blocks whose size and places `scene` decides, any light.
fn blocks(scene: u64, light: f64, (width, height): (usize, usize)) -> Vec<i16> {
    let value = |x: usize, y: usize| {
        let side = 6 + 5 * scene as usize;
        let (bx, by) = (x / side, (y + 2) / side);
        let mut h = scene.wrapping_mul(0x9e37_79b9) ^ (bx as u64 * 7919 + by as u64 * 104_729);
        for shift in [13, 7, 17] {
            h ^= h << shift;
            h ^= h >> (shift / 2);
        }
        30 + (h.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57)
    };
    let luma = |i: usize| (value(i % width, i / width) as f64 * 4.0 * light) as i16;
    (0..width * height).map(luma).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fields_hold_the_edges_of_their_pixels(
        size in (64usize..130, 36usize..80), seed in any::<u64>(), flat in prop::bool::weighted(0.1),
    ) {
        let noise = super::super::reference::bytes(size.0 * size.1, seed);
        let picture: Vec<i16> = noise.iter().map(|v| if flat { 40 } else { i16::from(*v) * 4 }).collect();
        let mut view = View::default();
        let mean = view.measure(&picture, size.0, size.1);
        let (fields, expected, spread) = measure(&picture, size.0, size.1);
        let near = |a: f32, b: f64| (f64::from(a) - b).abs() <= 1e-4 * (1.0 + b.abs());
        prop_assert!(near(mean, expected), "{} {}", mean, expected);
        prop_assert!(near(view.spread.1, spread), "{} {}", view.spread.1, spread);
        for (i, (a, b)) in view.now.iter().zip(&fields).enumerate() {
            prop_assert!(near(*a, *b), "field {}: {} {}", i, a, b);
        }
    }

    #[test]
    fn correlation_is_pearsons(a in prop::collection::vec(0.0f32..4.0, 24), b in prop::collection::vec(0.0f32..4.0, 24)) {
        let n = a.len() as f64;
        let mean = |v: &[f32]| v.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let (ma, mb) = (mean(&a), mean(&b));
        let covariance = |p: &[f32], mp: f64, q: &[f32], mq: f64| {
            p.iter().zip(q).map(|(p, q)| (f64::from(*p) - mp) * (f64::from(*q) - mq)).sum::<f64>() / n
        };
        let deviations = (covariance(&a, ma, &a, ma) * covariance(&b, mb, &b, mb)).sqrt();
        let expected = covariance(&a, ma, &b, mb) / deviations;
        prop_assert!((f64::from(correlation(&a, &b)) - expected).abs() < 1e-4);
        prop_assert_eq!(correlation(&a, &[1.0; 24]), 0.0);
    }

    /// Scenes that are plainly one or the other, for a while each: what is told is what all looks of the last four
    /// seconds had in common.
    #[test]
    fn what_is_told_is_what_four_seconds_agree_on(
        shows in prop::collection::vec((0usize..4, 1u32..20), 1..16), light in 0.7f64..1.4,
    ) {
        const SIZE: (usize, usize) = (128, 72);
        let scenes = [
            (blocks(1, 1.0, SIZE), None),
            (blocks(1, light, SIZE), None),
            (vec![90; SIZE.0 * SIZE.1], Some(Tamper::Covered)),
            (blocks(2, light, SIZE), Some(Tamper::Turned)),
        ];
        let mut view = View::default();
        let mut looks: Vec<Option<Tamper>> = Vec::new();
        let mut told = None;
        // Well known before anything happens, and each wrong view shorter than it takes to be the usual one.
        for (scene, count) in [(0, 60)].into_iter().chain(shows) {
            for _ in 0..count {
                let (picture, wrong) = &scenes[scene];
                view.look(picture, SIZE.0, SIZE.1, Pts(looks.len() as u64 * 500_000_000));
                looks.push(*wrong);
                // Eight looks from the first one on are four seconds.
                if looks.iter().rev().take(9).filter(|w| *w == wrong).count() == 9 {
                    told = *wrong;
                }
                prop_assert_eq!(view.tamper(), told, "{:?}", looks);
            }
        }
    }
}
