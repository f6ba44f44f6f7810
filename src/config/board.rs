//! The part of the configuration that is about this box and its owner: button, light, where to be claimed.

use std::path::{Path, PathBuf};

use super::table::{Kind, Section};
use super::{BoardConfig, ButtonConfig, GpioLine};

const BUTTON_FORM: &str = "must be \"gpio:CHIP:LINE\" (\"gpio:/dev/gpiochip0:17\"), \"gpio:NAME\" (\"gpio:GPIO17\"), \
                           \"key:DEVICE:CODE\" (\"key:/dev/input/event0:116\") or \"pipe:PATH\"";

pub(super) fn config(mut s: Section<'_>) -> BoardConfig {
    let active_low = s
        .one_of("button_active", &[("low", true), ("high", false)])
        .unwrap_or(true);
    let config = BoardConfig {
        button: s.read("button", &[Kind::Text], |v| {
            let text = v.as_str().ok_or(BUTTON_FORM)?;
            button(text, active_low).ok_or_else(|| BUTTON_FORM.into())
        }),
        led: s.read("led", &[Kind::Text], |v| {
            let text = v.as_str().ok_or("must be a text in quotes")?;
            led(text).ok_or_else(|| {
                "must be the name of a light in /sys/class/leds, or its absolute path".into()
            })
        }),
    };
    s.end();
    config
}

/// The address of a cloud: https, no login in it, no query.
fn button(text: &str, active_low: bool) -> Option<ButtonConfig> {
    let absolute = |text: &str| Some(PathBuf::from(text)).filter(|p| p.is_absolute());
    let (kind, rest) = text.split_once(':')?;
    match (kind, rest.rsplit_once(':')) {
        ("gpio", Some((chip, line))) => Some(ButtonConfig::Gpio {
            chip: Some(absolute(chip)?),
            line: GpioLine::Offset(line.parse().ok()?),
            active_low,
        }),
        ("gpio", None) => {
            let named =
                (1..=31).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_graphic());
            named.then(|| ButtonConfig::Gpio {
                chip: None,
                line: GpioLine::Name(rest.to_owned()),
                active_low,
            })
        }
        ("key", Some((device, code))) => Some(ButtonConfig::Key {
            device: absolute(device)?,
            code: code.parse().ok().filter(|c| *c < 0x300)?,
        }),
        ("pipe", _) => absolute(rest).map(ButtonConfig::Pipe),
        _ => None,
    }
}

fn led(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let named = (1..=64).contains(&text.len()) && !text.contains('/') && !text.starts_with('.');
    named.then(|| Path::new("/sys/class/leds").join(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse::api_base;

    #[test]
    fn buttons_are_named_in_four_ways() {
        let gpio = |chip: Option<&str>, line, active_low| ButtonConfig::Gpio {
            chip: chip.map(PathBuf::from),
            line,
            active_low,
        };
        assert_eq!(
            button("gpio:/dev/gpiochip0:17", true),
            Some(gpio(Some("/dev/gpiochip0"), GpioLine::Offset(17), true))
        );
        assert_eq!(
            button("gpio:GPIO17", false),
            Some(gpio(None, GpioLine::Name("GPIO17".into()), false))
        );
        assert_eq!(
            button("key:/dev/input/by-path/x-event:116", true),
            Some(ButtonConfig::Key {
                device: "/dev/input/by-path/x-event".into(),
                code: 116
            })
        );
        assert_eq!(
            button("pipe:/run/button", true),
            Some(ButtonConfig::Pipe("/run/button".into()))
        );
        for bad in [
            "",
            "17",
            "gpio:",
            "gpio:chip0:17",
            "gpio:/dev/gpiochip0:-1",
            "key:/dev/input/event0",
            "key:/dev/input/event0:768",
            "pipe:x",
            "usb:1",
        ] {
            assert_eq!(button(bad, true), None, "{bad}");
        }
    }

    #[test]
    fn a_light_is_a_name_or_a_path() {
        assert_eq!(led("ACT"), Some("/sys/class/leds/ACT".into()));
        assert_eq!(led("/tmp/led"), Some("/tmp/led".into()));
        for bad in ["", "..", "a/b", ".x"] {
            assert_eq!(led(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cloud_is_an_https_address_and_nothing_more() {
        assert!(api_base(&"https://api.example.com/v".into()).is_ok());
        for bad in [
            "http://api.example.com",
            "https://u@api.example.com",
            "https://u:p@h",
            "https://h/?x=1",
            "https://h/#x",
            "api.example.com",
            "https://",
        ] {
            assert!(api_base(&bad.into()).is_err(), "{bad}");
        }
    }
}
