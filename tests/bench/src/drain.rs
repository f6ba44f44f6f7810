//! `drain`: a week's backlog into the reference cloud (TLS, signatures, PostgreSQL that syncs every commit) on loopback.
//!
//! Store, uploader and wire are the agent's own; the cloud runs in the same process and on the same cores.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sentrycam::agent::records::{self, MotionDetail};
use sentrycam::agent::time::TimeKeeper;
use sentrycam::agent::uploader::{Pass, Uploader};
use sentrycam::board::clock::Clock;
use sentrycam::board::entropy::Entropy;
use sentrycam::cloud::{Client, Credentials, tls};
use sentrycam::db::events::EventFacts;
use sentrycam::db::{Db, IdSource, Urgency, open, outbox};
use sentrycam::model::{CameraId, EventId, RecordId, Region, Severity};
use sentrycam::outbox::quota::Quotas;
use sentrycam::wire::envelope::Record;
use sentrycam_cloud::testing::Cloud;
use serde_json::json;

use crate::report::{self, Table, word};

/// Records put in one transaction while the store is filled.
const GROUP: usize = 1000;
/// The goal, records a second.
const GOAL: f64 = 2000.0;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Records that wait
    #[arg(long, default_value_t = 100_000)]
    rows: usize,
}

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let machine = report::machine();
    report::head("drain: the outbox into the reference cloud", &machine);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(drain(args.rows, machine))
}

async fn drain(rows: usize, machine: serde_json::Value) -> Result<()> {
    let cloud = Cloud::start().await?;
    let directory = tempfile::tempdir_in(report::directory()?)?;
    let file = directory.path().join("edge.json");
    cloud.write_credentials("bench", &file).await?;

    let (clock, entropy) = (Clock::default(), Entropy::default());
    let time = TimeKeeper::new(clock.clone(), clock.build_time());
    let ids: IdSource = {
        let (entropy, time) = (entropy.clone(), time.clone());
        Arc::new(move || entropy.uuid_v7(time.wall()))
    };
    let options = open::Options {
        dir: directory.path().to_owned(),
        boot: clock.boot_id(),
        clock: time.boot_clock(),
        now: time.wall(),
        quotas: Quotas::default(),
        ids: ids.clone(),
    };
    let handle = tokio::runtime::Handle::current();
    let (db, closer, _) =
        tokio::task::spawn_blocking(move || open::open(options, handle)).await??;

    let filling = Instant::now();
    fill(&db, &ids, &clock, rows).await?;
    let filled_s = filling.elapsed().as_secs_f64();
    let stored = std::fs::metadata(db.path())?.len();

    let source = time.clone();
    let tls = tls::client_config(Some(&cloud.ca_path()), Arc::new(move || source.wall()))?;
    let client = Client::new(Credentials::load(&file)?, tls, Duration::from_secs(60))?;
    let mut uploader = Uploader::new(db.clone(), client, time, entropy);
    let status = uploader.status();
    let (mut passes, began) = (0u64, Instant::now());
    let mut last_pass = Duration::ZERO;
    loop {
        let start = Instant::now();
        match uploader.pass().await? {
            Pass::More => passes += 1,
            Pass::Idle => break,
            Pass::Wait(_) => {
                let why = status.borrow().last_error.clone();
                anyhow::bail!("the cloud does not take records: {why:?}");
            }
        }
        last_pass = last_pass.max(start.elapsed());
    }
    let seconds = began.elapsed().as_secs_f64();
    let commits = db.stats().borrow().commits;
    let found = cloud
        .query("select count(*) as n from edge_records")
        .await?;
    let found = found
        .first()
        .and_then(|r| r["n"].as_u64())
        .context("no count")?;
    ensure!(found == rows as u64, "{found} of {rows} records arrived");
    drop((uploader, db));
    tokio::task::spawn_blocking(move || closer.close()).await??;

    let rate = rows as f64 / seconds;
    let mut table = Table::new(["figure", "value", "goal", ""]);
    let mut row = |figure: &str, value: String, goal: &str, word: &str| {
        table.row([figure.into(), value, goal.into(), word.into()]);
    };
    row(
        "records a second",
        format!("{rate:.0}"),
        ">= 2000",
        word(rate >= GOAL),
    );
    row("records", rows.to_string(), "", "");
    row("seconds", format!("{seconds:.1}"), "", "");
    row("requests", passes.to_string(), "", "");
    row(
        "longest pass, ms",
        format!("{:.0}", last_pass.as_secs_f64() * 1e3),
        "",
        "",
    );
    row(
        "store when full, MiB",
        format!("{:.1}", stored as f64 / 1048576.0),
        "",
        "",
    );
    row(
        "filling it, records a second",
        format!("{:.0}", rows as f64 / filled_s),
        "",
        "",
    );
    table.print();
    let figures = json!({
        "machine": machine, "rows": rows, "seconds": seconds, "records_per_s": rate, "passes": passes,
        "longest_pass_ms": last_pass.as_secs_f64() * 1e3, "store_bytes": stored, "commits": commits,
        "fill_records_per_s": rows as f64 / filled_s,
    });
    report::write("drain", &figures)
}

/// Events as the agent writes them: a start, two updates and an end each.
async fn fill(db: &Db, ids: &IdSource, clock: &Clock, rows: usize) -> Result<()> {
    let camera: CameraId = "cam-1".parse().ok().context("a camera's name")?;
    let mut event = event(ids, clock, &camera);
    for group in (0..rows).step_by(GROUP) {
        let size = GROUP.min(rows - group);
        let records: Vec<Record> = event.by_ref().take(size).collect();
        let put = move |c: &sentrycam::db::Connection, run: &sentrycam::db::Run| {
            records.iter().try_for_each(|r| outbox::put(c, run, r))
        };
        db.call(Urgency::Now, put).await?;
    }
    Ok(())
}

fn event<'a>(
    ids: &'a IdSource,
    clock: &'a Clock,
    camera: &'a CameraId,
) -> impl Iterator<Item = Record> + 'a {
    let regions = [Region {
        x: 0.25,
        y: 0.5,
        w: 0.125,
        h: 0.25,
        ..Region::default()
    }];
    let (mut n, mut id) = (0u32, EventId(ids()));
    std::iter::from_fn(move || {
        let rev = n % 4 + 1;
        n += 1;
        if rev == 1 {
            id = EventId(ids());
        }
        let facts = EventFacts {
            id,
            peak_score: 0.5,
            zones: vec!["drive".into()],
            rev,
        };
        let detail = MotionDetail {
            severity: Severity::Warning,
            score: 0.4,
            regions: &regions,
        };
        let (record, now) = (RecordId(ids()), clock.mono());
        Some(match rev {
            1 => {
                records::motion_started(record, camera, "Motion on cam-1", &facts, detail, now, 5.0)
            }
            2 | 3 => records::motion_updated(record, camera, &facts, detail, now),
            _ => {
                let ending = records::Ending {
                    severity: Severity::Warning,
                    started: now,
                    ended: now,
                    reason: "quiet",
                    recording: None,
                };
                records::motion_ended(record, camera.as_str(), &facts, ending)
            }
        })
    })
}
