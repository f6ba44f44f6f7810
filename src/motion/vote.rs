//! The neighbourhood's vote: a pixel moves where its surroundings of 5×5 differ, not because it differs alone.

use super::plane::Plane;

/// Votes of a 5×5 neighbourhood (0..=100) that make a pixel move, where it is joined to a [`SEED`].
pub const WEAK: u8 = 40;
/// Votes that show movement for sure.
pub const SEED: u8 = 60;

/// Differing pixels of a 9×9 neighbourhood (0..=81) that make a faint thing move; see [`NEAR`].
pub const WIDE: u8 = 24;
/// The same, for sure.
pub const WIDE_SEED: u8 = 32;
/// What a faint thing's pixel needs of its own 5×5 votes, so that it does not grow.
pub const NEAR: u8 = 8;

/// Bits of a label: differs at all; differs in its near surroundings; differs for sure.
pub const ANY: u8 = 1;
/// See [`ANY`].
pub const CLEAR: u8 = 2;
/// See [`ANY`].
pub const SURE: u8 = 4;

/// Labels pixels; owns the buffers.
#[derive(Debug, Clone, Default)]
pub struct Ballot {
    near: Vec<u8>,
    wide: Vec<u8>,
    threes: Vec<u8>,
}

impl Ballot {
    /// Labels every pixel with [`ANY`], [`CLEAR`] and [`SURE`]; 0 is background.
    pub fn label(&mut self, votes: &Plane, labels: &mut Plane) {
        let n = votes.stride();
        for sums in [&mut self.near, &mut self.wide, &mut self.threes] {
            sums.resize(n, 0);
        }
        let last = votes.size().1 as isize - 1;
        let row = |y: isize| votes.row(y.clamp(0, last) as usize);
        self.near.fill(0);
        self.wide.fill(0);
        // Columns of the row above the first; each row then brings one line and leaves one behind.
        for k in -3..=1 {
            slide(&mut self.near, row(k), None, u8::MAX);
        }
        for k in -5..=3 {
            slide(&mut self.wide, row(k), None, 1);
        }
        for y in 0..=last {
            slide(&mut self.near, row(y + 2), Some(row(y - 3)), u8::MAX);
            slide(&mut self.wide, row(y + 4), Some(row(y - 5)), 1);
            threes(&self.wide, &mut self.threes);
            rows(&self.near, &self.threes, labels.row_mut(y as usize));
        }
    }
}

/// Adds a line to the column sums and takes another away; each value counts for at most `most`.
fn slide(sums: &mut [u8], comes: &[u8], goes: Option<&[u8]>, most: u8) {
    let n = sums.len();
    let comes = &comes[..n];
    match goes {
        Some(goes) => {
            let goes = &goes[..n];
            for i in 0..n {
                sums[i] = sums[i] + comes[i].min(most) - goes[i].min(most);
            }
        }
        None => {
            for i in 0..n {
                sums[i] += comes[i].min(most);
            }
        }
    }
}

fn threes(s: &[u8], out: &mut [u8]) {
    let n = out.len() - 2;
    let (a, b, c) = (&s[..n], &s[1..][..n], &s[2..][..n]);
    for i in 0..n {
        out[i] = a[i] + b[i] + c[i];
    }
}

fn rows(s: &[u8], t: &[u8], out: &mut [u8]) {
    let n = out.len() - 8;
    let (a, b, c, d, e) = (
        &s[2..][..n],
        &s[3..][..n],
        &s[4..][..n],
        &s[5..][..n],
        &s[6..][..n],
    );
    let (p, q, r) = (&t[..n], &t[3..][..n], &t[6..][..n]);
    let out = &mut out[4..][..n];
    for i in 0..n {
        let sum = a[i] + b[i] + c[i] + d[i] + e[i];
        let wide = p[i] + q[i] + r[i];
        let near = u8::from(sum > WEAK);
        let own = u8::from(sum > NEAR);
        let any = near | (u8::from(wide > WIDE) & own);
        let sure = u8::from(sum > SEED) | (u8::from(wide > WIDE_SEED) & own);
        out[i] = any * ANY + near * CLEAR + (any & sure) * SURE;
    }
}
