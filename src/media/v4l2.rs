//! V4L2 cameras: which there are and what they offer. Which mode to take is [`super::v4l2_mode`]'s.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use v4l::capability::Flags;
use v4l::video::Capture;
use v4l::{FourCC, frameinterval::FrameIntervalEnum, framesize::FrameSizeEnum};

use super::v4l2_mode::DEFAULT_FPS;
use crate::config::V4l2Format;

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

fn format_name<S: serde::Serializer>(f: &V4l2Format, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(f)
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
