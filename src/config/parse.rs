//! From the text of the file to a checked [`Config`]: every key, its default and its range stand here.

use std::path::Path;
use std::time::Duration;

use toml::Table;
use url::Url;

use super::board;
use super::mqtt::mqtt_config;
use super::retention::{camera_quota, retention_config, size};
use super::source::{Streams, source};
use super::table::{Faults, Kind, Section, pointer};
use super::upload::{policy, upload_config};
use super::{
    CameraConfig, CloudConfig, Config, Decode, Fault, MotionConfig, RecordingConfig, SpoolConfig,
    UploadConfig, Zone,
};
use crate::model::{CameraId, Network, RecordMode, Secret, Severity};
use crate::units::ByteSize;

/// Cameras of one agent.
pub(crate) const MAX_CAMERAS: usize = 64;
/// Include or exclude polygons of one camera.
const MAX_ZONES: usize = 16;
/// A name or address is not longer than this.
pub(crate) const MAX_TEXT: usize = 1024;

/// Reads a secret from a file; the text of the error is shown.
pub type ReadSecret<'a> = &'a dyn Fn(&Path) -> Result<Secret, String>;

impl Config {
    /// Checks the text of a configuration file.
    ///
    /// # Errors
    /// All faults at once, each with key, value and range; no secret is in them.
    pub fn parse(text: &str, read_secret: ReadSecret<'_>) -> Result<Config, Vec<Fault>> {
        let table: Table = text
            .parse()
            .map_err(|e: toml::de::Error| vec![syntax(text, &e)])?;
        let mut faults = Faults::new();
        let mut top = Section::new("", table, &mut faults);
        let state_dir = top
            .path_buf("state_dir")
            .unwrap_or_else(|| "/var/lib/sentrycam".into());
        let spool = top.table("spool");
        let retention = top.table("retention");
        let cloud = top.take("cloud");
        let upload = top.table("upload");
        let mqtt = top.table("mqtt");
        let board = top.table("board");
        let cameras = top.tables("camera", MAX_CAMERAS);
        top.end();
        no_id_twice("camera", &cameras, &mut faults);
        let config = Config {
            spool: spool_config(Section::new("spool", spool, &mut faults), &state_dir),
            retention: retention_config(Section::new("retention", retention, &mut faults)),
            cloud: match cloud {
                Some(toml::Value::Table(t)) => Some(cloud_config(
                    Section::new("cloud", t, &mut faults),
                    &state_dir,
                )),
                Some(_) => {
                    faults.push(Fault {
                        key: "cloud".into(),
                        value: String::new(),
                        problem: "must be a table, written as [cloud]".into(),
                        code: "type",
                        pointer: pointer("cloud", ""),
                    });
                    None
                }
                None => None,
            },
            upload: {
                let mut section = Section::new("upload", upload, &mut faults);
                let config = upload_config(&mut section, &UploadConfig::default());
                section.end();
                config
            },
            mqtt: mqtt_config(Section::new("mqtt", mqtt, &mut faults)),
            board: board::config(Section::new("board", board, &mut faults)),
            cameras: cameras
                .into_iter()
                .enumerate()
                .filter_map(|(i, t)| {
                    camera(&format!("camera[{i}]"), t, read_secret, None, &mut faults)
                })
                .collect(),
            state_dir,
        };
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(faults)
        }
    }
}

/// Ids name cameras in records and paths: each is used once.
pub(crate) fn no_id_twice(list: &str, cameras: &[Table], faults: &mut Faults) {
    let id = |t: &Table| t.get("id").and_then(toml::Value::as_str).map(str::to_owned);
    for (i, camera) in cameras.iter().enumerate() {
        let Some(own) = id(camera) else { continue };
        if cameras[..i].iter().any(|c| id(c).as_ref() == Some(&own)) {
            let mut section = Section::new(format!("{list}[{i}]"), Table::new(), faults);
            section.fault("id", own, "duplicate", "is used by another camera already");
        }
    }
}

fn syntax(text: &str, e: &toml::de::Error) -> Fault {
    let before = e.span().map_or("", |s| text.get(..s.start).unwrap_or(""));
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    // Only the parser's own words: a quoted line may hold a password.
    Fault {
        key: format!("line {line}, column {column}"),
        value: String::new(),
        problem: format!("is not TOML: {}", e.message()),
        code: "syntax",
        pointer: String::new(),
    }
}

fn spool_config(mut s: Section<'_>, state_dir: &Path) -> SpoolConfig {
    let config = SpoolConfig {
        dir: s.path_buf("dir").unwrap_or_else(|| state_dir.join("clips")),
        require_mount: s.boolean("require_mount").unwrap_or(false),
        min_free: s
            .read("min_free", &[Kind::Integer, Kind::Text], size)
            .unwrap_or(ByteSize::mib(512)),
    };
    s.end();
    config
}

fn cloud_config(mut s: Section<'_>, state_dir: &Path) -> CloudConfig {
    let config = CloudConfig {
        credentials_file: s
            .path_buf("credentials_file")
            .unwrap_or_else(|| state_dir.join("credentials/current.json")),
        ca_file: s.path_buf("ca_file"),
        heartbeat: s
            .duration(
                "heartbeat",
                Duration::from_secs(5),
                Duration::from_secs(3600),
            )
            .unwrap_or(Duration::from_secs(60)),
        api_base: s.read("api_base", &[Kind::Text], api_base),
        claim_code_file: s
            .path_buf("claim_code_file")
            .unwrap_or_else(|| state_dir.join("claim-code.txt")),
        announce: s.boolean("announce").unwrap_or(true),
        allow_private: s
            .read("allow_private", &[Kind::List], networks)
            .unwrap_or_default(),
    };
    s.end();
    config
}

/// An address of the cloud's API.
pub(crate) fn api_base(v: &toml::Value) -> Result<Url, String> {
    let wrong = "must be an https:// address without login, query and fragment";
    let text = v.as_str().filter(|t| t.len() <= 255).ok_or(wrong)?;
    let url: Url = text.parse().map_err(|_| wrong)?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let good = url.scheme() == "https" && url.has_host() && plain;
    good.then_some(url).ok_or_else(|| wrong.into())
}

fn networks(v: &toml::Value) -> Result<Vec<Network>, String> {
    let list = v.as_array().filter(|l| l.len() <= 16);
    let list = list.ok_or("must be a list of at most 16 networks")?;
    list.iter()
        .map(|v| v.as_str().ok_or("must be networks in quotes")?.parse())
        .collect()
}

/// Reads one camera. `local` serves where the table says nothing of where the video comes from.
pub(crate) fn camera(
    name: &str,
    table: Table,
    read_secret: ReadSecret<'_>,
    local: Option<Streams>,
    faults: &mut Faults,
) -> Option<CameraConfig> {
    let mut s = Section::new(name, table, faults);
    let id: Option<CameraId> = if s.is_absent("id") {
        s.fault(
            "id",
            "",
            "missing",
            "is missing: give each camera a short name such as \"door\"",
        );
        None
    } else {
        s.read("id", &[Kind::Text], |v| {
            v.as_str().ok_or("must be a text in quotes")?.parse()
        })
    };
    let label = s.string("name", 64);
    let (main, sub) = match local {
        Some((main, sub)) => (Some(main), sub),
        None => source(&mut s, read_secret),
    };
    let stall_timeout = s
        .duration(
            "stall_timeout",
            Duration::from_secs(2),
            Duration::from_secs(300),
        )
        .unwrap_or(Duration::from_secs(10));
    let (recording, motion) = (s.table("recording"), s.table("motion"));
    s.end();
    let recording = recording_config(Section::new(format!("{name}.recording"), recording, faults));
    let motion = motion_config(&format!("{name}.motion"), motion, faults);
    if recording.mode == RecordMode::Motion && !motion.enabled {
        // Nothing would ever be recorded, and nobody would notice.
        faults.push(Fault {
            key: format!("{name}.motion.enabled"),
            value: "false".into(),
            problem: "needs recording.mode \"continuous\" or \"off\": without motion no clip would ever begin".into(),
            code: "conflict",
            pointer: pointer(&format!("{name}.motion"), "enabled"),
        });
    }
    let id = id?;
    Some(CameraConfig {
        name: label.unwrap_or_else(|| id.to_string()),
        id,
        main: main?,
        sub,
        stall_timeout,
        recording,
        motion,
    })
}

pub(crate) fn recording_config(mut s: Section<'_>) -> RecordingConfig {
    let seconds = Duration::from_secs;
    let config = RecordingConfig {
        mode: s
            .one_of(
                "mode",
                &[
                    ("motion", RecordMode::Motion),
                    ("continuous", RecordMode::Continuous),
                    ("off", RecordMode::Off),
                ],
            )
            .unwrap_or(RecordMode::Motion),
        pre_roll: s
            .duration("pre_roll", seconds(0), seconds(60))
            .unwrap_or(seconds(5)),
        post_roll: s
            .duration("post_roll", seconds(1), seconds(120))
            .unwrap_or(seconds(5)),
        max_event: s
            .duration("max_event", seconds(10), seconds(3600))
            .unwrap_or(seconds(300)),
        segment: s
            .duration("segment", seconds(5), seconds(3600))
            .unwrap_or(seconds(60)),
        audio: s.boolean("audio").unwrap_or(true),
        quota: camera_quota(&mut s),
        upload: policy(&mut s, "upload"),
    };
    s.end();
    config
}

pub(crate) fn motion_config(name: &str, table: Table, faults: &mut Faults) -> MotionConfig {
    let mut s = Section::new(name, table, faults);
    let enabled = s.boolean("enabled").unwrap_or(true);
    let sensitivity = s.integer("sensitivity", 1, 10).unwrap_or(5) as u8;
    let fps = s.number("fps", 1.0, 30.0).unwrap_or(5.0) as f32;
    let decodings = [("on_demand", Decode::OnDemand), ("all", Decode::All)];
    let decode = s.one_of("decode", &decodings).unwrap_or_default();
    let pictures = s.boolean("pictures").unwrap_or(true);
    let words = [Severity::Info, Severity::Warning, Severity::Critical].map(|w| (w.word(), w));
    let severity = s.one_of("severity", &words).unwrap_or(Severity::Warning);
    let (include, exclude) = (
        s.tables("include", MAX_ZONES),
        s.tables("exclude", MAX_ZONES),
    );
    s.end();
    let mut zones = |kind: &str, tables: Vec<Table>| -> Vec<Zone> {
        tables
            .into_iter()
            .enumerate()
            .filter_map(|(i, t)| {
                zone(
                    Section::new(format!("{name}.{kind}[{i}]"), t, faults),
                    &format!("{kind}-{i}"),
                    kind == "include",
                )
            })
            .collect()
    };
    MotionConfig {
        enabled,
        sensitivity,
        fps,
        decode,
        pictures,
        severity,
        include: zones("include", include),
        exclude: zones("exclude", exclude),
    }
}

/// Only what is included has a sensitivity of its own.
fn zone(mut s: Section<'_>, default_name: &str, included: bool) -> Option<Zone> {
    let name = s
        .string("name", 32)
        .unwrap_or_else(|| default_name.to_owned());
    if s.is_absent("points") {
        s.fault(
            "points",
            "",
            "missing",
            "is missing: 3 to 32 corners such as [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0]]",
        );
    }
    let points = s.read("points", &[Kind::List], |v| {
        let list = v
            .as_array()
            .filter(|l| (3..=32).contains(&l.len()))
            .ok_or("must be 3 to 32 corners")?;
        list.iter()
            .map(|p| {
                let number = |v: &toml::Value| v.as_float().or(v.as_integer().map(|n| n as f64));
                match p.as_array().map(Vec::as_slice) {
                    Some([x, y]) => match (number(x), number(y)) {
                        (Some(x), Some(y))
                            if (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y) =>
                        {
                            Ok((x as f32, y as f32))
                        }
                        _ => Err(
                            "must have corners from 0.0 to 1.0 (share of width and height)"
                                .to_owned(),
                        ),
                    },
                    _ => Err("must be a list of [x, y]".to_owned()),
                }
            })
            .collect()
    });
    let sensitivity = match included {
        true => s.integer("sensitivity", 1, 10).map(|v| v as u8),
        false => None,
    };
    s.end();
    Some(Zone {
        name,
        points: points?,
        sensitivity,
    })
}

/// Default place of the configuration's state, for tests.
#[cfg(test)]
pub(super) fn no_secrets(_: &Path) -> Result<Secret, String> {
    Err("no such file".into())
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
