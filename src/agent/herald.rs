//! What systemd hears of the agent: that recording can be trusted, how it is in one line, and that it makes progress.
//!
//! Pure looks at the status document, and one loop. Ready is said when the disk of the clips was judged and every camera
//! has shown a key frame or said why not; a camera that does neither does not hold the machine's start up for longer than
//! [`PATIENCE`]. Progress is commits and frames: a camera that delivered in this run and now neither delivers nor tries
//! again has a task that hangs, and only a new process mends that. A camera that is down is no failure, nor is a full
//! disk: a new process would wait for room as this one does, but without the events that this one holds.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use super::status::{CameraStatus, Status, StatusHub};
use super::time::TimeKeeper;
use crate::config::CameraConfig;
use crate::db::{Db, Urgency};
use crate::supervise::watchdog;
use crate::time::Mono;
use crate::twin::Effective;

/// A camera that says nothing for this long does not keep the agent from being ready.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon a camera that came up is noticed at the start.
const QUICK: Duration = Duration::from_millis(100);
/// How often the line is looked at afterwards; it is said again only when it changed.
const SLOW: Duration = Duration::from_secs(10);
/// After its stall limit, a session ends within this.
const END_LIMIT: Duration = Duration::from_secs(60);
/// The longest wait before a camera is tried again, with its jitter and the end of the session before.
const RETRY_LIMIT: Duration = Duration::from_secs(180);
/// The line is cut here.
const MAX_LINE: usize = 200;

/// Tells systemd; cheap to clone.
#[derive(Clone)]
pub struct Herald {
    /// What is told.
    pub status: StatusHub,
    /// Monotonic time.
    pub time: TimeKeeper,
    /// Which cameras there are to be.
    pub in_force: watch::Receiver<Effective>,
    /// Asked whether it commits.
    pub db: Db,
    /// Asked whether it waits for room.
    pub journal: Journal,
}

impl Herald {
    /// Says that the agent is ready, then how it is, until `stop`. Returns at once where nobody listens.
    pub async fn run(self, stop: CancellationToken) {
        if !watchdog::listens() {
            return;
        }
        let (began, mut is_ready, mut said) = (self.time.mono(), false, String::new());
        loop {
            let now = self.time.mono();
            let status = self.status.snapshot(now);
            let all = ready(&status, &self.in_force.borrow().cameras);
            let line = line(&status);
            if !is_ready && (all || now.since(began) >= PATIENCE) {
                is_ready = true;
                watchdog::ready(&line);
            } else if line != said {
                watchdog::status(&line);
            }
            said = line;
            let period = if is_ready { SLOW } else { QUICK };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    /// What the watchdog is fed by: the database answers, and no camera's task hangs.
    pub async fn progress(&self) -> bool {
        let answer = self.db.call(Urgency::Soon, |_, _| Ok(())).await;
        let waits = self.journal.waits_for_room();
        if let Err(e) = answer
            && !waits
            && !self.db.lacks_room(&e).await
        {
            tracing::error!(error = %e, "the database does not commit");
            return false;
        }
        // Where the journal is full its cameras stand still.
        if waits {
            return true;
        }
        let now = self.time.mono();
        let hangs = stuck(
            &self.status.snapshot(now),
            &self.in_force.borrow().cameras,
            now,
        );
        if let Some(camera) = &hangs {
            tracing::error!(camera, "the camera's task hangs");
        }
        hangs.is_none()
    }
}

/// Recording can be trusted: the disk was judged, and every camera is up or says why it is not.
fn ready(status: &Status, cameras: &[CameraConfig]) -> bool {
    let told = |c: &CameraConfig| {
        let camera = status.cameras.get(c.id.as_str());
        camera.is_some_and(|c| c.state != "starting")
    };
    status.storage["state"].is_string() && cameras.iter().all(told)
}

/// The first camera that delivered in this run, but now neither delivers nor tries again.
fn stuck(status: &Status, cameras: &[CameraConfig], now: Mono) -> Option<String> {
    let hangs = |config: &&CameraConfig| {
        let Some(camera) = status.cameras.get(config.id.as_str()) else {
            return false;
        };
        let Some(frame) = camera.last_frame_age_s else {
            return false;
        };
        let session = camera.session_started_ms.unwrap_or(0);
        let session = now.0 as f64 / 1e9 - session as f64 / 1e3;
        let limit = if camera.state == "up" {
            END_LIMIT
        } else {
            RETRY_LIMIT
        };
        frame.min(session) > (config.stall_timeout + limit).as_secs_f64()
    };
    let camera = cameras.iter().find(hangs)?;
    Some(camera.id.to_string())
}

/// What matters, in one line: cameras, then whatever is not as it should be.
fn line(status: &Status) -> String {
    let (all, up) = (
        status.cameras.len(),
        status.cameras.values().filter(|c| c.state == "up").count(),
    );
    let mut parts = vec![match all {
        0 => "no cameras".to_owned(),
        all if all == up => format!("{all} of {all} cameras up"),
        all => {
            let bad = status.cameras.iter().filter(|(_, c)| c.state != "up");
            let why = |(id, c): (&String, &CameraStatus)| match &c.reason {
                Some(reason) => format!("{id}: {reason}"),
                None => format!("{id}: {}", c.state),
            };
            let bad: Vec<String> = bad.map(why).take(3).collect();
            format!("{up} of {all} cameras up ({})", bad.join("; "))
        }
    }];
    match status.cameras.values().filter(|c| c.recording).count() {
        0 => {}
        n => parts.push(format!("{n} recording")),
    }
    match status.storage["state"].as_str() {
        None | Some("ok") => {}
        Some(state) => parts.push(format!("disk {state}")),
    }
    if status.waits_for_room {
        parts.push("no room for events".into());
    }
    match status.sync["state"].as_str() {
        None | Some("ok" | "starting") => {}
        Some("standalone") => parts.push("standalone".into()),
        Some(state) => parts.push(format!("cloud {state}")),
    }
    let rows = status.backlog["rows"].as_array();
    let waiting: u64 = rows.into_iter().flatten().filter_map(|v| v.as_u64()).sum();
    if waiting > 100 {
        parts.push(format!("{waiting} records wait"));
    }
    let line = parts.join(", ");
    let shown = line.chars().filter(|c| !c.is_control());
    shown.take(MAX_LINE).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    fn cameras(ids: &[&str]) -> Vec<CameraConfig> {
        let blocks = ids
            .iter()
            .map(|id| format!("[[camera]]\nid = \"{id}\"\ntest = true\n"));
        let text: String = blocks.collect();
        Config::parse(&text, &|_| unreachable!()).unwrap().cameras
    }

    fn status(cameras: &[(&str, &str)]) -> Status {
        let mut status = Status {
            storage: json!({ "state": "ok" }),
            ..Status::default()
        };
        for (id, state) in cameras {
            let camera = CameraStatus {
                state: (*state).to_owned(),
                ..CameraStatus::default()
            };
            status.cameras.insert((*id).to_owned(), camera);
        }
        status
    }

    #[test]
    fn ready_waits_for_the_disk_and_for_every_camera_to_speak() {
        let two = cameras(&["door", "yard"]);
        assert!(!ready(&status(&[("door", "up")]), &two));
        let starting = status(&[("door", "up"), ("yard", "starting")]);
        assert!(!ready(&starting, &two));
        let mut both = status(&[("door", "up"), ("yard", "down")]);
        assert!(ready(&both, &two));
        both.storage = json!(null);
        assert!(!ready(&both, &two));
        assert!(ready(&status(&[]), &[]));
    }

    #[test]
    fn the_line_says_what_is_not_as_it_should_be() {
        let mut s = status(&[("door", "up")]);
        s.sync = json!({ "state": "ok" });
        assert_eq!(line(&s), "1 of 1 cameras up");
        assert_eq!(line(&status(&[])), "no cameras");
        let mut s = status(&[("door", "up"), ("yard", "down")]);
        s.cameras.get_mut("door").unwrap().recording = true;
        s.cameras.get_mut("yard").unwrap().reason = Some("stalled\n".into());
        s.storage = json!({ "state": "full" });
        s.sync = json!({ "state": "retrying" });
        s.backlog = json!({ "rows": [1, 0, 200, 0] });
        s.waits_for_room = true;
        assert_eq!(
            line(&s),
            "1 of 2 cameras up (yard: stalled), 1 recording, disk full, no room for events, cloud retrying, 201 records wait"
        );
        s.cameras.get_mut("yard").unwrap().reason = Some("x".repeat(1000));
        assert_eq!(line(&s).len(), MAX_LINE);
    }

    #[test]
    fn a_camera_hangs_when_it_delivered_and_now_neither_delivers_nor_tries() {
        let one = cameras(&["door"]);
        let limit = one[0].stall_timeout.as_secs() as f64;
        let now = Mono(10_000 * 1_000_000_000);
        let at = |state: &str, frame: Option<f64>, session_age: f64| {
            let mut s = status(&[("door", state)]);
            let camera = s.cameras.get_mut("door").unwrap();
            camera.last_frame_age_s = frame;
            camera.session_started_ms = Some(((10_000.0 - session_age) * 1e3) as u64);
            stuck(&s, &one, now)
        };
        assert_eq!(at("up", Some(limit + 59.0), 5000.0), None);
        assert_eq!(
            at("up", Some(limit + 61.0), 5000.0).as_deref(),
            Some("door")
        );
        // Tried again a moment ago.
        assert_eq!(at("down", Some(5000.0), 30.0), None);
        assert_eq!(
            at("down", Some(5000.0), limit + 181.0).as_deref(),
            Some("door")
        );
        // It never delivered: a new process would not mend it.
        assert_eq!(at("down", None, 5000.0), None);
        assert_eq!(stuck(&status(&[]), &one, now), None);
    }
}
