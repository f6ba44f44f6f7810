//! The configuration for a diagnostic bundle: what decides the agent's behaviour, cameras as the twin has them, and no
//! password.

use serde_json::{Value, json};

use super::{CameraConfig, Config, SourceConfig, redacted};

/// The parts that matter when a fault is looked for, with the cameras that are in force.
pub fn summary(config: &Config, cameras: &[CameraConfig]) -> Value {
    let cloud = config.cloud.as_ref().map(|c| {
        json!({ "credentials_file": c.credentials_file, "ca_file": c.ca_file, "heartbeat_s": c.heartbeat.as_secs() })
    });
    json!({
        "state_dir": config.state_dir,
        "spool": { "dir": config.spool.dir, "require_mount": config.spool.require_mount,
                   "min_free": config.spool.min_free.to_string() },
        "retention": { "quota": format!("{:?}", config.retention.quota),
                       "max_age_s": config.retention.max_age.map(|d| d.as_secs()) },
        "upload": format!("{:?}", config.upload),
        "cloud": cloud,
        "cameras": cameras.iter().map(camera).collect::<Vec<_>>(),
    })
}

fn camera(c: &CameraConfig) -> Value {
    json!({
        "id": c.id, "name": c.name, "main": source(&c.main), "sub": c.sub.as_ref().map(source),
        "stall_timeout_s": c.stall_timeout.as_secs_f64(),
        "recording": { "mode": c.recording.mode, "pre_roll_s": c.recording.pre_roll.as_secs_f64(),
                       "post_roll_s": c.recording.post_roll.as_secs_f64(), "audio": c.recording.audio, "quota": c.recording.quota.map(|q| q.0),
                       "max_event_s": c.recording.max_event.as_secs(), "segment_s": c.recording.segment.as_secs() },
        "motion": { "enabled": c.motion.enabled, "sensitivity": c.motion.sensitivity, "fps": c.motion.fps, "decode": format!("{:?}", c.motion.decode),
                    "pictures": c.motion.pictures, "severity": c.motion.severity, "include": c.motion.include.len(), "exclude": c.motion.exclude.len() },
    })
}

fn source(source: &SourceConfig) -> Value {
    match source {
        SourceConfig::Rtsp {
            url,
            password,
            transport,
            verify_tls,
            ..
        } => json!({ "rtsp": redacted(url.as_str()), "password": password.is_some(),
                     "transport": format!("{transport:?}").to_lowercase(), "verify_tls": verify_tls }),
        SourceConfig::V4l2 {
            device,
            width,
            height,
            fps,
            format,
            bitrate_kbps,
        } => {
            json!({ "v4l2": device, "width": width, "height": height, "fps": fps, "bitrate_kbps": bitrate_kbps,
                     "format": format.map(|f| f.to_string()) })
        }
        SourceConfig::File { path, repeat } => json!({ "file": path, "repeat": repeat }),
        SourceConfig::Test {
            width, height, fps, ..
        } => json!({ "test": [width, height, fps] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_and_no_user_is_in_it() {
        let text = "state_dir = \"/x\"\n[[camera]]\nid = \"a\"\nurl = \"rtsp://cam.example/s\"\nuser = \"bob\"\n\
                    password = \"hunter2\"\n[[camera]]\nid = \"b\"\nurl = \"rtsp://cam.example/t?user=bob&pwd=hunter2\"\n\
                    [[camera]]\nid = \"c\"\nurl = \"rtsp://cam.example/user=bob_password=hunter2_channel=1.sdp\"\n";
        let config = Config::parse(text, &|_| Err("no files".into())).unwrap();
        let shown = summary(&config, &config.cameras).to_string();
        assert!(
            !shown.contains("hunter2") && !shown.contains("bob"),
            "{shown}"
        );
        assert!(shown.contains("rtsp://cam.example/t?***\""), "{shown}");
        assert!(shown.contains("rtsp://cam.example/s") && shown.contains("\"password\":true"));
    }
}
