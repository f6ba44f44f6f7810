//! Synthetic scenes for the detector's tests: a textured wall, noise, bodies, light. Deterministic.

use super::{CellDetector, Detector, GrayFrame, Verdict};
use crate::config::{MotionConfig, Zone};
use crate::time::Pts;

/// A rectangle that is drawn over the wall.
#[derive(Debug, Clone, Copy)]
pub struct Body {
    pub x: f32,
    pub y: f32,
    pub w: f32,
    pub h: f32,
    /// Added to the wall's luma.
    pub contrast: f32,
}

/// A camera that looks at a wall.
pub struct Wall {
    pub width: usize,
    pub height: usize,
    /// Standard deviation of the noise, luma.
    pub sigma: f32,
    pub gain: f32,
    /// Added to everything.
    pub offset: f32,
    /// Amplitude and phase of mains flicker as horizontal bands, share of the light.
    pub bands: (f32, f32),
    /// Where the camera points, pixels.
    pub shift: (f32, f32),
    state: u64,
    luma: Vec<u8>,
}

impl Wall {
    pub fn new(width: usize, height: usize, sigma: f32) -> Wall {
        Wall {
            width,
            height,
            sigma,
            gain: 1.0,
            offset: 0.0,
            bands: (0.0, 0.0),
            shift: (0.0, 0.0),
            state: 0x9e37_79b9_7f4a_7c15,
            luma: vec![0; width * height],
        }
    }

    /// The wall itself, at any point: blocks, blended over a pixel at their edges as optics do.
    fn texture(&self, x: f32, y: f32) -> f32 {
        let block = |x: i32, y: i32| {
            50.0 + (x.div_euclid(16) * 37 + y.div_euclid(12) * 53).rem_euclid(110) as f32
        };
        let (fx, fy) = (x - x.floor(), y - y.floor());
        let (x, y) = (x.floor() as i32, y.floor() as i32);
        if fx == 0.0 && fy == 0.0 {
            return block(x, y);
        }
        let row = |y: i32| block(x, y) * (1.0 - fx) + block(x + 1, y) * fx;
        row(y) * (1.0 - fy) + row(y + 1) * fy
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// About normal with standard deviation 1: the sum of four uniform bytes.
    fn normal(&mut self) -> f32 {
        let r = self.random();
        let sum: u64 = (0..4).map(|i| r >> (i * 8) & 0xff).sum();
        (sum as f32 - 510.0) / 147.8
    }

    pub fn frame(&mut self, bodies: &[Body], pts: Pts) -> GrayFrame<'_> {
        for y in 0..self.height {
            let band = (y as f32 / self.height as f32 * 9.0 + self.bands.1).sin();
            let light = self.gain * (1.0 + self.bands.0 * band);
            for x in 0..self.width {
                let mut v = self.texture(x as f32 + self.shift.0, y as f32 + self.shift.1);
                for b in bodies {
                    let (dx, dy) = (x as f32 + self.shift.0 - b.x, y as f32 + self.shift.1 - b.y);
                    if dx >= 0.0 && dx < b.w && dy >= 0.0 && dy < b.h {
                        v += b.contrast;
                    }
                }
                let noise = self.sigma * self.normal();
                self.luma[y * self.width + x] =
                    (v * light + self.offset + noise).clamp(0.0, 255.0) as u8;
            }
        }
        GrayFrame {
            luma: &self.luma,
            width: self.width,
            height: self.height,
            stride: self.width,
            pts,
        }
    }
}

pub fn config(sensitivity: u8) -> MotionConfig {
    MotionConfig {
        enabled: true,
        sensitivity,
        fps: 5.0,
        decode: crate::config::Decode::default(),
        pictures: true,
        severity: crate::model::Severity::Warning,
        include: Vec::new(),
        exclude: Vec::new(),
    }
}

pub fn rectangle(name: &str, (x0, y0): (f32, f32), (x1, y1): (f32, f32)) -> Zone {
    Zone {
        name: name.into(),
        points: vec![(x0, y0), (x1, y0), (x1, y1), (x0, y1)],
        sensitivity: None,
    }
}

pub fn pts(seconds: f32) -> Pts {
    Pts((seconds * 1e9) as u64)
}

/// Five frames a second for `seconds`; `scene` sets the light and names the bodies at a time.
pub fn play(
    config: &MotionConfig,
    wall: &mut Wall,
    seconds: f32,
    mut scene: impl FnMut(&mut Wall, f32) -> Vec<Body>,
) -> Vec<(f32, Verdict)> {
    let mut detector = CellDetector::new(config);
    (0..(seconds * 5.0) as usize)
        .map(|i| {
            let t = i as f32 / 5.0;
            let bodies = scene(wall, t);
            (t, detector.observe(&wall.frame(&bodies, pts(t))))
        })
        .collect()
}

/// Times at which motion is reported.
pub fn moving(verdicts: &[(f32, Verdict)]) -> Vec<f32> {
    verdicts
        .iter()
        .filter(|(_, v)| matches!(v, Verdict::Motion(_)))
        .map(|(t, _)| *t)
        .collect()
}

/// Rounds of what hunts for faults; `MOTION_ROUNDS` makes it a longer hunt (`make fuzz-motion`).
pub fn rounds() -> u32 {
    let asked = std::env::var("MOTION_ROUNDS").ok();
    asked.and_then(|r| r.parse().ok()).unwrap_or(24)
}
