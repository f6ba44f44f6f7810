//! Reads the access units of a clip back out of its MP4, in the order of the file, as fast as they are taken.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks};

use super::gst::{GstError, chain, make};
use super::{Packet, Track, TrackCaps, teardown};
use crate::time::Pts;

/// Packets that wait for the reader; when full, the demuxer waits.
const QUEUE: usize = 64;
/// A file that gives nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DemuxError {
    /// It is none of ours, or damaged.
    #[error("not a readable clip: {0}")]
    Broken(String),
    /// Nothing came for [`PATIENCE`].
    #[error("the disk does not answer")]
    Slow,
    /// GStreamer is not complete.
    #[error(transparent)]
    Build(#[from] GstError),
}

enum Said {
    Track(Track, gst::Caps),
    Ready,
    Packet(Packet),
    End,
}

/// An open clip.
pub struct Reader {
    pipeline: gst::Pipeline,
    said: Receiver<Said>,
    /// Its tracks; there is always a picture.
    pub caps: TrackCaps,
    tracks: usize,
}

impl Reader {
    /// Opens a file and learns its tracks. Blocks.
    ///
    /// # Errors
    /// [`DemuxError`].
    pub fn open(path: &Path) -> Result<Reader, DemuxError> {
        let pipeline = gst::Pipeline::new();
        let source = make("filesrc")?;
        source.set_property("location", PathBuf::from(path));
        let demux = make("qtdemux")?;
        chain(&pipeline, &[&source, &demux])?;
        let (tell, said) = sync_channel(QUEUE);
        let (weak, teller) = (pipeline.downgrade(), tell.clone());
        demux.connect_pad_added(move |_, pad| {
            if let Some(pipeline) = weak.upgrade() {
                take_track(&pipeline, pad, &teller);
            }
        });
        demux.connect_no_more_pads(move |_| drop(tell.send(Said::Ready)));
        let mut reader = Reader {
            pipeline,
            said,
            caps: TrackCaps {
                video: gst::Caps::new_empty(),
                audio: None,
            },
            tracks: 0,
        };
        let started = reader.pipeline.set_state(gst::State::Playing);
        started.map_err(|_| reader.why("it cannot be opened"))?;
        reader.learn()?;
        Ok(reader)
    }

    fn learn(&mut self) -> Result<(), DemuxError> {
        let mut video = None;
        loop {
            match self.hear()? {
                Said::Track(Track::Video, caps) if video.is_none() => video = Some(caps),
                Said::Track(Track::Audio, caps) => self.caps.audio = Some(caps),
                Said::Ready => break,
                Said::Track(..) | Said::Packet(_) | Said::End => {
                    return Err(self.why("it has more than one picture track"));
                }
            }
        }
        self.caps.video = video.ok_or_else(|| self.why("there is no picture in it"))?;
        self.tracks = 1 + usize::from(self.caps.audio.is_some());
        Ok(())
    }

    /// The next access unit; `None` at the end. Blocks.
    ///
    /// # Errors
    /// [`DemuxError`].
    pub fn packet(&mut self) -> Result<Option<Packet>, DemuxError> {
        while self.tracks > 0 {
            match self.hear()? {
                Said::Packet(packet) => return Ok(Some(packet)),
                Said::End => self.tracks -= 1,
                Said::Track(..) | Said::Ready => {}
            }
        }
        Ok(None)
    }

    fn hear(&self) -> Result<Said, DemuxError> {
        let step = Duration::from_millis(100);
        for _ in 0..PATIENCE.as_millis() / step.as_millis() {
            match self.said.recv_timeout(step) {
                Ok(said) => return Ok(said),
                Err(RecvTimeoutError::Disconnected) => return Err(self.why("it ended too early")),
                Err(RecvTimeoutError::Timeout) => {
                    let error = [gst::MessageType::Error];
                    if let Some(m) = self.pipeline.bus().and_then(|b| b.pop_filtered(&error)) {
                        return Err(broken(&m));
                    }
                }
            }
        }
        Err(DemuxError::Slow)
    }

    fn why(&self, otherwise: &str) -> DemuxError {
        let error = [gst::MessageType::Error];
        let message = self.pipeline.bus().and_then(|b| b.pop_filtered(&error));
        message.map_or_else(|| DemuxError::Broken(otherwise.to_owned()), |m| broken(&m))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The demuxer may wait for us to take a packet: nobody will.
        let (_, nobody) = sync_channel(0);
        self.said = nobody;
        teardown::stop_within(&self.pipeline, Duration::from_secs(2));
    }
}

fn broken(message: &gst::Message) -> DemuxError {
    match message.view() {
        gst::MessageView::Error(e) => DemuxError::Broken(e.error().message().to_owned()),
        _ => DemuxError::Broken("no reason given".into()),
    }
}

/// Takes H.264, H.265 and AAC; everything else in the file is left alone.
fn take_track(pipeline: &gst::Pipeline, pad: &gst::Pad, tell: &SyncSender<Said>) {
    let Some(caps) = pad.current_caps() else {
        return;
    };
    let track = match caps.structure(0).map(|s| s.name().as_str()) {
        Some("video/x-h264" | "video/x-h265") => Track::Video,
        Some("audio/mpeg") => Track::Audio,
        _ => return,
    };
    let (packets, end) = (tell.clone(), tell.clone());
    let sink = AppSink::builder().sync(false).async_(false).build();
    sink.set_enable_last_sample(false);
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let Some(packet) = packet(track, &sample) else {
                    return Ok(gst::FlowSuccess::Ok);
                };
                let sent = packets.send(Said::Packet(packet));
                sent.map(|()| gst::FlowSuccess::Ok)
                    .map_err(|_| gst::FlowError::Eos)
            })
            .eos(move |_| drop(end.send(Said::End)))
            .build(),
    );
    let linked = pipeline.add(&sink).is_ok()
        && sink.sync_state_with_parent().is_ok()
        && sink
            .static_pad("sink")
            .is_some_and(|input| pad.link(&input).is_ok());
    if linked {
        // An error means that nobody reads any more.
        let _ = tell.send(Said::Track(track, caps));
    }
}

fn packet(track: Track, sample: &gst::Sample) -> Option<Packet> {
    let buffer = sample.buffer_owned()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let running = segment.to_running_time_full(buffer.pts()?)?.positive()?;
    Some(Packet {
        track,
        pts: Pts(running.nseconds()),
        key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        buffer,
    })
}
