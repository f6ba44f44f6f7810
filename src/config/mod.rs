//! Configuration: the text of the TOML file in, a checked [`Config`] out, or every fault at once.
//!
//! [`Config::parse`] names each fault with key, value and range; an unknown key is one. The shipped
//! `config/sentrycam.toml` equals the defaults; a test proves it. Pure: reading files is the caller's.

mod board;
mod mqtt;
pub(crate) mod parse;
mod retention;
mod source;
pub mod summary;
pub(crate) mod table;
pub(crate) mod upload;

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

pub use upload::{Hours, UploadConfig, UploadPolicy};

use crate::model::{CameraId, Network, RecordMode, Secret, Severity};
use crate::units::ByteSize;

/// One fault of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Full name, e.g. `camera[0].motion.sensitivity`.
    pub key: String,
    /// What stands there; empty where nothing does, or where it may be a secret.
    pub value: String,
    /// What it must be.
    pub problem: String,
    /// The same for a program: `type`, `range`, `missing`, `unknown`, `count`, `conflict`, `duplicate`, …
    pub code: &'static str,
    /// `key` as a JSON pointer.
    pub pointer: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.value.is_empty() {
            write!(f, "{} {}", self.key, self.problem)
        } else {
            write!(f, "{} = {} {}", self.key, self.value, self.problem)
        }
    }
}

/// An address for people: without user, password and query, in which cheap cameras want a password too.
pub fn redacted(text: &str) -> String {
    let Some(scheme_end) = text.find("://").map(|i| i + 3) else {
        return text.to_owned();
    };
    let (scheme, rest) = text.split_at(scheme_end);
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority = match authority.rfind('@') {
        Some(at) => format!("***@{}", &authority[at + 1..]),
        // A password with a slash in it ends the authority early; show nothing then.
        None if rest.contains('@') => return format!("{scheme}***"),
        None => authority.to_owned(),
    };
    let (path, query) = match path.find(['?', '#']) {
        Some(at) => (&path[..at], "?***"),
        None => (path, ""),
    };
    let lower = path.to_ascii_lowercase();
    let path = match ["pass", "pwd"].iter().any(|word| lower.contains(word)) {
        true => "/***".to_owned(),
        false => redacted(path),
    };
    format!("{scheme}{authority}{path}{query}")
}

/// Checked configuration of the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the database and credentials live.
    pub state_dir: PathBuf,
    /// Where clips live.
    pub spool: SpoolConfig,
    /// How much of them is kept, and how long.
    pub retention: RetentionConfig,
    /// The cloud; `None` runs standalone.
    pub cloud: Option<CloudConfig>,
    /// What leaves this device, how fast, and when.
    pub upload: UploadConfig,
    /// The link to the cloud's broker, where the credentials name one.
    pub mqtt: MqttConfig,
    /// Button and light of this box.
    pub board: BoardConfig,
    /// In the order of the file; ids are unique.
    pub cameras: Vec<CameraConfig>,
}

/// Where clips live and what must be true of the place.
#[derive(Debug, Clone, PartialEq)]
pub struct SpoolConfig {
    /// Directory of the clips.
    pub dir: PathBuf,
    /// Refuse to record unless `dir` (or a parent below `/`) is a mounted file system other than the root's.
    pub require_mount: bool,
    /// Stop recording when less than this is free.
    pub min_free: ByteSize,
}

/// How much is kept of all cameras together, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Bytes of clips and pictures.
    pub quota: Quota,
    /// Nothing older is kept; `None`: age does not matter.
    pub max_age: Option<Duration>,
}

/// A bound on bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Per cent of the file system.
    Share(u8),
    /// So many.
    Bytes(ByteSize),
    /// Free space alone decides.
    Off,
}

/// How to reach the cloud.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudConfig {
    /// Credential file as the cloud wrote it (holds the API's address too).
    pub credentials_file: PathBuf,
    /// A private CA to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Where to ask for an owner; `None`: only credentials that are there already count.
    pub api_base: Option<Url>,
    /// A claim code that an installer left; read at start, removed after use.
    pub claim_code_file: PathBuf,
    /// Announce an open claim window on the local network.
    pub announce: bool,
    /// Networks that uploads and live video may go to though they are not public; never set by the twin.
    pub allow_private: Vec<Network>,
}

/// Button and light; the agent works without either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoardConfig {
    /// The button that opens a claim window.
    pub button: Option<ButtonConfig>,
    /// Directory of the light in sysfs.
    pub led: Option<PathBuf>,
}

/// Where presses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ButtonConfig {
    /// A GPIO line with a pull-up, pressed to ground (`active_low`), or the other way round.
    Gpio {
        chip: Option<PathBuf>,
        line: GpioLine,
        active_low: bool,
    },
    /// A key of an input device, by its number in `input-event-codes.h`.
    Key { device: PathBuf, code: u16 },
    /// A named pipe that another program writes to: `1` pressed, `0` released.
    Pipe(PathBuf),
}

/// A GPIO line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpioLine {
    /// By its number on the chip.
    Offset(u32),
    /// By the name that the board gives it.
    Name(String),
}

/// How the link to the broker is kept. Where the broker is stands in the credentials file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MqttConfig {
    /// Off: commands come by HTTPS poll alone.
    pub enabled: bool,
    /// A dead broker is noticed within twice this.
    pub keep_alive: Duration,
}

/// One camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraConfig {
    /// Its name in records and paths.
    pub id: CameraId,
    /// Its name for people.
    pub name: String,
    /// The stream that is recorded.
    pub main: SourceConfig,
    /// The stream for detection, where there is one.
    pub sub: Option<SourceConfig>,
    /// No frame for this long means stalled.
    pub stall_timeout: Duration,
    /// When and how it is recorded.
    pub recording: RecordingConfig,
    /// How motion is detected.
    pub motion: MotionConfig,
}

/// How a camera is recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordingConfig {
    /// Motion, continuous or off.
    pub mode: RecordMode,
    /// Kept before an event's start.
    pub pre_roll: Duration,
    /// Kept after an event's last motion; also how long nothing must move for an event to end.
    pub post_roll: Duration,
    /// An event is cut (and followed by another) at this length.
    pub max_event: Duration,
    /// Length of a continuous segment, cut at the next key frame.
    pub segment: Duration,
    /// Record AAC where the camera sends it.
    pub audio: bool,
    /// Bytes that this camera may keep; `None`: as much as all together may.
    pub quota: Option<ByteSize>,
    /// What of it goes to the cloud by itself; `None`: as `[upload]` says.
    pub upload: Option<UploadPolicy>,
}

/// How motion is detected.
#[derive(Debug, Clone, PartialEq)]
pub struct MotionConfig {
    /// Off saves the decoder.
    pub enabled: bool,
    /// 1 (only large things) to 10 (small distant people).
    pub sensitivity: u8,
    /// Frames a second that the detector sees.
    pub fps: f32,
    /// What is decoded of a compressed stream.
    pub decode: Decode,
    /// Keep the strongest frame of every event.
    pub pictures: bool,
    /// How much motion here matters: of what is critical the cloud tells people at once.
    pub severity: Severity,
    /// Named include polygons; empty means the whole picture.
    pub include: Vec<Zone>,
    /// Exclude polygons; they win over include.
    pub exclude: Vec<Zone>,
}

/// What detection decodes of a compressed stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Decode {
    /// Key frames, and more where something may be moving: a tenth of the cost, told up to a GOP later.
    #[default]
    OnDemand,
    /// Everything: what moves is told at once.
    All,
}

/// A polygon in normalised coordinates (0..1, origin top left), 3 to 32 points.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// Shown in events.
    pub name: String,
    /// Corners in order.
    pub points: Vec<(f32, f32)>,
    /// Instead of the camera's, for what enters this include zone; 1 to 10.
    pub sensitivity: Option<u8>,
}

/// Where a stream comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceConfig {
    /// `rtsp://` or `rtsps://`; never holds a password (see `password`).
    Rtsp {
        url: Url,
        user: Option<String>,
        password: Option<Secret>,
        transport: RtspTransport,
        ca_file: Option<PathBuf>,
        verify_tls: bool,
    },
    /// A V4L2 device by path; unset values are chosen by probing.
    V4l2 {
        device: PathBuf,
        width: Option<u32>,
        height: Option<u32>,
        fps: Option<u32>,
        format: Option<V4l2Format>,
        bitrate_kbps: u32,
    },
    /// An MP4 or Matroska file played in real time.
    File { path: PathBuf, repeat: bool },
    /// A moving test pattern.
    Test {
        width: u32,
        height: u32,
        fps: u32,
        bitrate_kbps: u32,
    },
}

/// Transport of RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtspTransport {
    /// Interleaved in the RTSP connection.
    Tcp,
    /// Unicast UDP.
    Udp,
    /// UDP first, TCP when nothing arrives.
    Auto,
}

/// Pixel or stream format asked of a V4L2 camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V4l2Format {
    /// Packed 4:2:2.
    Yuyv,
    /// Semi-planar 4:2:0.
    Nv12,
    /// Motion JPEG.
    Mjpeg,
    /// H.264 from the camera.
    H264,
}

impl std::fmt::Display for V4l2Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            V4l2Format::Yuyv => "yuyv",
            V4l2Format::Nv12 => "nv12",
            V4l2Format::Mjpeg => "mjpeg",
            V4l2Format::H264 => "h264",
        })
    }
}
