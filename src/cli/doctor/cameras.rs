//! Cameras: a picture of each; where the agent runs, what it sees of them.

use std::time::Duration;

use tokio::task::JoinSet;

use super::Finding;
use crate::agent::status::{CameraStatus, Status};
use crate::board::clock::Clock;
use crate::config::CameraConfig;
use crate::media::probe;
use crate::model::DownReason;

const CHECK: &str = "camera";
/// For one camera.
const PATIENCE: Duration = Duration::from_secs(15);
/// Cameras that are looked at together.
const TOGETHER: usize = 4;

pub async fn check(cameras: &[CameraConfig], status: Option<&Status>) -> Vec<Finding> {
    if let Some(status) = status {
        let seen = status.cameras.iter().map(|(id, c)| of_agent(id, c));
        return or_none(seen.collect());
    }
    let mut findings = Vec::new();
    for some in cameras.chunks(TOGETHER) {
        let mut looks = JoinSet::new();
        for camera in some {
            looks.spawn(look(camera.clone()));
        }
        findings.extend(looks.join_all().await);
    }
    findings.sort_by(|a, b| a.detail.cmp(&b.detail));
    or_none(findings)
}

fn or_none(findings: Vec<Finding>) -> Vec<Finding> {
    if findings.is_empty() {
        let todo = "add a [[camera]]: `sentrycam probe` shows what is connected";
        return vec![Finding::warning(CHECK, "no camera is configured", todo)];
    }
    findings
}

/// As the running agent sees it.
fn of_agent(id: &str, camera: &CameraStatus) -> Finding {
    let age = camera.last_frame_age_s.unwrap_or(f64::INFINITY);
    if camera.state == "up" && age < 10.0 {
        let format = camera.format.as_deref().unwrap_or("");
        let detail = format!("{id}: {format}, {:.1} frames a second", camera.fps);
        if camera.detection == "failed" {
            let todo = "look at the log: the decoder of this codec may be missing";
            return Finding::warning(CHECK, format!("{detail}, but detection fails"), todo);
        }
        return Finding::ok(CHECK, detail);
    }
    let reason = camera.reason.as_deref().unwrap_or("no frame yet");
    let todo = format!("stop the agent and run `sentrycam probe {id}`");
    Finding::failure(CHECK, format!("{id}: {} ({reason})", camera.state), todo)
}

async fn look(camera: CameraConfig) -> Finding {
    let id = camera.id;
    match probe::describe(&camera.main, PATIENCE, Clock::default().mono()).await {
        Ok(d) if d.jpeg.is_some() => Finding::ok(
            CHECK,
            format!(
                "{id}: a picture, {} {}x{}, {:.0} frames a second",
                d.codec, d.width, d.height, d.fps
            ),
        ),
        Ok(d) => Finding::warning(
            CHECK,
            format!(
                "{id}: {} {}x{}, but no picture could be decoded",
                d.codec, d.width, d.height
            ),
            "install the decoder of this codec (gstreamer1.0-libav); recording works without",
        ),
        Err(reason) => {
            let todo = todo(&reason);
            Finding::failure(CHECK, format!("{id}: {reason}"), todo)
        }
    }
}

fn todo(reason: &DownReason) -> &'static str {
    match reason.code() {
        "unauthorized" => "correct user and password_file of this camera",
        "stalled" => "check the camera's cable and power; it answers but sends no picture",
        "unsupported" => "set the camera to H.264 or H.265",
        _ => {
            "check that the camera has power and that its address or device is right: `sentrycam probe`"
        }
    }
}
