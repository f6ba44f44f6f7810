//! Detection for one camera: packets (or raw luma) in, verdicts out, on whichever stream is chosen.
//!
//! What is decoded is the reader's business (decode on demand). A decoder that fails or hangs is replaced, by software
//! where it was hardware; what it owed is decoded again as far as the ring goes back. Meanwhile the verdict is silence, never motion.

mod decoders;

use tokio::sync::mpsc;

use self::decoders::{Begun, Current, Proof, Running, Starting};
use crate::agent::status::Decoding;
use crate::agent::time::TimeKeeper;
use crate::config::{Decode, MotionConfig};
use crate::demand::{Decoders, Demand, HANG, Mode, REACH, Reader};
use crate::media::sampler::{self, Mark, SamplerEvent};
use crate::media::{Caps, OwnedGray, Packet, TrackCaps};
use crate::motion::{CellDetector, Detector, Tamper, Verdict};
use crate::recording::ring::Item as _;
use crate::time::{Mono, Pts};

/// Widest picture that is analysed, in pixels.
pub const MAX_WIDTH: u32 = 320;

/// What became of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewNews {
    /// This is wrong with it.
    Wrong(Tamper),
    /// Nothing is, any more.
    Right,
}

/// One camera's detection.
pub struct Detection {
    config: MotionConfig,
    detector: Box<dyn Detector>,
    time: TimeKeeper,
    caps: Option<Caps>,
    decoders: Option<Decoders>,
    current: Option<Current>,
    /// A driver is being asked; meanwhile packets wait in the reader's ring.
    starting: Option<Starting>,
    frames: Option<mpsc::Receiver<SamplerEvent>>,
    /// The first picture of a hardware decoder waits for software's.
    proof: Option<Proof>,
    /// A picture that waited for nothing.
    unproved: Option<(OwnedGray, Mark)>,
    reader: Reader<Packet>,
    state: &'static str,
    /// What was last told of the view.
    told: Option<Tamper>,
}

impl Detection {
    /// With the camera's settings; sees nothing yet.
    pub fn new(config: MotionConfig, time: TimeKeeper) -> Self {
        let state = if config.enabled { "warming" } else { "off" };
        Self {
            detector: Box::new(CellDetector::new(&config)),
            config,
            time,
            caps: None,
            decoders: None,
            current: None,
            starting: None,
            frames: None,
            proof: None,
            unproved: None,
            reader: Reader::new(None),
            state,
            told: None,
        }
    }

    /// The word for the status.
    pub fn state(&self) -> &'static str {
        self.state
    }

    /// How much of the stream is decoded, and why; `None` while nothing is.
    pub fn decoding(&self) -> Option<Decoding> {
        let current = self.current.as_ref()?;
        Some(Decoding {
            mode: self.reader.mode().map_or("all", word).to_owned(),
            share: self.reader.share().map(f64::from),
            decoded: self.reader.totals().0,
            packets: self.reader.totals().1,
            decoder: current.name().to_owned(),
            lost: self.reader.lost(),
        })
    }

    /// Verdicts on what is older than this have been given, or never will be.
    pub fn delay(&self) -> std::time::Duration {
        self.reader.delay()
    }

    /// Other zones or another sensitivity; the model learns the scene anew, silently, and the decoder goes on.
    pub fn retune(&mut self, config: MotionConfig) {
        self.detector = Box::new(CellDetector::new(&config));
        self.reader.retune(&config);
        self.config = config;
        if self.config.enabled {
            self.state = "warming";
        }
    }

    /// The stream that is watched begins or changes; the model warms up silently.
    pub fn stream(&mut self, caps: Option<&TrackCaps>) {
        (self.current, self.starting) = (None, None);
        // Pictures of the old stream say nothing about the new one.
        self.frames = None;
        (self.proof, self.unproved) = (None, None);
        let video = caps.map(|c| c.video.clone());
        if let Some(caps) = &video {
            let software = sampler::decoder_for(caps).ok();
            // What failed before is remembered as long as the camera speaks the same language.
            if self.decoders.as_ref().map(Decoders::software) != software {
                self.decoders = software.map(|s| Decoders::new(s, sampler::hardware_for(caps)));
            }
        }
        let on_demand = self.config.decode == Decode::OnDemand;
        let demand = video.as_ref().filter(|_| on_demand);
        self.reader = Reader::new(demand.map(|_| Demand::new(&self.config)));
        self.caps = video;
        self.detector.reset();
        if self.config.enabled {
            self.state = "warming";
        }
    }

    /// Other decoders than those that are installed, from the next start on.
    pub fn decode_with(&mut self, decoders: Decoders) {
        self.decoders = Some(decoders);
    }

    /// The next packet of the stream that is watched.
    pub fn push(&mut self, packet: &Packet) {
        if !self.config.enabled {
            return;
        }
        let now = self.time.mono();
        let none = self.current.is_none() && self.starting.is_none();
        if none && packet.is_video_key() {
            self.start(now);
        }
        if !self.reader.push(packet, self.current.as_mut(), now) {
            self.leave("decoder stopped", now);
        }
    }

    /// The next picture that the detector is to see. Cancel safe; waits for ever while nothing is fed.
    pub async fn next(&mut self) -> Option<OwnedGray> {
        if let (Some(starting), Some(decoders)) = (&mut self.starting, &self.decoders) {
            let done = starting.done(decoders).await;
            self.started(done);
            return None;
        }
        let event = match (&mut self.proof, &mut self.frames) {
            _ if self.unproved.is_some() => {
                let picture = self.unproved.take();
                picture.map(|(frame, mark)| SamplerEvent::Frame(frame, mark))
            }
            (Some(proof), _) => {
                let done = proof.done().await;
                self.proof = None;
                match done {
                    Ok(picture) => picture.map(|(frame, mark)| SamplerEvent::Frame(frame, mark)),
                    Err(d) => Some(SamplerEvent::Failed(format!(
                        "its picture differs from software's by {d:.0} of 255"
                    ))),
                }
            }
            (None, Some(frames)) => frames.recv().await,
            (None, None) => std::future::pending().await,
        };
        let now = self.time.mono();
        let picture = match event {
            Some(SamplerEvent::Frame(frame, mark)) => {
                if let (Some(current), Some(decoders)) = (&mut self.current, &mut self.decoders) {
                    current.came(now);
                    decoders.delivered(current.name());
                }
                let frame = self.prove(frame, mark, now)?;
                self.reader.picture(&frame.view(), mark).then_some(frame)
            }
            Some(SamplerEvent::Failed(text)) => {
                self.leave(&text, now);
                None
            }
            None => {
                self.leave("decoder ended", now);
                None
            }
        };
        self.feed(now);
        picture
    }

    /// Holds back the first key frame of a hardware decoder until software has decoded it too.
    fn prove(&mut self, frame: OwnedGray, mark: Mark, now: Mono) -> Option<OwnedGray> {
        if let (Some(current), Some(decoders), Some(caps)) =
            (&mut self.current, &self.decoders, &self.caps)
            && mark.key
            && current.asks_for_proof()
            && let Some(packet) = self.reader.key_at(frame.pts)
        {
            match Proof::start(decoders.software(), caps, packet, (frame, mark), now) {
                Ok(proof) => self.proof = Some(proof),
                Err((frame, _)) => return Some(frame),
            }
            return None;
        }
        Some(frame)
    }

    /// Judges a picture.
    pub fn observe(&mut self, frame: &OwnedGray) -> (Pts, Verdict) {
        let verdict = self.detector.observe(&frame.view());
        self.state = match verdict {
            Verdict::Warming => "warming",
            Verdict::Quiet => "quiet",
            Verdict::Motion(_) => "motion",
            Verdict::SceneChanged => "scene_changed",
        };
        self.reader.verdict(&verdict);
        (frame.pts, verdict)
    }

    /// What is newly wrong with the view, each thing once, and that it is right again.
    pub fn view_news(&mut self) -> Option<ViewNews> {
        let now = self.detector.tamper();
        let before = std::mem::replace(&mut self.told, now);
        (now != before).then(|| now.map_or(ViewNews::Right, ViewNews::Wrong))
    }

    /// Another camera's picture is seen from here on, as far as the view is concerned: a sub-stream may be cropped.
    pub fn forget_view(&mut self) {
        self.detector = Box::new(CellDetector::new(&self.config));
    }

    /// Leaves a decoder that hangs; called once a second.
    pub fn tick(&mut self) {
        let now = self.time.mono();
        if self.starting.as_ref().is_some_and(|s| s.hangs(now)) {
            self.started(Err("its driver does not answer".into()));
        }
        if self.current.as_ref().is_some_and(|c| c.hangs(now)) {
            self.leave("decoder hangs", now);
            // The ring forgets what it owed: not at the next key frame, now.
            self.start(now);
            self.feed(now);
        }
        let late = |proof: &mut Proof| now.since(proof.since()) >= HANG;
        if let Some(proof) = self.proof.take_if(late) {
            // Nothing to compare with.
            self.unproved = proof.into_picture();
        }
    }

    fn start(&mut self, now: Mono) {
        let (Some(caps), Some(decoders)) = (&self.caps, &mut self.decoders) else {
            return;
        };
        match Current::start(decoders, caps, self.config.fps, MAX_WIDTH, now) {
            Ok(Begun::Runs(running)) => self.run(running),
            Ok(Begun::Later(starting)) => self.starting = Some(starting),
            Err(e) => {
                if self.state != "failed" {
                    tracing::error!(error = e, "detection cannot start");
                }
                self.state = "failed";
            }
        }
    }

    /// A hardware decoder runs or does not; then another is started.
    fn started(&mut self, done: Result<Running, String>) {
        let now = self.time.mono();
        let starting = self.starting.take();
        match (done, &mut self.decoders) {
            (Ok(running), _) => self.run(running),
            (Err(e), Some(decoders)) => {
                let name = starting.as_ref().map_or("", Starting::name);
                tracing::warn!(
                    decoder = name,
                    error = e,
                    "decoder does not start, trying the next"
                );
                decoders.failed(name, now);
                self.start(now);
            }
            (Err(_), None) => {}
        }
        self.feed(now);
    }

    fn run(&mut self, (current, frames): Running) {
        tracing::debug!(decoder = current.name(), "detection decodes");
        self.current = Some(current);
        self.frames = Some(frames);
        self.reader.restart();
    }

    fn feed(&mut self, now: Mono) {
        if let Some(current) = &mut self.current
            && !self.reader.feed(current, now)
        {
            self.leave("decoder stopped", now);
        }
    }

    /// The next key frame starts another decoder, which begins with what this one owed.
    fn leave(&mut self, text: &str, now: Mono) {
        let Some(current) = self.current.take() else {
            return;
        };
        tracing::warn!(
            error = text,
            decoder = current.name(),
            "decoder failed, starting another"
        );
        if let Some(decoders) = &mut self.decoders {
            decoders.failed(current.name(), now);
        }
        self.frames = None;
        (self.proof, self.unproved) = (None, None);
        self.state = "failed";
    }
}

/// What is decoded and why, for the status.
fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Learning => "all: learning",
        Mode::KeyFrames => "key frames",
        Mode::Looking => "looking",
        Mode::LongGops => "all: key frames too far apart",
        Mode::TellLittle => "all: key frames tell too little",
    }
}

/// How much older than the pre-roll the ring must be, so that a late verdict still finds the begin of its clip.
pub const LATE: std::time::Duration = REACH;
