//! `flash`: bytes that the agent writes to the card, an hour, beside the bytes of the video that it keeps.
//!
//! What is written is what the kernel has counted for the process (`/proc/<pid>/io`, whole pages on their way to the disk,
//! less those of files that were removed before), from the camera's first picture to its end in order, database and clips alike. The video
//! is the encoded pictures and sound alone, as `ffprobe` finds them in the files. What the file system writes for itself
//! (its journal, its tables) is not in it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Codec, Options, Picture, Scene, Source, TestCamera};
use serde_json::json;

use crate::footage;
use crate::process::{Running, command};
use crate::report::{self, Table, sibling, word};

const GOAL: f64 = 1.05;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds of each run; an hour is made of it
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// idle, motion, continuous
    #[arg(long, value_delimiter = ',', default_value = "idle,motion,continuous")]
    modes: Vec<String>,
}

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let machine = report::machine();
    report::head("flash: bytes written an hour", &machine);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut table = Table::new([
        "mode",
        "written MiB/h",
        "video MiB/h",
        "ratio",
        "of it not video, MiB/h",
        "goal",
    ]);
    let mut rows = Vec::new();
    for mode in &args.modes {
        eprintln!("{mode}, {} s", args.seconds);
        let (written, video, took) = runtime.block_on(measure(mode, args.seconds))?;
        let hourly = |bytes: u64| bytes as f64 / f64::from(1 << 20) * 3600.0 / took;
        let ratio = (video > 0).then(|| written as f64 / video as f64);
        table.row([
            mode.clone(),
            format!("{:.1}", hourly(written)),
            format!("{:.1}", hourly(video)),
            ratio.map_or("-".into(), |r| format!("{r:.3}")),
            format!("{:.1}", hourly(written.saturating_sub(video))),
            ratio.map_or("-".into(), |r| format!("<= {GOAL} {}", word(r <= GOAL))),
        ]);
        rows.push(
            json!({ "mode": mode, "seconds": took, "written_bytes": written, "video_bytes": video,
                          "ratio": ratio }),
        );
    }
    table.print();
    report::write("flash", &json!({ "machine": machine, "rows": rows }))
}

/// Bytes written, bytes of video, seconds.
async fn measure(mode: &str, seconds: u64) -> Result<(u64, u64, f64)> {
    let directory = tempfile::tempdir_in(report::directory()?)?;
    let cloud = Cloud::builder().storage().start().await?;
    // Held until the end.
    let (_server, _camera, url, settings) = match mode {
        "idle" => {
            let still = still()?;
            let url = still.url();
            (None, Some(still), url, "")
        }
        "motion" | "continuous" => {
            let (server, url) = pedestrians()?;
            let settings = match mode {
                "motion" => "",
                _ => "[camera.recording]\nmode = \"continuous\"\n",
            };
            (Some(server), None, url, settings)
        }
        other => anyhow::bail!("no mode {other:?}: idle, motion, continuous"),
    };
    // The numbers of the test picture change; nobody passes.
    let counter = "[[camera.motion.exclude]]\npoints = [[0, 0], [1, 0], [1, 0.15], [0, 0.15]]\n";
    let section = format!("[[camera]]\nid = \"cam-1\"\nurl = {url:?}\n{settings}{counter}");
    let agent = start(&cloud, directory.path(), &section).await?;
    cloud
        .wait_for(
            "exists (select from edge_records where type like '%camera.up%')",
            Duration::from_secs(60),
        )
        .await?;
    // A fresh store is made once, not every hour.
    let (before, began) = (agent.usage()?.disk_bytes, Instant::now());
    let early: u64 = files(&directory.path().join("clips"))
        .iter()
        .filter_map(|f| Some(f.metadata().ok()?.len()))
        .sum();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let took = began.elapsed().as_secs_f64();
    let written = tokio::task::spawn_blocking(move || agent.end()).await??;
    let video = video_bytes(directory.path())?;
    ensure!(
        (mode == "idle") == (video == 0),
        "{mode}: {video} bytes of video"
    );
    // What was recorded until then was written until then.
    let video = video.saturating_sub(early);
    Ok((written.disk_bytes.saturating_sub(before), video, took))
}

fn still() -> Result<TestCamera> {
    let picture = Picture {
        width: 1280,
        height: 720,
        fps: 15,
        gop: 30,
        scene: Scene {
            quiet: 100_000,
            motion: 1,
        },
        ..Picture::default()
    };
    TestCamera::start(Options {
        source: Source::Pattern(picture, Codec::H264),
        ..Options::default()
    })
}

/// 1080p15 at 4 Mbit/s, people in two seconds of three.
fn pedestrians() -> Result<(Running, String)> {
    let directory = report::directory()?;
    let footage = footage::make(&directory.join("footage"), 15)?;
    let mut server = command(sibling("sentrycam-testcam")?);
    server
        .args(["--loop", "--until-stdin-closes", "--file"])
        .arg(&footage.main);
    Running::start_ready(server, &directory.join("flash-camera.log"))
}

async fn start(cloud: &Cloud, directory: &Path, camera: &str) -> Result<Running> {
    let credentials = directory.join("edge.json");
    cloud.write_credentials("flash", &credentials).await?;
    let config = format!(
        "state_dir = {directory:?}\n[spool]\ndir = {clips:?}\n[upload]\nmax_kbps = \"off\"\n[cloud]\n\
         credentials_file = {credentials:?}\nca_file = {ca:?}\nallow_private = [\"127.0.0.0/8\", \"::1\"]\n{camera}",
        clips = directory.join("clips"),
        ca = cloud.ca_path(),
    );
    let file = directory.join("sentrycam.toml");
    std::fs::write(&file, config)?;
    let mut agent = command(sibling("sentrycam")?);
    agent.arg("--config").arg(&file).arg("run");
    // Its log is the journal's business, elsewhere.
    Running::start(agent, Path::new("/dev/null"))
}

/// Bytes of the packets in all clips.
fn video_bytes(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for clip in clips(&directory.join("clips")) {
        let out = Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-show_entries",
                "packet=size",
                "-of",
                "csv=p=0",
            ])
            .arg(&clip)
            .output()
            .context("ffprobe")?;
        ensure!(
            out.status.success(),
            "{} cannot be read: {}",
            clip.display(),
            String::from_utf8_lossy(&out.stderr)
        );
        let text = String::from_utf8_lossy(&out.stdout);
        sum += text
            .lines()
            .filter_map(|l| l.trim_end_matches(',').parse::<u64>().ok())
            .sum::<u64>();
    }
    Ok(sum)
}

fn clips(directory: &Path) -> Vec<PathBuf> {
    let mut all = files(directory);
    all.retain(|p| p.extension().is_some_and(|e| e == "mp4"));
    all
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let within = entries.flat_map(|e| match e.path() {
        path if path.is_dir() => files(&path),
        path => vec![path],
    });
    within.collect()
}
