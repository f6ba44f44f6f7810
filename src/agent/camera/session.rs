//! One capture session of one camera, from connect to down: the loop that moves packets, verdicts and facts.
//!
//! The loop never waits for a disk: clips are fed through their own tasks, facts go to the journal. When the journal is
//! full the loop waits and frames are lost, because an event may not be.

mod asks;
mod events;
mod strongest;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::CameraContext;
use super::desk::Ask;
use super::detection::{Detection, LATE, MAX_WIDTH, ViewNews};
use super::recorder::{Recorder, Stream};
use super::reporter::{Reporter, Shows};
use super::tap::Tap;
use crate::config::CameraConfig;
use crate::media::{
    self, CaptureEvent, CaptureSession, LumaWish, OwnedGray, Packet, StreamKind, Track,
};
use crate::model::{DownReason, EventId};
use crate::motion::Verdict;
use crate::recording::event::{Action, EventMachine};
use crate::recording::ring::Limits;
use crate::restart::Backoff;
use crate::time::{Anchor, Mono, Pts};

/// Packets between GStreamer and this task: 4 s at 60 a second with audio. When full, GStreamer's side drops up to the
/// next key frame and counts it.
const QUEUE: usize = 512;
/// Pre-roll memory at most, with what a late verdict looks back: 10 s at 25 Mbit/s. When full the oldest GOPs go.
pub(super) const RING_BYTES: usize = 32 << 20;
/// How long detection waits for the sub-stream when the main stream is there; it is watched when it comes later, too.
const SUB_PATIENCE: Duration = Duration::from_secs(3);
/// A stalled sub-stream is tried again this often; meanwhile the main stream is watched.
const SUB_RETRY: Duration = Duration::from_secs(30);

/// The parts of a camera that outlive a session, and the loop over one.
pub struct Session {
    pub(super) config: CameraConfig,
    context: CameraContext,
    pub(super) recorder: Recorder,
    pub(super) detection: Detection,
    pub(super) machine: EventMachine,
    pub(super) ring: Tap,
    /// New settings for what runs.
    tuned: watch::Receiver<CameraConfig>,
    active: Option<(EventId, Pts)>,
    strongest: strongest::Strongest,
    /// Position of the last picture that was judged.
    newest: Pts,
    watched: Watched,
    /// The view was wrong and is right: to be told.
    right_again: bool,
    reconnects: u64,
    asks: mpsc::Receiver<Ask>,
}

/// Which stream detection sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// Raw luma beside the encoder: no decoder is needed.
    Luma,
    Main,
    Sub,
}

struct Sub {
    capture: Option<CaptureSession>,
    events: mpsc::Receiver<CaptureEvent>,
    anchor: Option<Anchor>,
    retry_at: Mono,
    /// Packets at the last look, and when there were new ones.
    seen: (u64, Mono),
}

impl Sub {
    /// No packet came for `limit`, whether or not it ever delivered.
    fn stalls(&mut self, now: Mono, limit: Duration) -> bool {
        let Some(capture) = &self.capture else {
            return false;
        };
        let packets = capture.stats().packets.load(Relaxed);
        if packets != self.seen.0 {
            self.seen = (packets, now);
        }
        now.since(self.seen.1) > limit
    }
}

impl Session {
    /// The parts of `config`'s camera.
    pub fn new(
        tuned: watch::Receiver<CameraConfig>,
        context: CameraContext,
        recorder: Recorder,
        asks: mpsc::Receiver<Ask>,
    ) -> Self {
        let config = tuned.borrow().clone();
        Self {
            tuned,
            recorder,
            detection: Detection::new(config.motion.clone(), context.time.clone()),
            machine: EventMachine::new(&config.recording),
            ring: Tap::new(Limits {
                pre_roll: config.recording.pre_roll + LATE,
                max_bytes: RING_BYTES,
            }),
            active: None,
            strongest: strongest::Strongest::default(),
            newest: Pts(0),
            watched: Watched::Main,
            right_again: false,
            reconnects: 0,
            asks,
            config,
            context,
        }
    }

    /// Counts a new try.
    pub fn reconnecting(&mut self) {
        self.reconnects += 1;
        let reconnects = self.reconnects;
        self.context
            .status
            .camera(self.config.id.as_str(), |c| c.reconnects = reconnects);
    }

    /// Ends the event and the clips.
    pub async fn close(&mut self) {
        let actions = self.machine.stop();
        self.act(actions, None).await;
        self.recorder.close().await;
    }

    /// Captures until the camera is down (its reason) or `stop` (`None`).
    pub async fn run(
        &mut self,
        reporter: &mut Reporter,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Option<DownReason> {
        let (tx, mut events) = mpsc::channel(QUEUE);
        let wish = self.config.motion.enabled.then_some(LumaWish {
            max_width: MAX_WIDTH as usize,
            fps: self.config.motion.fps,
        });
        if let Err(reason) = media::ready().await {
            return Some(reason);
        }
        let (now, main) = (self.context.time.mono(), &self.config.main);
        let capture = match CaptureSession::start(
            StreamKind::Main,
            main,
            wish,
            self.config.recording.audio,
            now,
            tx,
        ) {
            Ok(capture) => capture,
            Err(reason) => return Some(reason),
        };
        let mut sub = self.start_sub(now);
        self.set_watched(match sub.capture {
            Some(_) => Watched::Sub,
            None => Watched::Main,
        });
        let stats = capture.stats();
        let mut anchor: Option<Anchor> = None;
        let mut frames = 0u64;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        reporter.session_starts(&stats);
        let down = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                Ok(()) = self.tuned.changed() => {
                    let config = self.tuned.borrow_and_update().clone();
                    self.retune(config, reporter).await;
                }
                event = events.recv() => match event {
                    Some(CaptureEvent::Up { info, caps, anchor: zero }) => {
                        anchor = Some(zero);
                        backoff.works(self.context.time.mono());
                        self.begin_stream(Stream { info: info.clone(), caps, anchor: zero });
                        reporter.up(&info).await;
                    }
                    Some(CaptureEvent::Changed { info, caps }) => {
                        let Some(anchor) = anchor else { continue };
                        self.begin_stream(Stream { info: info.clone(), caps, anchor });
                        reporter.up(&info).await;
                    }
                    Some(CaptureEvent::Packet(packet)) => {
                        frames += u64::from(packet.track == Track::Video);
                        self.packet(packet).await;
                    }
                    Some(CaptureEvent::Luma(frame)) => {
                        self.watch(Watched::Luma);
                        self.frame(&frame, anchor).await;
                    }
                    Some(CaptureEvent::Down(reason)) => break Some(reason),
                    None => break Some(DownReason::Ended),
                },
                event = sub.events.recv(), if sub.capture.is_some() => self.sub_event(&mut sub, event),
                frame = self.detection.next() => if let Some(frame) = frame {
                    let frame = match self.watched {
                        Watched::Sub => on_main_scale(frame, sub.anchor, anchor),
                        _ => Some(frame),
                    };
                    if let Some(frame) = frame {
                        self.frame(&frame, anchor).await;
                    }
                },
                // Nobody can ask any more once another task has this camera's place.
                Some(ask) = self.asks.recv() => self.answer(ask).await,
                _ = tick.tick() => {
                    self.detection.tick();
                    let shows = Shows {
                        detection: self.detection.state(),
                        decoding: self.detection.decoding(),
                        event_active: self.machine.is_active(),
                        recording: self.recorder.is_recording(),
                    };
                    let last = reporter.tick(&stats, frames, shows);
                    let now = self.context.time.mono();
                    if now.since(last) > self.config.stall_timeout {
                        break Some(DownReason::Stalled);
                    }
                    if anchor.is_some() {
                        backoff.works(now);
                    }
                    if let Some(anchor) = anchor {
                        // Detection may be silent (decoder failed); events end all the same.
                        let quiet_since = Pts(now.0.saturating_sub(anchor.zero.0)) - self.detection.delay();
                        let actions = self.machine.tick(quiet_since);
                        self.act(actions, Some(anchor)).await;
                    }
                    if std::mem::take(&mut self.right_again)
                        && let Some(stream) = self.recorder.current_stream()
                    {
                        let info = stream.info.clone();
                        reporter.up(&info).await;
                    }
                    let waits = self.watched == Watched::Sub && sub.anchor.is_none();
                    if waits && anchor.is_some_and(|a| now.since(a.zero) > SUB_PATIENCE) {
                        self.watch(Watched::Main);
                    }
                    if sub.stalls(now, self.config.stall_timeout) {
                        tracing::warn!(camera = %self.config.id, "sub-stream stalls, watching the main stream");
                        self.lose_sub(&mut sub);
                    }
                    if sub.capture.is_none() && self.config.sub.is_some() && now >= sub.retry_at {
                        sub = self.start_sub(now);
                    }
                }
            }
        };
        capture.stop();
        if down.is_some() {
            let actions = self.machine.gap();
            self.act(actions, anchor).await;
            self.recorder.stream(None);
            self.ring.clear();
            self.detection.stream(None);
        }
        down
    }

    fn start_sub(&self, now: Mono) -> Sub {
        let (tx, events) = mpsc::channel(QUEUE);
        let retry_at = now + SUB_RETRY;
        let start = |source| CaptureSession::start(StreamKind::Sub, source, None, false, now, tx);
        let capture = match self
            .config
            .sub
            .as_ref()
            .filter(|_| self.config.motion.enabled)
            .map(start)
        {
            Some(Ok(capture)) => Some(capture),
            Some(Err(reason)) => {
                tracing::warn!(camera = %self.config.id, %reason, "sub-stream does not start, watching the main stream");
                None
            }
            None => None,
        };
        Sub {
            capture,
            events,
            anchor: None,
            retry_at,
            seen: (0, now),
        }
    }

    fn sub_event(&mut self, sub: &mut Sub, event: Option<CaptureEvent>) {
        match event {
            Some(CaptureEvent::Up { caps, anchor, .. }) => {
                sub.anchor = Some(anchor);
                self.set_watched(Watched::Sub);
                self.detection.stream(Some(&caps));
            }
            Some(CaptureEvent::Changed { caps, .. }) => self.detection.stream(Some(&caps)),
            Some(CaptureEvent::Packet(packet)) if self.watched == Watched::Sub => {
                self.detection.push(&packet)
            }
            Some(CaptureEvent::Packet(_) | CaptureEvent::Luma(_)) => {}
            Some(CaptureEvent::Down(reason)) => {
                tracing::warn!(camera = %self.config.id, %reason, "sub-stream is down, watching the main stream");
                self.lose_sub(sub);
            }
            None => self.lose_sub(sub),
        }
    }

    fn lose_sub(&mut self, sub: &mut Sub) {
        sub.capture = None;
        sub.anchor = None;
        sub.retry_at = self.context.time.mono() + SUB_RETRY;
        self.watch(Watched::Main);
    }

    fn set_watched(&mut self, watched: Watched) {
        if self.watched != watched {
            self.watched = watched;
            self.detection.forget_view();
        }
    }

    /// Changes the stream that detection sees.
    fn watch(&mut self, watched: Watched) {
        if self.watched != watched {
            self.set_watched(watched);
            let caps = self.recorder.current_stream().map(|s| s.caps.clone());
            let main = watched == Watched::Main;
            self.detection.stream(caps.as_ref().filter(|_| main));
        }
    }

    fn begin_stream(&mut self, stream: Stream) {
        self.look_for_strongest(true);
        self.ring.begin(&stream);
        if self.watched == Watched::Main {
            self.detection.stream(Some(&stream.caps));
        }
        self.recorder.stream(Some(stream));
    }

    async fn packet(&mut self, packet: Packet) {
        if self.watched == Watched::Main {
            self.detection.push(&packet);
        }
        self.recorder.push(&packet).await;
        self.ring.push(packet);
        self.look_for_strongest(false);
    }

    async fn frame(&mut self, frame: &OwnedGray, anchor: Option<Anchor>) {
        let (pts, verdict) = self.detection.observe(frame);
        self.newest = pts;
        let actions = self.machine.observe(pts, &verdict);
        self.act(actions, anchor).await;
        match self.detection.view_news() {
            Some(ViewNews::Wrong(tamper)) => self.tell_tamper(tamper).await,
            Some(ViewNews::Right) => self.right_again = true,
            None => {}
        }
        if let Verdict::Motion(activity) = &verdict
            && self.active.is_some()
            && self.config.motion.pictures
        {
            self.strongest.judged(pts, activity);
            self.look_for_strongest(false);
        }
    }

    /// Carries out what the machine decided, in order.
    pub(super) async fn act(&mut self, actions: Vec<Action>, anchor: Option<Anchor>) {
        let anchor = anchor
            .or(self.recorder.current_stream().map(|s| s.anchor))
            .unwrap_or(Anchor { zero: Mono(0) });
        for action in actions {
            match action {
                Action::Start {
                    started_at,
                    clip_from,
                    facts,
                    ..
                } => {
                    self.start_event(started_at, clip_from, &facts, anchor)
                        .await;
                }
                Action::Update { facts } => self.update_event(&facts, anchor).await,
                Action::End {
                    started_at,
                    ended_at,
                    reason,
                    facts,
                    ..
                } => {
                    self.end_event(started_at, ended_at, reason.code(), &facts, anchor)
                        .await;
                }
            }
        }
    }
}

/// A picture of the sub-stream on the time scale of the main stream.
fn on_main_scale(frame: OwnedGray, sub: Option<Anchor>, main: Option<Anchor>) -> Option<OwnedGray> {
    let at = sub?.mono(frame.pts);
    let pts = Pts(at.0.saturating_sub(main?.zero.0));
    Some(OwnedGray { pts, ..frame })
}
