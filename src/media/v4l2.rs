//! V4L2 cameras: which there are, what they offer, and which mode to take.
//!
//! **The rule** ([`choose`], pure). The target is what the configuration says, else 1280×720 at 15 a second. A size
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

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use v4l::capability::Flags;
use v4l::video::Capture;
use v4l::{FourCC, frameinterval::FrameIntervalEnum, framesize::FrameSizeEnum};

use crate::config::V4l2Format;

/// What is asked for where the configuration is silent.
pub const DEFAULT_SIZE: (u32, u32) = (1280, 720);
/// Frames a second where the configuration is silent.
pub const DEFAULT_FPS: u32 = 15;
const LEAST_FPS: u32 = 10;

/// Sizes that are tried on drivers that allow any size.
const USUAL_SIZES: [(u32, u32); 6] = [
    (320, 240),
    (640, 480),
    (800, 600),
    (1280, 720),
    (1640, 1232),
    (1920, 1080),
];

/// A capture device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct V4l2Camera {
    /// What to write into the configuration: it survives a replug where udev has a link.
    pub stable_path: PathBuf,
    /// `/dev/videoN`.
    pub device: PathBuf,
    /// The name that the driver gives.
    pub card: String,
    /// The driver.
    pub driver: String,
    /// What it offers in the formats that are understood.
    pub modes: Vec<Mode>,
}

/// One format at one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mode {
    /// Format.
    #[serde(serialize_with = "format_name")]
    pub format: V4l2Format,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames a second that can be asked for, rounded, highest first; empty where the driver does not say.
    pub fps: Vec<u32>,
}

/// What is asked of a camera.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// Only this format.
    pub format: Option<V4l2Format>,
    /// Exactly this width.
    pub width: Option<u32>,
    /// Exactly this height.
    pub height: Option<u32>,
    /// At most this many frames a second.
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

fn format_name<S: serde::Serializer>(f: &V4l2Format, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(f)
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

/// All capture devices with what they offer, in the order of their numbers. Blocks for milliseconds a device; devices
/// that do not answer or capture nothing are left out.
pub fn enumerate() -> Vec<V4l2Camera> {
    let mut nodes = v4l::context::enum_devices();
    nodes.sort_by_key(v4l::context::Node::index);
    nodes.iter().filter_map(|n| open(n.path())).collect()
}

fn open(path: &Path) -> Option<V4l2Camera> {
    let device = v4l::Device::with_path(path).ok()?;
    let caps = device.query_caps().ok()?;
    if !caps.capabilities.contains(Flags::VIDEO_CAPTURE) {
        return None;
    }
    let modes = read_modes(&device);
    Some(V4l2Camera {
        stable_path: stable_path(Path::new("/dev/v4l"), path),
        device: path.to_owned(),
        card: caps.card,
        driver: caps.driver,
        modes,
    })
}

/// What the device at `path` offers.
///
/// # Errors
/// The operating system's, with its text.
pub fn modes(path: &Path) -> std::io::Result<Vec<Mode>> {
    v4l::Device::with_path(path).map(|d| read_modes(&d))
}

fn read_modes(device: &v4l::Device) -> Vec<Mode> {
    let mut modes = Vec::new();
    for f in device.enum_formats().unwrap_or_default() {
        let Some(format) = format_of(f.fourcc) else {
            continue;
        };
        for size in device.enum_framesizes(f.fourcc).unwrap_or_default() {
            let sizes: Vec<(u32, u32)> = match size.size {
                FrameSizeEnum::Discrete(d) => vec![(d.width, d.height)],
                FrameSizeEnum::Stepwise(s) => USUAL_SIZES
                    .into_iter()
                    .filter(|(w, h)| {
                        (s.min_width..=s.max_width).contains(w)
                            && (s.min_height..=s.max_height).contains(h)
                    })
                    .collect(),
            };
            for (width, height) in sizes {
                modes.push(Mode {
                    format,
                    width,
                    height,
                    fps: rates(device, f.fourcc, width, height),
                });
            }
        }
    }
    modes
}

fn rates(device: &v4l::Device, fourcc: FourCC, width: u32, height: u32) -> Vec<u32> {
    let per_second = |f: &v4l::Fraction| (f.numerator > 0).then(|| f.denominator / f.numerator);
    let mut fps: Vec<u32> = device
        .enum_frameintervals(fourcc, width, height)
        .unwrap_or_default()
        .iter()
        .filter_map(|i| match &i.interval {
            FrameIntervalEnum::Discrete(f) => per_second(f),
            // The shortest interval is the highest rate; anything below can be had too.
            FrameIntervalEnum::Stepwise(s) => per_second(&s.min).map(|top| top.min(DEFAULT_FPS)),
        })
        .filter(|f| *f > 0)
        .collect();
    fps.sort_unstable_by(|a, b| b.cmp(a));
    fps.dedup();
    fps
}

fn format_of(fourcc: FourCC) -> Option<V4l2Format> {
    match &fourcc.repr {
        b"H264" => Some(V4l2Format::H264),
        b"NV12" => Some(V4l2Format::Nv12),
        b"YUYV" => Some(V4l2Format::Yuyv),
        b"MJPG" | b"JPEG" => Some(V4l2Format::Mjpeg),
        _ => None,
    }
}

/// The link below `root` (`by-id` before `by-path`) that points to `device`, else the device itself.
fn stable_path(root: &Path, device: &Path) -> PathBuf {
    let real = fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    for dir in ["by-id", "by-path"] {
        let mut links: Vec<_> = fs::read_dir(root.join(dir))
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok().map(|e| e.path()))
            .filter(|l| fs::canonicalize(l).is_ok_and(|t| t == real))
            .collect();
        links.sort();
        if let Some(link) = links.into_iter().next() {
            return link;
        }
    }
    device.to_owned()
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

    #[test]
    fn by_id_survives_a_replug_and_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("video3");
        fs::write(&node, "").unwrap();
        assert_eq!(stable_path(dir.path(), &node), node);
        for d in ["by-path", "by-id"] {
            fs::create_dir(dir.path().join(d)).unwrap();
            let link = dir.path().join(d).join("usb-cam-index0");
            std::os::unix::fs::symlink(&node, &link).unwrap();
            assert_eq!(stable_path(dir.path(), &node), link);
        }
    }
}
