//! From the text of the file to a checked [`Config`]: every key, its default and its range stand here.

use std::path::Path;
use std::time::Duration;

use toml::Table;
use url::Url;

use super::board;
use super::table::{Faults, Section};
use super::{
    CameraConfig, CloudConfig, Config, Fault, MotionConfig, RecordingConfig, RtspTransport,
    SourceConfig, SpoolConfig, V4l2Format, Zone,
};
use crate::model::{CameraId, RecordMode, Secret};
use crate::units::ByteSize;

/// Cameras of one agent.
const MAX_CAMERAS: usize = 64;
/// Include or exclude polygons of one camera.
const MAX_ZONES: usize = 16;
/// A name or address is not longer than this.
const MAX_TEXT: usize = 1024;

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
        let cloud = top.take("cloud");
        let board = top.table("board");
        let cameras = top.tables("camera", MAX_CAMERAS);
        top.end();
        let config = Config {
            spool: spool_config(Section::new("spool", spool, &mut faults), &state_dir),
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
                    });
                    None
                }
                None => None,
            },
            board: board::config(Section::new("board", board, &mut faults)),
            cameras: cameras
                .into_iter()
                .enumerate()
                .filter_map(|(i, t)| camera(i, t, read_secret, &mut faults))
                .collect(),
            state_dir,
        };
        for (i, camera) in config.cameras.iter().enumerate() {
            if config.cameras[..i].iter().any(|c| c.id == camera.id) {
                faults.push(Fault {
                    key: format!("camera[{i}].id"),
                    value: camera.id.to_string(),
                    problem: "is used by another camera already".into(),
                });
            }
        }
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(faults)
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
    }
}

fn spool_config(mut s: Section<'_>, state_dir: &Path) -> SpoolConfig {
    let config = SpoolConfig {
        dir: s.path_buf("dir").unwrap_or_else(|| state_dir.join("clips")),
        require_mount: s.boolean("require_mount").unwrap_or(false),
        min_free: s
            .read("min_free", |v| match v {
                toml::Value::Integer(n) => u64::try_from(*n)
                    .map(ByteSize)
                    .map_err(|_| "must not be negative".into()),
                other => other
                    .as_str()
                    .ok_or("must be a size such as \"512 MiB\"")?
                    .parse(),
            })
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
        api_base: s.read("api_base", |v| {
            board::api_base(v.as_str().ok_or("must be a text in quotes")?)
        }),
        claim_code_file: s
            .path_buf("claim_code_file")
            .unwrap_or_else(|| "/boot/firmware/sentrycam-claim.txt".into()),
        announce: s.boolean("announce").unwrap_or(true),
    };
    s.end();
    config
}

fn camera(
    index: usize,
    table: Table,
    read_secret: ReadSecret<'_>,
    faults: &mut Faults,
) -> Option<CameraConfig> {
    let name = format!("camera[{index}]");
    let mut s = Section::new(&name, table, faults);
    let id: Option<CameraId> = if s.is_absent("id") {
        s.fault(
            "id",
            "",
            "is missing: give each camera a short name such as \"door\"",
        );
        None
    } else {
        s.read("id", |v| {
            v.as_str().ok_or("must be a text in quotes")?.parse()
        })
    };
    let label = s.string("name", 64);
    let (main, sub) = source(&mut s, read_secret);
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

/// Exactly one of `url`, `device`, `file`, `test` says where the video comes from.
fn source(
    s: &mut Section<'_>,
    read_secret: ReadSecret<'_>,
) -> (Option<SourceConfig>, Option<SourceConfig>) {
    let given: Vec<&str> = ["url", "device", "file", "test"]
        .into_iter()
        .filter(|k| !s.is_absent(k))
        .collect();
    if given.len() != 1 {
        let value = given.join(", ");
        s.fault(
            "url",
            value,
            "give exactly one of url (RTSP), device (V4L2), file, test = true",
        );
    }
    let password = password(s, read_secret);
    let user = s.string("user", MAX_TEXT);
    let transport = s
        .one_of(
            "transport",
            &[
                ("tcp", RtspTransport::Tcp),
                ("udp", RtspTransport::Udp),
                ("auto", RtspTransport::Auto),
            ],
        )
        .unwrap_or(RtspTransport::Tcp);
    let ca_file = s.path_buf("ca_file");
    let verify_tls = s.boolean("verify_tls").unwrap_or(true);
    let rtsp = |s: &mut Section<'_>, key: &'static str| {
        let (url, in_url) = s.read(key, |v| {
            rtsp_url(v.as_str().ok_or("must be a text in quotes")?)
        })?;
        let (url_user, url_password) = in_url.unzip();
        Some(SourceConfig::Rtsp {
            url,
            user: user.clone().or(url_user),
            password: password.clone().or(url_password.flatten()),
            transport,
            ca_file: ca_file.clone(),
            verify_tls,
        })
    };
    let url = rtsp(s, "url");
    let sub = rtsp(s, "sub_url");
    let (width, height) = (s.integer("width", 64, 7680), s.integer("height", 64, 4320));
    let fps = s.integer("fps", 1, 120);
    let bitrate_kbps = s.integer("bitrate_kbps", 64, 50_000).unwrap_or(2000);
    let format = s.one_of(
        "format",
        &[
            ("yuyv", V4l2Format::Yuyv),
            ("nv12", V4l2Format::Nv12),
            ("mjpeg", V4l2Format::Mjpeg),
            ("h264", V4l2Format::H264),
        ],
    );
    let device = s.path_buf("device").map(|device| SourceConfig::V4l2 {
        device,
        width,
        height,
        fps,
        format,
        bitrate_kbps,
    });
    let repeat = s.boolean("repeat").unwrap_or(false);
    let file = s
        .path_buf("file")
        .map(|path| SourceConfig::File { path, repeat });
    let test = s
        .boolean("test")
        .filter(|t| *t)
        .map(|_| SourceConfig::Test {
            width: width.unwrap_or(1280),
            height: height.unwrap_or(720),
            fps: fps.unwrap_or(15),
            bitrate_kbps,
        });
    if sub.is_some() && url.is_none() {
        s.fault("sub_url", "", "needs url (RTSP) beside it");
    }
    (url.or(device).or(file).or(test), sub)
}

fn password(s: &mut Section<'_>, read_secret: ReadSecret<'_>) -> Option<Secret> {
    let inline = match s.take("password") {
        Some(toml::Value::String(p)) => Some(Secret::new(p)),
        Some(_) => {
            s.fault("password", "***", "must be a text in quotes");
            None
        }
        None => None,
    };
    let Some(file) = s.path_buf("password_file") else {
        return inline;
    };
    if inline.is_some() {
        s.fault(
            "password_file",
            file.display().to_string(),
            "give either password or password_file",
        );
    }
    match read_secret(&file) {
        Ok(secret) => Some(secret),
        Err(e) => {
            s.fault(
                "password_file",
                file.display().to_string(),
                format!("cannot be read: {e}"),
            );
            None
        }
    }
    .or(inline)
}

type UserAndPassword = (String, Option<Secret>);

/// Checks an RTSP address and takes user and password out of it.
fn rtsp_url(text: &str) -> Result<(Url, Option<UserAndPassword>), String> {
    if text.len() > MAX_TEXT {
        return Err(format!("must be at most {MAX_TEXT} characters"));
    }
    let mut url: Url = text
        .parse()
        .map_err(|e| format!("is not an address: {e}"))?;
    if !matches!(url.scheme(), "rtsp" | "rtsps") || url.host_str().is_none_or(str::is_empty) {
        return Err("must be an address such as rtsp://192.168.1.20:554/stream1".into());
    }
    let decode = |s: &str| {
        percent_decode(s).ok_or("has a user or password that is not percent-encoded UTF-8")
    };
    let login = if url.username().is_empty() && url.password().is_none() {
        None
    } else {
        Some((
            decode(url.username())?,
            url.password().map(decode).transpose()?.map(Secret::new),
        ))
    };
    // Both calls succeed where there is a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok((url, login))
}

fn percent_decode(s: &str) -> Option<String> {
    let mut out = Vec::with_capacity(s.len());
    let mut bytes = s.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

fn recording_config(mut s: Section<'_>) -> RecordingConfig {
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
    };
    s.end();
    config
}

fn motion_config(name: &str, table: Table, faults: &mut Faults) -> MotionConfig {
    let mut s = Section::new(name, table, faults);
    let enabled = s.boolean("enabled").unwrap_or(true);
    let sensitivity = s.integer("sensitivity", 1, 10).unwrap_or(5) as u8;
    let fps = s.number("fps", 1.0, 30.0).unwrap_or(5.0) as f32;
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
                )
            })
            .collect()
    };
    MotionConfig {
        enabled,
        sensitivity,
        fps,
        include: zones("include", include),
        exclude: zones("exclude", exclude),
    }
}

fn zone(mut s: Section<'_>, default_name: &str) -> Option<Zone> {
    let name = s
        .string("name", 32)
        .unwrap_or_else(|| default_name.to_owned());
    if s.is_absent("points") {
        s.fault(
            "points",
            "",
            "is missing: 3 to 32 corners such as [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0]]",
        );
    }
    let points = s.read("points", |v| {
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
    s.end();
    Some(Zone {
        name,
        points: points?,
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
