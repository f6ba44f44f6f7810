//! `db check`: is the database sound, and do its rows and the files agree; with `--repair` they do afterwards.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Format, output};
use crate::agent::reindex::{Key, Reindexed, Reindexer, Survey, survey};
use crate::agent::startup;
use crate::agent::time::TimeKeeper;
use crate::board::clock::Clock;
use crate::board::entropy::Entropy;
use crate::config::Config;
use crate::db::retention::FileId;
use crate::db::{self, Connection, DbError, FILE_NAME, IdSource, open, query};
use crate::outbox::quota::Quotas;
use crate::recording::audit::Finding;
use crate::spool::Spool;

/// Findings that are printed; the rest is counted.
const SHOWN: usize = 50;

#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Check the database and compare its rows with the files, both ways. Exit code: 0 all is sound, 1 something is wrong.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Put it in order: a damaged database is salvaged, files without a row get one (also after the database was lost), rows
    /// without a file say lost. Only while no agent runs.
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    database: String,
    broken_references: i64,
    rows: usize,
    files: usize,
    foreign_files: usize,
    agent_runs: bool,
    findings: Vec<Found>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<Reindexed>,
    sound: bool,
}

#[derive(Debug, Serialize)]
struct Found {
    finding: Finding,
    path: String,
}

pub fn run(config: &Config, command: &DbCommand) -> anyhow::Result<ExitCode> {
    let DbCommand::Check(args) = command;
    let agent_runs = open::is_held(&config.state_dir);
    anyhow::ensure!(
        !(args.repair && agent_runs),
        "an agent has the database open: stop it first (systemctl stop sentrycam)"
    );
    let repaired = if args.repair {
        Some(repair(config)?)
    } else {
        None
    };
    let bar = output::spinner("checking the database and the clips");
    let mut report = check(config, agent_runs)?;
    bar.finish_and_clear();
    report.repaired = repaired;
    report.sound &= repaired.is_none_or(|r| r.failed == 0);
    if args.format.json {
        output::json(&report)?;
    } else {
        show(&report);
    }
    Ok(if report.sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn reader(config: &Config) -> Result<Option<Connection>, DbError> {
    let path = config.state_dir.join(FILE_NAME);
    if path.exists() {
        db::schema::open_reader(&path).map(Some)
    } else {
        Ok(None)
    }
}

fn check(config: &Config, agent_runs: bool) -> anyhow::Result<Report> {
    let mut report = Report {
        agent_runs,
        ..Report::default()
    };
    let spool = Spool::new(&config.spool);
    let mut readable = false;
    match reader(config) {
        Ok(Some(conn)) => {
            let check = open::quick_check(&conn)
                .and_then(|()| query::broken_references(&conn))
                .and_then(|broken| Ok((broken, query::all_files(&conn)?)));
            match check {
                Ok((broken, _)) => {
                    report.broken_references = broken;
                    report.database = "ok".into();
                    readable = true;
                }
                Err(e) => report.database = e.to_string(),
            }
        }
        Ok(None) => report.database = "not there".into(),
        Err(e) => report.database = e.to_string(),
    }
    let conn = || {
        if readable { reader(config) } else { Ok(None) }
    };
    let survey: Survey = survey(conn, &spool, agent_runs).map_err(anyhow::Error::msg)?;
    (report.rows, report.files) = (survey.rows, survey.files);
    report.foreign_files = survey.foreign.len();
    let empty = report.database == "not there" && report.files == 0;
    report.sound = (report.database == "ok" || empty)
        && report.broken_references == 0
        && !survey.findings.iter().any(|(_, f)| f.is_fault());
    report.findings = survey
        .findings
        .into_iter()
        .map(|(key, finding)| Found {
            finding,
            path: path(config, &key),
        })
        .collect();
    Ok(report)
}

fn path(config: &Config, (camera, id): &Key) -> String {
    let extension = match id {
        FileId::Clip(_) => "mp4",
        FileId::Picture(_) => "jpg",
    };
    let dir = config.spool.dir.join(camera);
    dir.join(format!("{}.{extension}", id.uuid().hyphenated()))
        .display()
        .to_string()
}

/// Salvages the database, then does what an agent's start does, then puts every finding in order.
fn repair(config: &Config) -> anyhow::Result<Reindexed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("cannot make {}", config.state_dir.display()))?;
    let clock = Clock::default();
    let time = TimeKeeper::new(clock.clone(), clock.build_time());
    let entropy = Entropy::default();
    let ids: IdSource = {
        let time = time.clone();
        Arc::new(move || entropy.uuid_v7(time.wall()))
    };
    let options = open::Options {
        dir: config.state_dir.clone(),
        boot: clock.boot_id(),
        clock: time.boot_clock(),
        now: time.wall(),
        quotas: Quotas::default(),
        ids: ids.clone(),
    };
    let bar = output::spinner("checking the database");
    let (db, closer, report) =
        open::open(options, runtime.handle().clone()).context("cannot open the database")?;
    bar.finish_and_clear();
    if let Some((aside, salvage)) = &report.recovered {
        eprintln!(
            "the database was damaged: {} row(s) salvaged, the damaged file is {}",
            salvage.salvaged,
            aside.display()
        );
    }
    let spool = Spool::new(&config.spool);
    let now = time.mono();
    let work = async {
        startup::repair(&db, &spool, &ids, now).await?;
        let survey = survey(|| reader(config), &spool, false).map_err(anyhow::Error::msg)?;
        let reindexer = Reindexer {
            db: db.clone(),
            spool: spool.clone(),
            ids: ids.clone(),
            now,
        };
        let bar = output::bar("putting files in order", survey.findings.len() as u64);
        let mut sum = Reindexed::default();
        for (key, finding) in &survey.findings {
            reindexer.put_in_order(key, *finding, &mut sum).await;
            bar.inc(1);
        }
        bar.finish_and_clear();
        anyhow::Ok(sum)
    };
    let sum = runtime.block_on(work);
    drop(db);
    closer.close().context("the database did not close")?;
    sum
}

fn show(report: &Report) {
    println!(
        "database: {}, {} broken reference(s)",
        report.database, report.broken_references
    );
    println!("rows:     {} of clips and pictures", report.rows);
    println!("files:    {}", report.files);
    if report.foreign_files > 0 {
        println!("          {} more that are not ours", report.foreign_files);
    }
    if let Some(r) = &report.repaired {
        println!(
            "repaired: {} adopted, {} corrected, {} lost, {} removed, {} failed",
            r.adopted, r.corrected, r.lost, r.removed, r.failed
        );
    }
    for found in report.findings.iter().take(SHOWN) {
        println!("{}: {}", found.finding.text(), found.path);
    }
    if report.findings.len() > SHOWN {
        println!("and {} more (see --json)", report.findings.len() - SHOWN);
    }
    println!(
        "{}",
        match (report.sound, report.repaired.is_some()) {
            (true, _) => "all is sound",
            (false, true) => "not sound: see the log above",
            (false, false) => "not sound: `sentrycam db check --repair` puts it in order",
        }
    );
}
