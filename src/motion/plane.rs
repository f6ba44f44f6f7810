//! Padded 8-bit pictures, and the one that everything compares: the frame, laid over the model.
//!
//! Rows are padded on both sides so that neighbourhoods need no special case and whole rows vectorise.

use super::GrayFrame;
use super::align::Alignment;

/// Bytes left and right of a row.
pub const PAD: usize = 16;

/// A picture of bytes.
#[derive(Debug, Clone)]
pub struct Plane {
    width: usize,
    height: usize,
    stride: usize,
    data: Vec<u8>,
}

impl Plane {
    /// Filled with `value`.
    pub fn new(width: usize, height: usize, value: u8) -> Plane {
        let stride = (width + 2 * PAD).next_multiple_of(16);
        Plane {
            width,
            height,
            stride,
            data: vec![value; stride * height],
        }
    }

    /// Width and height without padding.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Bytes from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// A whole row with its padding.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.stride..][..self.stride]
    }

    /// A whole row with its padding.
    pub fn row_mut(&mut self, y: usize) -> &mut [u8] {
        &mut self.data[y * self.stride..][..self.stride]
    }

    /// The pixels of a row.
    pub fn line(&self, y: usize) -> &[u8] {
        &self.data[y * self.stride + PAD..][..self.width]
    }

    /// The pixels of a row.
    pub fn line_mut(&mut self, y: usize) -> &mut [u8] {
        &mut self.data[y * self.stride + PAD..][..self.width]
    }

    /// Sets everything.
    pub fn fill(&mut self, value: u8) {
        self.data.fill(value);
    }
}

/// Weights of four neighbours: a binomial of three, moved on by `quarters` of a pixel; their sum is 16.
fn weights(quarters: u16) -> [u16; 4] {
    let (near, far) = (4 - quarters, quarters);
    [near, 2 * near + far, near + 2 * far, far]
}

/// Whole pixels and quarters of a shift.
fn split(shift: f32) -> (isize, u16) {
    let quarters = (shift * 4.0).round() as isize;
    (quarters.div_euclid(4), quarters.rem_euclid(4) as u16)
}

/// Lays frames over the model: smooths by 3×3, moves by the shift, divides by the gain.
#[derive(Debug, Clone)]
pub struct Layer {
    line: Vec<u16>,
}

impl Layer {
    /// For planes of this width.
    pub fn new(width: usize) -> Layer {
        Layer {
            line: vec![0; (width + 2 * PAD).next_multiple_of(16)],
        }
    }

    /// Fills `out`, padding included.
    pub fn lay(&mut self, frame: &GrayFrame<'_>, by: Alignment, out: &mut Plane) {
        let (w, h) = out.size();
        let ((dx, fx), (dy, fy)) = (split(by.shift.0), split(by.shift.1));
        let (wx, wy) = (weights(fx), weights(fy));
        let gain = (4096.0 / by.gain.clamp(0.1, 15.0)).round() as u16;
        for y in 0..h {
            let source = |k: isize| {
                let y = (y as isize + dy + k).clamp(0, h as isize - 1) as usize;
                &frame.luma[y * frame.stride..][..w]
            };
            blend_rows(
                [source(-1), source(0), source(1), source(2)],
                wy,
                &mut self.line[PAD..PAD + w],
            );
            let (first, last) = (self.line[PAD], self.line[PAD + w - 1]);
            self.line[..PAD].fill(first);
            self.line[PAD + w..].fill(last);
            let from = (PAD as isize - 1 + dx) as usize;
            let line = &self.line;
            let row = out.row_mut(y);
            blend_columns(
                [0, 1, 2, 3].map(|k| &line[from + k..]),
                wx,
                gain,
                &mut row[PAD..PAD + w],
                w,
            );
            let (first, last) = (row[PAD], row[PAD + w - 1]);
            row[..PAD].fill(first);
            row[PAD + w..].fill(last);
        }
    }
}

fn blend_rows([a, b, c, d]: [&[u8]; 4], w: [u16; 4], out: &mut [u16]) {
    let n = out.len();
    let (a, b, c, d) = (&a[..n], &b[..n], &c[..n], &d[..n]);
    for i in 0..n {
        out[i] = u16::from(a[i]) * w[0]
            + u16::from(b[i]) * w[1]
            + u16::from(c[i]) * w[2]
            + u16::from(d[i]) * w[3];
    }
}

/// `gain` is 4096 for a picture that stays as it is.
fn blend_columns([a, b, c, d]: [&[u16]; 4], w: [u16; 4], gain: u16, out: &mut [u8], n: usize) {
    // The last neighbour has no weight where it might be outside.
    let d = if d.len() >= n { d } else { c };
    let (a, b, c, d, out) = (&a[..n], &b[..n], &c[..n], &d[..n], &mut out[..n]);
    for i in 0..n {
        let sum = a[i] * w[0] + b[i] * w[1] + c[i] * w[2] + d[i] * w[3];
        let scaled = (u32::from(sum) * u32::from(gain) + (1 << 19)) >> 20;
        out[i] = scaled.min(255) as u8;
    }
}
