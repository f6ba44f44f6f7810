//! From a document to what the device is to be, by the very rules of the configuration file.
//!
//! A camera of the twin is written as in the file (same keys, ranges and defaults). Never in a twin: paths (`state_dir`,
//! clips, credentials, CAs, password files, video files) and whatever else belongs to the machine and not to its owner.

use serde_json::{Map, Value as Json};
use toml::{Table, Value};
use url::Url;

use super::policy::policy;
use super::{CloudPart, Effective, HostPattern, Secrets, StreamPart};
use crate::config::parse::{
    MAX_CAMERAS, api_base, camera, motion_config, no_id_twice, recording_config,
};
use crate::config::table::{Faults, Kind, Section, pointer};
use crate::config::upload::upload_config;
use crate::config::{CameraConfig, Config, Fault, SourceConfig, UploadConfig};

const MAX_HOSTS: usize = 64;
const MAX_PORTS: usize = 16;
const MAX_POLICIES: usize = 64;
/// Keys of a camera that say where its video comes from.
const SOURCES: [&str; 4] = ["url", "device", "file", "test"];
/// Keys that name files of this machine: only its own file may set them.
const PATHS: [&str; 3] = ["file", "password_file", "ca_file"];

/// Lays `doc` over the configuration file.
///
/// # Errors
/// Every fault at once, as places in `doc`.
pub fn compile(
    doc: &Map<String, Json>,
    secrets: &Secrets,
    local: &Config,
) -> Result<Effective, Vec<Fault>> {
    let mut faults = Faults::new();
    let table = table_of(doc, "", &mut faults);
    let mut top = Section::new("", table, &mut faults);
    let cameras = (!top.is_absent("cameras")).then(|| top.tables("cameras", MAX_CAMERAS));
    let (recording, motion) = (top.table("recording"), top.table("motion"));
    let (upload, stream, cloud) = (top.table("upload"), top.table("stream"), top.table("cloud"));
    let policies = top.tables("policies", MAX_POLICIES);
    let physical_reset = top.one_of("physical_reset", &[("enabled", true), ("disabled", false)]);
    for key in ["local_api", "network"] {
        if !top.table(key).is_empty() {
            top.fault(key, "", "unsupported", "is not supported by this agent");
        }
    }
    top.end();
    // Faults of the defaults are named once, not for each camera.
    let before = faults.len();
    recording_config(Section::new("recording", recording.clone(), &mut faults));
    motion_config("motion", motion.clone(), &mut faults);
    let defaults = if faults.len() == before {
        (recording, motion)
    } else {
        (Table::new(), Table::new())
    };
    let cameras = match cameras {
        None => local.cameras.clone(),
        Some(tables) => {
            no_id_twice("cameras", &tables, &mut faults);
            let mut cameras = Vec::new();
            for (i, table) in tables.into_iter().enumerate() {
                let name = format!("cameras[{i}]");
                let found = one_camera(&name, table, &defaults, secrets, local, &mut faults);
                cameras.extend(found);
            }
            cameras.retain(|(_, enabled)| *enabled);
            cameras.into_iter().map(|(c, _)| c).collect()
        }
    };
    let mut read = Vec::new();
    for (i, table) in policies.into_iter().enumerate() {
        let section = Section::new(format!("policies[{i}]"), table, &mut faults);
        read.extend(policy(section));
    }
    let (upload_hosts, upload) =
        upload_part(Section::new("upload", upload, &mut faults), &local.upload);
    let effective = Effective {
        cameras,
        cloud: cloud_part(Section::new("cloud", cloud, &mut faults)),
        upload_hosts,
        upload,
        stream: stream_part(Section::new("stream", stream, &mut faults)),
        policies: read,
        physical_reset: physical_reset.unwrap_or(true),
    };
    if faults.is_empty() {
        Ok(effective)
    } else {
        Err(faults)
    }
}

/// One camera, and whether it is switched on.
fn one_camera(
    name: &str,
    mut table: Table,
    (recording, motion): &(Table, Table),
    secrets: &Secrets,
    local: &Config,
    faults: &mut Faults,
) -> Option<(CameraConfig, bool)> {
    let mut note = |key: &str, code, problem: &str| {
        faults.push(Fault {
            key: format!("{name}.{key}"),
            value: String::new(),
            problem: problem.into(),
            code,
            pointer: pointer(name, key),
        });
    };
    for key in PATHS {
        if table.remove(key).is_some() {
            note(
                key,
                "not_allowed",
                "names a file of the device: only its own configuration can",
            );
        }
    }
    for key in ["url", "sub_url"] {
        let url = table
            .get(key)
            .and_then(Value::as_str)
            .map(str::parse::<Url>);
        if let Some(Ok(url)) = url
            && (!url.username().is_empty() || url.password().is_some())
        {
            note(
                key,
                "secret",
                "must not hold a login: give user and password",
            );
            table.insert(key.into(), "rtsp://hidden.invalid/".into());
        }
    }
    let enabled = match table.remove("enabled") {
        None | Some(Value::Boolean(true)) => true,
        Some(Value::Boolean(false)) => false,
        Some(_) => {
            note("enabled", "type", "must be true or false");
            true
        }
    };
    let id = table
        .get("id")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let own = local.cameras.iter().find(|c| c.id.as_str() == id.as_str());
    let from_file = SOURCES.iter().all(|k| !table.contains_key(*k));
    let own = own
        .filter(|_| from_file)
        .map(|c| (c.main.clone(), c.sub.clone()));
    if own.is_none() && table.remove("password").is_some() {
        match secrets.of(&id) {
            Some(secret) => {
                table.insert("password".into(), secret.expose().into());
            }
            None => note("password", "secret", "is not known to the device any more"),
        }
    }
    for (key, defaults) in [("recording", recording), ("motion", motion)] {
        // What is no table stays, to be named as a fault.
        let own = table.entry(key).or_insert_with(|| Table::new().into());
        if let Value::Table(own) = own {
            for (key, value) in defaults {
                own.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    let no_files = |_: &std::path::Path| Err("not in a twin".to_owned());
    let config = camera(name, table, &no_files, own, faults)?;
    if let (SourceConfig::V4l2 { device, .. }, true) = (&config.main, !from_file) {
        let path = device.to_string_lossy();
        let camera = path.starts_with("/dev/video") || path.starts_with("/dev/v4l/");
        if !camera || path.contains("..") {
            faults.push(Fault {
                key: format!("{name}.device"),
                value: String::new(),
                problem: "must be a camera: /dev/video… or /dev/v4l/…".into(),
                code: "not_allowed",
                pointer: pointer(name, "device"),
            });
        }
    }
    Some((config, enabled))
}

fn cloud_part(mut s: Section<'_>) -> CloudPart {
    let seconds = std::time::Duration::from_secs;
    let part = CloudPart {
        api_base: s.read("api_base", &[Kind::Text], api_base),
        heartbeat: s.duration("heartbeat", seconds(5), seconds(3600)),
    };
    s.end();
    part
}

fn upload_part(mut s: Section<'_>, local: &UploadConfig) -> (Vec<HostPattern>, UploadConfig) {
    let hosts = hosts(&mut s);
    let config = upload_config(&mut s, local);
    s.end();
    (hosts, config)
}

fn stream_part(mut s: Section<'_>) -> StreamPart {
    let hosts = hosts(&mut s);
    let ports = s.read("ports", &[Kind::List], |v| {
        let list = v.as_array().filter(|l| l.len() <= MAX_PORTS);
        let list = list.ok_or("must be a list of at most 16 ports")?;
        let port = |v: &Value| v.as_integer().and_then(|n| u16::try_from(n).ok());
        list.iter()
            .map(|v| port(v).filter(|p| *p > 0))
            .collect::<Option<Vec<u16>>>()
            .ok_or_else(|| "must be ports from 1 to 65535".to_owned())
    });
    s.end();
    StreamPart {
        hosts,
        ports: ports.unwrap_or_default(),
    }
}

fn hosts(s: &mut Section<'_>) -> Vec<HostPattern> {
    let hosts = s.read("hosts", &[Kind::List], |v| {
        let list = v.as_array().filter(|l| l.len() <= MAX_HOSTS);
        let list = list.ok_or("must be a list of at most 64 hosts")?;
        list.iter()
            .map(|v| v.as_str().ok_or("must be host names")?.parse())
            .collect()
    });
    hosts.unwrap_or_default()
}

/// JSON as the reader of the configuration file wants it. There is no `null` in TOML: it is a fault.
fn table_of(map: &Map<String, Json>, section: &str, faults: &mut Faults) -> Table {
    let mut table = Table::new();
    for (key, value) in map {
        let name = if section.is_empty() {
            key.clone()
        } else {
            format!("{section}.{key}")
        };
        if let Some(value) = value_of(value, &name, faults) {
            table.insert(key.clone(), value);
        } else {
            faults.push(Fault {
                key: name,
                value: String::new(),
                problem: "must not be null: leave it out".into(),
                code: "type",
                pointer: pointer(section, key),
            });
        }
    }
    table
}

/// `None`: it is null.
fn value_of(value: &Json, name: &str, faults: &mut Faults) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(b) => (*b).into(),
        Json::Number(n) => match n.as_i64() {
            Some(n) => n.into(),
            None => n.as_f64().unwrap_or(f64::INFINITY).into(),
        },
        Json::String(s) => s.as_str().into(),
        Json::Array(list) => {
            let mut out = Vec::with_capacity(list.len());
            for (i, v) in list.iter().enumerate() {
                // A null in a list is of the wrong type there; a text is so too, unless texts belong there.
                let name = format!("{name}[{i}]");
                out.push(value_of(v, &name, faults).unwrap_or(Value::Float(f64::NAN)));
            }
            Value::Array(out)
        }
        Json::Object(map) => Value::Table(table_of(map, name, faults)),
    })
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
