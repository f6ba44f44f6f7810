//! `commands`: what the cloud asked for and what became of it.

use std::process::ExitCode;

use clap::Args;

use super::{Format, lists, output};
use crate::config::Config;
use crate::db::commands;

#[derive(Debug, Args)]
pub struct CommandsArgs {
    /// At most this many.
    #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
    limit: u32,
    #[command(flatten)]
    format: Format,
}

pub fn run(config: &Config, args: &CommandsArgs) -> anyhow::Result<ExitCode> {
    let commands = commands::list(&lists::store(config)?, args.limit)?;
    if args.format.json {
        output::json(&commands)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(&[
        "RECEIVED (UTC)",
        "N",
        "COMMAND",
        "WAY",
        "STATE",
        "TOOK",
        "WHY",
        "ID",
    ]);
    for c in &commands {
        let why = [c.code.as_deref(), c.detail.as_deref()];
        table.add_row([
            lists::short(&c.received_at),
            c.n.to_string(),
            c.r#type.clone(),
            c.way.clone(),
            c.state.clone(),
            c.took_s.map(output::age).unwrap_or_default(),
            why.into_iter().flatten().collect::<Vec<_>>().join(": "),
            c.id.to_string(),
        ]);
    }
    output::print(&table, "no commands yet")?;
    Ok(ExitCode::SUCCESS)
}
