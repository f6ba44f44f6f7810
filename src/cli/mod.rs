//! The command line: one file a command, tables for people, `--json` for programs.
//!
//! Exit codes: 0 done, 1 it did not work, 2 wrong usage, 78 wrong configuration (sysexits `EX_CONFIG`; systemd does
//! not restart on it).

mod check;
mod claim;
mod clips;
mod commands;
mod db;
mod doctor;
mod lists;
mod output;
mod probe;
mod status;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Fault};
use crate::model::Secret;

/// A wrong configuration.
pub const EX_CONFIG: u8 = 78;
/// A configuration file is smaller than this.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Turns this machine and its cameras into a trustworthy security camera.
///
/// Captures V4L2 and RTSP cameras, detects motion, keeps a clip of every event, and brings events to the cloud exactly
/// once. Without a cloud in the configuration it works standalone.
#[derive(Debug, Parser)]
#[command(
    name = "sentrycam",
    version,
    arg_required_else_help = true,
    infer_subcommands = true
)]
pub struct Cli {
    /// Configuration file.
    #[arg(
        short,
        long,
        global = true,
        default_value = "/etc/sentrycam/sentrycam.toml",
        value_name = "FILE"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or Ctrl-C (a second signal ends it at once).
    Run,
    /// Check the configuration and name every fault; exit code 78 if there is one.
    CheckConfig(Format),
    /// List the V4L2 cameras of this machine, or describe one camera or RTSP address and grab a picture.
    Probe(probe::ProbeArgs),
    /// Find this device an owner: open a claim window and show the code to type in.
    Claim(claim::ClaimArgs),
    /// Take the device from its owner, here and now; the cloud hears of it from its owner only.
    Unclaim(claim::UnclaimArgs),
    /// Show cameras, sync, disk and clock of the running agent.
    Status(Format),
    /// Check cameras, owner, cloud, broker, clock, disk, button, light, power and heat, and say for each failure the one
    /// thing to do. Exit code: 0 all well, 1 a warning, 2 a failure.
    Doctor(Format),
    /// List motion events, newest first.
    Events(lists::ListArgs),
    /// List clips, newest first; join what covers a time into one file; keep one from being deleted.
    Clips(clips::ClipsArgs),
    /// List the commands of the cloud and what became of them, newest first.
    Commands(commands::CommandsArgs),
    /// Look at the records that wait for the cloud.
    #[command(subcommand)]
    Outbox(lists::OutboxCommand),
    /// Look after the database and the clips.
    #[command(subcommand)]
    Db(db::DbCommand),
}

/// How to print.
#[derive(Debug, Clone, Copy, Args)]
pub struct Format {
    /// Print JSON for programs instead of a table for people.
    #[arg(long)]
    json: bool,
}

/// Runs the command that was asked for.
pub fn main(cli: Cli) -> anyhow::Result<ExitCode> {
    let path = cli.config;
    match cli.command {
        Command::Run => loop {
            match load(&path)? {
                Ok(config) => {
                    if let Some(code) = crate::daemon::run(config)? {
                        break Ok(code);
                    }
                }
                Err(faults) => break Ok(check::report(&path, &faults, false)),
            }
        },
        Command::CheckConfig(format) => check::run(&path, format),
        Command::Probe(args) => probe::run(args, || {
            load(&path)?.map_err(|faults| {
                anyhow::anyhow!(
                    "the configuration has {} fault(s), see check-config",
                    faults.len()
                )
            })
        }),
        Command::Claim(args) => with_config(&path, |c| claim::claim(&c, &args)),
        Command::Unclaim(args) => with_config(&path, |c| claim::unclaim(&c, &args)),
        Command::Status(format) => with_config(&path, |c| status::run(&c, format)),
        Command::Doctor(format) => with_config(&path, |c| doctor::run(&c, format)),
        Command::Events(args) => with_config(&path, |c| lists::events(&c, &args)),
        Command::Clips(args) => with_config(&path, |c| clips::run(&c, &args)),
        Command::Commands(args) => with_config(&path, |c| commands::run(&c, &args)),
        Command::Outbox(command) => with_config(&path, |c| lists::outbox(&c, &command)),
        Command::Db(command) => with_config(&path, |c| db::run(&c, &command)),
    }
}

fn with_config(
    path: &Path,
    f: impl FnOnce(Config) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    match load(path)? {
        Ok(config) => f(config),
        Err(faults) => Ok(check::report(path, &faults, false)),
    }
}

/// Reads and checks the configuration; the inner error names every fault.
fn load(path: &Path) -> anyhow::Result<Result<Config, Vec<Fault>>> {
    let text = read_bounded(path).with_context(|| {
        format!(
            "cannot read the configuration {} (choose another with --config)",
            path.display()
        )
    })?;
    let handed_over = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    Ok(Config::parse(&text, &|file| {
        read_bounded(&secret_file(path, handed_over.as_deref(), file))
            .map(|s| Secret::new(s.trim_end_matches(['\n', '\r'])))
            .map_err(|e| e.to_string())
    }))
}

/// Where a secret is that the configuration names. A relative name is one of `secrets/` beside the configuration: root
/// reads it there, the service gets it from systemd (`LoadCredential=secrets:…`), which joins names with `_`.
fn secret_file(config: &Path, handed_over: Option<&Path>, file: &Path) -> PathBuf {
    if file.is_absolute() {
        return file.to_owned();
    }
    let beside = config.parent().unwrap_or(Path::new(".")).join("secrets");
    match handed_over {
        Some(dir) => {
            let name = file.to_string_lossy().replace('/', "_");
            dir.join(format!("secrets_{name}"))
        }
        None => beside.join(file),
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_CONFIG_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_relative_secret_is_beside_the_configuration_or_handed_over() {
        let config = Path::new("/etc/sentrycam/sentrycam.toml");
        let find = |handed_over: Option<&str>, file: &str| {
            let handed_over = handed_over.map(Path::new);
            let found = secret_file(config, handed_over, Path::new(file));
            found.to_str().unwrap().to_owned()
        };
        assert_eq!(find(None, "door"), "/etc/sentrycam/secrets/door");
        let run = Some("/run/credentials/sentrycam.service");
        let secret = "/run/credentials/sentrycam.service/secrets_door";
        assert_eq!(find(run, "door"), secret);
        assert_eq!(find(run, "a/b"), secret.replace("door", "a_b"));
        assert_eq!(find(run, "/srv/door"), "/srv/door");
    }
}
