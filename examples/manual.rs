//! Writes the manual pages and the completions for bash, zsh and fish, as the command line itself describes them:
//! `manual DIR` makes `DIR/man`, `DIR/bash`, `DIR/zsh`, `DIR/fish`. For the package; see `cross/deb.sh`.

use std::path::Path;

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

const PROGRAM: &str = "sentrycam";

fn main() -> anyhow::Result<()> {
    let dir = std::env::args_os().nth(1).context("usage: manual DIR")?;
    let dir = Path::new(&dir);
    let mut command = sentrycam::cli::Cli::command();
    for (shell, name) in [
        (Shell::Bash, "bash"),
        (Shell::Zsh, "zsh"),
        (Shell::Fish, "fish"),
    ] {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir)?;
        clap_complete::generate_to(shell, &mut command, PROGRAM, dir)?;
    }
    let man = dir.join("man");
    std::fs::create_dir_all(&man)?;
    // A page a command; no date, so that the same source makes the same page.
    clap_mangen::generate_to(without_help(sentrycam::cli::Cli::command()), man)
        .context("cannot write the manual")
}

/// Without the commands that only show help.
fn without_help(command: Command) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|c| c.get_name().to_owned())
        .collect();
    names
        .iter()
        .fold(command.disable_help_subcommand(true), |c, name| {
            c.mut_subcommand(name, without_help)
        })
}
