//! `clips`: list them, join what covers a time into one file, keep one from being deleted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Format, lists, output};
use crate::agent::records;
use crate::agent::time::TimeKeeper;
use crate::board::clock::Clock;
use crate::board::entropy::Entropy;
use crate::config::Config;
use crate::db::query;
use crate::db::{self, FILE_NAME};
use crate::media::join::{Joined, Joiner};
use crate::model::{CameraId, RecordId, RecordingId};
use crate::recording::joining::{Gap, Source, plan};
use crate::spool::Spool;
use crate::time::Wall;
use crate::units::ByteSize;

/// Times longer than this are certainly a mistake.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ClipsArgs {
    #[command(subcommand)]
    command: Option<ClipsCommand>,
    #[command(flatten)]
    list: lists::ListArgs,
}

#[derive(Debug, Subcommand)]
enum ClipsCommand {
    /// List clips, newest first.
    List(lists::ListArgs),
    /// Join what covers a span of time into one playable MP4, without transcoding. It begins with the key frame at or before
    /// the time asked for; what no clip shows is skipped and told.
    Export(ExportArgs),
    /// Keep a clip, whatever the quotas say.
    Lock {
        /// Its id, as `clips --json` shows it.
        id: RecordingId,
    },
    /// Let a clip go like any other.
    Unlock {
        /// Its id, as `clips --json` shows it.
        id: RecordingId,
    },
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// Of this camera.
    #[arg(long, value_name = "ID")]
    camera: CameraId,
    /// From here on, e.g. 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = lists::time)]
    from: Wall,
    /// Up to here.
    #[arg(long, value_name = "TIME", value_parser = lists::time)]
    to: Wall,
    /// To this file, which must not be there yet; ends in .mp4.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Where the picture changed its size or codec, go on in another file (FILE-2.mp4, …) instead of refusing.
    #[arg(long)]
    split: bool,
    #[command(flatten)]
    format: Format,
}

pub fn run(config: &Config, args: &ClipsArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        None => list(config, &args.list),
        Some(ClipsCommand::List(args)) => list(config, args),
        Some(ClipsCommand::Export(args)) => export(config, args),
        Some(ClipsCommand::Lock { id }) => lock(config, *id, true),
        Some(ClipsCommand::Unlock { id }) => lock(config, *id, false),
    }
}

fn list(config: &Config, args: &lists::ListArgs) -> anyhow::Result<ExitCode> {
    let clips = query::clips(&lists::store(config)?, &args.filter())?;
    if args.format.json {
        output::json(&clips)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(&[
        "STARTED (UTC)",
        "CAMERA",
        "LENGTH",
        "SIZE",
        "STATE",
        "FORMAT",
        "FILE",
    ]);
    for c in &clips {
        let mut state = c.state.clone();
        for (is, word) in [(c.truncated, "truncated"), (c.locked, "locked")] {
            if is {
                state = format!("{state}, {word}");
            }
        }
        if let Some(why) = &c.deleted_why {
            state = format!("{state} ({why})");
        }
        table.add_row([
            lists::short(&c.started_at),
            c.camera.clone(),
            c.duration_s
                .map(|s| format!("{s:.1} s"))
                .unwrap_or_default(),
            c.size_bytes
                .map(|n| ByteSize(n).to_string())
                .unwrap_or_default(),
            state,
            c.format.clone(),
            config.spool.dir.join(&c.path).display().to_string(),
        ]);
    }
    output::print(&table, "no clips yet")?;
    Ok(ExitCode::SUCCESS)
}

fn lock(config: &Config, id: RecordingId, locked: bool) -> anyhow::Result<ExitCode> {
    // A second writer: SQLite's own lock keeps it apart from the agent's, whose uploader finds the record.
    let path = config.state_dir.join(FILE_NAME);
    anyhow::ensure!(path.exists(), "{} is not there", path.display());
    let mut conn = db::schema::open_writer(&path)?;
    let (clock, entropy) = (Clock::default(), Entropy::default());
    let time = TimeKeeper::new(clock.clone(), clock.build_time());
    let ids: db::IdSource = {
        let time = time.clone();
        Arc::new(move || entropy.uuid_v7(time.wall()))
    };
    let record = RecordId((ids)());
    let tx = conn.transaction_with_behavior(db::TransactionBehavior::Immediate)?;
    let run = db::open::beside(&tx, clock.boot_id(), time.boot_clock(), ids)?;
    let state = records::lock(&tx, &run, id, locked, record, time.mono())?;
    tx.commit()?;
    match state.as_deref() {
        None => anyhow::bail!("there is no clip {id}"),
        Some("kept" | "recording") => {
            println!("{id} is {}", if locked { "locked" } else { "unlocked" });
            Ok(ExitCode::SUCCESS)
        }
        Some(state) => anyhow::bail!("the clip is {state} already"),
    }
}

fn export(config: &Config, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.to > args.from, "--to must be later than --from");
    anyhow::ensure!(
        args.to.since_us(args.from) <= LONGEST.as_micros() as i64,
        "more than {} h are asked for: export it in parts",
        LONGEST.as_secs() / 3600
    );
    let mp4 = args.output.extension().is_some_and(|e| e == "mp4");
    anyhow::ensure!(mp4, "{} must end in .mp4", args.output.display());
    // A bare name has no directory that could be synced.
    let output = std::path::absolute(&args.output)?;
    let dir = output.parent().unwrap_or(Path::new("/"));
    anyhow::ensure!(
        dir.is_dir(),
        "there is no directory {}: make it first",
        dir.display()
    );
    let conn = lists::store(config)?;
    let spans = query::covering(&conn, &args.camera, args.from, args.to)?;
    drop(conn);
    let spool = Spool::new(&config.spool);
    let clips = spans
        .iter()
        .map(|span| Source {
            key: spool.clip_path(&args.camera, span.id),
            start: span.start,
            end: span.end,
        })
        .collect();
    let (pieces, gaps) = plan(clips, args.from, args.to);
    anyhow::ensure!(
        !pieces.is_empty(),
        "no clip of camera {} shows that time (see `sentrycam clips --camera {}`{})",
        args.camera,
        args.camera,
        if config.cameras.iter().any(|c| c.id == args.camera) {
            ""
        } else {
            "; the configuration has no camera of this name"
        }
    );
    anyhow::ensure!(
        !output.exists(),
        "{} exists already: remove it or choose another name",
        args.output.display()
    );
    crate::media::init().context("GStreamer is not complete")?;
    let bar = output::bar("joining clips", pieces.len() as u64);
    let mut joiner = Joiner::new(&output, args.split);
    for piece in &pieces {
        joiner
            .add(piece)
            .with_context(|| format!("cannot join {}", piece.key.display()))?;
        bar.inc(1);
    }
    let joined = joiner.finish()?;
    bar.finish_and_clear();
    tell(args, &joined, &gaps)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(args: &ExportArgs, joined: &[Joined], gaps: &[Gap]) -> anyhow::Result<()> {
    if args.format.json {
        let files: Vec<_> = joined.iter().map(file_json).collect();
        let gaps: Vec<_> = gaps
            .iter()
            .map(|g| json!({ "from": g.from.rfc3339(), "to": g.until.rfc3339(), "seconds": seconds(g) }))
            .collect();
        return output::json(&json!({ "files": files, "gaps": gaps }));
    }
    for file in joined {
        println!(
            "{}: {}, {:.1} s from {} UTC, {} clip(s), {}{}",
            file.path.display(),
            ByteSize(file.size_bytes),
            file.duration.as_secs_f64(),
            lists::short(&file.begins.rfc3339()),
            file.clips,
            file.format,
            if file.without_audio {
                ", without sound: not every clip has it"
            } else {
                ""
            }
        );
    }
    for gap in gaps {
        println!(
            "nothing shows {} to {} UTC ({:.1} s)",
            lists::short(&gap.from.rfc3339()),
            lists::short(&gap.until.rfc3339()),
            seconds(gap)
        );
    }
    Ok(())
}

fn seconds(gap: &Gap) -> f64 {
    gap.until.since_us(gap.from) as f64 / 1e6
}

fn file_json(file: &Joined) -> serde_json::Value {
    let path: &Path = &file.path;
    json!({ "path": path, "size_bytes": file.size_bytes, "duration_s": file.duration.as_secs_f64(),
            "begins_at": file.begins.rfc3339(), "clips": file.clips, "format": file.format,
            "frames": file.frames, "without_audio": file.without_audio, "sha256": file.sha256.to_string() })
}
