//! `demand`: what detection costs by decode on demand, beside `motion` and beside bare GStreamer that decodes everything.
//!
//! One camera, 1080p30 H.264 of 4 Mbit/s, sub-stream 640×360 at 15, an idle and a busy scene. The agent records all the
//! time (passthrough) and detects; `motion` at its defaults records what moves; GStreamer decodes and scales every
//! picture and keeps nothing. One after another, over the same loop of the footage.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cost::{WARM_UP, serve, status};
use crate::footage::{self, LOOP_S};
use crate::process::Running;
use crate::programs::{self, Mode, Place, Streams};
use crate::report::{self, Table, word};

/// The agent decodes everything for 8 to 10 s at its start.
const LEARNING: Duration = Duration::from_secs(12);

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// GOP lengths of the idle scene in seconds
    #[arg(long, value_delimiter = ',', default_value = "2")]
    gops: Vec<u32>,
    /// idle, busy
    #[arg(long, value_delimiter = ',', default_value = "idle,busy")]
    scenes: Vec<String>,
    /// Times that each program is measured; the median counts
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9))]
    runs: u32,
}

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let machine = report::machine();
    report::head("demand: detection by decode on demand", &machine);
    let directory = report::directory()?;
    let mut table = Table::new(["scene", "GOP s", "program", "CPU ms/s", "decoded", "mode"]);
    let mut verdicts = Table::new(["scene", "figure", "value", "goal", ""]);
    let (mut rows, mut origin) = (Vec::new(), "");
    for scene in &args.scenes {
        ensure!(
            scene == "idle" || scene == "busy",
            "no scene {scene:?}: idle, busy"
        );
        let idle = scene == "idle";
        let gops: &[u32] = if idle { &args.gops } else { &[2] };
        for &gop in gops {
            let footage = footage::make_scene(&directory.join("footage"), idle, gop)?;
            origin = footage.origin;
            let (_servers, streams) = serve(&directory, &footage.main, &footage.sub)?;
            let mut cost = |name: &str| -> Result<f64> {
                let mut all = Vec::new();
                let mut shown = Value::Null;
                for n in 1..=args.runs {
                    eprintln!(
                        "{scene} scene, GOP {gop} s, {name}, run {n} of {}",
                        args.runs
                    );
                    let (cpu, decoding) = measure(&directory, &streams, name)?;
                    all.push(cpu);
                    shown = decoding;
                }
                all.sort_by(f64::total_cmp);
                let cpu = report::percentile(&all, 0.5);
                let share = shown["share"].as_f64();
                let row = [
                    scene.clone(),
                    gop.to_string(),
                    name.to_owned(),
                    format!("{cpu:.1}"),
                    share.map_or("-".into(), |s| format!("{:.0} %", 100.0 * s)),
                    shown["mode"].as_str().unwrap_or("-").to_owned(),
                ];
                eprintln!("{}", row.join("  "));
                table.row(row);
                rows.push(json!({ "scene": scene, "gop_s": gop, "program": name, "cpu_ms_per_s": cpu, "all": all, "decoding": shown }));
                Ok(cpu)
            };
            let main = cost("sentrycam, main stream")?;
            let sub = cost("sentrycam, sub-stream")?;
            let all = cost("GStreamer, decode and scale all")?;
            let theirs = cost("motion, main stream");
            let theirs_sub = cost("motion, sub-stream");
            let mut verdict = |figure: &str, value: f64, goal: f64| {
                verdicts.row([
                    format!("{scene}, GOP {gop} s"),
                    figure.into(),
                    format!("{value:.3}"),
                    format!("<= {goal:.3}"),
                    word(value <= goal).into(),
                ]);
            };
            if idle {
                verdict("main stream / decoding all", main / all, 1.0 / 8.0);
                match (theirs, theirs_sub) {
                    (Ok(theirs), Ok(theirs_sub)) => {
                        verdict("main stream / motion", main / theirs, 1.0 / 9.0);
                        verdict("sub-stream / motion", sub / theirs_sub, 0.7);
                    }
                    (Err(e), _) | (_, Err(e)) => eprintln!("motion cannot be measured: {e:#}"),
                }
            } else {
                verdict("main stream / decoding all", main / all, 1.1);
            }
        }
    }
    println!("footage: {origin}\n");
    table.print();
    println!();
    verdicts.print();
    report::write(
        "demand",
        &json!({ "machine": machine, "footage": origin, "loop_s": LOOP_S, "rows": rows }),
    )
}

/// CPU ms a second over one loop, and what the agent says that it decodes.
fn measure(directory: &std::path::Path, streams: &Streams, name: &str) -> Result<(f64, Value)> {
    let place = Place::new(directory)?;
    let start: Command = match name {
        "sentrycam, main stream" => programs::agent(&place, streams, 1, Mode::MainAlways)?,
        "sentrycam, sub-stream" => programs::agent(&place, streams, 1, Mode::SubAlways)?,
        "motion, main stream" => programs::motion(&place, streams, 1, Mode::Main)?,
        "motion, sub-stream" => programs::motion(&place, streams, 1, Mode::Sub)?,
        _ => programs::decode_all(streams),
    };
    let log = directory.join("demand.log");
    let mut running = Running::start(start, &log)?;
    std::thread::sleep(WARM_UP + LEARNING);
    let (before, since) = (running.usage()?, Instant::now());
    std::thread::sleep(Duration::from_secs(u64::from(LOOP_S)));
    let (after, seconds) = (running.usage()?, since.elapsed().as_secs_f64());
    let decoding = if name.starts_with("sentrycam") {
        status(place.path())?["cameras"]["cam-1"]["decoding"].clone()
    } else {
        Value::Null
    };
    ensure!(running.is_alive(), "{name} ended, see {}", log.display());
    Ok(((after.cpu_ms - before.cpu_ms) / seconds, decoding))
}
