//! `motion eval`: the very same detector against ground truth, so that anyone can check what is claimed.
//!
//! Pixels by the CDnet protocol ([`crate::tuning::masks`]): every picture is shown, in the live sampler's size; each
//! sequence counts the same in the mean. Events ([`crate::tuning::intervals`]): pictures at the configured rate, as live.

mod folder;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use self::folder::{Clip, Pictures, Sequence};
use super::settings::{Settings, SettingsArgs};
use crate::agent::camera::MAX_WIDTH;
use crate::board::clock::Clock;
use crate::cli::{Format, output};
use crate::media::OwnedGray;
use crate::media::clip_frames::{ClipFault, ClipFrames};
use crate::motion::{CellDetector, Detector, Verdict};
use crate::time::Pts;
use crate::tuning::intervals::{self, Joined, Tally};
use crate::tuning::masks::{Counts, Picture};

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A labelled sequence, or a folder of them (also CDnet as it is published).
    dir: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Instead of the configured sensitivity.
    #[arg(long, value_name = "1..10", value_parser = clap::value_parser!(u8).range(1..=10))]
    sensitivity: Option<u8>,
    /// Instead of the configured pictures a second, for the events; 0: every picture.
    #[arg(long, value_name = "FPS")]
    fps: Option<f32>,
    #[command(flatten)]
    format: Format,
}

/// What was measured on one sequence.
struct Scored {
    name: String,
    size: (usize, usize),
    counts: Counts,
    frames: usize,
    ns_per_pixel: f64,
}

pub fn run(args: &EvalArgs, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut settings = match args.settings.load(config)? {
        Ok(settings) => settings,
        Err(faults) => return Ok(super::faulty(config, &faults, args.format.json)),
    };
    settings.motion.sensitivity = args.sensitivity.unwrap_or(settings.motion.sensitivity);
    settings.motion.fps = args.fps.unwrap_or(settings.motion.fps);
    let footage = folder::read(&args.dir)?;
    let bar = output::bar(
        "judging",
        (footage.sequences.len() + footage.clips.len()) as u64,
    );
    let mut scored = Vec::new();
    for sequence in &footage.sequences {
        scored.push(masks(sequence, &settings)?);
        bar.inc(1);
    }
    let mut tallies = Vec::new();
    for clip in &footage.clips {
        tallies.push((clip.name.clone(), events(clip, &settings)?));
        bar.inc(1);
    }
    bar.finish_and_clear();
    if args.format.json {
        output::json(&document(&scored, &tallies, &settings))?;
    } else {
        tell(&scored, &tallies)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Pictures of either kind, one after the other.
fn open(
    pictures: &Pictures,
    width: u32,
) -> Box<dyn Iterator<Item = Result<OwnedGray, ClipFault>> + '_> {
    match pictures {
        Pictures::Video(path) => match ClipFrames::open(path, 0.0, width) {
            Ok(frames) => Box::new(frames),
            Err(e) => Box::new(std::iter::once(Err(e))),
        },
        Pictures::Images(files, fps) => {
            Box::new(files.iter().enumerate().filter_map(move |(i, file)| {
                let at = Duration::from_secs_f64(i as f64 / fps);
                let frame = ClipFrames::open(file, 0.0, width)
                    .map(|mut f| f.next())
                    .transpose()?;
                Some(frame.and_then(|f| f).map(|f| OwnedGray {
                    pts: Pts::from_duration(at),
                    ..f
                }))
            }))
        }
    }
}

fn masks(sequence: &Sequence, settings: &Settings) -> anyhow::Result<Scored> {
    let clock = Clock::default();
    let mut detector = CellDetector::new(&settings.motion);
    let region = match &sequence.region {
        Some(path) => open(&Pictures::Video(path.clone()), u32::MAX)
            .next()
            .transpose()?,
        None => None,
    };
    let view = |f: &'_ OwnedGray| -> (usize, usize) { (f.width, f.height) };
    let (mut counts, mut frames, mut took, mut pixels) =
        (Counts::default(), 0, Duration::ZERO, 0usize);
    let mut size = (0, 0);
    let mut mask = Vec::new();
    for (i, pair) in open(&sequence.input, MAX_WIDTH)
        .zip(open(&sequence.truth, u32::MAX))
        .enumerate()
    {
        let (frame, truth) = (pair.0?, pair.1?);
        let begun = clock.thread_cpu();
        detector.observe(&frame.view());
        took += clock.thread_cpu().saturating_sub(begun);
        size = view(&frame);
        pixels += size.0 * size.1;
        frames += 1;
        if (sequence.scored.0..=sequence.scored.1).contains(&i) {
            mask.clear();
            mask.extend(
                (0..size.0 * size.1).map(|p| u8::from(detector.moved(p % size.0, p / size.0))),
            );
            let region = region.as_ref().map(|r| Picture {
                bytes: &r.luma,
                width: r.width,
                height: r.height,
            });
            let truth = Picture {
                bytes: &truth.luma,
                width: truth.width,
                height: truth.height,
            };
            counts.add(
                truth,
                Picture {
                    bytes: &mask,
                    width: size.0,
                    height: size.1,
                },
                region,
            );
        }
    }
    Ok(Scored {
        name: sequence.name.clone(),
        size,
        counts,
        frames,
        ns_per_pixel: took.as_secs_f64() * 1e9 / pixels.max(1) as f64,
    })
}

fn events(clip: &Clip, settings: &Settings) -> anyhow::Result<Tally> {
    let mut detector = CellDetector::new(&settings.motion);
    let mut joined = Joined::default();
    let seconds = |p: Pts| p.0 as f64 / 1e9;
    for frame in ClipFrames::open(&clip.video, settings.motion.fps, MAX_WIDTH)? {
        let frame = frame?;
        if let Verdict::Motion(activity) = detector.observe(&frame.view()) {
            joined.moves(seconds(activity.since), seconds(frame.pts));
        }
    }
    Ok(intervals::score(&clip.labels, &joined.0))
}

fn mean(scored: &[Scored], of: impl Fn(&Scored) -> f64) -> f64 {
    scored.iter().map(of).sum::<f64>() / scored.len().max(1) as f64
}

fn total(tallies: &[(String, Tally)]) -> Tally {
    let mut all = Tally::default();
    for (_, t) in tallies {
        all.add(t);
    }
    all
}

fn document(scored: &[Scored], tallies: &[(String, Tally)], settings: &Settings) -> Value {
    let pixels = |f: f64, r: f64, p: f64, ns: f64| json!({ "f": f, "recall": r, "precision": p, "ns_per_pixel": ns });
    let sequences: serde_json::Map<String, Value> = scored
        .iter()
        .map(|s| {
            let mut v = pixels(
                s.counts.f(),
                s.counts.recall(),
                s.counts.precision(),
                s.ns_per_pixel,
            );
            v["width"] = s.size.0.into();
            v["height"] = s.size.1.into();
            v["frames"] = s.frames.into();
            (s.name.clone(), v)
        })
        .collect();
    let tally = |t: &Tally| {
        json!({
            "events": t.events, "found": t.found, "detections": t.detections, "false_alarms": t.false_alarms,
            "false_seconds": t.false_seconds, "seconds": t.seconds, "median_late_s": t.median_late(),
            "median_start_error_s": t.start_error(),
        })
    };
    let clips: serde_json::Map<String, Value> =
        tallies.iter().map(|(n, t)| (n.clone(), tally(t))).collect();
    json!({
        "settings": settings.json(),
        "masks": {
            "sequences": sequences,
            "mean": (!scored.is_empty()).then(|| pixels(
                mean(scored, |s| s.counts.f()),
                mean(scored, |s| s.counts.recall()),
                mean(scored, |s| s.counts.precision()),
                mean(scored, |s| s.ns_per_pixel),
            )),
        },
        "events": { "clips": clips, "total": (!tallies.is_empty()).then(|| tally(&total(tallies))) },
    })
}

fn tell(scored: &[Scored], tallies: &[(String, Tally)]) -> anyhow::Result<()> {
    if !scored.is_empty() {
        let mut table = output::table(&[
            "SEQUENCE",
            "SIZE",
            "FRAMES",
            "F",
            "RECALL",
            "PRECISION",
            "NS/PIXEL",
        ]);
        let row = |name: &str, size: String, frames: String, v: [f64; 3], ns: f64| {
            let [f, r, p] = v.map(|v| format!("{v:.3}"));
            [name.to_owned(), size, frames, f, r, p, format!("{ns:.2}")]
        };
        for s in scored {
            let c = &s.counts;
            let values = [c.f(), c.recall(), c.precision()];
            table.add_row(row(
                &s.name,
                format!("{}×{}", s.size.0, s.size.1),
                s.frames.to_string(),
                values,
                s.ns_per_pixel,
            ));
        }
        let means = [
            mean(scored, |s| s.counts.f()),
            mean(scored, |s| s.counts.recall()),
            mean(scored, |s| s.counts.precision()),
        ];
        table.add_row(row(
            "mean",
            String::new(),
            String::new(),
            means,
            mean(scored, |s| s.ns_per_pixel),
        ));
        output::print(&table, "")?;
    }
    if !tallies.is_empty() {
        writeln!(std::io::stdout())?;
        let mut table = output::table(&[
            "CLIP",
            "FOUND",
            "FALSE ALARMS",
            "FALSE SECONDS",
            "OF",
            "BEGINS LATE BY",
            "START ERROR",
        ]);
        let all = total(tallies);
        let seconds = |v: Option<f64>| v.map(|v| format!("{v:.2} s")).unwrap_or_default();
        for (name, t) in tallies
            .iter()
            .map(|(n, t)| (n.as_str(), t))
            .chain([("all", &all)])
        {
            table.add_row([
                name.to_owned(),
                format!("{} of {}", t.found, t.events),
                t.false_alarms.to_string(),
                format!("{:.1}", t.false_seconds),
                format!("{:.0} s", t.seconds),
                seconds(t.median_late()),
                seconds(t.start_error()),
            ]);
        }
        output::print(&table, "")?;
    }
    Ok(())
}
