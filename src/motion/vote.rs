//! The neighbourhood's vote: a pixel moves where its surroundings of 5×5 differ, not because it differs alone.

use super::plane::Plane;

/// Votes of a 5×5 neighbourhood (0..=100) that make a pixel move, where it is joined to a [`SEED`].
pub const WEAK: u8 = 40;
/// Votes that show movement for sure.
pub const SEED: u8 = 60;

/// Labels every pixel: 0 background, 1 weak, 2 sure. `sums` is scratch.
pub fn label(votes: &Plane, weak: u8, seed: u8, labels: &mut Plane, sums: &mut Vec<u8>) {
    let (_, h) = votes.size();
    let n = votes.stride();
    sums.clear();
    sums.resize(n, 0);
    for y in 0..h {
        let row = |k: isize| votes.row((y as isize + k).clamp(0, h as isize - 1) as usize);
        columns([row(-2), row(-1), row(0), row(1), row(2)], sums);
        rows(sums, weak, seed, labels.row_mut(y));
    }
}

fn columns([a, b, c, d, e]: [&[u8]; 5], sums: &mut [u8]) {
    let n = sums.len();
    let (a, b, c, d, e) = (&a[..n], &b[..n], &c[..n], &d[..n], &e[..n]);
    for i in 0..n {
        sums[i] = a[i] + b[i] + c[i] + d[i] + e[i];
    }
}

fn rows(s: &[u8], weak: u8, seed: u8, out: &mut [u8]) {
    let n = out.len() - 4;
    let (a, b, c, d, e) = (&s[..n], &s[1..][..n], &s[2..][..n], &s[3..][..n], &s[4..][..n]);
    let out = &mut out[2..][..n];
    for i in 0..n {
        let sum = a[i] + b[i] + c[i] + d[i] + e[i];
        out[i] = u8::from(sum > weak) + u8::from(sum > seed);
    }
}
