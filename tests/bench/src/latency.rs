//! `latency`: from the first moving frame to the committed row in the cloud's PostgreSQL.
//!
//! The test camera says when it shows the first moving frame, the agent's own store says when it saw it (the time of
//! the event's start), its log says when it decided, and the cloud's database is asked every millisecond or two
//! whether the row is there. All moments are CLOCK_BOOTTIME of this machine.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sentrycam::board::clock::Clock;
use sentrycam::time::Mono;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Codec, Options, Picture, Scene, Source, TestCamera};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::process::{Running, command};
use crate::report::{self, Table, percentile, sibling};

const SCENE: Scene = Scene {
    quiet: 6,
    motion: 2,
};
const FPS: u32 = 15;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Events, one every 8 s
    #[arg(long, default_value_t = 40)]
    events: usize,
}

/// Moments that were noted on the way.
#[derive(Debug, Clone, Default)]
struct Notes(Arc<Mutex<Vec<(Mono, Uuid)>>>);

impl Notes {
    fn add(&self, at: Mono, id: Uuid) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((at, id));
    }

    fn of(&self, id: Uuid) -> Option<Mono> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().find(|(_, i)| *i == id).map(|(at, _)| *at)
    }

    fn last_before(&self, moment: Mono) -> Option<Mono> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes
            .iter()
            .map(|(at, _)| *at)
            .filter(|at| *at <= moment)
            .max()
    }
}

/// One event's way in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Shown by the camera → on the agent's clock.
    shown_to_seen: f64,
    /// Seen → decided.
    seen_to_decided: f64,
    /// Decided → committed by the cloud.
    decided_to_row: f64,
    /// Seen → committed by the cloud: the figure.
    seen_to_row: f64,
    /// Shown → committed by the cloud.
    shown_to_row: f64,
}

/// Reads one figure of a way.
type Part = fn(&Way) -> f64;

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let machine = report::machine();
    report::head(
        "latency: first moving frame to the row in PostgreSQL",
        &machine,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ways = runtime.block_on(measure(args.events))?;
    ensure!(!ways.is_empty(), "no event arrived");
    let mut table = Table::new(["milliseconds", "p50", "p99", "worst"]);
    let mut figures = json!({ "machine": machine, "events": ways.len() });
    let parts: [(&str, &str, Part); 5] = [
        (
            "first moving frame at the agent -> row",
            "seen_to_row_ms",
            |w| w.seen_to_row,
        ),
        (
            "  of it: until motion is confirmed",
            "seen_to_decided_ms",
            |w| w.seen_to_decided,
        ),
        (
            "  of it: commit here, request, commit there",
            "decided_to_row_ms",
            |w| w.decided_to_row,
        ),
        ("shown by the camera -> row", "shown_to_row_ms", |w| {
            w.shown_to_row
        }),
        (
            "  of it: camera, encoder, network, frames not looked at",
            "shown_to_seen_ms",
            |w| w.shown_to_seen,
        ),
    ];
    for (name, key, part) in parts {
        let mut values: Vec<f64> = ways.iter().map(part).collect();
        values.sort_by(f64::total_cmp);
        let [p50, p99, worst] = [0.5, 0.99, 1.0].map(|p| percentile(&values, p));
        table.row([
            name.into(),
            format!("{p50:.0}"),
            format!("{p99:.0}"),
            format!("{worst:.0}"),
        ]);
        figures[key] = json!({ "p50": p50, "p99": p99, "worst": worst });
    }
    println!("{} events\n", ways.len());
    table.print();
    report::write("latency", &figures)
}

async fn measure(events: usize) -> Result<Vec<Way>> {
    let clock = Clock::default();
    let cloud = Cloud::start().await?;
    let directory = tempfile::tempdir_in(report::directory()?)?;
    let picture = Picture {
        width: 1280,
        height: 720,
        fps: FPS,
        gop: 2 * FPS,
        scene: SCENE,
        ..Picture::default()
    };
    let source = Source::Pattern(picture, Codec::H264);
    let camera = Arc::new(TestCamera::start(Options {
        source,
        ..Options::default()
    })?);
    let shown = watch_camera(&camera, clock.clone());

    let credentials = directory.path().join("edge.json");
    cloud.write_credentials("bench", &credentials).await?;
    let config = format!(
        "state_dir = {dir:?}\n[spool]\ndir = {clips:?}\n[cloud]\ncredentials_file = {credentials:?}\nca_file = {ca:?}\n\
         [[camera]]\nid = \"cam-1\"\nurl = {url:?}\n[camera.recording]\npost_roll = \"1 s\"\npre_roll = \"2 s\"\n",
        dir = directory.path(),
        clips = directory.path().join("clips"),
        ca = cloud.ca_path(),
        url = camera.url(),
    );
    let file = directory.path().join("sentrycam.toml");
    std::fs::write(&file, config)?;
    let mut agent = command(sibling("sentrycam")?);
    let mut child = agent
        .arg("--config")
        .arg(&file)
        .arg("run")
        .stderr(Stdio::piped())
        .spawn()?;
    let log = child.stderr.take().context("no log")?;
    let mut agent = Running::of(child);
    let decided = watch_log(log, clock.clone());

    let (committed, until) = (
        Notes::default(),
        Instant::now() + Duration::from_secs(60 + 10 * events as u64),
    );
    let mut seen: Vec<Uuid> = Vec::new();
    while seen.len() < events {
        ensure!(agent.is_alive(), "the agent ended");
        ensure!(Instant::now() < until, "only {} events arrived", seen.len());
        let rows = cloud.query("select event_uid from events").await?;
        let now = clock.mono();
        for id in rows.iter().filter_map(id_of) {
            if !seen.contains(&id) {
                seen.push(id);
                committed.add(now, id);
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let store =
        sentrycam::db::schema::open_reader(&directory.path().join(sentrycam::db::FILE_NAME))?;
    let mut started = store.prepare("select id, started_ns from events")?;
    let started = started
        .query_map([], |r| Ok((r.get::<_, Uuid>(0)?, r.get::<_, i64>(1)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    let ms = |from: Mono, to: Mono| (to.0 as f64 - from.0 as f64) / 1e6;
    let way = |id: &Uuid| -> Option<Way> {
        let saw = started
            .iter()
            .find(|(i, _)| i == id)
            .map(|(_, ns)| Mono(*ns as u64))?;
        let (decided, row) = (decided.of(*id)?, committed.of(*id)?);
        let shown = shown.last_before(saw)?;
        Some(Way {
            shown_to_seen: ms(shown, saw),
            seen_to_decided: ms(saw, decided),
            decided_to_row: ms(decided, row),
            seen_to_row: ms(saw, row),
            shown_to_row: ms(shown, row),
        })
    };
    // The first events come while the store, the connection and the model are new; they count too.
    Ok(seen.iter().filter_map(way).collect())
}

fn id_of(row: &Value) -> Option<Uuid> {
    row["event_uid"].as_str()?.parse().ok()
}

/// Notes when the camera shows the first frame of each movement.
fn watch_camera(camera: &Arc<TestCamera>, clock: Clock) -> Notes {
    let notes = Notes::default();
    let (noted, camera) = (notes.clone(), Arc::downgrade(camera));
    std::thread::spawn(move || {
        let mut moving = false;
        while let Some(frame) = camera.upgrade().map(|c| c.frame()) {
            let now = SCENE.moving(frame, FPS);
            if now && !moving {
                noted.add(clock.mono(), Uuid::nil());
            }
            moving = now;
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    notes
}

/// Notes when the agent says that motion has started.
fn watch_log(log: impl std::io::Read + Send + 'static, clock: Clock) -> Notes {
    let notes = Notes::default();
    let noted = notes.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let now = clock.mono();
            let id = line
                .split(' ')
                .find_map(|word| word.strip_prefix("event=")?.parse().ok());
            if let (true, Some(id)) = (line.contains("motion started"), id) {
                noted.add(now, id);
            }
        }
    });
    notes
}
