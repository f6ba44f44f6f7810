//! Detection for one camera: packets (or raw luma) in, verdicts out, on whichever stream is chosen.
//!
//! A decoder that fails is replaced at the next key frame; meanwhile the verdict is silence, never motion.

use tokio::sync::mpsc;

use crate::config::MotionConfig;
use crate::media::sampler::{Fed, Sampler, SamplerEvent};
use crate::media::{Caps, OwnedGray, Packet, TrackCaps};
use crate::motion::{CellDetector, Detector, GrayFrame, Tamper, Verdict};
use crate::time::Pts;

/// Widest picture that is analysed, in pixels.
pub const MAX_WIDTH: u32 = 320;
/// Pictures that may wait; when full, the newest is dropped and counted by the sampler.
const QUEUE: usize = 8;

/// One camera's detection.
pub struct Detection {
    config: MotionConfig,
    detector: Box<dyn Detector>,
    sampler: Option<Sampler>,
    caps: Option<Caps>,
    frames: mpsc::Receiver<SamplerEvent>,
    tx: mpsc::Sender<SamplerEvent>,
    state: &'static str,
    /// What was last told of the view.
    told: Option<Tamper>,
}

impl Detection {
    /// With the camera's settings; sees nothing yet.
    pub fn new(config: MotionConfig) -> Self {
        let (tx, frames) = mpsc::channel(QUEUE);
        let state = if config.enabled { "warming" } else { "off" };
        Self {
            detector: Box::new(CellDetector::new(&config)),
            config,
            sampler: None,
            caps: None,
            frames,
            tx,
            state,
            told: None,
        }
    }

    /// The word for the status.
    pub fn state(&self) -> &'static str {
        self.state
    }

    /// Other zones or another sensitivity; the model learns the scene anew, silently, and the decoder goes on.
    pub fn retune(&mut self, config: MotionConfig) {
        self.detector = Box::new(CellDetector::new(&config));
        self.config = config;
        if self.config.enabled {
            self.state = "warming";
        }
    }

    /// The stream that is watched begins or changes; the model warms up silently.
    pub fn stream(&mut self, caps: Option<&TrackCaps>) {
        self.sampler = None;
        self.caps = caps.map(|c| c.video.clone());
        // Pictures of the old stream say nothing about the new one.
        while self.frames.try_recv().is_ok() {}
        self.detector.reset();
        if self.config.enabled {
            self.state = "warming";
        }
    }

    /// The next packet of the stream that is watched.
    pub fn push(&mut self, packet: &Packet) {
        if !self.config.enabled {
            return;
        }
        if self.sampler.is_none() && packet.key {
            let Some(caps) = &self.caps else { return };
            match Sampler::start(caps, self.config.fps, MAX_WIDTH, self.tx.clone()) {
                Ok(sampler) => self.sampler = Some(sampler),
                Err(e) => {
                    if self.state != "failed" {
                        tracing::error!(error = %e, "detection cannot start");
                    }
                    self.state = "failed";
                }
            }
        }
        if let Some(sampler) = &mut self.sampler
            && sampler.push(packet) == Fed::Failed
        {
            self.failed("decoder stopped");
        }
    }

    /// The next picture that was decoded. Cancel safe; waits for ever while nothing is fed.
    pub async fn next(&mut self) -> Option<OwnedGray> {
        match self.frames.recv().await? {
            SamplerEvent::Frame(frame) => Some(frame),
            SamplerEvent::Failed(text) => {
                self.failed(&text);
                None
            }
        }
    }

    /// Judges a picture.
    pub fn observe(&mut self, frame: &OwnedGray) -> (Pts, Verdict) {
        let view = GrayFrame {
            luma: &frame.luma,
            width: frame.width,
            height: frame.height,
            stride: frame.width,
            pts: frame.pts,
        };
        let verdict = self.detector.observe(&view);
        self.state = match verdict {
            Verdict::Warming => "warming",
            Verdict::Quiet => "quiet",
            Verdict::Motion(_) => "motion",
            Verdict::SceneChanged => "scene_changed",
        };
        (frame.pts, verdict)
    }

    /// What is newly wrong with the view: each thing once, until the view is right again.
    pub fn newly_tampered(&mut self) -> Option<Tamper> {
        let now = self.detector.tamper();
        let news = now.filter(|_| now != self.told);
        self.told = now;
        news
    }

    fn failed(&mut self, text: &str) {
        tracing::warn!(
            error = text,
            "decoder failed, starting it again at the next key frame"
        );
        self.sampler = None;
        self.state = "failed";
    }
}
