//! An RTSP camera for tests and the demo: prints `ready URL` and serves until SIGTERM, SIGINT, or the end of stdin.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use sentrycam_testcam::{Audio, Auth, Codec, Options, Picture, Scene, Source, TestCamera};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// TCP port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Serves this MP4, MOV or MKV
    #[arg(long, conflicts_with = "pattern")]
    file: Option<PathBuf>,
    /// Repeats the file without a seam
    #[arg(long = "loop", requires = "file")]
    repeat: bool,
    /// Serves a pattern, for example 1280x720@15
    #[arg(long, default_value = "640x360@15", value_parser = pattern)]
    pattern: (u32, u32, u32),
    /// Burns a machine-readable frame number into the pattern
    #[arg(long)]
    counter: bool,
    /// When the box moves: quiet=SECONDS,motion=SECONDS
    #[arg(long)]
    scene: Option<Scene>,
    /// Frames from one key frame to the next [default: two seconds]
    #[arg(long)]
    gop: Option<u32>,
    /// B-frames between references
    #[arg(long, default_value_t = 0)]
    b_frames: u32,
    /// Changes the pattern's size, for example 320x240@100 from frame 100 on
    #[arg(long, value_parser = pattern)]
    switch_size: Option<(u32, u32, u32)>,
    /// h264 or h265
    #[arg(long, default_value = "h264", value_parser = codec)]
    codec: Codec,
    /// aac, latm or pcma beside the pattern
    #[arg(long, value_parser = audio)]
    audio: Option<Audio>,
    /// basic:USER:PASS or digest:USER:PASS
    #[arg(long, value_parser = auth)]
    auth: Option<Auth>,
    /// Certificate and key in PEM: serves rtsps
    #[arg(long, num_args = 2, value_names = ["CERT", "KEY"])]
    tls: Option<Vec<PathBuf>>,
    /// Serves the pattern in this size under /sub too, for example 320x180
    #[arg(long, value_parser = size)]
    sub: Option<(u32, u32)>,
    /// Path of the stream
    #[arg(long, default_value = "/main")]
    name: String,
    /// Ends when stdin is closed
    #[arg(long)]
    until_stdin_closes: bool,
}

fn size(s: &str) -> Result<(u32, u32), String> {
    s.split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)))
        .ok_or_else(|| format!("expected WIDTHxHEIGHT, found {s:?}"))
}

fn pattern(s: &str) -> Result<(u32, u32, u32), String> {
    s.split_once('@')
        .and_then(|(wh, n)| Some((size(wh).ok()?, n.parse().ok()?)))
        .map(|((w, h), n)| (w, h, n))
        .ok_or_else(|| format!("expected WIDTHxHEIGHT@NUMBER, found {s:?}"))
}

fn codec(s: &str) -> Result<Codec, String> {
    match s {
        "h264" => Ok(Codec::H264),
        "h265" => Ok(Codec::H265),
        _ => Err("expected h264 or h265".into()),
    }
}

fn audio(s: &str) -> Result<Audio, String> {
    match s {
        "aac" => Ok(Audio::Aac),
        "latm" => Ok(Audio::AacLatm),
        "pcma" => Ok(Audio::Pcma),
        _ => Err("expected aac, latm or pcma".into()),
    }
}

fn auth(s: &str) -> Result<Auth, String> {
    let mut parts = s.splitn(3, ':').map(str::to_owned);
    match (parts.next().as_deref(), parts.next(), parts.next()) {
        (Some("basic"), Some(user), Some(pass)) => Ok(Auth::Basic(user, pass)),
        (Some("digest"), Some(user), Some(pass)) => Ok(Auth::Digest(user, pass)),
        _ => Err("expected basic:USER:PASS or digest:USER:PASS".into()),
    }
}

impl Args {
    fn options(self) -> Options {
        let (width, height, fps) = self.pattern;
        let source = match self.file {
            Some(path) => Source::File {
                path,
                repeat: self.repeat,
            },
            None => Source::Pattern(
                Picture {
                    width,
                    height,
                    fps,
                    gop: self.gop.unwrap_or(2 * fps),
                    b_frames: self.b_frames,
                    counter: self.counter,
                    scene: self.scene.unwrap_or_default(),
                    switch_size: self.switch_size,
                },
                self.codec,
            ),
        };
        Options {
            port: self.port,
            path: self.name,
            source,
            audio: self.audio,
            auth: self.auth,
            tls: self.tls.map(|t| (t[0].clone(), t[1].clone())),
            sub: self.sub,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let until_stdin_closes = args.until_stdin_closes;
    let camera = TestCamera::start(args.options())?;
    let mut out = std::io::stdout();
    writeln!(out, "ready {}", camera.url())?;
    out.flush()?;
    let mut term = signal(SignalKind::terminate()).context("no signals")?;
    // A thread of its own: a blocked read must not hold the end up.
    let (open, closed) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        if until_stdin_closes {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        } else {
            std::thread::park();
        }
        drop(open);
    });
    tokio::select! {
        _ = term.recv() => {}
        r = tokio::signal::ctrl_c() => r?,
        _ = closed => {}
    }
    drop(camera);
    Ok(())
}
