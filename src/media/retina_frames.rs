//! The frames of an RTSP session: each becomes a stamped buffer with the caps of its track and goes to the [`Flow`].
//!
//! A packet that makes no sense costs its access unit, not the session. Times are arrival smoothed over the camera's
//! clock ([`Skew`]), audio beside the video ([`Lips`]). A stream that retina turns out not to understand is given up.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream as _;
use gstreamer as gst;
use retina::client::Demuxed;
use retina::codec::{AudioFrame, CodecItem, ParametersRef, VideoFrame};
use retina::rtcp::ReceivedCompoundPacket;
use tokio::time::{MissedTickBehavior, interval};

use super::caps::same_video;
use super::flow::{Arrived, Flow, Gone};
use super::gst::clean;
use super::skew::{Lips, Skew};
use super::source_retina::{Chosen, End};
use super::{Track, h26x, retina_caps};
use crate::model::{DownReason, Secret, VideoCodec};
use crate::time::Pts;

/// retina forgets to ask for more after a request of the camera's; it is asked again this often.
const TICK: Duration = Duration::from_secs(1);

/// Packets that make no sense since the last picture, after which the whole stream does not. A key frame has some hundreds.
const MAX_BAD: u32 = 1_000;

/// The same before the first picture, when the camera may just not be understood. A session may begin within a key
/// frame.
const MAX_BAD_FIRST: u32 = 300;

/// Pictures without a usable key frame and with bad packets among them, after which the stream is not understood.
const MAX_KEYLESS: u32 = 300;

/// Key frames in a row with other parameter sets than the one before: the camera has several at a time, of which
/// retina keeps one.
const MAX_CHANGES: u32 = 8;

/// What is known while frames come.
pub(super) struct Reader<'a> {
    flow: &'a Flow,
    now: &'a dyn Fn() -> Pts,
    choice: Chosen,
    sdp_fps: Option<f32>,
    video: Option<(VideoCodec, gst::Caps)>,
    audio_caps: Option<gst::Caps>,
    /// Of video and audio.
    clocks: (Skew, Skew),
    lips: Lips,
    /// Pictures before the first key frame.
    keyless: Option<u32>,
    changes: u32,
    bad_ever: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        flow: &'a Flow,
        now: &'a dyn Fn() -> Pts,
        choice: Chosen,
        sdp_fps: Option<f32>,
    ) -> Reader<'a> {
        Reader {
            flow,
            now,
            choice,
            sdp_fps,
            video: None,
            audio_caps: None,
            clocks: Default::default(),
            lips: Lips::default(),
            keyless: Some(0),
            changes: 0,
            bad_ever: false,
        }
    }

    /// Reads until the end; drops the session, which tears it down.
    pub(super) async fn read(mut self, mut demuxed: Demuxed, password: Option<&Secret>) -> End {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut bad = 0;
        let mut last_error = None;
        loop {
            let item = std::future::poll_fn(|cx| {
                while tick.poll_tick(cx) != Poll::Pending {}
                Pin::new(&mut demuxed).poll_next(cx)
            })
            .await;
            if matches!(item, Some(Ok(CodecItem::VideoFrame(_)))) {
                (bad, last_error) = (0, None);
            }
            let taken = match item {
                Some(Ok(CodecItem::VideoFrame(frame))) => self.picture(frame, &demuxed),
                Some(Ok(CodecItem::AudioFrame(frame))) => self.sound(&frame, &demuxed),
                Some(Ok(CodecItem::Rtcp(report))) => {
                    self.report(&report);
                    continue;
                }
                Some(Ok(_)) => continue,
                Some(Err(e)) if is_one_packets(&e) && bad < MAX_BAD => {
                    if bad == 0 {
                        self.flow.count_drop(1);
                        tracing::debug!(error = summary(&e, password), "a packet makes no sense");
                    }
                    if bad == MAX_BAD_FIRST && self.video.is_none() {
                        return End::Elsewhere(summary(&e, password));
                    }
                    bad += 1;
                    self.bad_ever = true;
                    last_error = Some(e);
                    continue;
                }
                Some(Err(e)) => {
                    return End::Over(Some(DownReason::Failed(summary(&e, password))));
                }
                // retina gives up after some errors of a single stream, which rtspsrc would survive.
                None => {
                    return match last_error {
                        Some(e) => End::Elsewhere(summary(&e, password)),
                        None => End::Over(Some(DownReason::Ended)),
                    };
                }
            };
            match taken {
                Ok(()) => {}
                Err(Stop::Gone) => return End::Over(None),
                Err(Stop::Elsewhere(why)) => return End::Elsewhere(why.into()),
            }
        }
    }

    fn picture(&mut self, frame: VideoFrame, demuxed: &Demuxed) -> Result<(), Stop> {
        let arrived = self.arrival(frame.end_ctx().received() - frame.start_ctx().received());
        let pts = self.clocks.0.map(media(frame.timestamp()), arrived);
        let changed = self.follow(&frame, demuxed);
        let Some((codec, caps)) = self.video.clone() else {
            return self.without_key();
        };
        let key = h26x::is_key(codec, frame.data());
        if key {
            self.keyless = None;
            self.changes = if changed { self.changes + 1 } else { 0 };
            if self.changes >= MAX_CHANGES {
                return Err(Stop::Elsewhere("several parameter sets at a time"));
            }
        } else {
            self.without_key()?;
        }
        let mut buffer = gst::Buffer::from_slice(frame.into_data());
        if let Some(b) = buffer.get_mut() {
            if !key {
                b.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
            b.set_duration(frame_time(&caps));
        }
        let arrived = Arrived {
            track: Track::Video,
            pts: Some(pts),
            dts: None,
            key,
            damaged: false,
            buffer,
        };
        Ok(self.flow.take(arrived, caps)?)
    }

    /// Takes over new parameter sets; true where they are others than the ones before.
    fn follow(&mut self, frame: &VideoFrame, demuxed: &Demuxed) -> bool {
        if self.video.is_some() && !frame.has_new_parameters() {
            return false;
        }
        let stream = demuxed.streams().get(frame.stream_id());
        let Some(ParametersRef::Video(parameters)) = stream.and_then(|s| s.parameters()) else {
            return false;
        };
        let Some(fresh) = retina_caps::video(parameters, self.sdp_fps) else {
            return false;
        };
        let old = self.video.replace(fresh);
        match (&old, &self.video) {
            (Some(old), Some(new)) => !same_video(&old.1, &new.1),
            _ => false,
        }
    }

    /// Counts a picture that is no key frame, as long as none came.
    fn without_key(&mut self) -> Result<(), Stop> {
        if let Some(n) = &mut self.keyless {
            *n += 1;
            if *n >= MAX_KEYLESS && self.bad_ever {
                return Err(Stop::Elsewhere("no key frame is understood"));
            }
        }
        Ok(())
    }

    fn sound(&mut self, frame: &AudioFrame, demuxed: &Demuxed) -> Result<(), Stop> {
        let arrived = self.arrival(Duration::ZERO);
        let pts = self.clocks.1.map(media(frame.timestamp()), arrived);
        let pts = self.lips.audio(pts);
        if self.audio_caps.is_none() {
            let stream = demuxed.streams().get(frame.stream_id());
            if let Some(ParametersRef::Audio(parameters)) = stream.and_then(|s| s.parameters()) {
                self.audio_caps = retina_caps::aac(parameters);
            }
        }
        let Some(caps) = &self.audio_caps else {
            return Ok(());
        };
        let mut buffer = gst::Buffer::from_slice(frame.data().to_vec());
        if let Some(b) = buffer.get_mut() {
            let rate = u64::from(frame.timestamp().clock_rate().get());
            let nanos = u64::from(frame.frame_length().get()) * 1_000_000_000 / rate;
            b.set_duration(gst::ClockTime::from_nseconds(nanos));
        }
        let arrived = Arrived {
            track: Track::Audio,
            pts: Some(pts),
            dts: None,
            key: true,
            damaged: false,
            buffer,
        };
        Ok(self.flow.take(arrived, caps.clone())?)
    }

    /// Running time at which something arrived that took `while_it_came`.
    fn arrival(&self, while_it_came: Duration) -> Pts {
        (self.now)() - while_it_came
    }

    fn report(&mut self, report: &ReceivedCompoundPacket) {
        let audio = Some(report.stream_id()) == self.choice.audio;
        let clock = if audio {
            &self.clocks.1
        } else {
            &self.clocks.0
        };
        let Some(running) = report.rtp_timestamp().and_then(|t| clock.at(media(t))) else {
            return;
        };
        let sender = report
            .pkts()
            .find_map(|p| p.as_sender_report().ok().flatten());
        if let Some(ntp) = sender.map(|s| s.ntp_timestamp().0).filter(|n| *n != 0) {
            // Seconds since 1900 with 32 bits of fraction.
            let nanos = (u128::from(ntp) * 1_000_000_000) >> 32;
            self.lips
                .report(audio, i64::try_from(nanos).unwrap_or(0), running);
        }
    }
}

/// Why reading stops.
enum Stop {
    Gone,
    Elsewhere(&'static str),
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Stop {
        Stop::Gone
    }
}

/// Nanoseconds of the camera's clock.
fn media(t: retina::Timestamp) -> i64 {
    let nanos = i128::from(t.elapsed()) * 1_000_000_000 / i128::from(t.clock_rate().get());
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

fn frame_time(caps: &gst::Caps) -> Option<gst::ClockTime> {
    let fps: gst::Fraction = caps.structure(0)?.get("framerate").ok()?;
    let (n, d) = (
        u64::try_from(fps.numer()).ok()?,
        u64::try_from(fps.denom()).ok()?,
    );
    (d * 1_000_000_000)
        .checked_div(n)
        .map(gst::ClockTime::from_nseconds)
}

/// True for errors after which the next packet can be read. retina's errors are opaque; only those of single packets
/// name the stream and the packet.
fn is_one_packets(e: &retina::Error) -> bool {
    let text = e.to_string();
    text.contains("\nstream: ") && text.contains("\npkt: ")
}

/// The first paragraph of an error, cleaned; what follows are addresses and times.
pub(super) fn summary(e: &retina::Error, password: Option<&Secret>) -> String {
    let text = e.to_string();
    clean(text.split("\n\n").next().unwrap_or_default(), password)
}
