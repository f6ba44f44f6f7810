//! `motion`: recorded clips judged by the live code, so that settings are chosen by looking instead of guessing.

mod clips;
mod eval;
mod labels;
mod pictures;
mod replay;
mod settings;
mod suggest;

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::check;
use crate::config::Fault;

#[derive(Debug, Subcommand)]
pub enum MotionCommand {
    /// Run detection over recorded clips, faster than real time: events, scores, an annotated video, a contact sheet.
    Replay(replay::ReplayArgs),
    /// Propose exclude zones and a sensitivity from clips labelled wanted and unwanted, and say what they would change.
    Suggest(suggest::SuggestArgs),
    /// Score detection against labelled footage: masks by the CDnet protocol, and intervals.
    Eval(eval::EvalArgs),
}

/// Runs what was asked for; `config` is the file that the command line names.
pub fn run(command: &MotionCommand, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    match command {
        MotionCommand::Replay(args) => replay::run(args, config),
        MotionCommand::Suggest(args) => suggest::run(args, config),
        MotionCommand::Eval(args) => eval::run(args, config),
    }
}

/// Says what is wrong with the configuration.
fn faulty(config: Option<&Path>, faults: &[Fault], as_json: bool) -> ExitCode {
    check::report(config.unwrap_or(Path::new(super::CONFIG)), faults, as_json)
}
