//! Reads a TOML table key by key and collects every fault instead of stopping at the first.
//!
//! Each read takes its key out of the table; what is left at the end was not understood and is a fault, with the
//! nearest known key as a hint.

use std::path::PathBuf;
use std::time::Duration;

use toml::{Table, Value};

use super::Fault;

/// All faults of one file.
pub(crate) type Faults = Vec<Fault>;

/// Kind of a value; what is not of its kind is a fault `type`, what is has the fault `range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
    List,
}

impl Kind {
    fn is(self, value: &Value) -> bool {
        match self {
            Kind::Text => value.is_str(),
            Kind::Integer => value.is_integer(),
            Kind::Number => value.is_float() || value.is_integer(),
            Kind::Boolean => value.is_bool(),
            Kind::List => value.is_array(),
        }
    }
}

/// One table of the file and its name.
pub(crate) struct Section<'f> {
    name: String,
    table: Table,
    known: Vec<&'static str>,
    pub(crate) faults: &'f mut Faults,
}

impl<'f> Section<'f> {
    pub(crate) fn new(name: impl Into<String>, table: Table, faults: &'f mut Faults) -> Self {
        Section {
            name: name.into(),
            table,
            known: Vec::new(),
            faults,
        }
    }

    /// Full name of a key.
    pub(crate) fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    /// Notes a fault of a key. The value is shown: never pass a secret.
    pub(crate) fn fault(
        &mut self,
        key: &str,
        value: impl Into<String>,
        code: &'static str,
        problem: impl Into<String>,
    ) {
        self.faults.push(Fault {
            pointer: match key {
                "" => pointer(&self.name, "") + "/",
                key => pointer(&self.name, key),
            },
            key: self.path(key),
            value: value.into(),
            code,
            problem: problem.into(),
        });
    }

    /// Whether the file does not have the key.
    pub(crate) fn is_absent(&self, key: &str) -> bool {
        !self.table.contains_key(key)
    }

    /// Takes a value out; `None` where it is absent.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// Takes a value and converts it; a failure is a fault and counts as absent.
    pub(crate) fn read<T>(
        &mut self,
        key: &'static str,
        kinds: &[Kind],
        f: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        match f(&value) {
            Ok(t) => Some(t),
            Err(problem) => {
                let right_kind = kinds.iter().any(|k| k.is(&value));
                let code = if right_kind { "range" } else { "type" };
                self.fault(key, shown(&value), code, problem);
                None
            }
        }
    }

    pub(crate) fn string(&mut self, key: &'static str, max: usize) -> Option<String> {
        self.read(key, &[Kind::Text], |v| {
            let s = v.as_str().ok_or("must be a text in quotes")?;
            if s.is_empty() || s.len() > max {
                return Err(format!("must be 1 to {max} characters"));
            }
            Ok(s.to_owned())
        })
    }

    pub(crate) fn path_buf(&mut self, key: &'static str) -> Option<PathBuf> {
        self.read(key, &[Kind::Text], |v| {
            let path = PathBuf::from(v.as_str().ok_or("must be a path in quotes")?);
            if path.is_absolute() {
                Ok(path)
            } else {
                Err("must be an absolute path".into())
            }
        })
    }

    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, &[Kind::Boolean], |v| {
            v.as_bool().ok_or_else(|| "must be true or false".into())
        })
    }

    pub(crate) fn integer(&mut self, key: &'static str, min: u32, max: u32) -> Option<u32> {
        self.read(key, &[Kind::Integer], |v| {
            let n = v
                .as_integer()
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| (min..=max).contains(n));
            n.ok_or_else(|| format!("must be a whole number from {min} to {max}"))
        })
    }

    pub(crate) fn number(&mut self, key: &'static str, min: f64, max: f64) -> Option<f64> {
        self.read(key, &[Kind::Number], |v| {
            let n = v
                .as_float()
                .or(v.as_integer().map(|n| n as f64))
                .filter(|n| (min..=max).contains(n));
            n.ok_or_else(|| format!("must be a number from {min} to {max}"))
        })
    }

    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        min: Duration,
        max: Duration,
    ) -> Option<Duration> {
        self.read(key, &[Kind::Number, Kind::Text], |v| {
            let d = match v {
                Value::Integer(n) => u64::try_from(*n).ok().map(Duration::from_secs),
                Value::Float(s) => Duration::try_from_secs_f64(*s).ok(),
                Value::String(s) => parse_duration(s),
                _ => None,
            };
            let d = d.ok_or("must be a time such as \"5 s\", \"500 ms\" or \"2 min\"")?;
            if (min..=max).contains(&d) {
                Ok(d)
            } else {
                Err(format!(
                    "must be from {} to {}",
                    show_duration(min),
                    show_duration(max)
                ))
            }
        })
    }

    pub(crate) fn one_of<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.read(key, &[Kind::Text], |v| {
            let found = v
                .as_str()
                .and_then(|s| words.iter().find(|(word, _)| *word == s));
            found.map(|(_, t)| *t).ok_or_else(|| {
                let all: Vec<String> = words
                    .iter()
                    .map(|(word, _)| format!("\"{word}\""))
                    .collect();
                format!("must be one of {}", all.join(", "))
            })
        })
    }

    /// Takes a sub-table; absent counts as empty.
    pub(crate) fn table(&mut self, key: &'static str) -> Table {
        match self.take(key) {
            None => Table::new(),
            Some(Value::Table(t)) => t,
            Some(other) => {
                self.fault(
                    key,
                    shown(&other),
                    "type",
                    format!("must be a table, written as [{}]", self.path(key)),
                );
                Table::new()
            }
        }
    }

    /// Takes a list of tables, at most `max` of them.
    pub(crate) fn tables(&mut self, key: &'static str, max: usize) -> Vec<Table> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Value::Array(items) = value else {
            self.fault(
                key,
                shown(&value),
                "type",
                format!("must be a list, each written as [[{}]]", self.path(key)),
            );
            return Vec::new();
        };
        if items.len() > max {
            self.fault(
                key,
                format!("{} of them", items.len()),
                "count",
                format!("must be at most {max}"),
            );
        }
        let mut tables = Vec::new();
        for item in items.into_iter().take(max) {
            match item {
                Value::Table(t) => tables.push(t),
                other => self.fault(key, shown(&other), "type", "must be a list of tables"),
            }
        }
        tables
    }

    /// What is left was not understood.
    pub(crate) fn end(mut self) {
        for (key, _) in std::mem::take(&mut self.table) {
            let near = self
                .known
                .iter()
                .map(|k| (distance(k, &key), *k))
                .min()
                .filter(|(d, _)| *d <= 2);
            let hint = near
                .map(|(_, k)| format!(", did you mean `{k}`?"))
                .unwrap_or_default();
            // The value is not shown: a misspelt password is still a password.
            self.fault(&key, "", "unknown", format!("is not a known key{hint}"));
        }
    }
}

/// The place of a key as a JSON pointer (RFC 6901): `camera[0].motion` and `fps` make `/camera/0/motion/fps`.
pub(crate) fn pointer(section: &str, key: &str) -> String {
    let mut pointer = String::new();
    for part in section.split(['.', '[']).filter(|p| !p.is_empty()) {
        pointer.push('/');
        pointer.push_str(part.trim_end_matches(']'));
    }
    if !key.is_empty() {
        pointer.push('/');
        // A key that is not ours may be of any length.
        let key: String = key.chars().take(64).collect();
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
    }
    pointer
}

/// A value for a message, cut to a readable length; tables are only named.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Table(_) => "a table".into(),
        Value::Array(items) => format!("a list of {}", items.len()),
        other => other.to_string(),
    };
    if text.contains("://") {
        return super::redacted(&text);
    }
    text.chars().take(60).collect()
}

/// Reads `5 s`, `500 ms`, `2 min`, `1 h`, `30 d`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let number: f64 = text[..split].parse().ok()?;
    let unit = match text[split..].trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit).ok()
}

fn show_duration(d: Duration) -> String {
    match d.as_millis() {
        ms if ms < 1000 && ms > 0 => format!("{ms} ms"),
        ms if ms >= 3_600_000 && ms.is_multiple_of(3_600_000) => format!("{} h", ms / 3_600_000),
        ms if ms >= 120_000 && ms.is_multiple_of(60_000) => format!("{} min", ms / 60_000),
        ms => format!("{} s", ms / 1000),
    }
}

/// Levenshtein distance of two short keys.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("5 s"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("2 min"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("1.5 h"), Some(Duration::from_secs(5400)));
        for bad in ["5", "s", "-5 s", "5 days", "1e400 s", ""] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        assert_eq!(show_duration(Duration::from_secs(7200)), "2 h");
        assert_eq!(show_duration(Duration::from_secs(60)), "60 s");
    }

    #[test]
    fn places_are_json_pointers() {
        let p = pointer("camera[3].motion.include[0]", "points");
        assert_eq!(p, "/camera/3/motion/include/0/points");
        assert_eq!(pointer("", "a/b~c"), "/a~1b~0c");
        assert_eq!(pointer("cameras", ""), "/cameras");
    }

    #[test]
    fn near_keys_are_near() {
        assert_eq!(distance("sensitivity", "sensitivty"), 1);
        assert_eq!(distance("url", "fps"), 3);
    }
}
