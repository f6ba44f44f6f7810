//! `make demo`: a camera speaks RTSP, an agent without an owner watches it and is claimed, its events arrive in a real
//! PostgreSQL, their clips in object storage, and a command goes down to it and its result up.
//!
//! Starts everything it needs as real processes in a temporary directory, tells what happens as it happens, and ends
//! everything again. With `--seconds` it ends by itself, a minute later at most if no clip has arrived, and its exit code is 0 only if at least one event is in
//! PostgreSQL exactly once and its clip plays and has been uploaded.

mod owner;
mod processes;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use sentrycam_cloud::testing::Cloud;
use tokio::time::Instant;

use self::processes::{Agent, Camera};
use self::story::Story;

/// How long it goes on where no clip has arrived in its time.
const GRACE: Duration = Duration::from_secs(60);

/// Shows the whole way of an event, from a camera to PostgreSQL.
#[derive(Debug, Parser)]
struct Args {
    /// Ends after this many seconds, or when the first clip has arrived, with a summary; without it, until Ctrl-C.
    #[arg(long, env = "SECONDS_TO_RUN", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// A real camera, rtsp://… or /dev/video0, instead of the footage. Given by environment, so that a password stands
    /// in no process list.
    #[arg(long, env = "CAMERA", hide_env_values = true)]
    camera: Option<String>,
    /// Served by the demo's own camera.
    #[arg(long, value_name = "FILE")]
    footage: Option<PathBuf>,
    /// Directory of the programs.
    #[arg(long, value_name = "DIR")]
    bin: PathBuf,
    /// Keeps the clips here.
    #[arg(long, default_value = "target/demo/state", value_name = "DIR")]
    state: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("demo: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<bool> {
    let mut story = Story::begin();
    if args.state.exists() {
        std::fs::remove_dir_all(&args.state).context("cannot remove the state of the last demo")?;
    }
    std::fs::create_dir_all(&args.state)?;
    let state = args.state.canonicalize()?;

    let mut cloud = Cloud::builder()
        .broker()
        .storage()
        .start()
        .await
        .context("the cloud does not start")?;
    story.tell(
        "postgresql",
        "a private cluster on a Unix socket, gone when the demo ends",
    );
    story.tell("cloud", &format!("listens on {}", cloud.api_base()));
    story.tell(
        "broker",
        "Mosquitto over TLS, a login and an ACL for each device",
    );
    story.tell(
        "storage",
        "speaks S3; the cloud hands out addresses, and reads what came",
    );

    let (camera, _serving) = match &args.camera {
        Some(camera) => (camera.clone(), None),
        None => {
            let serving = Camera::start(&args.bin, args.footage.as_deref()).await?;
            story.tell(
                "camera",
                &format!("serves {} ({})", serving.url, serving.what),
            );
            (serving.url.clone(), Some(serving))
        }
    };
    let mut agent = Agent::start(&args.bin, &state, &camera, &cloud)?;
    story.tell(
        "agent",
        &format!(
            "runs as process {}, log in {}",
            agent.id(),
            agent.log.display()
        ),
    );

    agent.answers().await?;
    owner::claim(&story, &agent, &cloud).await?;

    let mut commanded = false;
    let end = tokio::time::sleep(
        args.seconds
            .map_or(Duration::from_secs(u64::MAX / 4), Duration::from_secs),
    );
    tokio::pin!(end);
    let mut late = false;
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            () = &mut end => {
                if late || story.a_clip_arrived(&cloud).await? {
                    break;
                }
                late = true;
                end.as_mut().reset(Instant::now() + GRACE);
                story.tell("demo", "waits for the first clip to arrive, a minute at most");
            }
            _ = tokio::signal::ctrl_c() => break,
            _ = tick.tick() => {
                if let Some(status) = agent.exited()? {
                    anyhow::bail!("the agent ended with {status}; its log is {}", agent.log.display());
                }
                story.look(&agent, &cloud).await?;
                if late && story.a_clip_arrived(&cloud).await? {
                    break;
                }
                if !commanded && story.all_is_up() {
                    commanded = true;
                    owner::command(&story, &agent, &cloud).await?;
                }
            }
        }
    }
    story.tell(
        "demo",
        "ends: the agent closes its clips and sends what is left",
    );
    agent.stop().await?;
    let good = story.summary(&agent, &cloud).await? && commanded;
    cloud.stop().await?;
    Ok(good)
}
