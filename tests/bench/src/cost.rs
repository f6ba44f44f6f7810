//! `agent`: what the agent costs beside `motion` and bare passthrough, on the same streams, in one run.
//!
//! Cameras are served by a process of their own on loopback. The programs run one after another, never together;
//! each warms up, then its CPU is read over a whole number of loops of the footage.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::footage::{self, LOOP_S, MOST_LOOPS};
use crate::process::{Running, Usage, command};
use crate::programs::{self, Mode, Place, Streams};
use crate::report::{self, Table, word};

/// Connecting, plugins, the first GOPs.
pub(crate) const WARM_UP: Duration = Duration::from_secs(8);

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Numbers of cameras
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    cameras: Vec<u32>,
    /// Frames a second of the main stream with one and two cameras
    #[arg(long, default_value_t = 30)]
    fps: u32,
    /// Frames a second of the main stream with more cameras
    #[arg(long, default_value_t = 15)]
    fps_many: u32,
    /// main, sub, off
    #[arg(long, value_delimiter = ',', default_value = "main,sub,off")]
    modes: Vec<String>,
    /// Loops of the footage (34 s each) that are measured
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_LOOPS)))]
    loops: u32,
    /// Leaves out what the agent is compared with
    #[arg(long)]
    alone: bool,
}

/// One program on so many cameras.
#[derive(Debug, Clone)]
struct Cost {
    cpu_ms_per_s: f64,
    total: Usage,
    written_bytes_per_s: f64,
    disk_bytes_per_s: f64,
    recorded_bytes: u64,
    /// The agent's own word on its cameras; null for others.
    status: Value,
}

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let machine = report::machine();
    report::head("agent: CPU, memory, threads", &machine);
    let directory = report::directory()?;
    let (mut rows, mut origin) = (Vec::new(), "");
    let mut table = Table::new([
        "cameras",
        "mode",
        "program",
        "CPU ms/s",
        "peak RSS MiB",
        "own MiB",
        "threads",
        "fds",
        "disk KiB/s",
        "dropped",
    ]);
    let mut verdicts = Table::new(["cameras", "mode", "figure", "value", "goal", ""]);
    for &cameras in &args.cameras {
        let fps = if cameras > 2 { args.fps_many } else { args.fps };
        let footage = footage::make(&directory.join("footage"), fps)?;
        origin = footage.origin;
        let (_servers, streams) = serve(&directory, &footage.main, &footage.sub)?;
        for mode in args
            .modes
            .iter()
            .map(|m| mode(m))
            .collect::<Result<Vec<_>>>()?
        {
            let measure =
                |name: &str| measure(&directory, &streams, cameras, mode, name, args.loops);
            let ours = measure("sentrycam")?;
            let (peer, goal) = match mode {
                Mode::Main => ("motion", 0.85),
                Mode::Sub => ("motion", 1.0),
                Mode::Off | Mode::MainAlways | Mode::SubAlways => ("gst-launch", 3.0),
            };
            let theirs = (!args.alone).then(|| measure(peer)).and_then(|m| {
                m.inspect_err(|e| eprintln!("{peer} cannot be measured: {e:#}"))
                    .ok()
            });
            for (name, cost) in [("sentrycam", Some(&ours)), (peer, theirs.as_ref())] {
                let Some(cost) = cost else { continue };
                let row = cells(cameras, fps, mode, name, cost);
                // A run takes a quarter of an hour: what is there is shown.
                eprintln!("{}", row.join("  "));
                table.row(row);
                rows.push(figures(cameras, fps, mode, name, cost));
            }
            let mut verdict = |figure: &str, value: f64, digits: usize, goal: f64| {
                verdicts.row([
                    cameras.to_string(),
                    mode.name().into(),
                    figure.into(),
                    format!("{value:.digits$}"),
                    format!("<= {goal:.digits$}"),
                    word(value <= goal).into(),
                ]);
            };
            if let Some(theirs) = &theirs {
                let ratio = ours.cpu_ms_per_s / theirs.cpu_ms_per_s;
                verdict(&format!("CPU / {peer}"), ratio, 2, goal);
            }
            let rss = 90.0 + 25.0 * f64::from(cameras - 1);
            verdict("peak RSS MiB", ours.total.peak_rss_mib, 0, rss);
        }
    }
    println!("footage: {origin}\n");
    table.print();
    println!();
    verdicts.print();
    report::write(
        "agent",
        &json!({ "machine": machine, "footage": origin, "loop_s": LOOP_S, "loops": args.loops, "rows": rows }),
    )
}

fn mode(name: &str) -> Result<Mode> {
    [("main", Mode::Main), ("sub", Mode::Sub), ("off", Mode::Off)]
        .into_iter()
        .find_map(|(n, mode)| (n == name).then_some(mode))
        .with_context(|| format!("no mode {name:?}: main, sub, off"))
}

/// Two servers, one a stream, in processes of their own.
pub(crate) fn serve(directory: &Path, main: &Path, sub: &Path) -> Result<(Vec<Running>, Streams)> {
    let start = |file: &Path, name: &str| {
        let mut server = command(report::sibling("sentrycam-testcam")?);
        server
            .args(["--loop", "--until-stdin-closes", "--file"])
            .arg(file);
        Running::start_ready(server, &directory.join(format!("{name}.log")))
    };
    let (a, main) = start(main, "camera-main")?;
    let (b, sub) = start(sub, "camera-sub")?;
    Ok((vec![a, b], Streams { main, sub }))
}

fn measure(
    directory: &Path,
    streams: &Streams,
    cameras: u32,
    mode: Mode,
    program: &str,
    loops: u32,
) -> Result<Cost> {
    eprintln!("{cameras} cameras, {}, {program}", mode.name());
    let place = Place::new(directory)?;
    let start: Command = match program {
        "sentrycam" => programs::agent(&place, streams, cameras, mode)?,
        "motion" => programs::motion(&place, streams, cameras, mode)?,
        _ => programs::passthrough(&place, streams, cameras),
    };
    let log = directory.join(format!("{program}.log"));
    let mut running = Running::start(start, &log)?;
    std::thread::sleep(WARM_UP);
    let (before, since) = (running.usage()?, Instant::now());
    std::thread::sleep(Duration::from_secs(u64::from(LOOP_S * loops)));
    let (after, seconds) = (running.usage()?, since.elapsed().as_secs_f64());
    let status = if program == "sentrycam" {
        status(place.path())?
    } else {
        Value::Null
    };
    ensure!(running.is_alive(), "{program} ended, see {}", log.display());
    drop(running);
    let rate = |a: u64, b: u64| (b - a) as f64 / seconds;
    Ok(Cost {
        cpu_ms_per_s: (after.cpu_ms - before.cpu_ms) / seconds,
        total: after,
        written_bytes_per_s: rate(before.written_bytes, after.written_bytes),
        disk_bytes_per_s: rate(before.disk_bytes, after.disk_bytes),
        recorded_bytes: place.recorded_bytes(),
        status,
    })
}

/// The agent's own figures: dropped packets, reconnects, frames a second, commits.
pub(crate) fn status(state_dir: &Path) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(sentrycam::agent::status::ask(state_dir))?;
    Ok(serde_json::to_value(status)?)
}

fn dropped(cost: &Cost) -> Option<u64> {
    let cameras = cost.status.get("cameras")?.as_object()?;
    Some(cameras.values().filter_map(|c| c["dropped"].as_u64()).sum())
}

fn cells(cameras: u32, fps: u32, mode: Mode, program: &str, c: &Cost) -> [String; 10] {
    [
        format!("{cameras} x 1080p{fps}"),
        mode.name().into(),
        program.into(),
        format!("{:.1}", c.cpu_ms_per_s),
        format!("{:.1}", c.total.peak_rss_mib),
        format!("{:.1}", c.total.anonymous_mib),
        c.total.threads.to_string(),
        c.total.descriptors.to_string(),
        format!("{:.0}", c.disk_bytes_per_s / 1024.0),
        dropped(c).map_or("-".into(), |d| d.to_string()),
    ]
}

fn figures(cameras: u32, fps: u32, mode: Mode, program: &str, c: &Cost) -> Value {
    json!({
        "cameras": cameras, "fps": fps, "mode": mode.name(), "program": program,
        "cpu_ms_per_s": c.cpu_ms_per_s, "peak_rss_mib": c.total.peak_rss_mib, "anonymous_mib": c.total.anonymous_mib,
        "threads": c.total.threads, "descriptors": c.total.descriptors,
        "written_bytes_per_s": c.written_bytes_per_s, "disk_bytes_per_s": c.disk_bytes_per_s,
        "recorded_bytes": c.recorded_bytes, "dropped": dropped(c),
        "db_commits": c.status["system"]["db_commits"], "cameras_status": c.status["cameras"],
    })
}
