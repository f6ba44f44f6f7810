//! Which settings clips are judged by: a camera's of the configuration, or the defaults; a sensitivity on top.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::cli;
use crate::config::{Config, Fault, MotionConfig, RecordingConfig};
use crate::model::Secret;

#[derive(Debug, Args)]
pub struct SettingsArgs {
    /// Judge by this camera's settings in the configuration (its id or name). Without it: by those of the only camera of
    /// the file that --config names, or by the defaults.
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
}

/// What a clip is judged by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Id of the camera whose settings these are; `None`: the defaults.
    pub camera: Option<String>,
    /// Of the detector.
    pub motion: MotionConfig,
    /// Pre-roll, post-roll and longest event.
    pub recording: RecordingConfig,
}

impl SettingsArgs {
    /// Reads them; `given` is the configuration that the command line names. No password file is read.
    pub fn load(&self, given: Option<&Path>) -> anyhow::Result<Result<Settings, Vec<Fault>>> {
        if self.camera.is_none() && given.is_none() {
            return Ok(Ok(Settings::default()?));
        }
        let path = given.unwrap_or(Path::new(cli::CONFIG));
        let text = cli::read_config(path)?;
        let config = match Config::parse(&text, &|_| Ok(Secret::new("not-read"))) {
            Ok(config) => config,
            Err(faults) => return Ok(Err(faults)),
        };
        let ids: Vec<String> = config.cameras.iter().map(|c| c.id.to_string()).collect();
        let ids = ids.join(", ");
        let mut cameras = config.cameras.into_iter();
        let camera = match &self.camera {
            Some(name) => cameras
                .find(|c| c.id.as_str() == name || c.name == *name)
                .with_context(|| {
                    format!(
                        "no camera {name:?} is in {}, there are: {ids}",
                        path.display()
                    )
                })?,
            None => match (cameras.next(), cameras.next()) {
                (Some(only), None) => only,
                (None, _) => anyhow::bail!(
                    "{} has no camera; leave --config out to judge by the defaults",
                    path.display()
                ),
                _ => anyhow::bail!(
                    "{} has several cameras; name one with --camera: {ids}",
                    path.display()
                ),
            },
        };
        Ok(Ok(Settings {
            camera: Some(camera.id.to_string()),
            motion: camera.motion,
            recording: camera.recording,
        }))
    }
}

impl Settings {
    /// Those of a camera of which nothing is written.
    pub fn default() -> anyhow::Result<Settings> {
        let text = "[[camera]]\nid = \"clip\"\ntest = true\n";
        let config = Config::parse(text, &|_| Err("not read".into())).ok();
        let camera = config.and_then(|c| c.cameras.into_iter().next());
        let camera = camera.context("no default settings")?;
        Ok(Settings {
            camera: None,
            motion: camera.motion,
            recording: camera.recording,
        })
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let names = |zones: &[crate::config::Zone]| -> Vec<String> {
            zones.iter().map(|z| z.name.clone()).collect()
        };
        json!({
            "camera": self.camera,
            "sensitivity": self.motion.sensitivity,
            "fps": self.motion.fps,
            "include": names(&self.motion.include),
            "exclude": names(&self.motion.exclude),
            "pre_roll_s": self.recording.pre_roll.as_secs_f64(),
            "post_roll_s": self.recording.post_roll.as_secs_f64(),
        })
    }

    /// For people, in one line.
    pub fn line(&self) -> String {
        let of = match &self.camera {
            Some(id) => format!("settings of camera {id}"),
            None => "default settings".to_owned(),
        };
        let (include, exclude) = (self.motion.include.len(), self.motion.exclude.len());
        format!(
            "{of}: sensitivity {}, {} pictures a second, {include} include and {exclude} exclude zone(s)",
            self.motion.sensitivity, self.motion.fps
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, camera: Option<&str>) -> anyhow::Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sentrycam.toml");
        std::fs::write(&path, text).unwrap();
        let args = SettingsArgs {
            camera: camera.map(str::to_owned),
        };
        Ok(args.load(Some(&path))?.unwrap())
    }

    const TWO: &str = "[[camera]]\nid = \"door\"\nname = \"Front door\"\nurl = \"rtsp://10.0.0.2/s\"\nuser = \"a\"\n\
        password_file = \"/nowhere/secret\"\n[camera.motion]\nsensitivity = 8\n[[camera]]\nid = \"yard\"\ntest = true\n";

    #[test]
    fn a_camera_is_found_by_id_or_name_without_its_password() {
        for name in ["door", "Front door"] {
            let settings = load(TWO, Some(name)).unwrap();
            assert_eq!(settings.motion.sensitivity, 8);
            assert_eq!(settings.camera.as_deref(), Some("door"));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let e = load(TWO, None).unwrap_err().to_string();
        assert!(e.contains("--camera: door, yard"), "{e}");
        let e = load(TWO, Some("gate")).unwrap_err().to_string();
        assert!(e.contains("there are: door, yard"), "{e}");
        let e = load("", None).unwrap_err().to_string();
        assert!(e.contains("has no camera"), "{e}");
    }

    #[test]
    fn the_defaults_are_those_of_a_new_camera() {
        let args = SettingsArgs { camera: None };
        let settings = args.load(None).unwrap().unwrap();
        assert_eq!((settings.camera, settings.motion.sensitivity), (None, 5));
    }
}
