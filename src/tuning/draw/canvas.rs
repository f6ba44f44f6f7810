//! An RGB picture to draw on. Whatever lies outside of it is not drawn; nothing panics.

use std::convert::Infallible;

use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Line, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};

/// `height` rows of `width` pixels of three bytes, without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// A place on a canvas, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Left column.
    pub x: i32,
    /// Top row.
    pub y: i32,
    /// Columns.
    pub w: u32,
    /// Rows.
    pub h: u32,
}

impl From<Rect> for Rectangle {
    fn from(r: Rect) -> Rectangle {
        Rectangle::new(Point::new(r.x, r.y), Size::new(r.w, r.h))
    }
}

impl Canvas {
    /// One colour.
    pub fn new(width: usize, height: usize, colour: Rgb888) -> Canvas {
        let pixel = [colour.r(), colour.g(), colour.b()];
        Canvas {
            width,
            height,
            rgb: pixel.repeat(width * height),
        }
    }

    /// A picture; `None` where the bytes are not exactly `3 * width * height`.
    pub fn of_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Option<Canvas> {
        let needed = width.checked_mul(height)?.checked_mul(3)?;
        (rgb.len() == needed).then_some(Canvas { width, height, rgb })
    }

    /// Pixels a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, row by row.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// Half as wide and high, by the mean of four pixels.
    pub fn half(&self) -> Canvas {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut rgb = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                for c in 0..3 {
                    let at = |dx: usize, dy: usize| {
                        u16::from(self.rgb[((2 * y + dy) * self.width + 2 * x + dx) * 3 + c])
                    };
                    let sum = at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1);
                    rgb.push(((sum + 2) / 4) as u8);
                }
            }
        }
        Canvas { width, height, rgb }
    }

    /// Copies `other` here, its top left corner at `x`, `y`.
    pub fn paste(&mut self, other: &Canvas, x: usize, y: usize) {
        let Some(columns) = self.width.checked_sub(x) else {
            return;
        };
        let bytes = columns.min(other.width) * 3;
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let to = ((y + row) * self.width + x) * 3;
            let from = row * other.width * 3;
            self.rgb[to..to + bytes].copy_from_slice(&other.rgb[from..from + bytes]);
        }
    }

    /// The colour of a pixel; `None` outside.
    pub fn pixel(&self, x: usize, y: usize) -> Option<Rgb888> {
        if x >= self.width {
            return None;
        }
        let at = (y.checked_mul(self.width)? + x) * 3;
        let p = self.rgb.get(at..at + 3)?;
        Some(Rgb888::new(p[0], p[1], p[2]))
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, r: Rect, colour: Rgb888) {
        let Ok(()) = self.fill_solid(&r.into(), colour);
    }

    /// Mixes a colour into a rectangle: `share` of 0 leaves it, 255 fills it.
    pub fn tint(&mut self, r: Rect, colour: Rgb888, share: u8) {
        let inside = Rectangle::from(r).intersection(&self.bounding_box());
        for p in inside.points() {
            let at = (p.y as usize * self.width + p.x as usize) * 3;
            for (old, new) in
                self.rgb[at..at + 3]
                    .iter_mut()
                    .zip([colour.r(), colour.g(), colour.b()])
            {
                let (share, old_part) = (u16::from(share), 255 - u16::from(share));
                *old = ((u16::from(*old) * old_part + u16::from(new) * share) / 255) as u8;
            }
        }
    }

    /// Draws the outline of a rectangle, inwards.
    pub fn outline(&mut self, r: Rect, colour: Rgb888, line: u32) {
        let style = embedded_graphics::primitives::PrimitiveStyleBuilder::new()
            .stroke_color(colour)
            .stroke_width(line)
            .stroke_alignment(embedded_graphics::primitives::StrokeAlignment::Inside)
            .build();
        let Ok(()) = Rectangle::from(r).into_styled(style).draw(self);
    }

    /// Draws a line.
    pub fn line(&mut self, from: (i32, i32), to: (i32, i32), colour: Rgb888, line: u32) {
        let style = PrimitiveStyle::with_stroke(colour, line);
        let Ok(()) = Line::new(from.into(), to.into())
            .into_styled(style)
            .draw(self);
    }

    /// Writes a text, its top left corner at `x`, `y`; what the font does not have is a question mark.
    pub fn text(&mut self, text: &str, x: i32, y: i32, font: &MonoFont<'_>, colour: Rgb888) {
        let style = MonoTextStyle::new(font, colour);
        let Ok(_) = Text::with_baseline(text, Point::new(x, y), style, Baseline::Top).draw(self);
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(p, colour) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(p.x), usize::try_from(p.y)) else {
                continue;
            };
            if x < self.width && y < self.height {
                let at = (y * self.width + x) * 3;
                self.rgb[at..at + 3].copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INK: Rgb888 = Rgb888::new(200, 100, 50);

    fn drawn(c: &Canvas) -> usize {
        c.rgb.chunks(3).filter(|p| *p == [200, 100, 50]).count()
    }

    #[test]
    fn half_is_the_mean_and_paste_is_clipped() {
        let mut c = Canvas::new(4, 4, Rgb888::BLACK);
        c.fill(
            Rect {
                x: 0,
                y: 0,
                w: 1,
                h: 2,
            },
            Rgb888::new(200, 100, 50),
        );
        let half = c.half();
        assert_eq!((half.width(), half.height()), (2, 2));
        assert_eq!(half.pixel(0, 0), Some(Rgb888::new(100, 50, 25)));
        assert_eq!(half.pixel(1, 1), Some(Rgb888::BLACK));
        let ink = Canvas::new(3, 3, INK);
        c.paste(&ink, 3, 2);
        assert_eq!(drawn(&c), 2 + 2);
        c.paste(&ink, 9, 0);
        c.paste(&ink, 0, 9);
        assert_eq!(drawn(&c), 4);
        assert_eq!((c.pixel(4, 0), c.pixel(0, 4)), (None, None));
    }

    #[test]
    fn a_tint_mixes() {
        let mut c = Canvas::new(2, 1, Rgb888::new(100, 0, 0));
        c.tint(
            Rect {
                x: 1,
                y: 0,
                w: 5,
                h: 5,
            },
            Rgb888::new(0, 200, 0),
            51,
        );
        assert_eq!(c.pixel(0, 0), Some(Rgb888::new(100, 0, 0)));
        assert_eq!(c.pixel(1, 0), Some(Rgb888::new(80, 40, 0)));
    }

    #[test]
    fn bytes_that_do_not_fit_are_no_picture() {
        assert!(Canvas::of_rgb(2, 2, vec![0; 12]).is_some());
        assert!(Canvas::of_rgb(2, 2, vec![0; 13]).is_none());
        assert!(Canvas::of_rgb(usize::MAX, 2, vec![0; 12]).is_none());
    }

    proptest! {
        #[test]
        fn nothing_is_drawn_outside(x in -200..200i32, y in -200..200i32, w in 0..300u32, h in 0..300u32, t in 1..9u32) {
            let mut c = Canvas::new(40, 30, Rgb888::BLACK);
            let r = Rect { x, y, w, h };
            c.outline(r, INK, t);
            c.tint(r, INK, 90);
            c.line((x, y), (w as i32, h as i32), INK, t);
            c.text("a\u{fffd}ä 12", x, y, &embedded_graphics::mono_font::ascii::FONT_6X10, INK);
            prop_assert_eq!(c.into_rgb().len(), 40 * 30 * 3);
        }
    }
}
