//! The `[upload]` section: what leaves the device, how fast, and when. The twin lays its own `upload` over it, key by key.

use toml::Value;

use super::retention::size;
use super::table::{Kind, Section};
use crate::units::ByteSize;

/// Slower, a part of 5 MiB would take longer than an address lives.
const LEAST_KBPS: u32 = 64;
const MOST_KBPS: u32 = 10_000_000;
const MAX_WINDOWS: usize = 8;

/// Which recordings go to the cloud by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UploadPolicy {
    /// Clips of events, recordings on command, pictures.
    Events,
    /// Continuous footage too.
    All,
    /// Recordings and pictures on command; all else when it is asked for.
    OnDemand,
    /// Nothing, also when it is asked for.
    None,
}

/// A time of the day, every day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// First minute of the day that is in it.
    pub from: u16,
    /// First minute that is not in it any more; before `from`: on the next day.
    pub to: u16,
}

/// What leaves the device, how fast, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadConfig {
    /// For cameras that do not say otherwise.
    pub policy: UploadPolicy,
    /// Kilobit a second; `None`: as fast as it goes.
    pub max_kbps: Option<u32>,
    /// Clips wait then; pictures, and what a person asked for, do not.
    pub quiet_hours: Vec<Hours>,
    /// IANA name, of quiet hours and of the budget's days; `None`: the machine's.
    pub time_zone: Option<String>,
    /// The line is paid by the byte: clips wait until they are asked for.
    pub metered: bool,
    /// Bytes a day; beyond it goes only what a person asked for.
    pub daily_budget: Option<ByteSize>,
}

impl Default for UploadConfig {
    /// A home connection: a slow uplink is left usable, a fast one is not filled.
    fn default() -> Self {
        UploadConfig {
            policy: UploadPolicy::Events,
            max_kbps: Some(8000),
            quiet_hours: Vec::new(),
            time_zone: None,
            metered: false,
            daily_budget: None,
        }
    }
}

/// Reads the keys over what holds without them; the caller ends the section.
pub(crate) fn upload_config(s: &mut Section<'_>, base: &UploadConfig) -> UploadConfig {
    UploadConfig {
        policy: policy(s, "policy").unwrap_or(base.policy),
        max_kbps: s
            .read("max_kbps", &[Kind::Integer, Kind::Text], |v| {
                off_or(v, kbps)
            })
            .unwrap_or(base.max_kbps),
        quiet_hours: s
            .read("quiet_hours", &[Kind::List], quiet_hours)
            .unwrap_or_else(|| base.quiet_hours.clone()),
        time_zone: s
            .read("time_zone", &[Kind::Text], time_zone)
            .or_else(|| base.time_zone.clone()),
        metered: s.boolean("metered").unwrap_or(base.metered),
        daily_budget: s
            .read("daily_budget", &[Kind::Integer, Kind::Text], |v| {
                off_or(v, budget)
            })
            .unwrap_or(base.daily_budget),
    }
}

/// Reads a policy, of all cameras or of one.
pub(crate) fn policy(s: &mut Section<'_>, key: &'static str) -> Option<UploadPolicy> {
    s.one_of(
        key,
        &[
            ("events", UploadPolicy::Events),
            ("all", UploadPolicy::All),
            ("on_demand", UploadPolicy::OnDemand),
            ("none", UploadPolicy::None),
        ],
    )
}

fn off_or<T>(v: &Value, read: impl Fn(&Value) -> Result<T, String>) -> Result<Option<T>, String> {
    if v.as_str() == Some("off") {
        return Ok(None);
    }
    read(v).map(Some)
}

fn kbps(v: &Value) -> Result<u32, String> {
    let n = v.as_integer().and_then(|n| u32::try_from(n).ok());
    n.filter(|n| (LEAST_KBPS..=MOST_KBPS).contains(n))
        .ok_or_else(|| {
            format!("must be a whole number from {LEAST_KBPS} to {MOST_KBPS}, or \"off\"")
        })
}

fn budget(v: &Value) -> Result<ByteSize, String> {
    let size = size(v)?;
    if size < ByteSize::mib(1) {
        return Err("must be at least 1 MiB, or \"off\"".into());
    }
    Ok(size)
}

fn quiet_hours(v: &Value) -> Result<Vec<Hours>, String> {
    let wrong = "must be at most 8 times such as \"18:00-23:00\"";
    let list = v
        .as_array()
        .filter(|l| l.len() <= MAX_WINDOWS)
        .ok_or(wrong)?;
    let one = |v: &Value| {
        let (from, to) = v.as_str()?.split_once('-')?;
        let (from, to) = (minute(from)?, minute(to)?);
        (from != to && from < 1440).then_some(Hours { from, to })
    };
    list.iter()
        .map(|v| one(v).ok_or_else(|| wrong.to_owned()))
        .collect()
}

/// `HH:MM`, to 24:00.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits = |s: &str| {
        (s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?
    };
    let (hour, minute): (u16, u16) = (digits(hour)?, digits(minute)?);
    let at = hour * 60 + minute;
    (minute < 60 && at <= 1440).then_some(at)
}

fn time_zone(v: &Value) -> Result<String, String> {
    let text = v.as_str().unwrap_or_default();
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
    let named = (1..=64).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('/');
    named
        .then(|| text.to_owned())
        .ok_or_else(|| "must be a name such as \"Europe/Berlin\"".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(text, &|_| Err("no files".into()))
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_home_connection_is_the_default() {
        let c = parse("[[camera]]\nid = \"a\"\ntest = true").unwrap();
        assert_eq!(c.upload, UploadConfig::default());
        assert_eq!(c.cameras[0].recording.upload, None);
    }

    #[test]
    fn every_key_is_understood() {
        let c = parse(
            "[upload]\npolicy = \"on_demand\"\nmax_kbps = \"off\"\nquiet_hours = [\"18:00-23:30\", \"22:00-06:00\"]\n\
             time_zone = \"Europe/Berlin\"\nmetered = true\ndaily_budget = \"2 GiB\"\n\
             [[camera]]\nid = \"a\"\ntest = true\n[camera.recording]\nupload = \"all\"",
        )
        .unwrap();
        assert_eq!(c.upload.policy, UploadPolicy::OnDemand);
        assert_eq!(c.upload.max_kbps, None);
        assert_eq!(
            c.upload.quiet_hours,
            [
                Hours {
                    from: 1080,
                    to: 1410
                },
                Hours {
                    from: 1320,
                    to: 360
                }
            ]
        );
        assert_eq!(c.upload.daily_budget, Some(ByteSize::gib(2)));
        assert!(c.upload.metered);
        assert_eq!(c.cameras[0].recording.upload, Some(UploadPolicy::All));
    }

    #[test]
    fn nonsense_is_named() {
        for (text, word) in [
            ("policy = \"some\"", "one of"),
            ("max_kbps = 10", "from 64"),
            ("quiet_hours = [\"25:00-26:00\"]", "such as"),
            ("quiet_hours = [\"18:00-18:00\"]", "such as"),
            ("quiet_hours = [\"24:00-06:00\"]", "such as"),
            ("quiet_hours = \"18:00-23:00\"", "such as"),
            ("time_zone = \"../../etc/passwd\"", "Europe/Berlin"),
            ("daily_budget = \"1 KiB\"", "at least 1 MiB"),
            ("hosts = [\"a.example\"]", "not a known key"),
        ] {
            let faults = parse(&format!("[upload]\n{text}")).unwrap_err();
            assert!(
                faults.iter().any(|f| f.contains(word)),
                "{text}: {faults:?}"
            );
        }
    }
}
