//! Zones: include and exclude polygons rasterised into a mask of cells, once a picture size.
//!
//! A cell belongs to a polygon when its centre is inside (even-odd rule). Excluded cells are never watched; without
//! include polygons everything else is.

use crate::config::Zone;

/// Which cells are watched, and which include zones each of them belongs to.
#[derive(Debug, Clone, Default)]
pub struct ZoneMask {
    watched: Vec<bool>,
    /// One mask an include zone, already without the excluded cells.
    zones: Vec<Vec<bool>>,
    count: usize,
}

impl ZoneMask {
    /// Rasterises for a grid of `cols × rows` cells of `cell` pixels over a picture of `width × height` pixels.
    pub fn new(
        include: &[Zone],
        exclude: &[Zone],
        (cols, rows): (usize, usize),
        cell: usize,
        (width, height): (usize, usize),
    ) -> ZoneMask {
        let centre = |i: usize, size: usize| {
            let (from, to) = (i * cell, ((i + 1) * cell).min(size));
            (from + to) as f32 / 2.0 / size.max(1) as f32
        };
        let raster = |zone: &Zone| -> Vec<bool> {
            (0..rows * cols)
                .map(|i| {
                    inside(
                        &zone.points,
                        centre(i % cols, width),
                        centre(i / cols, height),
                    )
                })
                .collect()
        };
        let mut allowed = vec![true; cols * rows];
        for mask in exclude.iter().map(raster) {
            for (a, m) in allowed.iter_mut().zip(mask) {
                *a &= !m;
            }
        }
        let zones: Vec<Vec<bool>> = include
            .iter()
            .map(|z| {
                let mut mask = raster(z);
                for (m, a) in mask.iter_mut().zip(&allowed) {
                    *m &= a;
                }
                mask
            })
            .collect();
        let watched: Vec<bool> = (0..cols * rows)
            .map(|i| allowed[i] && (zones.is_empty() || zones.iter().any(|z| z[i])))
            .collect();
        let count = watched.iter().filter(|w| **w).count();
        ZoneMask {
            watched,
            zones,
            count,
        }
    }

    /// Whether motion in the cell counts.
    pub fn watched(&self, cell: usize) -> bool {
        self.watched[cell]
    }

    /// How many cells are watched.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether anything is not watched, or zones are to be told apart.
    pub fn limited(&self) -> bool {
        !self.zones.is_empty() || self.count < self.watched.len()
    }

    /// Adds to `entered` the indices of the include zones that hold the cell; at most 64 zones are told apart.
    pub fn enter(&self, cell: usize, entered: &mut u64) {
        for (i, zone) in self.zones.iter().enumerate().take(64) {
            *entered |= u64::from(zone[cell]) << i;
        }
    }
}

/// Even-odd test of a point against a closed polygon.
fn inside(points: &[(f32, f32)], x: f32, y: f32) -> bool {
    let mut inside = false;
    let mut previous = match points.last() {
        Some(p) => *p,
        None => return false,
    };
    for &(px, py) in points {
        let (qx, qy) = previous;
        if (py > y) != (qy > y) && x < (qx - px) * (y - py) / (qy - py) + px {
            inside = !inside;
        }
        previous = (px, py);
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(points: &[(f32, f32)]) -> Zone {
        Zone {
            name: "z".into(),
            points: points.to_vec(),
            sensitivity: None,
        }
    }

    #[test]
    fn exclude_wins_over_include() {
        let left = zone(&[(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]);
        let top = zone(&[(0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5)]);
        let mask = ZoneMask::new(&[left], &[top], (4, 4), 4, (16, 16));
        let watched: Vec<usize> = (0..16).filter(|i| mask.watched(*i)).collect();
        assert_eq!(watched, [8, 9, 12, 13]);
        assert_eq!(mask.count(), 4);
        let mut entered = 0;
        mask.enter(0, &mut entered);
        assert_eq!(entered, 0);
        mask.enter(8, &mut entered);
        assert_eq!(entered, 1);
    }

    #[test]
    fn without_zones_everything_is_watched() {
        assert_eq!(ZoneMask::new(&[], &[], (3, 2), 4, (9, 5)).count(), 6);
    }

    #[test]
    fn degenerate_polygons_hold_nothing() {
        assert!(!inside(&[], 0.5, 0.5));
        assert!(!inside(&[(0.1, 0.1)], 0.5, 0.5));
        assert!(!inside(&[(f32::NAN, 0.1), (0.2, f32::NAN)], 0.5, 0.5));
    }
}
