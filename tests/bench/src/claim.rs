//! `claim`: from the press of the button to the first signed heartbeat in the cloud's PostgreSQL, and what the agent then
//! costs without a camera.
//!
//! The button is a named pipe, held for 3 s. The owner types the code in the moment the cloud has it, so that what is
//! measured is the device and the protocol, not a person.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sentrycam_cloud::testing::Cloud;
use serde_json::json;

use crate::process::{Running, command};
use crate::report::{self, Table, percentile, sibling, word};

/// What the button is held for.
const HOLD: Duration = Duration::from_millis(3100);
/// What the issue asks for of an idle agent.
const GOAL_RSS_MB: f64 = 20.0;
const GOAL_CPU_PERCENT: f64 = 0.3;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Claims
    #[arg(long, default_value_t = 10)]
    claims: usize,
    /// Seconds of idling after the last one
    #[arg(long, default_value_t = 60)]
    idle: u64,
}

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let machine = report::machine();
    report::head(
        "claim: press to the first heartbeat; the agent idle",
        &machine,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (mut opened, mut bound) = (Vec::new(), Vec::new());
    let mut idle = None;
    for n in 1..=args.claims {
        eprintln!("claim {n} of {}", args.claims);
        let rest = (n == args.claims).then_some(Duration::from_secs(args.idle));
        let claim = runtime.block_on(claim(rest))?;
        opened.push(claim.window_ms);
        bound.push(claim.heartbeat_ms);
        idle = claim.idle.or(idle);
    }
    opened.sort_by(f64::total_cmp);
    bound.sort_by(f64::total_cmp);
    let mut table = Table::new(["figure", "p50", "worst", "goal"]);
    for (figure, ms) in [
        ("button let go → window in the cloud, ms", &opened),
        ("code typed in → first heartbeat in PostgreSQL, ms", &bound),
    ] {
        let worst = ms.last().copied().unwrap_or_default();
        let p50 = percentile(ms, 0.5);
        table.row([
            figure.into(),
            format!("{p50:.0}"),
            format!("{worst:.0}"),
            "-".into(),
        ]);
    }
    if let Some(i) = &idle {
        let mut row = |figure: &str, value: String, goal: String| {
            table.row([figure.into(), value, "-".into(), goal]);
        };
        let (rss, cpu) = (i.rss_mb <= GOAL_RSS_MB, i.cpu_percent <= GOAL_CPU_PERCENT);
        row(
            "idle agent: most resident memory, MB",
            format!("{:.1}", i.rss_mb),
            format!("<= {GOAL_RSS_MB} {}", word(rss)),
        );
        row(
            "idle agent: % of one core",
            format!("{:.2}", i.cpu_percent),
            format!("<= {GOAL_CPU_PERCENT} {}", word(cpu)),
        );
        row(
            "idle agent: threads / descriptors",
            format!("{} / {}", i.threads, i.descriptors),
            "-".into(),
        );
    }
    table.print();
    let idle = idle.map(|i| {
        json!({ "rss_mb": i.rss_mb, "cpu_percent": i.cpu_percent, "threads": i.threads,
                "descriptors": i.descriptors, "disk_bytes_per_s": i.disk_bytes_per_s })
    });
    let figures =
        json!({ "machine": machine, "window_ms": opened, "heartbeat_ms": bound, "idle": idle });
    report::write("claim", &figures)
}

struct Claim {
    window_ms: f64,
    heartbeat_ms: f64,
    idle: Option<Idle>,
}

struct Idle {
    rss_mb: f64,
    cpu_percent: f64,
    threads: u64,
    descriptors: u64,
    disk_bytes_per_s: f64,
}

/// A fresh box and a fresh cloud, so that no limit of windows is met.
async fn claim(idle: Option<Duration>) -> Result<Claim> {
    let cloud = Cloud::builder().broker().start().await?;
    let directory = tempfile::tempdir()?;
    let button = directory.path().join("button");
    configure(&cloud, directory.path())?;
    let mut agent = command(sibling("sentrycam")?);
    agent
        .arg("--config")
        .arg(directory.path().join("sentrycam.toml"))
        .arg("run");
    let agent = Running::start(agent, &report::directory()?.join("claim.log"))?;
    let until = Instant::now() + Duration::from_secs(20);
    while !button.exists() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    press(&button)?;
    let let_go = Instant::now();
    let open = "select 1 from device_claiming_queue where state = 'open'";
    there_is(&cloud, open).await?;
    let window_ms = let_go.elapsed().as_secs_f64() * 1e3;
    let code = user_code(directory.path())?;
    let typed = Instant::now();
    cloud.bind(&code, "bench").await?;
    let beat = "select 1 from edge_records where type like '%agent.heartbeat%'";
    there_is(&cloud, beat).await?;
    let heartbeat_ms = typed.elapsed().as_secs_f64() * 1e3;
    let idle = match idle {
        Some(time) => Some(rest(&agent, time).await?),
        None => None,
    };
    Ok(Claim {
        window_ms,
        heartbeat_ms,
        idle,
    })
}

/// What the agent uses while nothing happens.
async fn rest(agent: &Running, time: Duration) -> Result<Idle> {
    // The link connects, the twin is asked for.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = agent.usage()?;
    tokio::time::sleep(time).await;
    let after = agent.usage()?;
    let s = time.as_secs_f64();
    Ok(Idle {
        rss_mb: after.peak_rss_mib * 1024.0 * 1024.0 / 1e6,
        cpu_percent: (after.cpu_ms - before.cpu_ms) / (s * 10.0),
        threads: after.threads,
        descriptors: after.descriptors,
        disk_bytes_per_s: (after.disk_bytes - before.disk_bytes) as f64 / s,
    })
}

/// The code that the device shows.
fn user_code(directory: &Path) -> Result<String> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let status = std::process::Command::new(sibling("sentrycam")?)
            .arg("--config")
            .arg(directory.join("sentrycam.toml"))
            .args(["claim", "--json"])
            .stdout(std::process::Stdio::piped())
            .spawn();
        let mut follow = status?;
        let out = follow.stdout.take().context("no standard output")?;
        let code = std::io::BufReader::new(out).lines().find_map(|line| {
            let now: serde_json::Value = serde_json::from_str(&line.ok()?).ok()?;
            Some(now["user_code"].as_str()?.to_owned())
        });
        let _ = follow.kill();
        let _ = follow.wait();
        match code {
            Some(code) => return Ok(code),
            None => anyhow::ensure!(Instant::now() < until, "no code is shown"),
        }
    }
}

/// Waits for a row, asked for every 2 ms.
async fn there_is(cloud: &Cloud, sql: &str) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if !cloud.query(sql).await?.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < until, "nothing came: {sql}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn press(button: &Path) -> Result<()> {
    let mut pipe = std::fs::OpenOptions::new().write(true).open(button)?;
    pipe.write_all(b"1")?;
    std::thread::sleep(HOLD);
    pipe.write_all(b"0")?;
    Ok(())
}

fn configure(cloud: &Cloud, directory: &Path) -> Result<()> {
    std::fs::write(directory.join("ca.pem"), cloud.ca_pem())?;
    let d = directory.display();
    let config = format!(
        "state_dir = \"{d}\"\n[spool]\ndir = \"{d}/clips\"\n[cloud]\napi_base = \"{}\"\nca_file = \"{d}/ca.pem\"\n\
         announce = false\nclaim_code_file = \"{d}/claim.txt\"\n[board]\nbutton = \"pipe:{d}/button\"\n",
        cloud.api_base()
    );
    Ok(std::fs::write(directory.join("sentrycam.toml"), config)?)
}
