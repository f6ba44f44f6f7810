//! Connected groups, plainly: a flood over pixels, and sums over what it reached.

use proptest::prelude::*;

use super::{bytes, plane};
use crate::motion::plane::{PAD, Plane};
use crate::motion::runs::{Finder, MAX_RUNS, Planes};
use crate::motion::vote;

/// Labels with so many of 256 pixels labelled, in little heaps.
fn heaps(w: usize, h: usize, seed: u64, share: u8) -> Plane {
    let mut p = plane(w, h, seed, u8::MAX);
    let where_ = bytes(w * h, seed ^ 0x5eed);
    for y in 0..h {
        for x in 0..w {
            let own = where_[y / 2 * w + x / 3];
            let v = &mut p.line_mut(y)[x];
            *v = if own < share && *v & 0x30 != 0 {
                *v & 7 | vote::ANY
            } else {
                0
            };
        }
    }
    p
}

/// Number of the group of each pixel, by rising first pixels; two pixels apart are still together, in any direction.
fn flood(labels: &Plane) -> (Vec<Option<usize>>, usize) {
    let (w, h) = labels.size();
    let mut group = vec![None; w * h];
    let mut groups = 0;
    for start in 0..w * h {
        if labels.line(start / w)[start % w] == 0 || group[start].is_some() {
            continue;
        }
        let mut open = vec![start];
        group[start] = Some(groups);
        while let Some(i) = open.pop() {
            let (x, y) = (i % w, i / w);
            for ny in y.saturating_sub(3)..(y + 4).min(h) {
                for nx in x.saturating_sub(3)..(x + 4).min(w) {
                    if labels.line(ny)[nx] != 0 && group[ny * w + nx].is_none() {
                        group[ny * w + nx] = Some(groups);
                        open.push(ny * w + nx);
                    }
                }
            }
        }
        groups += 1;
    }
    (group, groups)
}

/// Rows with their edges drawn on into the padding.
fn padded(w: usize, h: usize, seed: u64) -> Plane {
    let mut p = plane(w, h, seed, u8::MAX);
    for y in 0..h {
        let (first, last) = (p.line(y)[0], p.line(y)[w - 1]);
        let row = p.row_mut(y);
        row[..PAD].fill(first);
        row[PAD + w..].fill(last);
    }
    p
}

fn weight(x: usize, y: usize) -> f32 {
    ((x * 7 + y * 3) % 9) as f32 / 8.0
}

/// Largest step over two pixels, four to the left and four to the right of a run's end.
fn step(p: &Plane, y: usize, end: usize) -> u32 {
    let at = |x: i32| i32::from(p.line(y)[x.clamp(0, p.size().0 as i32 - 1) as usize]);
    let end = end as i32;
    (end - 4..end + 4)
        .map(|x| at(x - 1).abs_diff(at(x + 1)))
        .max()
        .unwrap()
}

/// Sums over a group.
#[derive(Debug, Clone, Default)]
struct Sums {
    pixels: Vec<(usize, usize)>,
    mass: f32,
    sure: u32,
    lively: u32,
    votes: u32,
    edges: (u32, u32),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn groups_are_what_a_flood_over_two_pixels_reaches(
        (w, h) in (1usize..80, 1usize..32), seed in any::<u64>(), share in any::<u8>(), least in 0u32..30,
    ) {
        let labels = heaps(w, h, seed, share);
        let votes = plane(w, h, seed ^ 1, 4);
        let lively = plane(w, h, seed ^ 2, if seed & 1 == 0 { 1 } else { 0 });
        let (picture, known) = (padded(w, h, seed ^ 3), padded(w, h, seed ^ 4));
        let mut finder = Finder::default();
        // The buffers of another picture are no trouble.
        finder.find(Planes { labels: &votes, votes: &votes, lively: &lively }, weight);
        finder.find(Planes { labels: &labels, votes: &votes, lively: &lively }, weight);
        finder.measure_edges(|g| g.area >= least, &picture, |y| known.row(y));

        let (group, count) = flood(&labels);
        let mut sums = vec![Sums::default(); count];
        for (i, g) in group.iter().enumerate() {
            let (x, y) = (i % w, i / w);
            let Some(g) = *g else { continue };
            let s = &mut sums[g];
            s.pixels.push((x, y));
            s.sure += u32::from(labels.line(y)[x] & vote::SURE != 0);
            s.lively += u32::from(lively.line(y)[x]);
            s.votes += u32::from(votes.line(y)[x]);
            // A run begins here: what it weighs is asked at its middle.
            if x == 0 || labels.line(y)[x - 1] == 0 {
                let end = (x..w).find(|x| labels.line(y)[*x] == 0).unwrap_or(w);
                s.mass += (end - x) as f32 * weight((x + end) / 2, y);
                s.edges.0 += step(&picture, y, x) + step(&picture, y, end);
                s.edges.1 += step(&known, y, x) + step(&known, y, end);
            }
        }
        let mut found = vec![None; w * h];
        for (run, g) in finder.runs() {
            for x in run.from..run.to {
                found[usize::from(run.y) * w + usize::from(x)] = Some(g);
            }
        }
        prop_assert_eq!(found, group);
        prop_assert_eq!(finder.groups().len(), count);
        for (g, s) in finder.groups().iter().zip(&sums) {
            let n = s.pixels.len();
            let span = |of: fn(&(usize, usize)) -> usize| {
                let all = s.pixels.iter().map(of);
                (all.clone().min().unwrap() as u16, all.max().unwrap() as u16)
            };
            prop_assert_eq!((g.x, g.y, g.area as usize), (span(|p| p.0), span(|p| p.1), n));
            prop_assert_eq!((g.mass, g.sure, g.lively), (s.mass, s.sure, s.lively));
            let edges = if n as u32 >= least { s.edges } else { (0, 0) };
            prop_assert_eq!(g.edges, edges);
            let rests = s.lively as f32 / (n as f32) < 0.05;
            prop_assert_eq!(g.rests(), rests);
            let gone = edges.0 * 100 < (edges.0 + edges.1) * 45;
            prop_assert_eq!(g.is_ghost(), rests && gone);
            let blob = g.blob(5);
            let mean = |of: fn(&(usize, usize)) -> usize| s.pixels.iter().map(of).sum::<usize>() as f32 / n as f32;
            prop_assert!((blob.centre.0 - mean(|p| p.0)).abs() < 0.01, "{:?}", blob);
            prop_assert!((blob.centre.1 - mean(|p| p.1)).abs() < 0.01, "{:?}", blob);
            prop_assert!((blob.strength - 1.0 - s.votes as f32 / n as f32).abs() < 1e-5);
            prop_assert_eq!((blob.mass, blob.zones, blob.lively), (s.mass, 5, s.lively as f32 / n as f32));
        }
    }
}

#[test]
fn a_picture_of_nothing_but_runs_is_looked_at_up_to_its_limit() {
    let (w, h) = (320, 180);
    let mut labels = Plane::new(w, h, 0);
    for y in 0..h {
        labels
            .line_mut(y)
            .iter_mut()
            .step_by(2)
            .for_each(|l| *l = vote::ANY);
    }
    let mut finder = Finder::default();
    let planes = Planes {
        labels: &labels,
        votes: &labels,
        lively: &labels,
    };
    finder.find(planes, |_, _| 1.0);
    assert_eq!(finder.runs().count(), MAX_RUNS);
    assert_eq!(finder.groups().len(), 1);
    assert_eq!(finder.groups()[0].area as usize, MAX_RUNS);
}
