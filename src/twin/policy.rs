//! What the cloud's rules (`ai_policies`, licence modules) ask of analysis, per camera.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::config::table::{Kind, Section};
use crate::model::CameraId;

/// Names in a list, entries of a table.
const MAX_ENTRIES: usize = 32;

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The cloud's name of it.
    pub id: String,
    /// For people.
    pub name: Option<String>,
    /// The cameras that it is for; empty means all.
    pub cameras: Vec<CameraId>,
    /// What analyses: `motion` is the one that every agent has; one that this agent does not have does nothing.
    pub modules: Vec<String>,
    /// By module: scores below it are no event. 0 to 1.
    pub thresholds: BTreeMap<String, f32>,
    /// What the cloud does about an event; the agent only keeps them.
    pub actions: Vec<String>,
    /// Switches of modules.
    pub feature_flags: BTreeMap<String, bool>,
}

impl Policy {
    /// Whether this is for `camera`.
    pub fn is_for(&self, camera: &CameraId) -> bool {
        self.cameras.is_empty() || self.cameras.contains(camera)
    }
}

/// Reads one rule.
pub(super) fn policy(mut s: Section<'_>) -> Option<Policy> {
    if s.is_absent("id") {
        s.fault("id", "", "missing", "is missing");
    }
    let id = s.string("id", 64);
    let name = s.string("name", 1024);
    let cameras = s.read("cameras", &[Kind::List], |v| {
        let list = v.as_array().filter(|l| l.len() <= 64);
        let list = list.ok_or("must be a list of at most 64 cameras")?;
        list.iter()
            .map(|v| v.as_str().ok_or("must be camera ids")?.parse())
            .collect()
    });
    let modules = words(&mut s, "modules");
    let actions = words(&mut s, "actions");
    let thresholds = entries(&mut s, "thresholds", |v| {
        let number = v.as_float().or(v.as_integer().map(|n| n as f64))?;
        (0.0..=1.0).contains(&number).then_some(number as f32)
    });
    let feature_flags = entries(&mut s, "feature_flags", Value::as_bool);
    s.end();
    Some(Policy {
        id: id?,
        name,
        cameras: cameras.unwrap_or_default(),
        modules,
        thresholds,
        actions,
        feature_flags,
    })
}

fn is_word(s: &str) -> bool {
    (1..=64).contains(&s.len())
        && s.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.')
        })
}

fn words(s: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let list = s.read(key, &[Kind::List], |v| {
        let list = v.as_array().filter(|l| l.len() <= MAX_ENTRIES);
        let list = list.ok_or("must be a list of at most 32 names")?;
        let word = |v: &Value| {
            let word = v.as_str().filter(|w| is_word(w)).map(str::to_owned);
            word.ok_or_else(|| "must be names of a-z, 0-9, _, - and .".to_owned())
        };
        list.iter().map(word).collect()
    });
    list.unwrap_or_default()
}

fn entries<T>(
    s: &mut Section<'_>,
    key: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> BTreeMap<String, T> {
    let table: Table = s.table(key);
    if table.len() > MAX_ENTRIES {
        s.fault(key, "", "count", "must be at most 32 entries");
    }
    let mut out = BTreeMap::new();
    for (name, value) in table.into_iter().take(MAX_ENTRIES) {
        match read(&value).filter(|_| is_word(&name)) {
            Some(value) => {
                out.insert(name, value);
            }
            None => s.fault(
                key,
                "",
                "range",
                "has a name or a value that is not allowed",
            ),
        }
    }
    out
}
