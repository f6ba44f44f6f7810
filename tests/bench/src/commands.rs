//! `commands`: from an operator's command to its terminal state in the cloud's PostgreSQL, over MQTT and over poll.
//!
//! One after another: the clock starts before the cloud takes the command in, and ends when a query that is repeated
//! every millisecond sees the row's end. Over poll the agent has no broker: it asks every 25 s ± 20 %, and at once
//! where an answer to something else says that a command waits.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sentrycam_cloud::command::Wanted;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

use crate::process::{Running, command};
use crate::report::{self, Table, percentile, sibling};

/// What the issue asks for over MQTT, in milliseconds.
const GOAL_P99_MS: f64 = 150.0;

const PASSWORD: &str = "a-password-of-the-benchmark-at-the-broker-1";

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Commands over MQTT
    #[arg(long, default_value_t = 200)]
    mqtt: usize,
    /// Commands over poll; one takes up to 30 s
    #[arg(long, default_value_t = 8)]
    poll: usize,
}

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let machine = report::machine();
    report::head("commands: issued to its end in PostgreSQL", &machine);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut table = Table::new(["way", "commands", "p50 ms", "p99 ms", "worst ms", "goal"]);
    let mut figures = json!({ "machine": machine });
    for (way, n) in [("mqtt", args.mqtt), ("poll", args.poll)] {
        if n == 0 {
            continue;
        }
        eprintln!("{n} commands over {way}");
        let mut ms = runtime.block_on(measure(way, n))?;
        ms.sort_by(f64::total_cmp);
        let worst = ms.last().copied().unwrap_or_default();
        let (p50, p99) = (percentile(&ms, 0.5), percentile(&ms, 0.99));
        let goal = match way {
            "mqtt" => format!(
                "p99 <= {GOAL_P99_MS:.0} {}",
                report::word(p99 <= GOAL_P99_MS)
            ),
            _ => String::from("-"),
        };
        table.row([
            way.into(),
            n.to_string(),
            format!("{p50:.0}"),
            format!("{p99:.0}"),
            format!("{worst:.0}"),
            goal,
        ]);
        figures[way] = json!({ "commands": n, "p50_ms": p50, "p99_ms": p99, "worst_ms": worst });
    }
    table.print();
    report::write("commands", &figures)
}

async fn measure(way: &str, n: usize) -> Result<Vec<f64>> {
    let by_broker = way == "mqtt";
    let builder = Cloud::builder();
    let cloud = if by_broker { builder.broker() } else { builder }
        .start()
        .await?;
    let directory = tempfile::tempdir()?;
    let edge_id = prepare(&cloud, directory.path()).await?;
    let mut agent = command(sibling("sentrycam")?);
    agent
        .arg("--config")
        .arg(directory.path().join("sentrycam.toml"))
        .arg("run");
    let _agent = Running::start(agent, &report::directory()?.join("commands.log"))?;
    // The link says so by its presence; without a broker the first heartbeat does.
    let online = format!("select status = 'online' from devices where edge_id = '{edge_id}'");
    cloud.wait_for(&online, Duration::from_secs(60)).await?;
    let mut ms = Vec::with_capacity(n);
    for at in 0..n {
        let begun = Instant::now();
        let sent = cloud
            .send_command(&edge_id, Wanted::new("sync.now", json!({})))
            .await?;
        let id = sent["id"].as_str().context("a command without id")?;
        let ended =
            format!("select status from commands where id = '{id}' and completed_at is not null");
        let status = loop {
            if let Some(row) = cloud.query(&ended).await?.first() {
                break row["status"].clone();
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(120),
                "command {at} does not end"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        ms.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(status == "succeeded", "command {at}: {status}");
        // At most four a second are taken; more would measure that.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(ms)
}

/// Credentials, with a login at the broker where there is one, and a configuration without cameras.
async fn prepare(cloud: &Cloud, directory: &Path) -> Result<String> {
    let file = directory.join("edge.json");
    let edge_id = cloud.write_credentials("bench", &file).await?.edge_id;
    if let Some(broker) = cloud.broker() {
        broker.control().add_device(&edge_id, PASSWORD).await?;
        let mut credentials: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        credentials["mqtt"] = json!({ "host": "localhost", "port": broker.port(),
            "client_id": edge_id, "username": edge_id, "password": PASSWORD });
        std::fs::write(&file, credentials.to_string())?;
    }
    std::fs::write(directory.join("ca.pem"), cloud.ca_pem())?;
    let d = directory.display();
    let config = format!(
        "state_dir = \"{d}\"\n[spool]\ndir = \"{d}/clips\"\n[cloud]\ncredentials_file = \"{d}/edge.json\"\n\
         ca_file = \"{d}/ca.pem\"\n[[camera]]\nid = \"cam\"\ntest = true\n[camera.recording]\nmode = \"off\"\n[camera.motion]\nenabled = false\n"
    );
    std::fs::write(directory.join("sentrycam.toml"), config)?;
    Ok(edge_id)
}
