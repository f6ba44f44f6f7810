//! What has to happen to running cameras so that they are as they shall be, and nothing more.
//!
//! Guarantees: carrying out the changes gives the target; a camera that is the same is not named; what a running
//! session can take over is never a reason to stop it.

use crate::config::CameraConfig;
use crate::model::CameraId;

/// One step; steps are carried out in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is gone, or has to be started anew: end its event, close its clips.
    Stop(CameraId),
    /// Hand the running session its new settings.
    Retune(CameraConfig),
    /// Start it.
    Start(CameraConfig),
}

/// Steps from what runs to the target: first all stops (a device may move from one camera to another), then what goes
/// on running, then all starts.
pub fn diff<'a>(
    running: impl IntoIterator<Item = &'a CameraConfig>,
    target: &[CameraConfig],
) -> Vec<Change> {
    let (mut stops, mut retunes, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for now in running {
        match target.iter().find(|t| t.id == now.id) {
            Some(then) if then == now => kept.push(&now.id),
            Some(then) if !needs_new_session(now, then) => {
                kept.push(&now.id);
                retunes.push(Change::Retune(then.clone()));
            }
            _ => stops.push(Change::Stop(now.id.clone())),
        }
    }
    let starts = target.iter().filter(|t| !kept.contains(&&t.id));
    let starts = starts.cloned().map(Change::Start);
    stops.into_iter().chain(retunes).chain(starts).collect()
}

/// Whether the way from the camera to us changes: its streams, or what is asked of their pipelines.
fn needs_new_session(a: &CameraConfig, b: &CameraConfig) -> bool {
    a.main != b.main
        || a.sub != b.sub
        || a.recording.audio != b.recording.audio
        || a.motion.enabled != b.motion.enabled
        || a.motion.fps != b.motion.fps
        || a.motion.decode != b.motion.decode
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    fn camera(id: u8, kind: u8, sensitivity: u8, post_roll: u8, enabled: bool) -> CameraConfig {
        let text = format!(
            "[[camera]]\nid = \"c{id}\"\ntest = true\nwidth = {}\n[camera.recording]\nmode = \"continuous\"",
            64 + u32::from(kind)
        );
        let config = Config::parse(&text, &|_| Err(String::new())).unwrap();
        let mut camera = config.cameras.into_iter().next().unwrap();
        camera.motion.sensitivity = sensitivity;
        camera.motion.enabled = enabled;
        camera.recording.post_roll = Duration::from_secs(post_roll.into());
        camera
    }

    fn cameras() -> impl Strategy<Value = Vec<CameraConfig>> {
        let one = (0..6u8, 0..2u8, 1..3u8, 1..3u8, any::<bool>());
        proptest::collection::vec(one, 0..8).prop_map(|list| {
            let mut out: Vec<CameraConfig> = Vec::new();
            for (id, kind, sensitivity, post_roll, enabled) in list {
                let camera = camera(id, kind, sensitivity, post_roll, enabled);
                if out.iter().all(|c| c.id != camera.id) {
                    out.push(camera);
                }
            }
            out
        })
    }

    proptest! {
        #[test]
        fn applying_the_changes_gives_the_target(running in cameras(), target in cameras()) {
            // A camera and the number of its session: a new one for each start.
            let mut state: BTreeMap<CameraId, (CameraConfig, u32)> =
                running.iter().map(|c| (c.id.clone(), (c.clone(), 0))).collect();
            for change in diff(&running, &target) {
                match change {
                    Change::Stop(id) => prop_assert!(state.remove(&id).is_some(), "{id} did not run"),
                    Change::Retune(c) => {
                        let now = state.get_mut(&c.id).unwrap();
                        prop_assert!(!needs_new_session(&now.0, &c) && now.0 != c);
                        now.0 = c;
                    }
                    Change::Start(c) => prop_assert!(state.insert(c.id.clone(), (c, 1)).is_none()),
                }
            }
            let got: Vec<_> = state.values().map(|(c, _)| c.clone()).collect();
            let mut want = target.clone();
            want.sort_by(|a, b| a.id.cmp(&b.id));
            prop_assert_eq!(got, want);
            for camera in &running {
                if let Some(then) = target.iter().find(|t| t.id == camera.id) {
                    let stopped = state[&camera.id].1 == 1;
                    prop_assert_eq!(stopped, needs_new_session(camera, then));
                }
            }
            prop_assert_eq!(diff(&target, &target), vec![]);
        }
    }
}
