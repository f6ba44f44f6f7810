//! `motion replay`: what the live agent would have made of recorded clips.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::clips::{self, Played};
use super::pictures;
use super::settings::{Settings, SettingsArgs};
use crate::cli::{Format, output};
use crate::config::Zone;
use crate::model::Region;
use crate::recording::event::EndReason;
use crate::time::Pts;
use crate::tuning::replay::{Judged, Replay, Seen, State};

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Recorded clips (MP4, Matroska and whatever else GStreamer reads).
    #[arg(required = true, value_name = "CLIP")]
    clips: Vec<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Instead of the configured sensitivity: 1 (only large things) to 10 (small distant people).
    #[arg(long, value_name = "1..10", value_parser = clap::value_parser!(u8).range(1..=10))]
    sensitivity: Option<u8>,
    /// Write a contact sheet here: telling pictures with boxes and zones, and the score over time.
    #[arg(long, value_name = "OUT.png")]
    sheet: Option<PathBuf>,
    /// Write the clip here with boxes, zones and the score over time.
    #[arg(long, value_name = "OUT.mp4")]
    video: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

/// One clip's answer.
pub struct Judgement {
    /// How far it was seen.
    pub played: Played,
    /// Every frame that was judged, in order.
    pub judged: Vec<Judged>,
    /// Its events, in order.
    pub events: Vec<Seen>,
}

pub fn run(args: &ReplayArgs, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut settings = match args.settings.load(config)? {
        Ok(settings) => settings,
        Err(faults) => return Ok(super::faulty(config, &faults, args.format.json)),
    };
    if let Some(sensitivity) = args.sensitivity {
        settings.motion.sensitivity = sensitivity;
    }
    let (sheet, video) = (args.sheet.as_deref(), args.video.as_deref());
    pictures::check(&args.clips, sheet, video)?;
    let (mut all, mut sections) = (Vec::new(), Vec::new());
    for path in &args.clips {
        let one = judge(path, &settings);
        if !args.format.json {
            tell(&one, &settings)?;
        }
        if !one.judged.is_empty() && (sheet.is_some() || video.is_some()) {
            sections.extend(pictures::draw(&one, &settings, video, sheet.is_some())?);
        }
        all.push(one);
    }
    if let Some(path) = sheet.filter(|_| !sections.is_empty()) {
        pictures::write_sheet(path, &sections)?;
    }
    if args.format.json {
        let clips: Vec<Value> = all.iter().map(|j| document(j, &settings)).collect();
        output::json(&json!({ "settings": settings.json(), "clips": clips }))?;
    }
    let whole = all.iter().all(|j| j.played.fault.is_none());
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn judge(path: &Path, settings: &Settings) -> Judgement {
    let mut replay = Replay::new(&settings.motion, &settings.recording);
    let mut judged = Vec::new();
    let played = clips::play(path, settings.motion.fps, "replaying", |frame| {
        let verdict = replay.see(&frame.view());
        judged.push(Judged::of(frame.pts, &verdict));
    });
    Judgement {
        played,
        judged,
        events: replay.finish(),
    }
}

/// Prints a clip's events for people.
fn tell(one: &Judgement, settings: &Settings) -> anyhow::Result<()> {
    let p = &one.played;
    if let Some(fault) = &p.fault {
        eprintln!("sentrycam: {fault}");
    }
    let Some(note) = note(&one.judged) else {
        return Ok(());
    };
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{}: {}; {}",
        p.path.display(),
        p.line(),
        settings.line()
    )?;
    writeln!(out, "  {note}")?;
    drop(out);
    let mut table = output::table(&[
        "START",
        "END",
        "PEAK",
        "AT",
        "LARGEST BOX",
        "TRACKS",
        "ZONES",
        "ENDED BY",
    ]);
    for e in &one.events {
        table.add_row([
            seconds_text(e.started_at),
            seconds_text(e.ended_at),
            format!("{:.2}", e.peak_score),
            seconds_text(e.peak_at),
            e.largest.map(|r| box_text(&r)).unwrap_or_default(),
            e.tracks.len().to_string(),
            zone_names(&e.zones, &settings.motion.include).join(", "),
            ended_by(e.reason).replace('_', " "),
        ]);
    }
    output::print(&table, "  no event")
}

/// What the reader must know before believing the answer.
fn note(judged: &[Judged]) -> Option<String> {
    let first = judged.first()?;
    let Some(begun) = judged.iter().find(|j| j.state != State::Warming) else {
        return Some("too short to be judged: the detector was still learning the scene".into());
    };
    let silent = begun.at.since(first.at).as_secs_f64();
    let changes = judged
        .windows(2)
        .filter(|w| w[0].state != State::SceneChanged && w[1].state == State::SceneChanged)
        .count();
    let changed = match changes {
        0 => String::new(),
        n => format!("; the picture changed as a whole {n} time(s)"),
    };
    Some(format!(
        "the first {silent:.1} s taught the detector the scene{changed}"
    ))
}

fn document(one: &Judgement, settings: &Settings) -> Value {
    let p = &one.played;
    let events: Vec<Value> = one.events.iter().map(|e| event(e, settings)).collect();
    let scores: Vec<Value> = one
        .judged
        .iter()
        .filter(|j| j.state == State::Motion)
        .map(|j| json!({ "at_s": seconds(j.at), "score": round(j.score) }))
        .collect();
    let begun = one.judged.iter().find(|j| j.state != State::Warming);
    let changed: Vec<f64> = one
        .judged
        .iter()
        .filter(|j| j.state == State::SceneChanged)
        .map(|j| seconds(j.at))
        .collect();
    json!({
        "clip": p.path,
        "error": p.fault.as_ref().map(ToString::to_string),
        "duration_s": p.seen.as_secs_f64(),
        "pictures": p.pictures,
        "took_s": p.took.as_secs_f64(),
        "judged_from_s": begun.map(|j| seconds(j.at)),
        "scene_changed_s": changed,
        "events": events,
        "scores": scores,
    })
}

fn event(e: &Seen, settings: &Settings) -> Value {
    json!({
        "start_s": seconds(e.started_at),
        "end_s": seconds(e.ended_at),
        "clip_from_s": seconds(e.clip_from),
        "clip_until_s": seconds(e.clip_until),
        "peak_score": round(e.peak_score),
        "peak_s": seconds(e.peak_at),
        "largest": e.largest.map(|r| json!({
            "x": round(r.x), "y": round(r.y), "w": round(r.w), "h": round(r.h)
        })),
        "tracks": e.tracks,
        "zones": zone_names(&e.zones, &settings.motion.include),
        "ended_by": ended_by(e.reason),
        "continues": e.continues,
    })
}

fn zone_names(zones: &[usize], include: &[Zone]) -> Vec<String> {
    let name = |i: &usize| include.get(*i).map(|z| z.name.clone());
    zones.iter().filter_map(name).collect()
}

fn ended_by(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Stopped => "end_of_clip",
        other => other.code(),
    }
}

/// Corner and size in per cent of the picture.
fn box_text(r: &Region) -> String {
    let percent = |v: f32| format!("{:.0}", v * 100.0);
    format!(
        "{}x{} % at {},{}",
        percent(r.w),
        percent(r.h),
        percent(r.x),
        percent(r.y)
    )
}

fn seconds_text(at: Pts) -> String {
    format!("{:.1} s", seconds(at))
}

/// To the millisecond.
fn seconds(at: Pts) -> f64 {
    (at.0 as f64 / 1e6).round() / 1e3
}

fn round(v: f32) -> f64 {
    (f64::from(v) * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(states: &[State]) -> Vec<Judged> {
        let one = |(i, state): (usize, &State)| Judged {
            at: Pts(i as u64 * 200_000_000),
            state: *state,
            score: 0.0,
            regions: Vec::new(),
        };
        states.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_note_says_what_was_not_judged() {
        assert_eq!(note(&[]), None);
        let short = note(&judged(&[State::Warming; 3])).unwrap();
        assert!(short.contains("too short"), "{short}");
        let all = [
            State::Warming,
            State::Warming,
            State::Quiet,
            State::SceneChanged,
            State::SceneChanged,
            State::Quiet,
            State::SceneChanged,
        ];
        let text = note(&judged(&all)).unwrap();
        assert!(
            text.contains("first 0.4 s") && text.contains("2 time(s)"),
            "{text}"
        );
    }

    #[test]
    fn boxes_and_times_read_well() {
        let r = Region {
            x: 0.25,
            y: 0.5,
            w: 0.1,
            h: 0.304,
            ..Region::default()
        };
        assert_eq!(box_text(&r), "10x30 % at 25,50");
        assert_eq!(seconds_text(Pts(12_345_000_000)), "12.3 s");
        assert_eq!(seconds(Pts(1_234_567_890)), 1.235);
    }
}
