//! Real encoded packets, and what ffprobe says of a file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use sentrycam::agent::camera::detection::Detection;
use sentrycam::agent::time::TimeKeeper;
use sentrycam::board::clock::Clock;
use sentrycam::config::Config;
use sentrycam::media::{Packet, Track, TrackCaps};
use sentrycam::time::Pts;

/// What to encode.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    pub frames: u32,
    pub fps: u32,
    pub gop: u32,
    pub bframes: u32,
    pub h265: bool,
    pub ten_bit: bool,
    pub width: u32,
    pub height: u32,
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            frames: 150,
            fps: 30,
            gop: 30,
            bframes: 0,
            h265: false,
            ten_bit: false,
            width: 320,
            height: 240,
        }
    }
}

/// Packets of a test picture, in decoding order.
pub fn video(r: Recipe) -> (gst::Caps, Vec<Packet>) {
    gst::init().unwrap();
    let (encoder, out) = if r.h265 {
        let options = format!("key-int-max={} bitrate=500 speed-preset=ultrafast", r.gop);
        let option_string = format!("bframes={}:log-level=0", r.bframes);
        (
            format!("x265enc {options} option-string={option_string} ! h265parse"),
            "video/x-h265,stream-format=hvc1,alignment=au",
        )
    } else {
        let options = format!("key-int-max={} bframes={} b-adapt=false", r.gop, r.bframes);
        (
            format!("x264enc {options} speed-preset=veryfast bitrate=800 ! h264parse"),
            "video/x-h264,stream-format=avc,alignment=au",
        )
    };
    let format = if r.ten_bit { "I420_10LE" } else { "I420" };
    run(
        &format!(
            "videotestsrc num-buffers={} pattern=ball ! video/x-raw,format={format},width={},height={},framerate={}/1 ! {encoder} ! {out}",
            r.frames, r.width, r.height, r.fps
        ),
        Track::Video,
    )
}

/// Raw AAC of a tone.
pub fn audio(seconds: u32) -> (gst::Caps, Vec<Packet>) {
    gst::init().unwrap();
    let buffers = seconds * 48_000 / 1_024;
    run(
        &format!(
            "audiotestsrc num-buffers={buffers} samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=1 ! avenc_aac ! aacparse ! audio/mpeg,mpegversion=4,stream-format=raw"
        ),
        Track::Audio,
    )
}

/// The video packets of an H.264 MP4, as a camera would have sent them.
pub fn recorded(path: &Path) -> (gst::Caps, Vec<Packet>) {
    gst::init().unwrap();
    let caps = "video/x-h264,stream-format=avc,alignment=au";
    let path = path.display();
    run(
        &format!("filesrc location={path} ! qtdemux ! h264parse ! {caps}"),
        Track::Video,
    )
}

/// Real, public footage: 14 s of stillness, 16 s of people who walk (768×576 at 15 a second, key frames every 2 s).
pub fn footage() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = root.join("target/footage");
    let made = Command::new(root.join("tests/footage.sh"))
        .arg(&dir)
        .status();
    let clip = dir.join("pedestrians.mp4");
    assert!(
        made.unwrap().success() && clip.exists(),
        "{} is missing and cannot be made: run `make footage` (it takes Debian's opencv-doc: is apt set up?)",
        clip.display()
    );
    clip
}

fn run(description: &str, track: Track) -> (gst::Caps, Vec<Packet>) {
    let text = format!("{description} ! appsink name=out sync=false");
    let pipeline = gst::parse::launch(&text)
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
    let sink = pipeline
        .by_name("out")
        .unwrap()
        .downcast::<AppSink>()
        .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut packets = Vec::new();
    let mut caps = None;
    while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(30)) {
        let buffer = sample.buffer_owned().unwrap();
        let segment = sample
            .segment()
            .unwrap()
            .downcast_ref::<gst::ClockTime>()
            .unwrap();
        let running = segment.to_running_time(buffer.pts()).unwrap_or_default();
        caps = sample.caps_owned();
        packets.push(Packet {
            track,
            pts: Pts(running.nseconds()),
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            buffer,
        });
    }
    pipeline.set_state(gst::State::Null).unwrap();
    (caps.expect("the encoder delivered something"), packets)
}

/// Caps for a clip writer.
pub fn caps(video: &gst::Caps, audio: Option<&gst::Caps>) -> TrackCaps {
    TrackCaps {
        video: video.clone(),
        audio: audio.cloned(),
    }
}

/// Detection of a camera with default settings that watches this video.
pub fn detection(video: &gst::Caps) -> Detection {
    let text = "state_dir = \"/nonexistent\"\n[[camera]]\nid = \"a\"\nurl = \"rtsp://a\"\n";
    let config = Config::parse(text, &|_| Err(String::new())).unwrap();
    let clock = Clock::default();
    let time = TimeKeeper::new(clock.clone(), clock.build_time());
    let mut detection = Detection::new(config.cameras[0].motion.clone(), time);
    detection.stream(Some(&caps(video, None)));
    detection
}

/// Video and audio in order of time.
pub fn interleave(mut a: Vec<Packet>, b: Vec<Packet>) -> Vec<Packet> {
    let mut audio = b.into_iter().peekable();
    let mut out = Vec::new();
    for v in a.drain(..) {
        while audio.peek().is_some_and(|x| x.pts < v.pts) {
            out.extend(audio.next());
        }
        out.push(v);
    }
    out.extend(audio);
    out
}

/// What ffprobe says of the video track, every frame decoded.
#[derive(Debug)]
pub struct Probe {
    pub frames: u64,
    pub start: f64,
    pub duration: f64,
    pub first_is_key: bool,
    pub audio_packets: u64,
    /// Errors that decoding printed.
    pub complaints: String,
}

pub fn ffprobe(path: &Path) -> Probe {
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_frames",
            "-count_packets",
            "-show_streams",
            "-show_format",
            "-of",
            "json",
        ])
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    let v: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let none = Vec::new();
    let streams = v["streams"].as_array().unwrap_or(&none);
    let find = |kind: &str| streams.iter().find(|s| s["codec_type"] == kind);
    let number = |v: &serde_json::Value| {
        v.as_str()
            .and_then(|s| s.parse::<f64>().ok())
            .unwrap_or(-1.0)
    };
    let Some(s) = find("video") else {
        return Probe {
            frames: 0,
            start: -1.0,
            duration: -1.0,
            first_is_key: false,
            audio_packets: 0,
            complaints: String::from_utf8_lossy(&out.stderr).into(),
        };
    };
    let first = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v",
            "-show_entries",
            "packet=flags",
            "-read_intervals",
            "%+#1",
            "-of",
            "csv=p=0",
        ])
        .arg(path)
        .output()
        .unwrap();
    Probe {
        frames: number(&s["nb_read_frames"]) as u64,
        start: number(&s["start_time"]),
        duration: number(&s["duration"]),
        first_is_key: String::from_utf8_lossy(&first.stdout)
            .trim()
            .starts_with('K'),
        audio_packets: find("audio").map_or(0, |a| number(&a["nb_read_packets"]) as u64),
        complaints: String::from_utf8_lossy(&out.stderr).into(),
    }
}

/// Asks again and again until `done`, at most `seconds`.
pub fn wait_until(seconds: u64, what: &str, mut done: impl FnMut() -> bool) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    for _ in 0..seconds * 100 {
        if done() {
            return;
        }
        // A wait with a deadline on a channel that stays silent.
        let _ = never.recv_timeout(Duration::from_millis(10));
    }
    panic!("not within {seconds} s: {what}");
}
