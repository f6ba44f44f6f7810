//! `upload`: a file to object storage beside `curl` writing the same file to the same server, and from the end of an event to
//! the clip that the cloud has verified.
//!
//! Both are timed alike, by what the server saw: from the first PUT that began to the last one that was answered, so that
//! neither the start of a program nor the cloud's verification counts. CPU and memory of the agent are those from its
//! start to `available`.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sentrycam::board::clock::Clock;
use sentrycam::db::recordings::{self, KeptFile, Opening};
use sentrycam::db::{Urgency, open};
use sentrycam::model::{BootId, CameraId, RecordMode, RecordingId, Sha256, StreamInfo, VideoCodec};
use sentrycam::outbox::quota::Quotas;
use sentrycam::time::Mono;
use sentrycam_cloud::storage::Storage;
use sentrycam_cloud::testing::Cloud;
use sentrycam_testcam::{Codec, Options, Picture, Scene, Source, TestCamera};
use serde_json::json;
use uuid::Uuid;

use crate::process::{Running, Usage, command};
use crate::report::{self, Table, percentile, sibling, word};

const GOAL: f64 = 0.9;
const SCENE: Scene = Scene {
    quiet: 6,
    motion: 2,
};

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Size of the file in MiB
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// Rounds; each program has its turn in each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events of the second half; one takes 8 s
    #[arg(long, default_value_t = 24)]
    events: usize,
}

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let machine = report::machine();
    report::head(
        "upload: goodput beside curl, event end to available",
        &machine,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut figures = json!({ "machine": machine, "mib": args.mib, "rounds": args.rounds });
    let (mut ours, mut theirs, mut usages) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        runtime.block_on(async {
            let cloud = Cloud::builder().storage().start().await?;
            let directory = tempfile::tempdir_in(report::directory()?)?;
            theirs.push(curl(&cloud, directory.path(), args.mib).await?);
            let (rate, usage) = agent(&cloud, directory.path(), args.mib).await?;
            ours.push(rate);
            usages.push(usage);
            anyhow::Ok(())
        })?;
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        percentile(values, 0.5)
    };
    let (own, other) = (median(&mut ours), median(&mut theirs));
    let cpu = median(&mut usages.iter().map(|u| u.cpu_ms / args.mib as f64).collect());
    let rss = usages.iter().map(|u| u.peak_rss_mib).fold(0.0, f64::max);
    let anonymous = usages.iter().map(|u| u.anonymous_mib).fold(0.0, f64::max);
    let mut table = Table::new(["what", "figure"]);
    table.row(["agent, MiB/s (median)".into(), format!("{own:.1}")]);
    table.row(["curl -T, MiB/s (median)".into(), format!("{other:.1}")]);
    let share = own / other;
    let reached = word(share >= GOAL);
    table.row([
        "agent / curl".into(),
        format!("{share:.2} (goal {GOAL}: {reached})"),
    ]);
    table.row(["agent, CPU ms per MiB".into(), format!("{cpu:.1}")]);
    table.row([
        "agent, peak RSS MiB (of it anonymous at the end)".into(),
        format!("{rss:.1} ({anonymous:.1})"),
    ]);
    figures["goodput"] = json!({ "agent_mib_s": own, "curl_mib_s": other, "share": share, "cpu_ms_per_mib": cpu,
                                  "peak_rss_mib": rss, "anonymous_mib": anonymous });
    let mut waits = runtime.block_on(events(args.events))?;
    waits.sort_by(f64::total_cmp);
    let [p50, p99] = [0.5, 0.99].map(|p| percentile(&waits, p));
    let label = format!(
        "event's end told -> clip available, s p50 / p99 ({} events)",
        waits.len()
    );
    table.row([label, format!("{p50:.2} / {p99:.2}")]);
    figures["event_to_available_s"] = json!({ "p50": p50, "p99": p99, "events": waits.len() });
    table.print();
    report::write("upload", &figures)
}

/// MiB/s of what the server saw since it was told to forget.
async fn seen(cloud: &Cloud, bytes: u64, at_most: Duration) -> Result<f64> {
    let faults = cloud.objects().context("no storage")?.faults();
    let until = Instant::now() + at_most;
    let mut began = None;
    loop {
        let seen = faults.seen();
        let puts = || seen.iter().filter(|s| s.method == "PUT");
        if began.is_none() && puts().next().is_some() {
            began = Some(Instant::now());
        }
        let taken: u64 = puts()
            .filter(|s| s.status == Some(200))
            .map(|s| s.body_bytes)
            .sum();
        if let Some(began) = began
            && taken >= bytes
        {
            return Ok(bytes as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64());
        }
        ensure!(Instant::now() < until, "{taken} of {bytes} bytes arrived");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Bytes that do not compress.
fn content(mib: u64) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..mib << 17).flat_map(|_| next()).collect()
}

async fn curl(cloud: &Cloud, directory: &Path, mib: u64) -> Result<f64> {
    let file = directory.join("file");
    std::fs::write(&file, content(mib))?;
    let objects = cloud.objects().context("no storage")?;
    let settings = objects.settings("localhost", cloud.ca_pem());
    let storage = Storage::new(settings)?;
    // As one part, so that the server hashes nothing that it does not hash of the agent's.
    let id = storage.begin("bench/curl", "video/mp4").await?;
    let put = storage.put_part("bench/curl", &id, 1, jiff::Timestamp::now());
    objects.faults().forget();
    let child = command("curl")
        .args(["-sS", "--fail", "--http1.1", "-H", "Expect:", "-T"])
        .arg(&file)
        .arg("--cacert")
        .arg(cloud.ca_path())
        .arg(put.url)
        .stderr(Stdio::inherit())
        .spawn()?;
    let _curl = Running::of(child);
    seen(cloud, mib << 20, Duration::from_secs(300)).await
}

/// The same file as a clip that waits.
async fn agent(cloud: &Cloud, directory: &Path, mib: u64) -> Result<(f64, Usage)> {
    let camera: CameraId = "cam-1".parse().map_err(anyhow::Error::msg)?;
    let id = RecordingId(Uuid::now_v7());
    let clips = directory.join("clips").join(camera.as_str());
    std::fs::create_dir_all(&clips)?;
    std::fs::rename(directory.join("file"), clips.join(format!("{id}.mp4")))?;
    let (sha256, size_bytes) = Sha256::of_reader(&content(mib)[..])?;
    let clock = Clock::default();
    let time = sentrycam::agent::time::TimeKeeper::new(clock.clone(), clock.build_time());
    let options = open::Options {
        dir: directory.to_owned(),
        boot: BootId(Uuid::now_v7()),
        clock: time.boot_clock(),
        now: time.wall(),
        quotas: Quotas::default(),
        ids: Arc::new(Uuid::now_v7),
    };
    let (db, closer, _) = open::open(options, tokio::runtime::Handle::current())?;
    let info = StreamInfo {
        codec: VideoCodec::H264,
        width: 640,
        height: 360,
        fps: 15.0,
        has_audio: false,
    };
    let opening = Opening {
        id,
        event: None,
        started: Mono(1),
        mode: RecordMode::Motion,
        info,
        path: format!("{camera}/{id}.mp4"),
    };
    let kept = KeptFile {
        size_bytes,
        duration_ms: 1000,
        sha256,
        truncated: false,
    };
    db.call(Urgency::Now, move |c, run| {
        recordings::open(c, run, &camera, &opening)?;
        recordings::keep(c, id, &kept)
    })
    .await?;
    drop(db);
    tokio::task::spawn_blocking(|| closer.close()).await??;
    cloud.objects().context("no storage")?.faults().forget();
    let agent = start(cloud, directory, "").await?;
    let rate = seen(cloud, mib << 20, Duration::from_secs(300)).await?;
    let there = "(select count(*) from uploads where status = 'available') = 1";
    cloud.wait_for(there, Duration::from_secs(120)).await?;
    Ok((rate, agent.usage()?))
}

async fn start(cloud: &Cloud, directory: &Path, camera: &str) -> Result<Running> {
    let credentials = directory.join("edge.json");
    cloud.write_credentials("bench", &credentials).await?;
    let config = format!(
        "state_dir = {directory:?}\n[upload]\nmax_kbps = \"off\"\n[cloud]\ncredentials_file = {credentials:?}\n\
         ca_file = {ca:?}\nallow_private = [\"127.0.0.0/8\", \"::1\"]\n{camera}",
        ca = cloud.ca_path(),
    );
    let file = directory.join("sentrycam.toml");
    std::fs::write(&file, config)?;
    let mut agent = command(sibling("sentrycam")?);
    agent.arg("--config").arg(&file).arg("run");
    Running::start(agent, &directory.join("log"))
}

/// Seconds from the record of an event's end to its clip's `available_at`, both by the cloud's clock.
async fn events(events: usize) -> Result<Vec<f64>> {
    let cloud = Cloud::builder().storage().start().await?;
    let directory = tempfile::tempdir_in(report::directory()?)?;
    let picture = Picture {
        width: 1280,
        height: 720,
        fps: 15,
        gop: 30,
        scene: SCENE,
        ..Picture::default()
    };
    let camera = TestCamera::start(Options {
        source: Source::Pattern(picture, Codec::H264),
        ..Options::default()
    })?;
    let section = format!(
        "[[camera]]\nid = \"cam-1\"\nurl = {:?}\n[camera.recording]\npost_roll = \"1 s\"\npre_roll = \"2 s\"\n",
        camera.url()
    );
    let _agent = start(&cloud, directory.path(), &section).await?;
    let enough =
        format!("(select count(*) from recordings where status = 'available') >= {events}");
    cloud
        .wait_for(&enough, Duration::from_secs(60 + 30 * events as u64))
        .await?;
    let rows = cloud
        .query(
            "select (extract(epoch from r.available_at - e.received_at))::float8 as s from recordings r
             join edge_records e on e.type = 'io.sentrycam.motion.ended.v1'
             and (e.record -> 'data' ->> 'event_id')::uuid = r.event_uid where r.status = 'available'",
        )
        .await?;
    Ok(rows.iter().filter_map(|row| row["s"].as_f64()).collect())
}
