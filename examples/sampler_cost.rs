//! Measures what the sampler costs (and, for comparison, the clip writer): user and system CPU milliseconds per second of H.264, in several arrangements.
//!
//! `cargo run --release --example sampler_cost [file.mp4]`; without a file it encodes 20 s of 1080p30 (a moving zone
//! plate, 4 Mbit/s, GOP 2 s, no B-frames). The best of three runs counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};
use sentrycam::media::clip::ClipWriter;
use sentrycam::media::sampler::{Fed, Sampler, SamplerEvent};
use sentrycam::media::{Packet, Track, TrackCaps};
use sentrycam::time::Pts;

const SMALL: &str = "video/x-raw,width=320,height=180 ! fakesink sync=false";

/// Name, properties of the decoder, and what follows it; PROBE drops pictures by pts, FPS is the detector's rate.
const ARRANGEMENTS: [(&str, &str, &str); 12] = [
    ("decode all, drop all", "", "fakesink sync=false"),
    (
        "videorate, bilinear",
        "",
        "videorate drop-only=true ! video/x-raw,framerate=FPS/1 ! videoscale ! SMALL",
    ),
    (
        "probe, nearest",
        "",
        "PROBE ! videoscale method=nearest-neighbour ! SMALL",
    ),
    ("probe, bilinear", "", "PROBE ! videoscale ! SMALL"),
    (
        "probe, lanczos",
        "",
        "PROBE ! videoscale method=lanczos ! SMALL",
    ),
    (
        "probe, bilinear, 2 scaler threads",
        "",
        "PROBE ! videoscale n-threads=2 ! SMALL",
    ),
    (
        "probe, bilinear, 2 decoder threads",
        "max-threads=2",
        "PROBE ! videoscale ! SMALL",
    ),
    (
        "probe, bilinear, output-corrupt=false",
        "output-corrupt=false",
        "PROBE ! videoscale ! SMALL",
    ),
    (
        "probe, bilinear, no direct rendering",
        "direct-rendering=false",
        "PROBE ! videoscale ! SMALL",
    ),
    (
        "probe, bilinear, skip-frame=1",
        "skip-frame=1",
        "PROBE ! videoscale ! SMALL",
    ),
    (
        "scale all, then drop",
        "",
        "videoscale ! video/x-raw,width=320,height=180 ! PROBE ! fakesink sync=false",
    ),
    (
        "convert all, then scale",
        "",
        "videoconvert ! video/x-raw,format=GRAY8 ! videoscale ! SMALL",
    ),
];

fn main() -> Result<()> {
    gst::init()?;
    let file = std::env::args().nth(1);
    let main = match &file {
        Some(file) => packets(&format!("filesrc location={file} ! qtdemux ! h264parse"))?,
        None => packets(&encode(0))?,
    };
    let report = |name: &str, seconds: f64, run: &dyn Fn(u32) -> Result<f64>| -> Result<()> {
        let mut row = format!("| {name} |");
        for fps in [5, 10] {
            let mut best = f64::INFINITY;
            for _ in 0..3 {
                best = best.min(run(fps)?);
            }
            row += &format!(" {:.1} |", best / seconds);
        }
        println!("{row}");
        Ok(())
    };
    println!(
        "{} packets, {:.1} s\n\n| arrangement | 5 fps | 10 fps |\n|---|---|---|",
        main.1.len(),
        length(&main.1)
    );
    report("(clip writer, for comparison)", length(&main.1), &|_| {
        clip(&main)
    })?;
    for (name, decoder, tail) in ARRANGEMENTS {
        report(name, length(&main.1), &|fps| {
            launch(&main, decoder, tail, fps)
        })?;
    }
    report(
        "**sampler** (one thread, own mean)",
        length(&main.1),
        &|fps| sampler(&main, fps, false),
    )?;
    report(
        "sampler, key frames alone, drained",
        length(&main.1),
        &|fps| sampler(&main, fps, true),
    )?;
    if file.is_none() {
        let b = packets(&encode(3))?;
        report(
            "sampler, 3 B-frames nothing refers to",
            length(&b.1),
            &|fps| sampler(&b, fps, false),
        )?;
    }
    Ok(())
}

fn encode(bframes: u32) -> String {
    format!(
        "videotestsrc num-buffers=600 pattern=zone-plate kx2=20 ky2=20 kt=1 ! video/x-raw,format=I420,width=1920,height=1080,\
         framerate=30/1 ! x264enc bitrate=4000 key-int-max=60 bframes={bframes} b-adapt=false b-pyramid=false \
         speed-preset=veryfast ! h264parse"
    )
}

fn length(packets: &[Packet]) -> f64 {
    let end = packets.iter().map(|p| p.pts).max().unwrap_or_default();
    end.0 as f64 / 1e9 + 1.0 / 30.0
}

fn packets(source: &str) -> Result<(gst::Caps, Vec<Packet>)> {
    let avc = "video/x-h264,stream-format=avc,alignment=au";
    let pipeline = gst::parse::launch(&format!("{source} ! {avc} ! appsink name=out sync=false"))?;
    let bin = pipeline.downcast_ref::<gst::Bin>().context("a pipeline")?;
    let sink = bin
        .by_name("out")
        .and_downcast::<AppSink>()
        .context("an appsink")?;
    pipeline.set_state(gst::State::Playing)?;
    let (mut caps, mut packets) = (None, Vec::new());
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer_owned().context("a buffer")?;
        let segment = sample
            .segment()
            .and_then(|s| s.downcast_ref::<gst::ClockTime>())
            .context("a segment")?;
        let pts = segment.to_running_time(buffer.pts()).unwrap_or_default();
        caps = sample.caps_owned();
        packets.push(Packet {
            track: Track::Video,
            pts: Pts(pts.nseconds()),
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            buffer,
        });
    }
    pipeline.set_state(gst::State::Null)?;
    Ok((caps.context("no packets")?, packets))
}

fn cpu_ms() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
}

fn launch(
    (caps, packets): &(gst::Caps, Vec<Packet>),
    decoder: &str,
    tail: &str,
    fps: u32,
) -> Result<f64> {
    let threads = if decoder.contains("max-threads") {
        ""
    } else {
        "max-threads=1"
    };
    let tail = tail
        .replace("SMALL", SMALL)
        .replace("FPS", &fps.to_string())
        .replace("PROBE", "identity name=pace silent=true");
    let text = format!(
        "appsrc name=in format=time max-bytes=0 ! avdec_h264 qos=false {threads} {decoder} ! {tail}"
    );
    let pipeline = gst::parse::launch(&text)?
        .downcast::<gst::Pipeline>()
        .ok()
        .context("a pipeline")?;
    let source = pipeline
        .by_name("in")
        .and_downcast::<AppSrc>()
        .context("an appsrc")?;
    source.set_caps(Some(caps));
    if let Some(pad) = pipeline.by_name("pace").and_then(|p| p.static_pad("sink")) {
        let (next, interval) = (
            AtomicU64::new(0),
            1_000_000_000 / u64::from(fps) - 1_000_000,
        );
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let pts = info
                .buffer()
                .and_then(|b| b.pts())
                .map_or(0, gst::ClockTime::nseconds);
            if pts < next.load(Relaxed) {
                info.data = None;
                return gst::PadProbeReturn::Handled;
            }
            next.store(pts + interval, Relaxed);
            gst::PadProbeReturn::Ok
        });
    }
    let before = cpu_ms();
    pipeline.set_state(gst::State::Playing)?;
    for p in packets {
        let mut buffer = p.buffer.copy();
        if let Some(b) = buffer.get_mut() {
            b.set_pts(gst::ClockTime::from_nseconds(p.pts.0));
            b.set_dts(gst::ClockTime::NONE);
        }
        source.push_buffer(buffer)?;
    }
    source.end_of_stream()?;
    let bus = pipeline.bus().context("a bus")?;
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(120), &ends);
    let cost = cpu_ms() - before;
    pipeline.set_state(gst::State::Null)?;
    match end.map(|m| m.type_()) {
        Some(gst::MessageType::Eos) => Ok(cost),
        other => bail!("{text}: {other:?}"),
    }
}

/// Writes, closes and hashes one clip.
fn clip((caps, packets): &(gst::Caps, Vec<Packet>)) -> Result<f64> {
    let dir = tempfile::tempdir()?;
    let caps = TrackCaps {
        video: caps.clone(),
        audio: None,
    };
    let before = cpu_ms();
    let mut writer = ClipWriter::open(&dir.path().join("a.mp4"), &caps, false)?;
    for p in packets {
        writer.push(p)?;
    }
    writer.finish()?;
    Ok(cpu_ms() - before)
}

fn sampler((caps, packets): &(gst::Caps, Vec<Packet>), fps: u32, keys: bool) -> Result<f64> {
    let (tx, mut rx) = tokio::sync::mpsc::channel(1_000);
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let before = cpu_ms();
    let mut sampler = Sampler::start(caps, fps as f32, 320, tx)?;
    for p in packets.iter().filter(|p| p.key || !keys) {
        while sampler.backlog() > 30 {
            let _ = never.recv_timeout(Duration::from_millis(5));
        }
        if let Fed::Dropped | Fed::Failed = sampler.push(p) {
            bail!("the sampler is behind or has failed");
        }
        if keys {
            sampler.drain();
        }
    }
    sampler.drain();
    while sampler.backlog() > 0 {
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
    if !sampler.stop() {
        bail!("the sampler hangs");
    }
    let cost = cpu_ms() - before;
    let mut frames = 0;
    while let Ok(SamplerEvent::Frame(..)) = rx.try_recv() {
        frames += 1;
    }
    if frames == 0 {
        bail!("no picture");
    }
    Ok(cost)
}
