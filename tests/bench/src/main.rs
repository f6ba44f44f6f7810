//! The benchmarks that need the whole agent. Each prints a table and writes the same figures to
//! `target/bench/<name>.json`; none fails because of a figure.
//!
//! | command | measures |
//! |---|---|
//! | `agent` | CPU, memory and threads beside `motion` and bare GStreamer passthrough |
//! | `demand` | CPU of detection by decode on demand beside `motion` and decoding everything, idle and busy scene |
//! | `recall` | what decode on demand misses on labelled clips; never timed |
//! | `latency` | first moving frame → row in the cloud's PostgreSQL |
//! | `commands` | command issued → executed → its end in the cloud's PostgreSQL, over MQTT and over poll |
//! | `claim` | press of the button → first heartbeat in PostgreSQL; CPU and memory of the idle agent |
//! | `live` | extra CPU of one live session beside a bare GStreamer pipeline |
//! | `drain` | 100,000 waiting records into the reference cloud |
//! | `flash` | bytes written to the card an hour beside those of the video, idle, by motion, continuous |
//! | `upload` | a file to object storage beside `curl`; an event's end → its clip verified |
//!
//! Build everything first: `cargo build --release --workspace`. Whatever is started ends with this process.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod claim;
mod commands;
mod cost;
mod demand;
mod drain;
mod flash;
mod footage;
mod latency;
mod live;
mod process;
mod programs;
mod recall;
mod report;
mod upload;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(version, about)]
enum Args {
    /// CPU, memory and threads beside motion and bare passthrough
    Agent(cost::Args),
    /// What decode on demand costs beside motion and decoding everything
    Demand(demand::Args),
    /// What decode on demand misses on labelled clips
    Recall(recall::Args),
    /// First moving frame to the committed row in the cloud
    Latency(latency::Args),
    /// A command to its terminal state, over MQTT and over poll
    Commands(commands::Args),
    /// The button to the first heartbeat, and the idle agent
    Claim(claim::Args),
    /// One live session beside a bare GStreamer pipeline
    Live(live::Args),
    /// A full outbox into the reference cloud
    Drain(drain::Args),
    /// Bytes written to the card beside those of the video
    Flash(flash::Args),
    /// A file to object storage beside curl, and an event to its verified clip
    Upload(upload::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse() {
        Args::Agent(args) => cost::run(&args),
        Args::Demand(args) => demand::run(&args),
        Args::Recall(args) => recall::run(&args),
        Args::Latency(args) => latency::run(&args),
        Args::Commands(args) => commands::run(&args),
        Args::Claim(args) => claim::run(&args),
        Args::Live(args) => live::run(&args),
        Args::Drain(args) => drain::run(&args),
        Args::Flash(args) => flash::run(&args),
        Args::Upload(args) => upload::run(&args),
    }
}
