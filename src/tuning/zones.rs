//! From heat to polygons: zones around what is unwanted, never over a place that only something wanted uses.
//!
//! Cells group by neighbourhood. A group becomes its convex hull; where that would cover a forbidden cell, it becomes
//! rectangles that do not. Guarantees: 3 to 32 corners, all within 0..1, no forbidden cell's centre inside.

use super::heat::{COLS, Heat, ROWS};

/// A polygon in shares of width and height.
pub type Polygon = Vec<(f32, f32)>;

/// Groups smaller than this are no place but an accident.
const LEAST_CELLS: usize = 3;
/// Corners that a zone may have.
const MOST_CORNERS: usize = 32;
/// Rectangles that a group may become.
const MOST_RECTANGLES: usize = 4;

/// How cautiously cells are given up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Caution {
    /// A cell may be excluded while wanted things use it for at most this multiple of the time that unwanted ones do.
    pub ratio: f32,
    /// Cells by which the zone is larger than what was seen.
    pub margin: usize,
}

/// All that is tried, most cautious first.
pub const CAUTIONS: [Caution; 5] = [
    Caution {
        ratio: 0.0,
        margin: 0,
    },
    Caution {
        ratio: 0.0,
        margin: 1,
    },
    Caution {
        ratio: 1.0,
        margin: 0,
    },
    Caution {
        ratio: 1.0,
        margin: 1,
    },
    Caution {
        ratio: 3.0,
        margin: 1,
    },
];

/// Proposes at most `most` polygons, those with the most unwanted motion first.
pub fn propose(unwanted: &Heat, wanted: &Heat, caution: Caution, most: usize) -> Vec<Polygon> {
    let cells = COLS * ROWS;
    let hot: Vec<bool> = (0..cells).map(|c| unwanted.share(c) > 0.0).collect();
    let free: Vec<bool> = (0..cells)
        .map(|c| wanted.share(c) <= caution.ratio * unwanted.share(c))
        .collect();
    let mut mask = hot;
    for _ in 0..caution.margin {
        mask = grown(&mask);
    }
    for (m, f) in mask.iter_mut().zip(&free) {
        *m &= f;
    }
    let heat = |group: &Vec<usize>| group.iter().map(|c| unwanted.share(*c)).sum::<f32>();
    let mut groups = groups(&mask);
    groups.sort_by(|a, b| heat(b).total_cmp(&heat(a)));
    let polygons = groups.iter().flat_map(|g| shapes(g, &free));
    polygons.take(most).collect()
}

/// Share of the picture that lies in at least one of the polygons, by cell centres.
pub fn area(polygons: &[Polygon]) -> f32 {
    let inside = (0..COLS * ROWS).filter(|c| polygons.iter().any(|p| holds(p, *c)));
    inside.count() as f32 / (COLS * ROWS) as f32
}

/// Whether the cell's centre lies in the polygon (even-odd rule, as the detector has it).
pub fn holds(polygon: &Polygon, cell: usize) -> bool {
    let x = ((cell % COLS) as f32 + 0.5) / COLS as f32;
    let y = ((cell / COLS) as f32 + 0.5) / ROWS as f32;
    let mut inside = false;
    let Some(mut before) = polygon.last().copied() else {
        return false;
    };
    for &(px, py) in polygon {
        let (qx, qy) = before;
        if (py > y) != (qy > y) && x < (qx - px) * (y - py) / (qy - py) + px {
            inside = !inside;
        }
        before = (px, py);
    }
    inside
}

fn grown(mask: &[bool]) -> Vec<bool> {
    (0..mask.len())
        .map(|c| mask[c] || neighbours(c).any(|n| mask[n]))
        .collect()
}

/// The cells around a cell, eight at most.
fn neighbours(cell: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (cell % COLS, cell / COLS);
    let rows = y.saturating_sub(1)..(y + 2).min(ROWS);
    rows.flat_map(move |ny| (x.saturating_sub(1)..(x + 2).min(COLS)).map(move |nx| ny * COLS + nx))
        .filter(move |n| *n != cell)
}

/// Neighbouring cells of the mask, in groups that are no accident.
fn groups(mask: &[bool]) -> Vec<Vec<usize>> {
    let mut open = mask.to_vec();
    let mut groups = Vec::new();
    for seed in 0..open.len() {
        if !std::mem::take(&mut open[seed]) {
            continue;
        }
        let (mut group, mut next) = (vec![seed], 0);
        while let Some(&cell) = group.get(next) {
            next += 1;
            for n in neighbours(cell) {
                if std::mem::take(&mut open[n]) {
                    group.push(n);
                }
            }
        }
        if group.len() >= LEAST_CELLS {
            groups.push(group);
        }
    }
    groups
}

fn shapes(group: &[usize], free: &[bool]) -> Vec<Polygon> {
    let hull = hull(group);
    let clean = (0..free.len()).all(|c| free[c] || !holds(&hull, c));
    if clean && (3..=MOST_CORNERS).contains(&hull.len()) {
        return vec![hull];
    }
    rectangles(group)
}

/// Convex hull of the cells' corners (Andrew's monotone chain).
fn hull(group: &[usize]) -> Polygon {
    let mut corners: Vec<(i32, i32)> = group
        .iter()
        .flat_map(|c| {
            let (x, y) = ((c % COLS) as i32, (c / COLS) as i32);
            [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)]
        })
        .collect();
    corners.sort_unstable();
    corners.dedup();
    let turn = |a: (i32, i32), b: (i32, i32), c: (i32, i32)| {
        (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0)
    };
    let half = |points: &mut dyn Iterator<Item = (i32, i32)>| {
        let mut chain: Vec<(i32, i32)> = Vec::new();
        for p in points {
            while chain.len() >= 2 && turn(chain[chain.len() - 2], chain[chain.len() - 1], p) <= 0 {
                chain.pop();
            }
            chain.push(p);
        }
        chain.pop();
        chain
    };
    let mut chain = half(&mut corners.iter().copied());
    chain.extend(half(&mut corners.iter().rev().copied()));
    chain.into_iter().map(normalised).collect()
}

/// The largest rectangles of the group's cells, one after another.
fn rectangles(group: &[usize]) -> Vec<Polygon> {
    let mut mask = vec![false; COLS * ROWS];
    group.iter().for_each(|c| mask[*c] = true);
    let mut found = Vec::new();
    while found.len() < MOST_RECTANGLES {
        let Some((x, y, w, h)) = largest(&mask).filter(|(_, _, w, h)| w * h >= LEAST_CELLS) else {
            break;
        };
        for row in y..y + h {
            mask[row * COLS + x..row * COLS + x + w].fill(false);
        }
        let (x, y, w, h) = (x as i32, y as i32, w as i32, h as i32);
        let corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)];
        found.push(corners.map(normalised).into());
    }
    found
}

/// The largest rectangle of set cells: column, row, width, height.
fn largest(mask: &[bool]) -> Option<(usize, usize, usize, usize)> {
    let mut best: Option<(usize, usize, usize, usize)> = None;
    // Set cells above and including each cell, row by row.
    let mut heights = [0usize; COLS];
    for y in 0..ROWS {
        for (x, h) in heights.iter_mut().enumerate() {
            *h = if mask[y * COLS + x] { *h + 1 } else { 0 };
        }
        for x in 0..COLS {
            let mut lowest = usize::MAX;
            for (right, height) in heights.iter().enumerate().skip(x) {
                lowest = lowest.min(*height);
                if lowest == 0 {
                    break;
                }
                let w = right - x + 1;
                if best.is_none_or(|(_, _, bw, bh)| w * lowest > bw * bh) {
                    best = Some((x, y + 1 - lowest, w, lowest));
                }
            }
        }
    }
    best
}

/// Corner of cells to shares, to a thousandth.
fn normalised((x, y): (i32, i32)) -> (f32, f32) {
    let share = |v: i32, of: usize| (v as f32 / of as f32 * 1e3).round() / 1e3;
    (share(x, COLS), share(y, ROWS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Region;

    fn heat(boxes: &[(f32, f32, f32, f32)]) -> Heat {
        let mut heat = Heat::default();
        for &(x, y, w, h) in boxes {
            heat.add(
                &[Region {
                    x,
                    y,
                    w,
                    h,
                    ..Region::default()
                }],
                1.0,
            );
        }
        heat.add(&[], 1.0);
        heat
    }

    const EXACT: Caution = Caution {
        ratio: 0.0,
        margin: 0,
    };

    #[test]
    fn a_tree_becomes_one_zone_and_a_path_stays_free() {
        let tree = heat(&[(0.0, 0.0, 0.2, 0.5), (0.05, 0.1, 0.2, 0.5)]);
        let path = heat(&[(0.0, 0.75, 1.0, 0.2)]);
        let zones = propose(&tree, &path, EXACT, 16);
        assert_eq!(zones.len(), 1, "{zones:?}");
        assert!(holds(&zones[0], 5 * COLS + 4));
        assert!((0..COLS).all(|x| !holds(&zones[0], 20 * COLS + x)));
        assert!((0.1..0.2).contains(&area(&zones)), "{}", area(&zones));
    }

    #[test]
    fn what_lies_around_a_wanted_place_is_left_out_of_it() {
        // A ring of unwanted motion around a door.
        let ring = heat(&[
            (0.2, 0.2, 0.6, 0.1),
            (0.2, 0.7, 0.6, 0.1),
            (0.2, 0.2, 0.1, 0.6),
            (0.7, 0.2, 0.1, 0.6),
        ]);
        let door = heat(&[(0.45, 0.45, 0.1, 0.1)]);
        let zones = propose(&ring, &door, EXACT, 16);
        assert!(zones.len() >= 2, "{zones:?}");
        let middle = 11 * COLS + 19;
        assert!(zones.iter().all(|z| !holds(z, middle)));
        assert!(area(&zones) > 0.1);
    }

    #[test]
    fn a_shared_place_is_given_up_only_without_caution() {
        let tree = heat(&[(0.0, 0.0, 0.3, 0.3)]);
        let both = heat(&[(0.0, 0.0, 0.3, 0.3), (0.5, 0.5, 0.1, 0.3)]);
        assert!(propose(&tree, &both, EXACT, 16).is_empty());
        let shared = Caution {
            ratio: 1.0,
            margin: 0,
        };
        assert_eq!(propose(&tree, &both, shared, 16).len(), 1);
    }

    #[test]
    fn the_hottest_places_come_first_and_accidents_not_at_all() {
        let mut unwanted = heat(&[
            (0.8, 0.8, 0.1, 0.1),
            (0.8, 0.8, 0.1, 0.1),
            (0.1, 0.1, 0.1, 0.1),
        ]);
        unwanted.add(
            &[Region {
                x: 0.5,
                y: 0.5,
                w: 0.02,
                h: 0.02,
                ..Region::default()
            }],
            1.0,
        );
        let zones = propose(&unwanted, &Heat::default(), EXACT, 16);
        assert_eq!(zones.len(), 2);
        assert!(zones[0][0].0 > 0.7, "{zones:?}");
        assert_eq!(propose(&unwanted, &Heat::default(), EXACT, 1).len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn zones_are_valid_and_never_cover_what_is_only_wanted(
            unwanted in prop::collection::vec((0.0..1.0f32, 0.0..1.0f32, 0.0..0.5f32, 0.0..0.5f32), 0..8),
            wanted in prop::collection::vec((0.0..1.0f32, 0.0..1.0f32, 0.0..0.4f32, 0.0..0.4f32), 0..6),
            which in 0..CAUTIONS.len(),
        ) {
            let (u, w) = (heat(&unwanted), heat(&wanted));
            let caution = CAUTIONS[which];
            let zones = propose(&u, &w, caution, 16);
            prop_assert!(zones.len() <= 16);
            for zone in &zones {
                prop_assert!((3..=MOST_CORNERS).contains(&zone.len()));
                prop_assert!(zone.iter().all(|(x, y)| (0.0..=1.0).contains(x) && (0.0..=1.0).contains(y)));
                for c in 0..COLS * ROWS {
                    let only_wanted = w.share(c) > caution.ratio * u.share(c);
                    prop_assert!(!(only_wanted && holds(zone, c)), "cell {} in {:?}", c, zone);
                }
            }
        }
    }
}
