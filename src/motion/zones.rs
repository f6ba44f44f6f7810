//! Zones: include and exclude polygons rasterised into a mask of cells, once a picture size.
//!
//! A cell belongs to a polygon when its centre is inside (even-odd rule). Excluded cells are never watched; without
//! include polygons everything else is.

use super::plane::Plane;
use super::runs::Run;
use crate::config::Zone;

/// Which cells are watched, and which include zones each of them belongs to.
#[derive(Debug, Clone, Default)]
pub struct ZoneMask {
    cell: usize,
    cols: usize,
    watched: Vec<bool>,
    /// A line of pixels a row of cells: 255 where they are watched.
    lines: Vec<u8>,
    width: usize,
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
        let pixel = |i: usize| watched[i / width * cols + i % width / cell];
        let lines = (0..rows * width).map(|i| if pixel(i) { u8::MAX } else { 0 });
        ZoneMask {
            lines: lines.collect(),
            width,
            cell,
            cols,
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

    /// Copies the labels of watched cells; what is not watched is background.
    pub(super) fn restrict(&self, labels: &Plane, watched: &mut Plane) {
        for y in 0..labels.size().1 {
            let line = &self.lines[y / self.cell * self.width..][..self.width];
            let from = labels.line(y);
            for ((to, from), watched) in watched.line_mut(y).iter_mut().zip(from).zip(line) {
                *to = from & watched;
            }
        }
    }

    /// Adds to each of `groups` the include zones that its runs enter, one bit each; at most 64 are told apart.
    pub(super) fn enter(&self, runs: impl Iterator<Item = (Run, usize)>, groups: &mut [u64]) {
        for (run, g) in runs {
            let row = usize::from(run.y) / self.cell * self.cols;
            for col in usize::from(run.from) / self.cell..=usize::from(run.to - 1) / self.cell {
                groups[g] |= self.entered(row + col);
            }
        }
    }

    /// The include zones that hold the cell.
    fn entered(&self, cell: usize) -> u64 {
        let zones = self.zones.iter().take(64).enumerate();
        zones.fold(0, |all, (i, zone)| all | u64::from(zone[cell]) << i)
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
        assert_eq!((mask.entered(0), mask.entered(8)), (0, 1));
    }

    #[test]
    fn labels_are_left_where_their_cell_is_watched() {
        let corner = zone(&[(0.0, 0.0), (0.7, 0.0), (0.0, 0.7)]);
        for (w, h) in [(16, 16), (17, 9), (3, 21), (30, 6)] {
            let (cols, rows) = (usize::div_ceil(w, 4), usize::div_ceil(h, 4));
            let mask = ZoneMask::new(std::slice::from_ref(&corner), &[], (cols, rows), 4, (w, h));
            let mut labels = Plane::new(w, h, 0);
            for y in 0..h {
                for (x, l) in labels.line_mut(y).iter_mut().enumerate() {
                    *l = ((x * 5 + y * 3) % 8) as u8;
                }
            }
            let mut left = Plane::new(w, h, 9);
            mask.restrict(&labels, &mut left);
            for y in 0..h {
                for x in 0..w {
                    let kept = mask.watched(y / 4 * cols + x / 4);
                    let expected = if kept { labels.line(y)[x] } else { 0 };
                    assert_eq!(left.line(y)[x], expected, "{x} {y} of {w}×{h}");
                }
            }
        }
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
