//! An MP4, MOV or Matroska file played in real time, once or for ever.
//!
//! Repeating is done with segment seeks: at the end the demuxer starts over without a flush, running time goes on,
//! and so do the pts. The first packet after the seam is the file's first key frame.
//!
//! ```text
//!                         ┌ queue ! h264parse ! avc  ! appsink
//!  filesrc ! demuxer ─────┼ queue ! h265parse ! hvc1 ! appsink      paced by the clock
//!                         └ queue ! aacparse  ! raw  ! appsink
//! ```

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::Track;
use super::capture::Build;
use super::flow::Wake;
use super::gst::{GstError, chain, h26x_caps, make};
use super::source_rtsp::aac_caps;
use crate::config::SourceConfig;
use crate::model::DownReason;

/// What may lie between demuxer and sinks, so that tracks written far apart do not hold each other up.
const QUEUE_NS: u64 = 2_000_000_000;

/// The demuxer that a file name asks for.
fn demuxer(path: &Path) -> Option<&'static str> {
    let ext = path.extension()?.to_str()?.to_ascii_lowercase();
    match ext.as_str() {
        "mp4" | "mov" | "m4v" => Some("qtdemux"),
        "mkv" | "webm" => Some("matroskademux"),
        _ => None,
    }
}

pub(super) fn build(b: &Build<'_>, source: &SourceConfig) -> Result<(), DownReason> {
    let SourceConfig::File { path, repeat } = source else {
        return Err(DownReason::Failed("not a file source".into()));
    };
    let demuxer = demuxer(path).ok_or_else(|| {
        DownReason::Unsupported(format!("{}: neither mp4, mov nor mkv", path.display()))
    })?;
    let src = make("filesrc")?;
    src.set_property("location", path);
    let demux = make(demuxer)?;
    demux.set_property("name", "demux");
    chain(b.pipeline, &[&src, &demux])?;
    if *repeat {
        b.flow.only_segments();
    }
    let mut branches = vec![
        (
            "video/x-h264",
            branch(
                b,
                "h264parse",
                h26x_caps("video/x-h264", "avc"),
                Track::Video,
            )?,
        ),
        (
            "video/x-h265",
            branch(
                b,
                "h265parse",
                h26x_caps("video/x-h265", "hvc1"),
                Track::Video,
            )?,
        ),
    ];
    if b.audio {
        branches.push((
            "audio/mpeg",
            branch(b, "aacparse", aac_caps(), Track::Audio)?,
        ));
    }
    link_pads(b, &demux, branches);
    Ok(())
}

fn branch(
    b: &Build<'_>,
    parser: &str,
    caps: gst::Caps,
    track: Track,
) -> Result<gst::Pad, GstError> {
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", 0u32);
    queue.set_property("max-size-bytes", 32u32 << 20);
    queue.set_property("max-size-time", QUEUE_NS);
    let parse = make(parser)?;
    let filter = make("capsfilter")?;
    filter.set_property("caps", caps);
    let sink = b.flow.sink(track, true);
    chain(b.pipeline, &[&queue, &parse, &filter, sink.upcast_ref()])?;
    queue
        .static_pad("sink")
        .ok_or_else(|| GstError::Pipeline("a queue without sink".into()))
}

fn link_pads(b: &Build<'_>, demux: &gst::Element, branches: Vec<(&'static str, gst::Pad)>) {
    let branches: Vec<_> = branches
        .into_iter()
        .map(|(name, pad)| (name, pad.downgrade()))
        .collect();
    let flow = Arc::downgrade(b.flow);
    demux.connect_pad_added(move |_, pad| {
        let Some(flow) = flow.upgrade() else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let Some(s) = caps.structure(0) else { return };
        let (media, _) = s.name().split_once('/').unwrap_or_default();
        let aac = s.get::<i32>("mpegversion").is_ok_and(|v| v == 4 || v == 2);
        flow.offered(media, short_name(s.name(), aac));
        if s.name() == "audio/mpeg" && !aac {
            return;
        }
        let sink = branches
            .iter()
            .find(|(name, _)| s.name() == *name)
            .and_then(|(_, p)| p.upgrade())
            .filter(|p| !p.is_linked());
        let Some(sink) = sink else { return };
        mend_seams(pad);
        match pad.link(&sink) {
            Ok(_) if media == "audio" => flow.expect_audio(),
            Ok(_) => {}
            Err(e) => tracing::debug!(error = ?e, "a track of the file does not link"),
        }
    });
    let flow = Arc::downgrade(b.flow);
    demux.connect_no_more_pads(move |_| {
        let Some(flow) = flow.upgrade() else { return };
        flow.wake(if flow.nothing_to_record() {
            Wake::Down(DownReason::Unsupported(flow.nothing_text()))
        } else {
            Wake::Ready
        });
    });
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

fn short_name(caps: &str, aac: bool) -> &str {
    match caps {
        "video/x-h264" => "H264",
        "video/x-h265" => "H265",
        "audio/mpeg" if aac => "AAC",
        other => other.rsplit('/').next().unwrap_or(other),
    }
}

/// Begins a repeated file: from here on its end is a [`Wake::SegmentDone`] instead of an end of stream.
pub(super) fn begin(pipeline: &gst::Pipeline, source: &SourceConfig) -> Result<(), DownReason> {
    match source {
        SourceConfig::File { repeat: true, .. } => {
            seek(pipeline, gst::SeekFlags::FLUSH | gst::SeekFlags::SEGMENT)
        }
        _ => Ok(()),
    }
}

/// Starts a repeated file over.
pub(super) fn again(pipeline: &gst::Pipeline) -> Result<(), DownReason> {
    seek(pipeline, gst::SeekFlags::SEGMENT)
}

fn seek(pipeline: &gst::Pipeline, flags: gst::SeekFlags) -> Result<(), DownReason> {
    let demux = pipeline
        .by_name("demux")
        .ok_or_else(|| DownReason::Failed("no demuxer".into()))?;
    let seek = gst::event::Seek::new(
        1.0,
        flags,
        gst::SeekType::Set,
        gst::ClockTime::ZERO,
        gst::SeekType::None,
        gst::ClockTime::NONE,
    );
    // To the demuxer itself: a seek through the sinks would arrive once for each track.
    if demux.send_event(seek) {
        Ok(())
    } else {
        Err(DownReason::Unsupported(
            "the file cannot be repeated".into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_chooses_the_demuxer() {
        assert_eq!(demuxer(Path::new("/a/b.MP4")), Some("qtdemux"));
        assert_eq!(demuxer(Path::new("c.mkv")), Some("matroskademux"));
        assert_eq!(demuxer(Path::new("c.avi")), None);
    }
}
