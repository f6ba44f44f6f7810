//! `motion suggest`: exclude zones and a sensitivity from clips labelled wanted and unwanted.
//!
//! The clips are decoded twice. First every sensitivity sees them without new zones, and where things move is noted; then
//! the zones that follow from that are tried, each with its sensitivity. What is printed was replayed, not estimated.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::clips;
use super::labels::{self, Labelled};
use super::settings::{Settings, SettingsArgs};
use crate::cli::{Format, output};
use crate::config::MotionConfig;
use crate::motion::Verdict;
use crate::time::Pts;
use crate::tuning::heat::Heat;
use crate::tuning::replay::{Replay, Seen};
use crate::tuning::suggest::{self, Tally, Trial, best, snippet, with_zones};
use crate::tuning::zones::area;

#[derive(Debug, Args)]
pub struct SuggestArgs {
    /// CLIP=wanted or CLIP=unwanted, or a directory with the folders wanted and unwanted.
    #[arg(value_name = "CLIP=LABEL")]
    clips: Vec<String>,
    /// Clips with something that must be found (or directories of them); CLIP@FROM-TO in seconds where only a part counts.
    #[arg(long, num_args = 1.., value_name = "CLIP")]
    wanted: Vec<String>,
    /// Clips with nothing that must be found, in the same forms.
    #[arg(long, num_args = 1.., value_name = "CLIP")]
    unwanted: Vec<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    format: Format,
}

/// What all clips showed to one set of settings.
struct Outcome {
    tally: Tally,
    /// Events of each clip.
    events: Vec<Vec<Seen>>,
}

pub fn run(args: &SuggestArgs, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let clips = labels::read(&args.clips, &args.wanted, &args.unwanted)?;
    let settings = match args.settings.load(config)? {
        Ok(settings) => settings,
        Err(faults) => return Ok(super::faulty(config, &faults, args.format.json)),
    };
    let alone: Vec<Trial> = (1..=10)
        .map(|sensitivity| Trial {
            sensitivity,
            zones: Vec::new(),
        })
        .collect();
    let (first, heats) = replay(&clips, &settings, &alone, "looking at each sensitivity")?;
    let tallies: Vec<Tally> = first.iter().map(|o| o.tally).collect();
    let unwanted: Vec<Heat> = heats.iter().map(|h| h.1.clone()).collect();
    let everything = heats.last().map(|h| h.0.clone()).unwrap_or_default();
    let configured = settings.motion.exclude.len();
    let current = settings.motion.sensitivity;
    let zoned = with_zones(&tallies, &unwanted, &everything, current, configured);
    let second = if zoned.is_empty() {
        Vec::new()
    } else {
        replay(&clips, &settings, &zoned, "trying zones")?.0
    };
    let mut outcomes = first;
    outcomes.extend(second);
    let trials: Vec<(Trial, Tally)> = alone
        .into_iter()
        .chain(zoned)
        .zip(outcomes.iter().map(|o| o.tally))
        .collect();
    let chosen = best(&trials, current).context("nothing was tried")?;
    let now = usize::from(current.clamp(1, 10)) - 1;
    let report = Report {
        clips: &clips,
        settings: &settings,
        trials: &trials,
        outcomes: &outcomes,
        now,
        chosen,
    };
    if args.format.json {
        output::json(&report.json())?;
    } else {
        report.tell()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Of each trial: its outcome, and where things moved in wanted and in unwanted clips.
type Replayed = (Vec<Outcome>, Vec<(Heat, Heat)>);

/// Replays every trial over every clip, all trials at once, so that each clip is decoded once.
fn replay(
    clips: &[Labelled],
    settings: &Settings,
    trials: &[Trial],
    what: &'static str,
) -> anyhow::Result<Replayed> {
    let configs: Option<Vec<MotionConfig>> = trials
        .iter()
        .map(|t| suggest::settings(&settings.motion, t))
        .collect();
    let configs = configs.context("a proposed zone is not valid")?;
    let mut outcomes: Vec<Outcome> = trials
        .iter()
        .map(|_| Outcome {
            tally: Tally::default(),
            events: Vec::new(),
        })
        .collect();
    let mut heats = vec![(Heat::default(), Heat::default()); trials.len()];
    for clip in clips {
        let label = clip.label;
        let mut replays: Vec<Replay> = configs
            .iter()
            .map(|c| Replay::new(c, &settings.recording))
            .collect();
        let mut last: Option<Pts> = None;
        let played = clips::play(&clip.path, settings.motion.fps, what, |frame| {
            let view = frame.view();
            let seconds = last.map_or(0.0, |l| frame.pts.since(l).as_secs_f32().min(1.0));
            last = Some(frame.pts);
            for (replay, heat) in replays.iter_mut().zip(&mut heats) {
                let verdict = replay.see(&view);
                if !label.holds(frame.pts) {
                    continue;
                }
                let heat = if label.wanted {
                    &mut heat.0
                } else {
                    &mut heat.1
                };
                match &verdict {
                    Verdict::Motion(activity) => heat.add(&activity.regions, seconds),
                    _ => heat.add(&[], seconds),
                }
            }
        });
        if let Some(fault) = played.fault {
            // A proposal from half of the clips would look like one from all.
            bail!("{fault}; leave it out or replace it");
        }
        for (outcome, replay) in outcomes.iter_mut().zip(replays) {
            let events = replay.finish();
            outcome.tally.count(label, &events);
            outcome.events.push(events);
        }
    }
    Ok((outcomes, heats))
}

struct Report<'a> {
    clips: &'a [Labelled],
    settings: &'a Settings,
    trials: &'a [(Trial, Tally)],
    outcomes: &'a [Outcome],
    now: usize,
    chosen: usize,
}

impl Report<'_> {
    fn changes(&self) -> bool {
        self.chosen != self.now
    }

    fn snippet(&self) -> String {
        snippet(
            &self.trials[self.chosen].0,
            self.settings.motion.exclude.len(),
        )
    }

    fn missed(&self) -> Vec<&Path> {
        let missed = |clip: &Labelled, events: &[Seen]| {
            let mut tally = Tally::default();
            tally.count(clip.label, events);
            clip.label.wanted && tally.found == 0
        };
        let all = self.clips.iter().zip(&self.outcomes[self.chosen].events);
        all.filter(|(clip, events)| missed(clip, events))
            .map(|(clip, _)| clip.path.as_path())
            .collect()
    }

    fn json(&self) -> Value {
        let (trial, after) = &self.trials[self.chosen];
        let clips: Vec<Value> = self
            .clips
            .iter()
            .enumerate()
            .map(|(i, clip)| {
                json!({
                    "clip": clip.path,
                    "wanted": clip.label.wanted,
                    "events_before": self.outcomes[self.now].events[i].len(),
                    "events_after": self.outcomes[self.chosen].events[i].len(),
                })
            })
            .collect();
        let by_sensitivity: Vec<Value> = self
            .trials
            .iter()
            .take(10)
            .map(|(t, tally)| json!({ "sensitivity": t.sensitivity, "result": tally }))
            .collect();
        json!({
            "settings": self.settings.json(),
            "changes": self.changes(),
            "sensitivity": trial.sensitivity,
            "exclude": trial.zones,
            "excluded_share": area(&trial.zones),
            "toml": self.snippet(),
            "before": self.trials[self.now].1,
            "after": after,
            "missed": self.missed(),
            "clips": clips,
            "by_sensitivity": by_sensitivity,
        })
    }

    fn tell(&self) -> anyhow::Result<()> {
        let (trial, _) = &self.trials[self.chosen];
        say(&format!(
            "{} clip(s); {}",
            self.clips.len(),
            self.settings.line()
        ))?;
        let mut table = output::table(&[
            "",
            "SENSITIVITY",
            "NEW ZONES",
            "WANTED FOUND",
            "FALSE EVENTS",
            "FALSE SECONDS",
        ]);
        for (name, index) in [("now", self.now), ("proposed", self.chosen)] {
            let (t, tally) = &self.trials[index];
            table.add_row([
                name.to_owned(),
                t.sensitivity.to_string(),
                format!(
                    "{} ({:.0} % of the picture)",
                    t.zones.len(),
                    area(&t.zones) * 100.0
                ),
                format!("{} of {}", tally.found, tally.wanted),
                format!(
                    "{} in {} of {} clips",
                    tally.false_events, tally.false_clips, tally.unwanted
                ),
                format!("{:.1}", tally.false_s),
            ]);
        }
        output::print(&table, "")?;
        for path in self.missed() {
            say(&format!(
                "{} is wanted, and the proposal finds nothing in it (nor does a better one that was tried)",
                path.display()
            ))?;
        }
        if !self.changes() {
            return say("The settings in force are the best that was tried; nothing to change.");
        }
        let of = self.settings.camera.as_deref().unwrap_or("the camera");
        let was = self.settings.motion.sensitivity;
        let note = match trial.sensitivity {
            same if same == was => String::new(),
            _ => format!(" (sensitivity is {was} now)"),
        };
        say(&format!(
            "\nFor [camera.motion] of {of}{note}; its other keys stay:\n\n{}",
            self.snippet()
        ))
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}
