//! What sensitivity 1–10 means: the smallest object that is reported, as a share of the picture.
//!
//! Guarantees that a higher sensitivity never asks for a larger object. Nothing else in the detector depends on the
//! sensitivity: background, noise and tracks are learned alike, so what is reported at 4 is reported at 5 as well.

/// Smallest object as a share of the picture, for sensitivity 1 to 10.
///
/// 1 ≈ 2 %, 5 ≈ 0.1 %, 10 ≈ 0.03 %, geometric between these points.
const SMALLEST: [f32; 10] = [
    0.020, 0.009_46, 0.004_47, 0.002_11, 0.001, 0.000_786, 0.000_618, 0.000_486, 0.000_382, 0.000_3,
];

/// Share of an object's true area that the blob's mass reaches at worst: edges fall between cells, parts have the
/// background's brightness.
const YIELD: f32 = 0.55;

/// Smallest object as a share of the picture (0..1); values outside 1–10 are clamped.
pub fn smallest_object(sensitivity: u8) -> f32 {
    SMALLEST[usize::from(sensitivity.clamp(1, 10)) - 1]
}

/// Smallest blob mass in pixels that is reported for a picture of `pixels` pixels.
pub fn smallest_mass(sensitivity: u8, pixels: usize) -> f32 {
    smallest_object(sensitivity) * pixels as f32 * YIELD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_sensitivity_asks_for_a_smaller_object() {
        for s in 1..10 {
            assert!(smallest_object(s) > smallest_object(s + 1), "{s}");
        }
        assert_eq!(smallest_object(0), smallest_object(1));
        assert_eq!(smallest_object(200), smallest_object(10));
    }
}
