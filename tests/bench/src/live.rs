//! `live`: what one live session costs the agent, beside a bare GStreamer pipeline that does the same.
//!
//! Extra CPU is that of the agent with a session less that of the agent without one; of GStreamer, that of a pipeline from
//! the camera to the media server less that of one from the camera to nowhere. One after another, never together.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sentrycam_cloud::stream::Wanted;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Codec, Ingest, MediaServer, Options, Picture, Source, TestCamera};
use serde_json::json;
use uuid::Uuid;

use crate::process::{Running, command};
use crate::report::{self, Table, sibling, word};

const GOAL: f64 = 1.5;
const SOON: Duration = Duration::from_secs(60);
/// Connecting, the first GOPs.
const WARM_UP: Duration = Duration::from_secs(5);

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// rtsp, rtmp, srt
    #[arg(long, value_delimiter = ',', default_value = "rtsp,rtmp,srt")]
    protocols: Vec<String>,
}

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let machine = report::machine();
    report::head("live: extra CPU of one live session", &machine);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let picture = Picture {
        width: 1280,
        height: 720,
        fps: 15,
        ..Picture::default()
    };
    let camera = TestCamera::start(Options {
        source: Source::Pattern(picture, Codec::H264),
        ..Options::default()
    })?;
    let time = Duration::from_secs(args.seconds);
    let mut table = Table::new(["protocol", "agent ms/s", "GStreamer ms/s", "ratio", "goal"]);
    let mut rows = Vec::new();
    for protocol in &args.protocols {
        eprintln!("{protocol}");
        let ours = runtime.block_on(agent(protocol, &camera, time))?;
        let theirs = bare(protocol, &camera, time)?;
        let ratio = ours / theirs;
        table.row([
            protocol.clone(),
            format!("{ours:.1}"),
            format!("{theirs:.1}"),
            format!("{ratio:.2}"),
            format!("<= {GOAL} {}", word(ratio <= GOAL)),
        ]);
        rows.push(json!({ "protocol": protocol, "agent_ms_per_s": ours, "gstreamer_ms_per_s": theirs, "ratio": ratio }));
    }
    table.print();
    report::write(
        "live",
        &json!({ "machine": machine, "seconds": args.seconds, "rows": rows }),
    )
}

fn server(protocol: &str) -> Result<MediaServer> {
    let kind = match protocol {
        "rtsp" => Ingest::Rtsp,
        "rtmp" => Ingest::Rtmp,
        "srt" => Ingest::Srt,
        other => anyhow::bail!("no protocol {other:?}: rtsp, rtmp, srt"),
    };
    MediaServer::start(kind, 1280, 720)
}

/// Milliseconds of CPU a second.
fn rate(running: &mut Running, time: Duration) -> Result<f64> {
    std::thread::sleep(WARM_UP);
    let (before, since) = (running.usage()?, Instant::now());
    std::thread::sleep(time);
    let used = running.usage()?.cpu_ms - before.cpu_ms;
    ensure!(running.is_alive(), "a program ended");
    Ok(used / since.elapsed().as_secs_f64())
}

async fn agent(protocol: &str, camera: &TestCamera, time: Duration) -> Result<f64> {
    let cloud = Cloud::start().await?;
    let directory = tempfile::tempdir()?;
    let server = server(protocol)?;
    let edge_id = prepare(&cloud, directory.path(), camera).await?;
    let stream = json!({ "stream": { "hosts": ["localhost"], "ports": [server.port()] } });
    cloud.set_twin(&edge_id, stream).await?;
    let mut agent = command(sibling("sentrycam")?);
    agent
        .arg("--config")
        .arg(directory.path().join("sentrycam.toml"))
        .arg("run");
    let mut agent = Running::start(agent, &report::directory()?.join("live.log"))?;
    let ready = format!(
        "select exists (select from devices where edge_id = '{edge_id}' and status = 'online')
            and exists (select from edge_records where type like '%twin.reported%')
            and exists (select from edge_records where type like '%camera.up%')"
    );
    cloud.wait_for(&ready, SOON).await?;
    let without = rate(&mut agent, time)?;
    let wanted = Wanted {
        camera_id: "door".into(),
        protocol: protocol.into(),
        publish_endpoint: server.endpoint(),
        stream_key: None,
        lease_s: 3600,
    };
    let session = cloud.start_stream(&edge_id, wanted).await?;
    let id: Uuid = session["id"].as_str().context("no session")?.parse()?;
    let live = format!("select status = 'live' from stream_sessions where id = '{id}'");
    cloud.wait_for(&live, SOON).await?;
    let seen = server.counters().len();
    let with = rate(&mut agent, time)?;
    ensure!(
        server.counters().len() > seen + 100,
        "pictures did not arrive"
    );
    Ok(with - without)
}

async fn prepare(cloud: &Cloud, directory: &Path, camera: &TestCamera) -> Result<String> {
    let file = directory.join("edge.json");
    let edge_id = cloud.write_credentials("bench", &file).await?.edge_id;
    std::fs::write(directory.join("ca.pem"), cloud.ca_pem())?;
    let d = directory.display();
    let config = format!(
        "state_dir = \"{d}\"\n[spool]\ndir = \"{d}/clips\"\n[cloud]\ncredentials_file = \"{d}/edge.json\"\n\
         ca_file = \"{d}/ca.pem\"\nheartbeat = \"5 s\"\nallow_private = [\"127.0.0.0/8\", \"::1/128\"]\n[[camera]]\nid = \"door\"\n\
         url = \"{}\"\n[camera.recording]\nmode = \"off\"\n[camera.motion]\nenabled = false\n",
        camera.url()
    );
    std::fs::write(directory.join("sentrycam.toml"), config)?;
    Ok(edge_id)
}

fn bare(protocol: &str, camera: &TestCamera, time: Duration) -> Result<f64> {
    let server = server(protocol)?;
    let to = server.endpoint().replace("localhost", "127.0.0.1");
    let bytes =
        "h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au";
    let sink = match protocol {
        "rtsp" => format!("{bytes} ! rtspclientsink protocols=tcp location={to}"),
        "rtmp" => {
            format!("h264parse ! flvmux streamable=true ! rtmp2sink sync=false location={to}")
        }
        _ => format!("{bytes} ! mpegtsmux alignment=7 ! srtsink sync=false uri={to}?mode=caller"),
    };
    let measure = |sink: &str| {
        let pipeline = format!(
            "rtspsrc protocols=tcp latency=0 location={} ! rtph264depay ! {sink}",
            camera.url()
        );
        let mut launch: Command = command("gst-launch-1.0");
        launch.arg("-q").args(pipeline.split(' '));
        let mut running = Running::start(launch, &report::directory()?.join("live-gst.log"))?;
        rate(&mut running, time)
    };
    let without = measure("fakesink sync=false")?;
    Ok(measure(&sink)? - without)
}
