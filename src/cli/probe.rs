//! `probe`: which cameras are there, and what does one deliver.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::output;
use crate::board::clock::Clock;
use crate::config::{Config, SourceConfig};
use crate::media::probe;

#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// An RTSP address, or the id of a camera in the configuration. Without it the V4L2 cameras are listed.
    target: Option<String>,
    /// User of the RTSP camera.
    #[arg(long)]
    user: Option<String>,
    /// Read the password from the first line of the standard input, so that it stands in no process list.
    #[arg(long, requires = "target")]
    password_stdin: bool,
    /// RTP transport.
    #[arg(long, default_value = "tcp", value_parser = ["tcp", "udp", "auto"])]
    transport: String,
    /// Write one picture here (JPEG).
    #[arg(short, long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Give up after this many seconds.
    #[arg(long, default_value_t = 15, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=120))]
    timeout: u64,
    #[command(flatten)]
    format: super::Format,
}

/// `configured` reads the configuration, and only where a camera's id is asked for.
pub fn run(
    args: ProbeArgs,
    configured: impl FnOnce() -> anyhow::Result<Config>,
) -> anyhow::Result<ExitCode> {
    crate::media::init().context("GStreamer is not complete")?;
    match &args.target {
        None => list(args.format.json),
        Some(target) => describe(source(target, &args, configured)?, &args),
    }
}

fn list(as_json: bool) -> anyhow::Result<ExitCode> {
    let cameras = probe::probe_v4l2();
    if as_json {
        output::json(&cameras)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(&["DEVICE", "NAME", "FORMAT", "SIZE", "FRAMES A SECOND"]);
    for camera in &cameras {
        for mode in &camera.modes {
            let rates: Vec<String> = mode.fps.iter().map(u32::to_string).collect();
            table.add_row([
                camera.stable_path.display().to_string(),
                camera.card.clone(),
                mode.format.to_string(),
                format!("{}x{}", mode.width, mode.height),
                rates.join(" "),
            ]);
        }
    }
    output::print(
        &table,
        "no V4L2 camera is connected (for an RTSP camera: sentrycam probe rtsp://ADDRESS)",
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the source by the configuration's own rules, so that probe and run agree.
fn source(
    target: &str,
    args: &ProbeArgs,
    configured: impl FnOnce() -> anyhow::Result<Config>,
) -> anyhow::Result<SourceConfig> {
    if !target.contains("://") {
        let config = configured()?;
        let camera = config.cameras.into_iter().find(|c| c.id.as_str() == target);
        return Ok(camera
            .with_context(|| format!("no camera {target:?} is in the configuration"))?
            .main);
    }
    if target
        .parse::<url::Url>()
        .is_ok_and(|u| u.password().is_some())
    {
        bail!(
            "a password on the command line can be read by everyone on this machine; use --user NAME --password-stdin"
        );
    }
    let mut camera = toml::Table::new();
    camera.insert("id".into(), "probe".into());
    camera.insert("url".into(), target.into());
    camera.insert("transport".into(), args.transport.clone().into());
    if let Some(user) = &args.user {
        camera.insert("user".into(), user.clone().into());
    }
    if args.password_stdin {
        let mut text = String::new();
        std::io::stdin()
            .take(1024)
            .read_to_string(&mut text)
            .context("cannot read the password")?;
        camera.insert(
            "password".into(),
            text.lines().next().unwrap_or_default().into(),
        );
    }
    let mut file = toml::Table::new();
    file.insert("camera".into(), vec![camera].into());
    let config =
        Config::parse(&file.to_string(), &|_| Err("not read".into())).map_err(|faults| {
            anyhow::anyhow!(
                "{}",
                faults
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; ")
            )
        })?;
    config
        .cameras
        .into_iter()
        .next()
        .map(|c| c.main)
        .context("no camera")
}

fn describe(source: SourceConfig, args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let bar = output::spinner("looking at the camera");
    let timeout = Duration::from_secs(args.timeout);
    let found = runtime.block_on(probe::describe(&source, timeout, Clock::default().mono()));
    bar.finish_and_clear();
    let found = found.map_err(|reason| anyhow::anyhow!("{reason}"))?;
    if let (Some(path), Some(jpeg)) = (&args.picture, &found.jpeg) {
        std::fs::write(path, jpeg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.format.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(&[]);
    let profile = found
        .profile
        .as_ref()
        .map(|p| format!(" ({p})"))
        .unwrap_or_default();
    table.add_row(["codec".to_owned(), format!("{}{profile}", found.codec)]);
    table.add_row([
        "size".to_owned(),
        format!("{}x{}", found.width, found.height),
    ]);
    table.add_row([
        "rate".to_owned(),
        format!("{:.1} frames a second", found.fps),
    ]);
    if let Some(bps) = found.bitrate_bps {
        table.add_row(["bit rate".to_owned(), format!("{} kbit/s", bps / 1000)]);
    }
    if let Some(gop) = found.gop {
        table.add_row(["key frame".to_owned(), format!("every {gop} frames")]);
    }
    table.add_row(["offers".to_owned(), found.offers.join(", ")]);
    table.add_row([
        "audio",
        if found.aac {
            "AAC, will be recorded"
        } else {
            "none that is recorded"
        },
    ]);
    if let Some(path) = &args.picture {
        let none = "none: no key frame could be decoded".to_owned();
        let written = found
            .jpeg
            .as_ref()
            .map_or(none, |_| path.display().to_string());
        table.add_row(["picture".to_owned(), written]);
    }
    output::print(&table, "")?;
    Ok(ExitCode::SUCCESS)
}
