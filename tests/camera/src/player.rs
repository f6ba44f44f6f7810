//! Plays a file into a camera's media, once or in a seamless loop (pts go on at the seam).
//!
//! The file is demuxed in a pipeline of its own, paced by the clock; its access units go to the media's `appsrc`s with
//! the running time of the player as pts. Looping is done with segment seeks.

use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use crate::server::Codec;

/// What a file holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contents {
    pub(crate) codec: Codec,
    pub(crate) aac: bool,
}

fn demuxer(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()) {
        Some("mkv" | "webm") => "matroskademux",
        _ => "qtdemux",
    }
}

/// Looks into a file.
pub(crate) fn contents(path: &Path) -> Result<Contents> {
    let pipeline = gst::Pipeline::new();
    let src = gst::ElementFactory::make("filesrc")
        .property("location", path)
        .build()?;
    let demux = gst::ElementFactory::make(demuxer(path)).build()?;
    pipeline.add_many([&src, &demux])?;
    src.link(&demux)?;
    let (tell, told) = mpsc::channel();
    demux.connect_no_more_pads(move |d| {
        let names: Vec<String> = d
            .src_pads()
            .iter()
            .filter_map(|p| p.current_caps())
            .filter_map(|c| c.structure(0).map(|s| s.name().to_string()))
            .collect();
        let _ = tell.send(names);
    });
    pipeline.set_state(gst::State::Paused)?;
    let names = told.recv_timeout(Duration::from_secs(10));
    pipeline.set_state(gst::State::Null)?;
    let names = names.with_context(|| format!("{} is no clip", path.display()))?;
    let codec = match names
        .iter()
        .find(|n| n.starts_with("video/"))
        .map(String::as_str)
    {
        Some("video/x-h264") => Codec::H264,
        Some("video/x-h265") => Codec::H265,
        other => bail!("{} holds {other:?}, not H.264 or H.265", path.display()),
    };
    Ok(Contents {
        codec,
        aac: names.iter().any(|n| n == "audio/mpeg"),
    })
}

/// A file that is being played; dropping it stops it.
#[derive(Debug)]
pub(crate) struct Player {
    pipeline: gst::Pipeline,
}

impl Player {
    /// Starts to play into `video` and `audio`.
    pub(crate) fn start(
        path: &Path,
        repeat: bool,
        contents: Contents,
        video: &gst_app::AppSrc,
        audio: Option<&gst_app::AppSrc>,
    ) -> Result<Player> {
        let parse = match contents.codec {
            Codec::H264 => "h264parse ! video/x-h264,stream-format=byte-stream,alignment=au",
            Codec::H265 => "h265parse ! video/x-h265,stream-format=byte-stream,alignment=au",
        };
        let mut description = format!(
            "filesrc name=src ! {} name=d d.video_0 ! queue ! {parse} ! appsink name=video",
            demuxer(path)
        );
        if audio.is_some() {
            description += " d.audio_0 ! queue ! aacparse ! appsink name=audio";
        }
        let pipeline = gst::parse::launch(&description)?
            .downcast::<gst::Pipeline>()
            .map_err(|_| anyhow::anyhow!("not a pipeline"))?;
        pipeline
            .by_name("src")
            .context("src")?
            .set_property("location", path);
        feed(&pipeline, "video", video)?;
        if let Some(audio) = audio {
            feed(&pipeline, "audio", audio)?;
        }
        let demux = pipeline.by_name("d").context("d")?;
        demux.connect_pad_added(|_, pad| mend_seams(pad));
        let (bus, weak) = (pipeline.bus().context("no bus")?, pipeline.downgrade());
        pipeline.set_state(gst::State::Paused)?;
        thread::spawn(move || drive(&bus, &weak, repeat));
        Ok(Player { pipeline })
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let over = gst::message::Application::new(gst::Structure::new_empty("over"));
        let _ = self.pipeline.post_message(over);
        let pipeline = self.pipeline.clone();
        // Not here: the caller may be the media's thread, which the sinks could be waiting for.
        thread::spawn(move || pipeline.set_state(gst::State::Null));
    }
}

fn feed(pipeline: &gst::Pipeline, name: &str, to: &gst_app::AppSrc) -> Result<()> {
    let sink = pipeline
        .by_name(name)
        .and_then(|e| e.downcast::<gst_app::AppSink>().ok())
        .context("no appsink")?;
    let weak = to.downgrade();
    let ended = to.downgrade();
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .eos(move |_| {
                if let Some(to) = ended.upgrade() {
                    let _ = to.end_of_stream();
                }
            })
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let to = weak.upgrade().ok_or(gst::FlowError::Eos)?;
                let segment = sample
                    .segment()
                    .and_then(|s| s.downcast_ref::<gst::ClockTime>());
                let (Some(segment), Some(mut buffer)) = (segment, sample.buffer_owned()) else {
                    return Ok(gst::FlowSuccess::Ok);
                };
                let (pts, dts) = (
                    segment.to_running_time(buffer.pts()),
                    segment.to_running_time(buffer.dts()),
                );
                if let Some(caps) = sample.caps() {
                    to.set_caps(Some(&caps.to_owned()));
                }
                let meta = buffer.make_mut();
                meta.set_pts(pts);
                meta.set_dts(dts);
                to.push_buffer(buffer)
            })
            .build(),
    );
    Ok(())
}

/// Makes every round of a repeated file begin where the one before ended. Demuxers count a round up to its last frame's
/// *start*, so that two frames would share a time at each seam.
fn mend_seams(pad: &gst::Pad) {
    let rounds = Mutex::new(Rounds::default());
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &mut info.data
            && let gst::EventView::Segment(e) = event.view()
            && let Some(segment) = e.segment().downcast_ref::<gst::ClockTime>()
        {
            let mut rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(base) = rounds.base(e.seqnum(), segment) {
                let mut mended = segment.clone();
                mended.set_base(base);
                *event = gst::event::Segment::builder(&mended)
                    .seqnum(e.seqnum())
                    .build();
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// The rounds of one track; each seek has a sequence number of its own.
#[derive(Default)]
struct Rounds {
    seqnum: Option<gst::Seqnum>,
    count: u64,
    first_base: gst::ClockTime,
}

impl Rounds {
    fn base(
        &mut self,
        seqnum: gst::Seqnum,
        segment: &gst::FormattedSegment<gst::ClockTime>,
    ) -> Option<gst::ClockTime> {
        if !segment.flags().contains(gst::SegmentFlags::SEGMENT) {
            return None;
        }
        let (base, length) = (segment.base()?, segment.stop().or(segment.duration())?);
        if self.seqnum != Some(seqnum) {
            self.count += u64::from(self.seqnum.is_some());
            self.seqnum = Some(seqnum);
            self.first_base = base;
        }
        // An edit list may cut a round into several segments.
        Some(length * self.count + base.saturating_sub(self.first_base))
    }
}

/// Starts playing when everything is linked, starts over at the end.
fn drive(bus: &gst::Bus, pipeline: &gst::glib::WeakRef<gst::Pipeline>, repeat: bool) {
    let mut started = false;
    while let Some(message) = bus.timed_pop(gst::ClockTime::NONE) {
        let Some(pipeline) = pipeline.upgrade() else {
            return;
        };
        // To the demuxer itself: a seek through the sinks would arrive once for each track.
        let seek = |flags| {
            let (set, none) = (gst::SeekType::Set, gst::SeekType::None);
            let zero = gst::ClockTime::ZERO;
            let event = gst::event::Seek::new(1.0, flags, set, zero, none, gst::ClockTime::NONE);
            pipeline.by_name("d").is_some_and(|d| d.send_event(event))
        };
        match message.view() {
            gst::MessageView::AsyncDone(_) if !started => {
                started = true;
                if repeat {
                    let _ = seek(gst::SeekFlags::FLUSH | gst::SeekFlags::SEGMENT);
                }
                let _ = pipeline.set_state(gst::State::Playing);
            }
            gst::MessageView::SegmentDone(_) => {
                let _ = seek(gst::SeekFlags::SEGMENT);
            }
            gst::MessageView::Application(_) | gst::MessageView::Error(_) => return,
            _ => {}
        }
    }
}
