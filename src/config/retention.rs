//! The `[retention]` section and a camera's own quota: every key, its default and its range.

use std::time::Duration;

use toml::Value;

use super::table::{Kind, Section, parse_duration};
use super::{Quota, RetentionConfig};
use crate::units::ByteSize;

/// Leaves room on a card of any size for the system beside the clips, and for the card to level its wear.
const DEFAULT_SHARE: u8 = 80;
const DAY: u64 = 24 * 3600;
/// Two clips of a modest camera: less cannot hold what is being recorded and one before it.
const LEAST: ByteSize = ByteSize::mib(8);

pub(super) fn retention_config(mut s: Section<'_>) -> RetentionConfig {
    let config = RetentionConfig {
        quota: s
            .read("quota", &[Kind::Integer, Kind::Text], quota)
            .unwrap_or(Quota::Share(DEFAULT_SHARE)),
        max_age: s
            .read("max_age", &[Kind::Text], max_age)
            .unwrap_or(Some(Duration::from_secs(30 * DAY))),
    };
    s.end();
    config
}

pub(super) fn camera_quota(s: &mut Section<'_>) -> Option<ByteSize> {
    s.read("quota", &[Kind::Integer, Kind::Text], |v| {
        at_least(size(v)?)
    })
}

/// A number of bytes.
pub(super) fn size(v: &Value) -> Result<ByteSize, String> {
    match v {
        Value::Integer(n) => u64::try_from(*n)
            .map(ByteSize)
            .map_err(|_| "must not be negative".into()),
        other => other
            .as_str()
            .ok_or("must be a size such as \"512 MiB\"")?
            .parse(),
    }
}

fn at_least(size: ByteSize) -> Result<ByteSize, String> {
    if size < LEAST {
        return Err(format!("must be at least {LEAST}"));
    }
    Ok(size)
}

fn quota(v: &Value) -> Result<Quota, String> {
    let Some(text) = v.as_str() else {
        return at_least(size(v)?).map(Quota::Bytes);
    };
    if text == "off" {
        return Ok(Quota::Off);
    }
    let Some(share) = text.strip_suffix('%') else {
        let wrong = "must be a size such as \"20 GiB\", a share such as \"80 %\", or \"off\"";
        return at_least(text.parse().map_err(|_| wrong)?).map(Quota::Bytes);
    };
    let share: Option<u8> = share.trim().parse().ok();
    share
        .filter(|n| (1..=95).contains(n))
        .map(Quota::Share)
        .ok_or_else(|| "must be from 1 % to 95 %".into())
}

fn max_age(v: &Value) -> Result<Option<Duration>, String> {
    let text = v.as_str().unwrap_or_default();
    if text == "off" {
        return Ok(None);
    }
    let hour = Duration::from_secs(3600);
    parse_duration(text)
        .filter(|d| (hour..=hour * 24 * 3660).contains(d))
        .map(Some)
        .ok_or_else(|| "must be a time from \"1 h\" to \"3660 d\", or \"off\"".into())
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
    fn a_card_is_filled_to_four_fifths_for_thirty_days_at_most() {
        let c = parse("").unwrap().retention;
        assert_eq!(c.quota, Quota::Share(80));
        assert_eq!(c.max_age, Some(Duration::from_secs(30 * DAY)));
    }

    #[test]
    fn sizes_shares_days_and_off_are_understood() {
        let c = |text: &str| parse(&format!("[retention]\n{text}")).unwrap().retention;
        assert_eq!(
            c("quota = \"20 GiB\"").quota,
            Quota::Bytes(ByteSize::gib(20))
        );
        assert_eq!(c("quota = \"50%\"").quota, Quota::Share(50));
        assert_eq!(c("quota = 16777216").quota, Quota::Bytes(ByteSize::mib(16)));
        assert_eq!(c("quota = \"off\"\nmax_age = \"off\"").max_age, None);
        assert_eq!(
            c("max_age = \"72 h\"").max_age,
            c("max_age = \"3 d\"").max_age
        );
    }

    #[test]
    fn nonsense_is_named() {
        for (text, word) in [
            ("[retention]\nquota = \"0 %\"", "from 1 % to 95 %"),
            ("[retention]\nquota = \"much\"", "a share such as"),
            ("[retention]\nquota = \"1 KiB\"", "at least 8 MiB"),
            ("[retention]\nquota = -5", "negative"),
            ("[retention]\nmax_age = \"1 s\"", "\"1 h\" to"),
            ("[retention]\nage = \"1 d\"", "not a known key"),
            (
                "[[camera]]\nid = \"a\"\ntest = true\n[camera.recording]\nquota = 5",
                "at least 8 MiB",
            ),
        ] {
            let faults = parse(text).unwrap_err();
            assert!(
                faults.iter().any(|f| f.contains(word)),
                "{text}: {faults:?}"
            );
        }
    }
}
