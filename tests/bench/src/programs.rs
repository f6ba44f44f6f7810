//! The programs that are compared, each on the same streams: the agent, Debian's `motion`, bare GStreamer passthrough.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process::command;
use crate::report::sibling;

/// What is asked of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Detects on the stream that it records.
    Main,
    /// Detects on the sub-stream.
    Sub,
    /// Records all the time, detects nothing.
    Off,
    /// Records all the time and detects on the same stream.
    MainAlways,
    /// Records the main stream all the time and detects on the sub-stream.
    SubAlways,
}

impl Mode {
    /// For people and for files.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Main => "detection on the main stream",
            Mode::Sub => "detection on the sub-stream",
            Mode::Off => "recording only",
            Mode::MainAlways => "detection on the main stream, recording all the time",
            Mode::SubAlways => "detection on the sub-stream, recording all the time",
        }
    }
}

/// Addresses of the cameras' streams: one of each kind, opened once a camera.
#[derive(Debug, Clone)]
pub struct Streams {
    /// 1080p.
    pub main: String,
    /// 360p.
    pub sub: String,
}

/// Where a program keeps its files; made anew for each run.
#[derive(Debug)]
pub struct Place(tempfile::TempDir);

impl Place {
    /// An empty directory below `within`.
    pub fn new(within: &Path) -> Result<Place> {
        Ok(Place(tempfile::tempdir_in(within)?))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Bytes of video in it.
    pub fn recorded_bytes(&self) -> u64 {
        fn sum(directory: &Path) -> u64 {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries
                .filter_map(|e| Some((e.path(), e.metadata().ok()?)))
                .map(
                    |(path, m)| match path.extension().and_then(|e| e.to_str()) {
                        _ if m.is_dir() => sum(&path),
                        Some("mp4" | "mkv" | "part") => m.len(),
                        _ => 0,
                    },
                )
                .sum()
        }
        sum(self.path())
    }
}

const ALWAYS: &str = "[camera.recording]\nmode = \"continuous\"\n";

/// The agent, with everything at its default but the mode.
pub fn agent(place: &Place, streams: &Streams, cameras: u32, mode: Mode) -> Result<Command> {
    let mut config = format!(
        "state_dir = {:?}\n[spool]\ndir = {:?}\n",
        place.path(),
        place.path().join("clips")
    );
    for n in 1..=cameras {
        write!(
            config,
            "[[camera]]\nid = \"cam-{n}\"\nurl = {:?}\n",
            streams.main
        )?;
        match mode {
            Mode::Main => {}
            Mode::Sub => writeln!(config, "sub_url = {:?}", streams.sub)?,
            Mode::MainAlways => config.push_str(ALWAYS),
            Mode::SubAlways => write!(config, "sub_url = {:?}\n{ALWAYS}", streams.sub)?,
            Mode::Off => config.push_str(
                "[camera.motion]\nenabled = false\n[camera.recording]\nmode = \"continuous\"\n",
            ),
        }
    }
    let file = place.path().join("sentrycam.toml");
    std::fs::write(&file, config)?;
    let mut command = command(sibling("sentrycam")?);
    command.arg("--config").arg(file).arg("run");
    Ok(command)
}

/// `motion` at its defaults, with passthrough recording; `event_gap` is the agent's post-roll instead of a minute, which
/// spares it recording.
pub fn motion(place: &Place, streams: &Streams, cameras: u32, mode: Mode) -> Result<Command> {
    let mut main = String::from(
        "daemon off\nsetup_mode off\nlog_level 5\nwebcontrol_port 0\nstream_port 0\npicture_output off\n\
         movie_output on\nmovie_passthrough on\nevent_gap 5\n",
    );
    for n in 1..=cameras {
        let (seen, size) = match mode {
            Mode::Sub | Mode::SubAlways => (&streams.sub, "width 640\nheight 360\n"),
            Mode::Main | Mode::MainAlways | Mode::Off => {
                (&streams.main, "width 1920\nheight 1080\n")
            }
        };
        // Its names of files hold the second alone: two cameras in one directory would overwrite each other.
        let clips = place.path().join(format!("clips{n}"));
        std::fs::create_dir_all(&clips)?;
        let mut camera = format!(
            "camera_id {n}\ntarget_dir {}\nnetcam_url {seen}\n{size}",
            clips.display()
        );
        if matches!(mode, Mode::Sub | Mode::SubAlways) {
            writeln!(camera, "netcam_high_url {}", streams.main)?;
        }
        let file = place.path().join(format!("camera{n}.conf"));
        std::fs::write(&file, camera)?;
        writeln!(main, "camera {}", file.display())?;
    }
    let file = place.path().join("motion.conf");
    std::fs::write(&file, main)?;
    let mut command = command("motion");
    command.arg("-n").arg("-c").arg(file);
    Ok(command)
}

/// The least that recording can cost: RTP to MP4 in one process, nothing else.
pub fn passthrough(place: &Place, streams: &Streams, cameras: u32) -> Command {
    let mut command = command("gst-launch-1.0");
    command.arg("-q");
    for n in 1..=cameras {
        let file: PathBuf = place.path().join(format!("{n}.mp4"));
        command.arg("rtspsrc");
        command.arg(format!("location={}", streams.main));
        command.args(["protocols=tcp", "latency=200"]);
        command.args(["!", "rtph264depay", "!", "h264parse", "!", "mp4mux", "!"]);
        command.arg("filesink");
        command.arg(format!("location={}", file.display()));
    }
    command
}

/// What every picture costs: RTP decoded with one thread and scaled to 320x180 grey, nothing kept.
pub fn decode_all(streams: &Streams) -> Command {
    let mut command = command("gst-launch-1.0");
    command.args(["-q", "rtspsrc"]);
    command.arg(format!("location={}", streams.main));
    command.args(["protocols=tcp", "latency=200"]);
    let tail = "! rtph264depay ! h264parse ! avdec_h264 max-threads=1 ! videoscale \
                ! video/x-raw,width=320,height=180 ! videoconvert ! video/x-raw,format=GRAY8 ! fakesink sync=false";
    command.args(tail.split_whitespace());
    command
}
