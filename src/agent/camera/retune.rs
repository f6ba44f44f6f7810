//! New settings for a running camera: taken over between two packets, without touching the capture.

use super::detection::LATE;
use super::reporter::Reporter;
use super::session::{RING_BYTES, Session};
use crate::config::{CameraConfig, MotionConfig};
use crate::recording::ring::Limits;

impl Session {
    /// From here on `config`. Its sources are those that run (see [`crate::twin::diff`]).
    pub(super) async fn retune(&mut self, config: CameraConfig, reporter: &mut Reporter) {
        tracing::info!(camera = %config.id, "camera has new settings");
        // An event knows its zones by number and its clip by mode: it ends with the old ones.
        if config.motion.include != self.config.motion.include
            || config.recording.mode != self.config.recording.mode
        {
            let actions = self.machine.stop();
            self.act(actions, None).await;
        }
        let eye = MotionConfig {
            pictures: self.config.motion.pictures,
            severity: self.config.motion.severity,
            ..config.motion.clone()
        };
        if eye != self.config.motion {
            self.detection.retune(config.motion.clone());
        }
        if config.recording != self.config.recording {
            self.machine.retime(&config.recording);
            self.ring.set_limits(Limits {
                pre_roll: config.recording.pre_roll + LATE,
                max_bytes: RING_BYTES,
            });
            self.recorder.retune(config.recording.clone());
        }
        if config.name != self.config.name {
            reporter.rename(&config.name);
        }
        self.config = config;
    }
}
