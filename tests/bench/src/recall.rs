//! `recall`: what decode on demand misses that decoding everything finds, on labelled clips.
//!
//! Every clip is encoded anew with several GOP lengths, rate controls and positions of the key frames in it; then the
//! agent's own policy and detector run over the packets twice: once as the policy wants it, once decoding all. Nothing
//! is timed. Pictures come from FFmpeg (mean of each cell, 320 wide), so that each is decoded once and not each time
//! that the policy reads it.
//!
//! `DIR` holds one directory a clip: `clip.mp4` (or `input.mkv`) and `events.json` with
//! `{"events": [{"start": s, "end": s}, …], "ignore": [[s, s], …]}` in seconds.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sentrycam::config::{Config, MotionConfig};
use sentrycam::demand::{Demand, Mode, Reads};
use sentrycam::media::pace::Pace;
use sentrycam::motion::{CellDetector, Detector, GrayFrame, Verdict};
use sentrycam::time::Pts;
use serde_json::{Value, json};

use crate::report::{self, Table, word};

/// Labels are exact to about this, in seconds.
const TOLERANCE: f64 = 1.0;
/// The first seconds are learned, by the detector and the policy.
const LEARNED: f64 = 12.0;
/// Widest picture, as in the agent.
const WIDTH: usize = 320;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of labelled clips
    dir: PathBuf,
    /// GOP lengths in seconds
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    gops: Vec<f64>,
    /// Positions of the key frames: so many evenly over a GOP
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    phases: u32,
    /// crf (constant quality), cbr (constant bit rate)
    #[arg(long, value_delimiter = ',', default_value = "crf,cbr")]
    rates: Vec<String>,
    /// Clips whose names hold this
    #[arg(long, default_value = "")]
    only: String,
    /// 1 to 10
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=10))]
    sensitivity: u8,
    /// Print the figures as JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// One access unit and its picture.
struct Shot {
    at: Pts,
    key: bool,
    bytes: usize,
    luma: Vec<u8>,
}

struct Clip {
    name: String,
    video: PathBuf,
    events: Vec<(f64, f64)>,
    ignore: Vec<(f64, f64)>,
}

/// What a run over one encoding gave.
#[derive(Debug, Default)]
struct Outcome {
    events: usize,
    all: usize,
    found: usize,
    lost: Vec<String>,
    /// Beyond the label, seconds: decoding all, on demand.
    errors: (Vec<f64>, Vec<f64>),
    quiet: usize,
    quiet_decoded: usize,
    gave_up: usize,
    runs: usize,
}

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let clips = clips(&args.dir, &args.only)?;
    for rate in &args.rates {
        ensure!(
            rate == "crf" || rate == "cbr",
            "no rate control {rate:?}: crf, cbr"
        );
    }
    let work = tempfile::tempdir_in(report::directory()?)?;
    let config = motion_config(args.sensitivity)?;
    let total = clips.len() * args.gops.len() * args.rates.len() * args.phases as usize;
    let mut done = 0;
    let mut rows = Vec::new();
    let mut table = Table::new([
        "GOP s",
        "rate",
        "runs",
        "events >= 1 s",
        "found, all decoded",
        "found, on demand",
        "lost",
        "",
        "quiet decoded",
        "gave up",
        "start error all, median s",
        "on demand",
    ]);
    for &gop in &args.gops {
        for rate in &args.rates {
            let mut sum = Outcome::default();
            for clip in &clips {
                for phase in 0..args.phases {
                    done += 1;
                    eprint!(
                        "\r{done}/{total}  {} GOP {gop} s {rate} {phase}/{}   ",
                        clip.name, args.phases
                    );
                    let (size, shots) =
                        encode(&clip.video, work.path(), gop, rate, phase, args.phases)
                            .with_context(|| clip.name.clone())?;
                    judge(clip, size, &shots, &config, &mut sum);
                }
            }
            eprintln!();
            sum.errors.0.sort_by(f64::total_cmp);
            sum.errors.1.sort_by(f64::total_cmp);
            let median = |v: &[f64]| report::percentile(v, 0.5);
            let share = sum.quiet_decoded as f64 / sum.quiet.max(1) as f64;
            table.row([
                gop.to_string(),
                rate.clone(),
                sum.runs.to_string(),
                sum.events.to_string(),
                sum.all.to_string(),
                sum.found.to_string(),
                sum.lost.len().to_string(),
                word(sum.lost.is_empty()).into(),
                format!("{:.1} %", 100.0 * share),
                sum.gave_up.to_string(),
                format!("{:.2}", median(&sum.errors.0)),
                format!("{:.2}", median(&sum.errors.1)),
            ]);
            rows.push(json!({
                "gop_s": gop, "rate": rate, "runs": sum.runs, "events": sum.events, "found_all": sum.all,
                "found_on_demand": sum.found, "lost": sum.lost, "quiet_decoded": share, "gave_up": sum.gave_up,
                "start_error_all_s": median(&sum.errors.0), "start_error_s": median(&sum.errors.1),
            }));
        }
    }
    let figures = json!({ "clips": clips.iter().map(|c| &c.name).collect::<Vec<_>>(), "phases": args.phases, "rows": rows });
    if args.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
        return Ok(());
    }
    println!("\n## recall: decode on demand against decoding everything\n");
    table.print();
    report::write("recall", &figures)
}

fn motion_config(sensitivity: u8) -> Result<MotionConfig> {
    let text = format!(
        "state_dir = \"/nonexistent\"\n[[camera]]\nid = \"a\"\nurl = \"rtsp://a\"\n[camera.motion]\nsensitivity = {sensitivity}\n"
    );
    let config =
        Config::parse(&text, &|_| Err(String::new())).map_err(|e| anyhow::anyhow!("{e:?}"))?;
    Ok(config.cameras[0].motion.clone())
}

fn clips(dir: &Path, only: &str) -> Result<Vec<Clip>> {
    let mut clips = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let video = ["clip.mp4", "input.mkv"]
            .map(|f| path.join(f))
            .into_iter()
            .find(|f| f.exists());
        let (Some(video), Ok(text)) = (video, std::fs::read_to_string(path.join("events.json")))
        else {
            continue;
        };
        if !name.contains(only) {
            continue;
        }
        let labels: Value =
            serde_json::from_str(&text).with_context(|| format!("{name}/events.json"))?;
        let pair = |a: &Value, b: &Value| Some((a.as_f64()?, b.as_f64()?));
        let list = |key: &str| labels[key].as_array().cloned().unwrap_or_default();
        clips.push(Clip {
            name,
            video,
            events: list("events")
                .iter()
                .filter_map(|e| pair(&e["start"], &e["end"]))
                .collect(),
            ignore: list("ignore")
                .iter()
                .filter_map(|e| pair(&e[0], &e[1]))
                .collect(),
        });
    }
    ensure!(
        !clips.is_empty(),
        "no clips in {}: expected NAME/clip.mp4 with NAME/events.json",
        dir.display()
    );
    clips.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(clips)
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| name.clone())?;
    ensure!(
        out.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(out.stdout)
}

fn probe(video: &Path, entries: &str) -> Result<Value> {
    let args = [
        "-v",
        "error",
        "-select_streams",
        "v:0",
        "-of",
        "json",
        "-show_entries",
    ];
    let out = output(Command::new("ffprobe").args(args).arg(entries).arg(video))?;
    Ok(serde_json::from_slice(&out)?)
}

type Size = (usize, usize);

/// Encodes, and reads back what a camera would have sent.
fn encode(
    video: &Path,
    work: &Path,
    gop: f64,
    rate: &str,
    phase: u32,
    phases: u32,
) -> Result<(Size, Vec<Shot>)> {
    let stream = probe(video, "stream=width,height,r_frame_rate")?["streams"][0].clone();
    let number = |key: &str| stream[key].as_u64().with_context(|| format!("no {key}"));
    let (w, h) = (number("width")? as usize, number("height")? as usize);
    let fps = stream["r_frame_rate"]
        .as_str()
        .and_then(|r| r.split_once('/'));
    let fps = fps.and_then(|(n, d)| Some(n.parse::<f64>().ok()? / d.parse::<f64>().ok()?));
    let fps = fps
        .filter(|f| f.is_finite() && *f > 0.0)
        .context("no frame rate")?;
    let every = (gop * fps).round().max(1.0);
    let first = (every * f64::from(phase) / f64::from(phases)).floor();
    // A first short GOP, then one every so often.
    let keys = format!("expr:eq(mod(n+{},{every}),0)", every - first);
    let file = work.join("a.mp4");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-y", "-i"]).arg(video);
    ffmpeg.args([
        "-an",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-bf",
        "0",
        "-sc_threshold",
        "0",
    ]);
    ffmpeg.args([
        "-g",
        "100000",
        "-pix_fmt",
        "yuv420p",
        "-force_key_frames",
        &keys,
    ]);
    match rate {
        "cbr" => {
            // 0.1 bit a pixel: a camera of 1080p30 with 6 Mbit/s.
            let bits = format!("{}", (0.1 * (w * h) as f64 * fps) as u64);
            ffmpeg.args(["-b:v", &bits, "-maxrate", &bits, "-bufsize", &bits])
        }
        _ => ffmpeg.args(["-crf", "26"]),
    };
    output(ffmpeg.arg(&file))?;
    let width = w.min(WIDTH);
    let height = (h * width).div_ceil(w).max(1);
    let packets = probe(&file, "packet=pts_time,size,flags")?;
    let filter = format!("scale={width}:{height}:flags=area,format=gray");
    let mut decode = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&file)
        .args([
            "-fps_mode",
            "passthrough",
            "-vf",
            &filter,
            "-f",
            "rawvideo",
            "-",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut pictures = decode.stdout.take().context("no pictures")?;
    let mut shots = Vec::new();
    for packet in packets["packets"].as_array().context("no packets")? {
        let text = |key: &str| {
            packet[key]
                .as_str()
                .with_context(|| format!("a packet without {key}"))
        };
        let mut luma = vec![0; width * height];
        if pictures.read_exact(&mut luma).is_err() {
            break;
        }
        shots.push(Shot {
            at: Pts::from_duration(Duration::from_secs_f64(
                text("pts_time")?.parse::<f64>()?.max(0.0),
            )),
            key: text("flags")?.contains('K'),
            bytes: text("size")?.parse()?,
            luma,
        });
    }
    drop(pictures);
    ensure!(
        decode.wait()?.success(),
        "ffmpeg cannot decode what it encoded"
    );
    if shots.is_empty() {
        bail!("no pictures");
    }
    Ok(((width, height), shots))
}

fn seconds(at: Pts) -> f64 {
    at.0 as f64 / 1e9
}

/// Motion as (first seen, told) in seconds, and which shots were decoded.
struct Seen {
    motion: Vec<(f64, f64)>,
    decoded: Vec<bool>,
    gave_up: bool,
}

/// The detector over a stream, with a decoder that is never behind; `demand` chooses what it sees.
fn watch(
    (width, height): Size,
    shots: &[Shot],
    config: &MotionConfig,
    mut demand: Option<Demand>,
) -> Seen {
    let mut detector = CellDetector::new(config);
    let mut pace = Pace::new(config.fps);
    let mut seen = Seen {
        motion: Vec::new(),
        decoded: vec![false; shots.len()],
        gave_up: false,
    };
    let (mut cursor, mut newest): (Option<usize>, Option<Pts>) = (Some(0), None);
    for (n, shot) in shots.iter().enumerate() {
        let mut alone = demand
            .as_mut()
            .is_some_and(|d| d.packet(shot.at, shot.key, shot.bytes));
        loop {
            seen.gave_up |= demand
                .as_ref()
                .is_some_and(|d| d.mode() == Mode::TellLittle);
            let i = match demand.as_ref().map_or(Reads::From(Pts(0)), Demand::reads) {
                Reads::KeyFrames => {
                    cursor = None;
                    if !std::mem::take(&mut alone) || newest.is_some_and(|s| s >= shot.at) {
                        break;
                    }
                    n
                }
                Reads::From(from) => {
                    let begin = || {
                        shots[..=n]
                            .iter()
                            .rposition(|s| s.key && s.at <= from)
                            .unwrap_or(0)
                    };
                    if cursor.is_none() {
                        pace.restart();
                    }
                    let i = *cursor.get_or_insert_with(begin);
                    if i > n {
                        break;
                    }
                    cursor = Some(i + 1);
                    i
                }
            };
            seen.decoded[i] = true;
            let s = &shots[i];
            if !(pace.due(s.at) || s.key && pace.key_due(s.at)) {
                continue;
            }
            if s.key {
                pace.take_key(s.at);
            } else {
                pace.take(s.at);
            }
            if newest.is_some_and(|newest| s.at <= newest) {
                continue;
            }
            let frame = GrayFrame {
                luma: &s.luma,
                width,
                height,
                stride: width,
                pts: s.at,
            };
            if s.key && demand.as_mut().is_some_and(|d| !d.key_picture(&frame)) {
                continue;
            }
            newest = Some(s.at);
            let verdict = detector.observe(&frame);
            if let Verdict::Motion(activity) = &verdict {
                seen.motion.push((seconds(activity.since), seconds(s.at)));
            }
            if let Some(demand) = &mut demand {
                demand.verdict(s.at, &verdict);
            }
        }
    }
    seen
}

fn judge(clip: &Clip, size: Size, shots: &[Shot], config: &MotionConfig, sum: &mut Outcome) {
    let all = watch(size, shots, config, None);
    let demand = watch(size, shots, config, Some(Demand::new(config)));
    sum.runs += 1;
    sum.gave_up += usize::from(demand.gave_up);
    let first = |seen: &Seen, (start, end): (f64, f64)| {
        let within = seen.motion.iter().filter(|m| m.0 < end && m.1 > start);
        within.map(|m| m.0).reduce(f64::min)
    };
    for &event in clip.events.iter().filter(|e| e.1 - e.0 >= 1.0) {
        sum.events += 1;
        let (a, d) = (first(&all, event), first(&demand, event));
        sum.all += usize::from(a.is_some());
        sum.found += usize::from(d.is_some());
        if a.is_some() && d.is_none() {
            sum.lost
                .push(format!("{} {:.1}-{:.1}", clip.name, event.0, event.1));
        }
        // Where something moved before, nobody can tell when this began.
        let before = |s: &Seen| {
            s.motion
                .iter()
                .any(|m| m.1 > event.0 - 3.0 && m.0 < event.0 - TOLERANCE)
        };
        if event.0 >= LEARNED && !before(&all) && !before(&demand) {
            sum.errors.0.extend(a.map(|a| (a - event.0).abs()));
            sum.errors.1.extend(d.map(|d| (d - event.0).abs()));
        }
    }
    let busy = |t: f64| {
        let labels = clip.events.iter().chain(&clip.ignore);
        let mut near = labels.chain(&all.motion);
        t < LEARNED || near.any(|e| t > e.0 - 2.5 && t < e.1 + 3.5)
    };
    for (shot, decoded) in shots.iter().zip(&demand.decoded) {
        if !busy(seconds(shot.at)) {
            sum.quiet += 1;
            sum.quiet_decoded += usize::from(*decoded);
        }
    }
}
