//! `recall`: what decode on demand misses that decoding everything finds, on labelled clips.
//!
//! Every clip is encoded anew with several GOP lengths, rate controls and positions of the key frames in it; then the
//! agent's own reader, policy and detector run over the packets twice: once as the policy wants it, once decoding all. Nothing
//! is timed. Pictures come from FFmpeg (mean of each cell, 320 wide), so that each is decoded once and not each time
//! that the policy reads it.
//!
//! `DIR` holds one directory a clip: `clip.mp4` (or `input.mkv`) and `events.json` with
//! `{"events": [{"start": s, "end": s}, …], "ignore": [[s, s], …]}` in seconds.

mod encoded;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use sentrycam::config::{Config, MotionConfig};
use sentrycam::demand::{Demand, Mode, Reader, Replayed};
use sentrycam::motion::{CellDetector, Detector, GrayFrame, Verdict};
use sentrycam::recording::ring::Item;
use sentrycam::time::{Mono, Pts};
use serde_json::json;

use self::encoded::{Clip, Shot, Size, clips, encode};
use crate::report::{self, Table, word};

/// Labels are exact to about this, in seconds.
const TOLERANCE: f64 = 1.0;
/// The first seconds are learned, by the detector and the policy.
const LEARNED: f64 = 12.0;

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

fn seconds(at: Pts) -> f64 {
    at.0 as f64 / 1e9
}

/// Motion as (first seen, told) in seconds, and which shots were decoded.
struct Seen {
    motion: Vec<(f64, f64)>,
    decoded: Vec<bool>,
    gave_up: bool,
}

/// What the reader is given of a shot.
#[derive(Debug, Clone, Copy)]
struct Sent {
    index: usize,
    at: Pts,
    key: bool,
    bytes: usize,
}

impl Item for Sent {
    fn pts(&self) -> Pts {
        self.at
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_video_key(&self) -> bool {
        self.key
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The detector over a stream; `demand` chooses what it sees.
fn watch(
    (width, height): Size,
    shots: &[Shot],
    config: &MotionConfig,
    demand: Option<Demand>,
) -> Seen {
    let mut detector = CellDetector::new(config);
    let mut reader = Reader::new(demand);
    let mut decoder = Replayed::new(config.fps);
    let (mut motion, mut gave_up) = (Vec::new(), false);
    for (index, shot) in shots.iter().enumerate() {
        let sent = Sent {
            index,
            at: shot.at,
            key: shot.key,
            bytes: shot.bytes,
        };
        let now = Mono(shot.at.0);
        reader.push(&sent, Some(&mut decoder), now);
        while let Some((sent, mark)) = decoder.picture() {
            let s = &shots[sent.index];
            let frame = GrayFrame {
                luma: &s.luma,
                width,
                height,
                stride: width,
                pts: s.at,
            };
            if reader.picture(&frame, mark) {
                let verdict = detector.observe(&frame);
                if let Verdict::Motion(activity) = &verdict {
                    motion.push((seconds(activity.since), seconds(s.at)));
                }
                reader.verdict(&verdict);
            }
            gave_up |= reader.mode() == Some(Mode::TellLittle);
            reader.feed(&mut decoder, now);
        }
    }
    let mut decoded = vec![false; shots.len()];
    decoder.given().iter().for_each(|s| decoded[s.index] = true);
    Seen {
        motion,
        decoded,
        gave_up,
    }
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
