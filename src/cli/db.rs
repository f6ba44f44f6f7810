//! `db check`: is the database sound, and do its rows and the files agree.

use std::collections::HashSet;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::{Format, lists, output};
use crate::config::Config;
use crate::db::{open::quick_check, query};
use crate::spool::{FileKind, Spool};

#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Check the database and compare its rows with the clip files, both ways; changes nothing.
    Check(Format),
}

#[derive(Debug, Default, Serialize)]
struct Report {
    database: String,
    broken_references: i64,
    rows_without_file: Vec<String>,
    files_without_row: Vec<String>,
    clips: usize,
}

impl Report {
    fn is_sound(&self) -> bool {
        self.database == "ok" && self.broken_references == 0 && self.rows_without_file.is_empty()
    }
}

pub fn run(config: &Config, command: &DbCommand) -> anyhow::Result<ExitCode> {
    let DbCommand::Check(format) = command;
    let bar = output::spinner("checking the database and the clips");
    let conn = lists::store(config)?;
    let mut report = Report {
        database: quick_check(&conn).map_or_else(|e| e.to_string(), |()| "ok".into()),
        broken_references: query::broken_references(&conn)?,
        ..Report::default()
    };
    let rows = query::recordings_with_files(&conn)?;
    report.clips = rows.len();
    for row in rows.iter().filter(|r| r.state == "kept") {
        if !config.spool.dir.join(&row.path).exists() {
            report.rows_without_file.push(row.path.clone());
        }
    }
    let known: HashSet<_> = rows.iter().map(|r| r.id).collect();
    for file in Spool::open(&config.spool)?.scan()? {
        if matches!(file.kind, FileKind::Clip | FileKind::Part)
            && file.id.is_none_or(|id| !known.contains(&id))
        {
            report
                .files_without_row
                .push(file.path.display().to_string());
        }
    }
    bar.finish_and_clear();
    let sound = report.is_sound();
    if format.json {
        output::json(&report)?;
    } else {
        println!(
            "database: {}, {} broken reference(s)",
            report.database, report.broken_references
        );
        println!("clips:    {} row(s)", report.clips);
        for path in &report.rows_without_file {
            println!("missing file: {path}");
        }
        for path in &report.files_without_row {
            println!("file without a row: {path}");
        }
        println!("{}", if sound { "all is sound" } else { "not sound" });
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
