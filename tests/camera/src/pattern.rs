//! The pictures of the pattern camera: a static background, a box that moves at known times, and a frame counter that
//! survives an encoder. Pure.
//!
//! **Frame numbers are time.** Frame *n* is captured *n* / fps seconds after the camera started, on every mount and
//! across reconnections. With the scene `quiet=Q,motion=M` the box is in frame *n* exactly when
//! *n* mod ((Q + M) · fps) ≥ Q · fps ([`Scene::moving`]); it crosses the picture from left to right in M seconds.

use std::str::FromStr;

/// Blocks of the counter.
const BLOCKS: usize = 24;
/// Bits of the number; the other blocks are its check sum.
const BITS: usize = 20;
/// Side of a block in pixels of the original picture.
const SIDE: usize = 16;

/// When something moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scene {
    /// Seconds without motion.
    pub quiet: u32,
    /// Seconds with a moving box; follows `quiet`, then all repeats.
    pub motion: u32,
}

impl Default for Scene {
    /// Always something moves.
    fn default() -> Self {
        Scene {
            quiet: 0,
            motion: 10,
        }
    }
}

impl FromStr for Scene {
    type Err = String;

    /// Reads `quiet=8,motion=4`.
    fn from_str(s: &str) -> Result<Self, String> {
        let mut scene = Scene {
            quiet: 0,
            motion: 0,
        };
        for part in s.split(',') {
            match part.split_once('=').map(|(k, v)| (k, v.parse())) {
                Some(("quiet", Ok(v))) => scene.quiet = v,
                Some(("motion", Ok(v))) => scene.motion = v,
                _ => {
                    return Err(format!(
                        "expected quiet=SECONDS,motion=SECONDS, found {s:?}"
                    ));
                }
            }
        }
        if scene.quiet + scene.motion == 0 {
            return Err("a scene lasts a second at least".into());
        }
        Ok(scene)
    }
}

impl Scene {
    /// True where the box is in frame `n`.
    pub fn moving(self, n: u32, fps: u32) -> bool {
        self.phase(n, fps).is_some()
    }

    /// How far the motion is, 0..1, where something moves.
    fn phase(self, n: u32, fps: u32) -> Option<f32> {
        let at = n % ((self.quiet + self.motion) * fps).max(1);
        let moving = at.checked_sub(self.quiet * fps)?;
        Some(moving as f32 / (self.motion * fps).max(1) as f32)
    }
}

/// Paints frame `n` into a luma plane (`height` rows of `stride` bytes).
pub fn paint(
    luma: &mut [u8],
    width: usize,
    height: usize,
    stride: usize,
    scene: Scene,
    n: u32,
    fps: u32,
) {
    for (y, row) in luma.chunks_mut(stride).take(height).enumerate() {
        for (x, p) in row.iter_mut().take(width).enumerate() {
            // A gradient with a coarse texture, the same in every frame.
            let texture = ((x / 8) * 7 + (y / 8) * 13) % 32;
            *p = (60 + (x * 40) / width.max(1) + texture) as u8;
        }
    }
    let Some(phase) = scene.phase(n, fps) else {
        return;
    };
    let (bw, bh) = (width / 6, height / 3);
    let left = (phase * (width - bw) as f32) as usize;
    let top = height / 2 - bh / 3;
    for row in luma.chunks_mut(stride).skip(top).take(bh) {
        row[left..left + bw].fill(220);
    }
}

/// Block `i` of a picture of this width: column and row. Pictures too narrow for one row of 24 have two of 12.
fn place(i: usize, width: usize) -> (usize, usize) {
    let per_row = if width >= BLOCKS * SIDE {
        BLOCKS
    } else {
        BLOCKS / 2
    };
    (i % per_row, i / per_row)
}

fn check_sum(n: u32) -> u32 {
    (0..BITS / 4).fold(5, |sum, i| sum + ((n >> (4 * i)) & 15) * (2 * i as u32 + 1)) & 15
}

/// Burns `n` (modulo 2^20) into the top left corner as 24 blocks of 16 px, black 0 and white 1, least significant bit
/// first: 20 bits of the number, 4 of a check sum. The picture must be 192 px wide and 32 px high at least.
pub fn draw_counter(luma: &mut [u8], width: usize, stride: usize, n: u32) {
    let n = n & ((1 << BITS) - 1);
    let word = n | check_sum(n) << BITS;
    for i in 0..BLOCKS {
        let (bx, by) = place(i, width);
        let value = if word >> i & 1 == 1 { 235 } else { 16 };
        for row in luma.chunks_mut(stride).skip(by * SIDE).take(SIDE) {
            row[bx * SIDE..(bx + 1) * SIDE].fill(value);
        }
    }
}

/// Reads the counter of a picture in its original size; `None` where there is none or it is illegible.
pub fn read_counter(luma: &[u8], width: usize, stride: usize) -> Option<u32> {
    read_counter_scaled(luma, width, stride, width)
}

/// Reads the counter of a picture that was `original_width` wide and is `width` wide now (to about a fifth).
pub fn read_counter_scaled(
    luma: &[u8],
    width: usize,
    stride: usize,
    original_width: usize,
) -> Option<u32> {
    let scale = width as f32 / original_width.max(1) as f32;
    let mut word = 0u32;
    for i in 0..BLOCKS {
        let (bx, by) = place(i, original_width);
        let at = |b: usize| (b as f32 + 0.5) * SIDE as f32 * scale;
        let reach = ((SIDE as f32 * scale) / 5.0) as usize;
        let (cx, cy) = (at(bx) as usize, at(by) as usize);
        let (mut sum, mut count) = (0u32, 0u32);
        for y in cy.saturating_sub(reach)..=cy + reach {
            for x in cx.saturating_sub(reach)..=cx + reach {
                sum += u32::from(*luma.get(y * stride + x)?);
                count += 1;
            }
        }
        if sum / count > 125 {
            word |= 1 << i;
        }
    }
    let n = word & ((1 << BITS) - 1);
    (word >> BITS == check_sum(n)).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_reads_back_in_any_width() {
        for width in [192usize, 320, 640] {
            let mut luma = vec![90u8; width * 64];
            assert_eq!(read_counter(&luma, width, width), None);
            for n in [0, 1, 77, 4095, 65_536, (1 << 20) - 1] {
                draw_counter(&mut luma, width, width, n);
                assert_eq!(read_counter(&luma, width, width), Some(n));
            }
        }
    }

    #[test]
    fn the_scene_says_when_the_box_moves() {
        let scene: Scene = "quiet=8,motion=4".parse().unwrap();
        let moving: Vec<u32> = (0..24 * 10).filter(|n| scene.moving(*n, 10)).collect();
        assert_eq!(moving.first(), Some(&80));
        assert_eq!(moving.len(), 80);
        assert!(!scene.moving(120, 10) && scene.moving(200, 10));
        assert!("quiet".parse::<Scene>().is_err());
    }
}
