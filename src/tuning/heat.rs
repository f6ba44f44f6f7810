//! Where in the picture something moved, and for how long: a coarse grid of seconds.

use crate::model::Region;

/// Columns of the grid.
pub const COLS: usize = 40;
/// Rows of the grid.
pub const ROWS: usize = 24;

/// Seconds of motion a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    cells: Vec<f32>,
    /// Seconds that were watched in all.
    watched: f32,
}

impl Default for Heat {
    fn default() -> Heat {
        Heat {
            cells: vec![0.0; COLS * ROWS],
            watched: 0.0,
        }
    }
}

impl Heat {
    /// A frame that stands for `seconds`, with its boxes. A cell counts once, however many boxes hold it.
    pub fn add(&mut self, regions: &[Region], seconds: f32) {
        self.watched += seconds;
        let mut hit = [false; COLS * ROWS];
        for r in regions {
            let (x0, x1) = span(r.x, r.w, COLS);
            let (y0, y1) = span(r.y, r.h, ROWS);
            for y in y0..y1 {
                hit[y * COLS + x0..y * COLS + x1].fill(true);
            }
        }
        for (cell, hit) in self.cells.iter_mut().zip(hit) {
            if hit {
                *cell += seconds;
            }
        }
    }

    /// Adds what another clip showed.
    pub fn merge(&mut self, other: &Heat) {
        self.watched += other.watched;
        for (a, b) in self.cells.iter_mut().zip(&other.cells) {
            *a += b;
        }
    }

    /// Share of the watched time in which a cell moved, 0..1.
    pub fn share(&self, cell: usize) -> f32 {
        let seconds = self.cells.get(cell).copied().unwrap_or(0.0);
        if self.watched > 0.0 {
            seconds / self.watched
        } else {
            0.0
        }
    }
}

/// The cells that a box touches by more than a sliver.
fn span(from: f32, length: f32, cells: usize) -> (usize, usize) {
    const SLIVER: f32 = 0.1;
    let n = cells as f32;
    // `as` stops at 0 and makes 0 of what is no number.
    let begin = ((from * n + SLIVER).floor() as usize).min(cells);
    let end = (((from + length) * n - SLIVER).ceil() as usize).min(cells);
    (begin, end.max(begin))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn region(x: f32, y: f32, w: f32, h: f32) -> Region {
        Region {
            x,
            y,
            w,
            h,
            ..Region::default()
        }
    }

    #[test]
    fn a_box_warms_its_cells_by_its_share_of_time() {
        let mut heat = Heat::default();
        heat.add(
            &[
                region(0.0, 0.0, 0.05, 1.0 / 24.0),
                region(0.0, 0.0, 0.025, 1.0 / 24.0),
            ],
            1.0,
        );
        heat.add(&[], 3.0);
        assert_eq!(
            (heat.share(0), heat.share(1), heat.share(2)),
            (0.25, 0.25, 0.0)
        );
        assert_eq!(heat.share(COLS), 0.0);
        let mut both = Heat::default();
        both.merge(&heat);
        both.add(&[], 4.0);
        assert_eq!(both.share(0), 0.125);
        assert_eq!(Heat::default().share(3), 0.0);
    }

    proptest! {
        #[test]
        fn shares_stay_between_zero_and_one(boxes in prop::collection::vec((-2.0..2.0f32, -2.0..2.0f32, -1.0..3.0f32, any::<f32>()), 0..9)) {
            let mut heat = Heat::default();
            let regions: Vec<Region> = boxes.into_iter().map(|(x, y, w, h)| region(x, y, w, h)).collect();
            heat.add(&regions, 0.2);
            for cell in 0..COLS * ROWS {
                prop_assert!((0.0..=1.0).contains(&heat.share(cell)));
            }
        }
    }
}
