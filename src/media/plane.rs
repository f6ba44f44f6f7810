//! Pure helpers of the sampler and of raw sources: how small a picture gets, and the mean of its luma.

/// Size of a picture shrunk to at most `max_width`, aspect kept, both even, never enlarged.
pub(super) fn fit(width: usize, height: usize, max_width: usize) -> (usize, usize) {
    let even = |n: usize| (n & !1).max(2);
    if width <= max_width {
        return (even(width), even(height));
    }
    let w = even(max_width);
    (w, even((height * w + width / 2) / width.max(1)))
}

/// The luma of a picture in its decoder's own format.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plane<'a> {
    /// `stride * (height - 1) + width * step` bytes at least.
    pub bytes: &'a [u8],
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes from row to row.
    pub stride: usize,
    /// Bytes from pixel to pixel: 1, or 2 for 16-bit samples (and packed 8-bit formats).
    pub step: usize,
    /// Bits to leave out at the low end of a sample, padding included: 0 for 8 bit, 2 for `I420_10LE`.
    pub shift: u32,
    /// Byte order of 16-bit samples.
    pub little_endian: bool,
}

/// Shrinks to `width` × `height` by the mean of each cell (of at most 4 of its rows); `None` where the plane is smaller
/// than it says or than the target.
///
/// The mean costs little beside decoding and takes sensor noise out, which single pixels would pass on.
pub(super) fn shrink(plane: &Plane<'_>, width: usize, height: usize) -> Option<Vec<u8>> {
    let row_bytes = plane.width.checked_mul(plane.step)?;
    let needed = plane.stride.checked_mul(plane.height.checked_sub(1)?)? + row_bytes;
    let fits = width > 0 && height > 0 && width <= plane.width && height <= plane.height;
    if !fits || plane.bytes.len() < needed || plane.stride < row_bytes || plane.step == 0 {
        return None;
    }
    let mut out = Vec::with_capacity(width * height);
    let mut sums = vec![0u16; plane.width];
    for y in 0..height {
        let (top, bottom) = (y * plane.height / height, (y + 1) * plane.height / height);
        let every = (bottom - top).div_ceil(4).max(1);
        let mut rows = 0u32;
        sums.fill(0);
        for row in (top..bottom).step_by(every) {
            let row = &plane.bytes[row * plane.stride..][..row_bytes];
            add_row(&mut sums, row, plane);
            rows += 1;
        }
        let mut left = 0;
        for x in 1..=width {
            let right = x * plane.width / width;
            let cell = &sums[left..right];
            let n = cell.len() as u32 * rows;
            let sum: u32 = cell.iter().map(|s| u32::from(*s)).sum();
            out.push(((sum + n / 2) / n).min(255) as u8);
            left = right;
        }
    }
    Some(out)
}

fn add_row(sums: &mut [u16], row: &[u8], plane: &Plane<'_>) {
    if plane.shift == 0 {
        if plane.step == 1 {
            sums.iter_mut()
                .zip(row)
                .for_each(|(s, p)| *s += u16::from(*p));
        } else {
            let pixels = row.iter().step_by(plane.step);
            sums.iter_mut()
                .zip(pixels)
                .for_each(|(s, p)| *s += u16::from(*p));
        }
        return;
    }
    for (s, p) in sums.iter_mut().zip(row.chunks_exact(plane.step)) {
        let two = [p[0], p.get(1).copied().unwrap_or(0)];
        let sample = if plane.little_endian {
            u16::from_le_bytes(two)
        } else {
            u16::from_be_bytes(two)
        };
        *s += (sample >> plane.shift.min(15)) & 0xff;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_even_and_keep_the_aspect() {
        assert_eq!(fit(1920, 1080, 320), (320, 180));
        assert_eq!(fit(640, 480, 320), (320, 240));
        assert_eq!(fit(300, 201, 320), (300, 200));
        assert_eq!(fit(2592, 1944, 321), (320, 240));
        assert_eq!(fit(4096, 2, 320), (320, 2));
    }

    #[test]
    fn cells_are_means_whatever_stride_and_depth() {
        let (w, h) = (12, 6);
        let value = |x: usize, y: usize| (x / 3 * 40 + y / 2 * 20) as u8;
        let mut eight = vec![255u8; 16 * h];
        let mut ten = vec![0xffu8; 32 * h];
        for y in 0..h {
            for x in 0..w {
                eight[y * 16 + x] = value(x, y);
                let sample = (u16::from(value(x, y)) << 2 | 3).to_le_bytes();
                ten[y * 32 + x * 2..][..2].copy_from_slice(&sample);
            }
        }
        let plane = Plane {
            bytes: &eight,
            width: w,
            height: h,
            stride: 16,
            step: 1,
            shift: 0,
            little_endian: true,
        };
        let expected: Vec<u8> = (0..3)
            .flat_map(|y| (0..4).map(move |x| value(x * 3, y * 2)))
            .collect();
        assert_eq!(shrink(&plane, 4, 3).unwrap(), expected);
        let plane = Plane {
            bytes: &ten,
            stride: 32,
            step: 2,
            shift: 2,
            ..plane
        };
        assert_eq!(shrink(&plane, 4, 3).unwrap(), expected);
        assert_eq!(
            shrink(
                &Plane {
                    bytes: &ten[..100],
                    ..plane
                },
                4,
                3
            ),
            None
        );
        assert_eq!(shrink(&plane, 13, 3), None);
    }
}
