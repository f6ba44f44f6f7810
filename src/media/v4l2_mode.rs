//! Which mode to open a V4L2 camera in. Pure.
//!
//! **The rule** ([`choose`]). The target is what the configuration says, else 1280×720 at 15 a second. A size
//! that is configured is taken exactly or refused. Formats are tried in this order, and the first with an acceptable
//! mode wins:
//!
//! 1. H.264: the camera pays.
//! 2. NV12, then YUYV: we encode, and detection gets its pictures without a decoder.
//! 3. MJPEG: we decode and encode, the dearest way.
//!
//! 2 and 3 need an encoder that works. Of a format's modes the one nearest to the target in pixels is taken. It is
//! acceptable where it has a quarter of the target's pixels and 10 frames a second (or the target's, if lower); where
//! no format is acceptable, the mode nearest to the target wins.

use super::v4l2::Mode;
use crate::config::V4l2Format;

/// What is asked for where the configuration is silent.
pub const DEFAULT_SIZE: (u32, u32) = (1280, 720);
/// Frames a second where the configuration is silent.
pub const DEFAULT_FPS: u32 = 15;
const LEAST_FPS: u32 = 10;

/// What is asked of a camera.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// Only this format.
    pub format: Option<V4l2Format>,
    /// Exactly this width.
    pub width: Option<u32>,
    /// Exactly this height.
    pub height: Option<u32>,
    /// This many frames a second, else the next higher that is offered, else the highest.
    pub fps: Option<u32>,
}

/// The mode to open a camera in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Format.
    pub format: V4l2Format,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames a second.
    pub fps: u32,
}

/// Chooses a mode by the rule in the module's documentation.
///
/// # Errors
/// A sentence that says what the camera offers instead.
pub fn choose(modes: &[Mode], wish: Wish, encoder: bool) -> Result<Choice, String> {
    let target = (
        wish.width.unwrap_or(DEFAULT_SIZE.0),
        wish.height.unwrap_or(DEFAULT_SIZE.1),
    );
    let target_fps = wish.fps.unwrap_or(DEFAULT_FPS).max(1);
    let order = [
        V4l2Format::H264,
        V4l2Format::Nv12,
        V4l2Format::Yuyv,
        V4l2Format::Mjpeg,
    ];
    let fits = |m: &&Mode| {
        wish.format.is_none_or(|f| f == m.format)
            && wish.width.is_none_or(|w| w == m.width)
            && wish.height.is_none_or(|h| h == m.height)
            && (encoder || m.format == V4l2Format::H264)
    };
    let pixels = |w: u32, h: u32| u64::from(w) * u64::from(h);
    let want = pixels(target.0, target.1);
    let distance = |m: &Mode| pixels(m.width, m.height).abs_diff(want);
    let candidates: Vec<Choice> = order
        .iter()
        .filter_map(|f| {
            modes
                .iter()
                .filter(|m| m.format == *f)
                .filter(fits)
                .min_by_key(|m| (distance(m), u32::MAX - rate(m, target_fps)))
        })
        .map(|m| Choice {
            format: m.format,
            width: m.width,
            height: m.height,
            fps: rate(m, target_fps),
        })
        .collect();
    let acceptable =
        |c: &&Choice| pixels(c.width, c.height) * 4 >= want && c.fps >= target_fps.min(LEAST_FPS);
    candidates
        .iter()
        .find(acceptable)
        .or_else(|| {
            candidates
                .iter()
                .min_by_key(|c| pixels(c.width, c.height).abs_diff(want))
        })
        .copied()
        .ok_or_else(|| refusal(modes, encoder))
}

/// The rate to ask for: the lowest that is offered at or above the target, else the highest.
fn rate(m: &Mode, target: u32) -> u32 {
    let at_least = m.fps.iter().filter(|f| **f >= target).min();
    at_least.or(m.fps.iter().max()).copied().unwrap_or(target)
}

fn refusal(modes: &[Mode], encoder: bool) -> String {
    if modes.is_empty() {
        return "the camera offers none of h264, nv12, yuyv, mjpeg".into();
    }
    let mut offers: Vec<_> = modes
        .iter()
        .map(|m| format!("{} {}x{}", m.format, m.width, m.height))
        .collect();
    offers.dedup();
    offers.truncate(12);
    let hint = if encoder {
        ""
    } else {
        " and no h.264 encoder works here"
    };
    format!("the camera offers {}{hint}", offers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(format: V4l2Format, width: u32, height: u32, fps: &[u32]) -> Mode {
        Mode {
            format,
            width,
            height,
            fps: fps.to_vec(),
        }
    }

    fn usb_camera() -> Vec<Mode> {
        use V4l2Format::{Mjpeg, Yuyv};
        vec![
            mode(Mjpeg, 1920, 1080, &[30]),
            mode(Mjpeg, 1280, 720, &[30, 15]),
            mode(Mjpeg, 640, 480, &[30]),
            mode(Yuyv, 1920, 1080, &[5]),
            mode(Yuyv, 1280, 720, &[10, 5]),
            mode(Yuyv, 640, 480, &[30, 15]),
        ]
    }

    #[test]
    fn raw_wins_over_mjpeg_where_it_is_fast_enough() {
        let c = choose(&usb_camera(), Wish::default(), true).unwrap();
        assert_eq!((c.format, c.width, c.fps), (V4l2Format::Yuyv, 1280, 10));
        let wish = Wish {
            width: Some(1920),
            height: Some(1080),
            ..Wish::default()
        };
        let c = choose(&usb_camera(), wish, true).unwrap();
        assert_eq!((c.format, c.width, c.fps), (V4l2Format::Mjpeg, 1920, 30));
    }

    #[test]
    fn the_cameras_own_h264_wins_and_needs_no_encoder() {
        let mut modes = usb_camera();
        modes.push(mode(V4l2Format::H264, 1920, 1080, &[30]));
        for encoder in [true, false] {
            let c = choose(&modes, Wish::default(), encoder).unwrap();
            assert_eq!((c.format, c.width), (V4l2Format::H264, 1920));
        }
        assert!(choose(&usb_camera(), Wish::default(), false).is_err());
    }

    #[test]
    fn a_configured_size_is_exact_or_refused_with_the_offers() {
        let wish = Wish {
            width: Some(800),
            ..Wish::default()
        };
        let e = choose(&usb_camera(), wish, true).unwrap_err();
        assert!(e.contains("mjpeg 1920x1080"), "{e}");
        let wish = Wish {
            format: Some(V4l2Format::Mjpeg),
            fps: Some(20),
            ..Wish::default()
        };
        let c = choose(&usb_camera(), wish, true).unwrap();
        assert_eq!((c.format, c.width, c.fps), (V4l2Format::Mjpeg, 1280, 30));
    }

    #[test]
    fn a_slow_camera_is_better_than_none() {
        let modes = [mode(V4l2Format::Yuyv, 160, 120, &[5])];
        let c = choose(&modes, Wish::default(), true).unwrap();
        assert_eq!((c.width, c.fps), (160, 5));
    }
}
