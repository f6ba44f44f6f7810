//! A small picture in 4:2:0, and boxes drawn on it. Pure: no GStreamer type.

use crate::model::Region;

/// Yellow in full range BT.601, as JPEG has it: luma, blue and red difference.
pub const COLOUR: (u8, u8, u8) = (205, 12, 163);

/// Planes without padding: `width × height` of luma, and two of a quarter of that. Both sides are even.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct I420 {
    /// Pixels a row, even.
    pub width: usize,
    /// Rows, even.
    pub height: usize,
    /// Brightness.
    pub luma: Vec<u8>,
    /// Blue difference.
    pub cb: Vec<u8>,
    /// Red difference.
    pub cr: Vec<u8>,
}

/// A box in whole even pixels: `left..right`, `top..bottom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pixels {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Behind the last column.
    pub right: usize,
    /// Behind the last row.
    pub bottom: usize,
}

/// How thick the line of a box is: even, so that colour and brightness have the same edge.
pub fn line(width: usize) -> usize {
    (width / 320).clamp(2, 8) & !1
}

/// Where a region lies in a picture of this size: widened to even pixels, inside the picture, not smaller than its own
/// lines. `None` for what is outside, and for a picture without room for it.
pub fn place(region: &Region, width: usize, height: usize) -> Option<Pixels> {
    let least = 2 * line(width);
    if width < least || height < least || !(region.x < 1.0 && region.y < 1.0) {
        return None;
    }
    if !(region.x + region.w > 0.0 && region.y + region.h > 0.0) {
        return None;
    }
    // `as` stops at the ends of the type, so values outside of the picture are cut at its edges.
    let side = |from: f32, length: f32, whole: usize| {
        let begin = ((from * whole as f32).floor() as usize & !1).min(whole - least);
        let end = ((from + length) * whole as f32).ceil() as usize;
        let end = end.saturating_add(1) & !1;
        (begin, end.clamp(begin + least, whole))
    };
    let (left, right) = side(region.x, region.w, width);
    let (top, bottom) = side(region.y, region.h, height);
    Some(Pixels {
        left,
        top,
        right,
        bottom,
    })
}

impl I420 {
    /// Draws the outline of a region, inwards; nothing else changes.
    pub fn outline(&mut self, region: &Region) {
        let Some(p) = place(region, self.width, self.height) else {
            return;
        };
        let line = line(self.width);
        let (luma, cb, cr) = COLOUR;
        frame(&mut self.luma, self.width, p, line, luma);
        let half = Pixels {
            left: p.left / 2,
            top: p.top / 2,
            right: p.right / 2,
            bottom: p.bottom / 2,
        };
        frame(&mut self.cb, self.width / 2, half, line / 2, cb);
        frame(&mut self.cr, self.width / 2, half, line / 2, cr);
    }
}

fn frame(plane: &mut [u8], stride: usize, p: Pixels, line: usize, value: u8) {
    let rows = plane.chunks_exact_mut(stride.max(1)).enumerate();
    for (y, row) in rows.take(p.bottom).skip(p.top) {
        if y < p.top + line || y + line >= p.bottom {
            row[p.left..p.right].fill(value);
        } else {
            row[p.left..p.left + line].fill(value);
            row[p.right - line..p.right].fill(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grey(width: usize, height: usize) -> I420 {
        I420 {
            width,
            height,
            luma: vec![100; width * height],
            cb: vec![128; width * height / 4],
            cr: vec![128; width * height / 4],
        }
    }

    fn region(x: f32, y: f32, w: f32, h: f32) -> Region {
        Region {
            x,
            y,
            w,
            h,
            ..Region::default()
        }
    }

    /// A plane as lines of text, `#` where it was drawn on.
    fn text(plane: &[u8], width: usize, value: u8) -> Vec<String> {
        let sign = |p: &u8| if *p == value { '#' } else { '.' };
        plane
            .chunks(width)
            .map(|r| r.iter().map(sign).collect())
            .collect()
    }

    #[test]
    fn an_outline_is_drawn_on_all_three_planes() {
        let mut picture = grey(16, 12);
        // 4..12 × 2..10.
        picture.outline(&region(0.25, 0.2, 0.5, 0.6));
        assert_eq!(
            text(&picture.luma, 16, COLOUR.0),
            [
                "................",
                "................",
                "....########....",
                "....########....",
                "....##....##....",
                "....##....##....",
                "....##....##....",
                "....##....##....",
                "....########....",
                "....########....",
                "................",
                "................",
            ]
        );
        let colour = [
            "........", "..####..", "..#..#..", "..#..#..", "..####..", "........",
        ];
        assert_eq!(text(&picture.cb, 8, COLOUR.1), colour);
        assert_eq!(text(&picture.cr, 8, COLOUR.2), colour);
    }

    #[test]
    fn a_box_at_the_edge_stays_inside_and_one_outside_is_not_drawn() {
        let mut picture = grey(16, 12);
        picture.outline(&region(0.9, 0.9, 5.0, 5.0));
        let drawn = text(&picture.luma, 16, COLOUR.0);
        assert_eq!(drawn[7], "................");
        assert_eq!(drawn[8..], ["............####"; 4]);
        for nowhere in [
            region(1.0, 0.0, 0.5, 0.5),
            region(0.0, 2.0, 0.5, 0.5),
            region(-1.0, 0.0, 0.5, 0.5),
            region(f32::NAN, 0.0, 0.5, 0.5),
            region(0.0, 0.0, 0.5, f32::NAN),
        ] {
            let mut picture = grey(16, 12);
            picture.outline(&nowhere);
            assert_eq!(picture, grey(16, 12), "{nowhere:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_box_only_its_lines_change(
            (w, h) in (1..400usize, 1..300usize),
            (x, y, rw, rh) in (-2.0..2.0f32, -2.0..2.0f32, -1.0..3.0f32, -1.0..3.0f32),
        ) {
            let (w, h) = (2 * w, 2 * h);
            let (before, mut after) = (grey(w, h), grey(w, h));
            let r = region(x, y, rw, rh);
            after.outline(&r);
            match place(&r, w, h) {
                None => prop_assert_eq!(&after, &before),
                Some(p) => {
                    prop_assert!(p.left < p.right && p.right <= w && p.top < p.bottom && p.bottom <= h);
                    let t = line(w);
                    let drawn = after.luma.iter().filter(|v| **v == COLOUR.0).count();
                    let (bw, bh) = (p.right - p.left, p.bottom - p.top);
                    prop_assert_eq!(drawn, bw * bh - (bw - 2 * t) * (bh - 2 * t));
                    prop_assert_eq!(after.cb.iter().filter(|v| **v == COLOUR.1).count(), drawn / 4);
                }
            }
        }
    }
}
