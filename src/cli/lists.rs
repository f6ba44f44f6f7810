//! `events` and `outbox`: what the store holds, read beside a running agent.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{Format, output};
use crate::config::Config;
use crate::db::query::{self, Filter};
use crate::db::{self, Connection, FILE_NAME};
use crate::model::RecordId;
use crate::time::Wall;

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this camera.
    #[arg(long, value_name = "ID")]
    camera: Option<String>,
    /// Only from this time on, e.g. 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Wall>,
    /// At most this many.
    #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
    limit: u32,
    #[command(flatten)]
    pub format: Format,
}

#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// List the records that wait for the cloud, oldest first.
    Ls {
        /// The records that the cloud refused instead.
        #[arg(long)]
        dead: bool,
        /// At most this many.
        #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
        limit: u32,
        #[command(flatten)]
        format: Format,
    },
    /// Put refused records back, to be sent again: all, or one.
    Retry {
        /// Only this record.
        id: Option<RecordId>,
    },
    /// Write all waiting and refused records as JSON lines.
    Export {
        /// To this file instead of the standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// RFC 3339, or as the tables print it: UTC without a zone.
pub fn time(text: &str) -> Result<Wall, String> {
    Wall::parse_rfc3339(text)
        .or_else(|| Wall::parse_rfc3339(&format!("{}Z", text.replacen(' ', "T", 1))))
        .ok_or_else(|| {
            "expected a time such as 2026-11-21T08:00:00Z or \"2026-11-21 08:00:00\" (UTC)".into()
        })
}

impl ListArgs {
    pub fn filter(&self) -> Filter {
        Filter {
            camera: self.camera.clone(),
            since: self.since,
            limit: self.limit,
        }
    }
}

/// Opens the store for reading.
pub fn store(config: &Config) -> anyhow::Result<Connection> {
    let path = config.state_dir.join(FILE_NAME);
    anyhow::ensure!(
        path.exists(),
        "{} is not there: the agent has not run with this state directory yet",
        path.display()
    );
    db::schema::open_reader(&path).with_context(|| format!("cannot open {}", path.display()))
}

/// `2026-11-21T08:00:00.000Z` is too wide for a table.
pub fn short(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

pub fn events(config: &Config, args: &ListArgs) -> anyhow::Result<ExitCode> {
    let events = query::events(&store(config)?, &args.filter())?;
    if args.format.json {
        output::json(&events)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(&[
        "STARTED (UTC)",
        "CAMERA",
        "STATE",
        "ENDED (UTC)",
        "PEAK",
        "ZONES",
        "CLIP",
        "PICTURE",
    ]);
    for e in &events {
        let zones = e.zones.as_array().map(|z| {
            z.iter()
                .filter_map(|v| v.as_str())
                .collect::<Vec<_>>()
                .join(",")
        });
        table.add_row([
            short(&e.started_at),
            e.camera.clone(),
            e.end_reason
                .as_ref()
                .map_or(e.state.clone(), |r| format!("{} ({r})", e.state)),
            e.ended_at.as_deref().map(short).unwrap_or_default(),
            format!("{:.2}", e.peak_score),
            zones.unwrap_or_default(),
            e.clip.clone().unwrap_or_default(),
            e.annotated
                .clone()
                .or(e.thumbnail.clone())
                .or(e.no_picture.as_ref().map(|why| format!("none: {why}")))
                .unwrap_or_default(),
        ]);
    }
    output::print(&table, "no events yet")?;
    Ok(ExitCode::SUCCESS)
}

pub fn outbox(config: &Config, command: &OutboxCommand) -> anyhow::Result<ExitCode> {
    match command {
        OutboxCommand::Ls {
            dead,
            limit,
            format,
        } => list_outbox(config, *dead, *limit, *format),
        OutboxCommand::Retry { id } => {
            // A second writer: SQLite's own lock keeps it apart from the agent's.
            let conn = db::schema::open_writer(&config.state_dir.join(FILE_NAME))?;
            let revived = db::dead_letter::revive(&conn, *id)?;
            println!("{revived} record(s) will be sent again");
            Ok(if revived > 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        OutboxCommand::Export { output } => export(config, output.as_ref()),
    }
}

fn list_outbox(
    config: &Config,
    dead: bool,
    limit: u32,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let lines = query::outbox(&store(config)?, dead, limit)?;
    if format.json {
        output::json(&lines)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(&[
        "SEQ",
        "CLASS",
        "RECORD",
        "CAMERA",
        "MADE (UTC)",
        "SENT",
        "REFUSED",
        "ID",
    ]);
    for l in &lines {
        table.add_row([
            l.seq.to_string(),
            l.class.to_owned(),
            l.kind.clone(),
            l.subject.clone().unwrap_or_default(),
            short(&l.made_at),
            l.attempts.to_string(),
            l.refused.clone().unwrap_or_default(),
            l.id.to_string(),
        ]);
    }
    output::print(
        &table,
        if dead {
            "no refused records"
        } else {
            "nothing waits for the cloud"
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

fn export(config: &Config, path: Option<&PathBuf>) -> anyhow::Result<ExitCode> {
    let conn = store(config)?;
    let mut out: Box<dyn std::io::Write> = match path {
        Some(path) => Box::new(std::io::BufWriter::new(
            std::fs::File::create(path)
                .with_context(|| format!("cannot write {}", path.display()))?,
        )),
        None => Box::new(std::io::stdout().lock()),
    };
    let bar = output::spinner("exporting records");
    let mut count = 0u64;
    for dead in [false, true] {
        for line in query::outbox(&conn, dead, u32::MAX)? {
            serde_json::to_writer(&mut out, &line)?;
            writeln!(out)?;
            count += 1;
        }
    }
    out.flush()?;
    bar.finish_and_clear();
    eprintln!("{count} record(s) exported");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_a_table_is_read_as_utc() {
        let noon = time("2026-11-21T12:00:00Z").unwrap();
        for text in [
            "2026-11-21 12:00:00",
            "2026-11-21T12:00:00",
            "2026-11-21T13:00:00+01:00",
        ] {
            assert_eq!(time(text), Ok(noon), "{text}");
        }
        assert!(time("noon").is_err() && time("12:00").is_err());
    }
}
