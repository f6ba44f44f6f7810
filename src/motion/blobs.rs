//! Connected components of flagged cells: what belongs together is one blob.
//!
//! Cells connect over a gap of one cell, so that a body whose middle has the background's brightness stays whole.
//! Works in place with an explicit stack; no allocation once its buffers have grown.

use crate::model::Region;

/// Blobs that are kept a frame, heaviest first.
pub const MAX_BLOBS: usize = 24;

/// A group of flagged cells. Coordinates in cells.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Blob {
    /// First and last column, first and last row (inclusive).
    pub x: (u16, u16),
    /// Rows, as `x`.
    pub y: (u16, u16),
    /// Moving pixels.
    pub mass: f32,
    /// Centre of mass.
    pub centre: (f32, f32),
    /// Mean strength of its cells, at least 1.
    pub strength: f32,
    /// Share of its cells that changed lately, 0..1.
    pub lively: f32,
    /// Include zones entered, one bit each.
    pub zones: u64,
    /// Number of cells.
    pub cells: u16,
}

impl Blob {
    /// Its box in normalised coordinates, for a picture of `width × height` pixels and cells of `cell` pixels.
    pub fn region(&self, cell: usize, (width, height): (usize, usize)) -> Region {
        let span = |(from, to): (u16, u16), size: usize| {
            let a = usize::from(from) * cell;
            let b = ((usize::from(to) + 1) * cell).min(size);
            (
                a as f32 / size as f32,
                b.saturating_sub(a) as f32 / size as f32,
            )
        };
        let ((x, w), (y, h)) = (span(self.x, width), span(self.y, height));
        Region { x, y, w, h }
    }
}

/// What the finder needs to know of a cell.
#[derive(Debug, Clone, Copy)]
pub struct CellView {
    /// Moving pixels.
    pub mass: f32,
    /// Multiples of the threshold.
    pub strength: f32,
    /// Changed lately.
    pub lively: bool,
    /// Include zones, one bit each.
    pub zones: u64,
}

/// Finds blobs; owns the buffers.
#[derive(Debug, Clone, Default)]
pub struct BlobFinder {
    open: Vec<bool>,
    stack: Vec<usize>,
    found: Vec<Blob>,
}

impl BlobFinder {
    /// Groups the cells for which `open` holds in a grid of `cols` columns; heaviest first, at most [`MAX_BLOBS`].
    pub fn find(
        &mut self,
        open: impl Iterator<Item = bool>,
        cols: usize,
        view: impl Fn(usize) -> CellView,
    ) -> &[Blob] {
        self.open.clear();
        self.open.extend(open);
        self.found.clear();
        for seed in 0..self.open.len() {
            if self.open[seed] {
                let blob = self.flood(seed, cols, &view);
                self.keep(blob);
            }
        }
        &self.found
    }

    fn keep(&mut self, blob: Blob) {
        let at = self.found.partition_point(|b| b.mass >= blob.mass);
        if at < MAX_BLOBS {
            self.found.truncate(MAX_BLOBS - 1);
            self.found.insert(at, blob);
        }
    }

    fn flood(&mut self, seed: usize, cols: usize, view: impl Fn(usize) -> CellView) -> Blob {
        let rows = self.open.len() / cols;
        let mut blob = Blob {
            x: (u16::MAX, 0),
            y: (u16::MAX, 0),
            ..Blob::default()
        };
        let (mut cells, mut weight) = (0u32, 0.0f32);
        self.open[seed] = false;
        self.stack.push(seed);
        while let Some(cell) = self.stack.pop() {
            let (x, y) = (cell % cols, cell / cols);
            let v = view(cell);
            let (cx, cy) = (x as u16, y as u16);
            blob.x = (blob.x.0.min(cx), blob.x.1.max(cx));
            blob.y = (blob.y.0.min(cy), blob.y.1.max(cy));
            blob.mass += v.mass;
            blob.centre.0 += v.mass * x as f32;
            blob.centre.1 += v.mass * y as f32;
            blob.strength += v.strength;
            blob.lively += f32::from(u8::from(v.lively));
            blob.zones |= v.zones;
            weight += v.mass;
            cells += 1;
            for ny in y.saturating_sub(2)..(y + 3).min(rows) {
                for nx in x.saturating_sub(2)..(x + 3).min(cols) {
                    let next = ny * cols + nx;
                    if self.open[next] {
                        self.open[next] = false;
                        self.stack.push(next);
                    }
                }
            }
        }
        let weight = weight.max(f32::MIN_POSITIVE);
        blob.centre.0 /= weight;
        blob.centre.1 /= weight;
        blob.strength /= cells as f32;
        blob.lively /= cells as f32;
        blob.cells = u16::try_from(cells).unwrap_or(u16::MAX);
        blob
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(rows: &[&str]) -> Vec<Blob> {
        let cols = rows[0].len();
        let open = rows.iter().flat_map(|r| r.bytes().map(|b| b == b'#'));
        let view = |_| CellView {
            mass: 16.0,
            strength: 2.0,
            lively: true,
            zones: 0,
        };
        BlobFinder::default().find(open, cols, view).to_vec()
    }

    #[test]
    fn a_gap_of_one_cell_is_bridged_and_two_are_not() {
        assert_eq!(find(&["#.#....", ".......", "......."]).len(), 1);
        assert_eq!(find(&["#..#...", ".......", "......#"]).len(), 3);
    }

    #[test]
    fn the_heaviest_blob_comes_first_with_its_box() {
        let found = find(&["#......", ".......", ".......", "...###."]);
        assert_eq!(found[0].mass, 48.0);
        assert_eq!((found[0].x, found[0].y), ((3, 5), (3, 3)));
        let r = found[0].region(4, (28, 14));
        assert!((r.x - 12.0 / 28.0).abs() < 1e-6 && (r.h - 2.0 / 14.0).abs() < 1e-6);
    }

    #[test]
    fn a_checkerboard_of_specks_keeps_only_the_allowed_number() {
        let row = "#...".repeat(20);
        let gap = ".".repeat(80);
        let rows: Vec<&str> = (0..20)
            .map(|i| if i % 4 == 0 { row.as_str() } else { &gap })
            .collect();
        assert_eq!(find(&rows).len(), MAX_BLOBS);
    }
}
