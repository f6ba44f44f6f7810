//! Button and light, as the configuration names them; neither is pressed, taken from the agent, or lit.

use std::io;

use super::Finding;
use crate::board::button::{self, CONSUMER, Found};
use crate::board::led::Led;
use crate::config::{BoardConfig, ButtonConfig};

const BUTTON: &str = "button";
const LED: &str = "led";

/// `runs`: the agent has them.
pub fn check(board: &BoardConfig, runs: bool) -> Vec<Finding> {
    let without = "none in the configuration, `sentrycam claim` works without";
    let button = board.button.as_ref().map_or_else(
        || Finding::skipped(BUTTON, without),
        |config| judge_button(config, button::look(config), runs),
    );
    let led = board.led.as_ref().map_or_else(
        || Finding::skipped(LED, "none in the configuration"),
        |dir| judge_led(Led::open(dir).and_then(|led| led.may_be_set())),
    );
    vec![button, led]
}

fn judge_button(config: &ButtonConfig, found: io::Result<Found>, runs: bool) -> Finding {
    let group = match config {
        ButtonConfig::Gpio { .. } => "gpio",
        ButtonConfig::Key { .. } => "input",
        ButtonConfig::Pipe(_) => "sentrycam",
    };
    let join = format!("usermod -aG {group} sentrycam && systemctl restart sentrycam");
    let is_line = matches!(config, ButtonConfig::Gpio { .. });
    match found {
        Ok(Found::Held(by)) if by == CONSUMER && runs => {
            Finding::ok(BUTTON, "the agent holds the line")
        }
        Ok(Found::Held(by)) => Finding::failure(
            BUTTON,
            format!("the line is in use by {}", or_unknown(&by)),
            "choose another line in board.button, or end what uses this one",
        ),
        // Root sees it, but the agent could not take it.
        Ok(Found::Free) if runs && is_line => Finding::failure(
            BUTTON,
            "it is there, but the agent does not hold the line",
            join,
        ),
        Ok(Found::NotYet) if runs => Finding::failure(
            BUTTON,
            "the pipe is not there, although the agent runs",
            "systemctl restart sentrycam",
        ),
        Ok(Found::NotYet) => Finding::ok(BUTTON, "a pipe, made when the agent starts"),
        Ok(Found::Free) => Finding::ok(BUTTON, "it is there and can be used"),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            Finding::failure(BUTTON, e.to_string(), join)
        }
        Err(e) => Finding::failure(
            BUTTON,
            e.to_string(),
            "correct board.button: gpioinfo lists lines, /dev/input/by-path devices with keys",
        ),
    }
}

fn or_unknown(name: &str) -> &str {
    if name.is_empty() { "the kernel" } else { name }
}

fn judge_led(found: io::Result<()>) -> Finding {
    match found {
        Ok(()) => Finding::ok(LED, "it is there and can be set"),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            let todo = "install systemd/udev/rules.d/90-sentrycam.rules, then udevadm trigger --subsystem-match=leds";
            Finding::failure(LED, e.to_string(), todo)
        }
        Err(e) => Finding::failure(
            LED,
            e.to_string(),
            "correct board.led: ls /sys/class/leds shows what is there",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;
    use crate::config::GpioLine;

    #[test]
    fn a_button_is_judged_by_who_has_it() {
        let line = ButtonConfig::Gpio {
            chip: None,
            line: GpioLine::Offset(17),
            active_low: true,
        };
        let held = |by: &str| Ok(Found::Held(by.to_owned()));
        let denied = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        for (found, runs, verdict, todo) in [
            (held("sentrycam"), true, Verdict::Ok, ""),
            (held("sentrycam"), false, Verdict::Failure, "board.button"),
            (held("spi0 CS0"), true, Verdict::Failure, "board.button"),
            (Ok(Found::Free), false, Verdict::Ok, ""),
            (Ok(Found::Free), true, Verdict::Failure, "usermod -aG gpio"),
            (denied(), false, Verdict::Failure, "usermod -aG gpio"),
            (
                Err(io::Error::other("no line")),
                false,
                Verdict::Failure,
                "gpioinfo",
            ),
        ] {
            let judged = judge_button(&line, found, runs);
            assert_eq!(judged.verdict, verdict, "{judged:?}");
            assert!(judged.todo.unwrap_or_default().contains(todo));
        }
        let key = ButtonConfig::Key {
            device: "/dev/input/event0".into(),
            code: 116,
        };
        // A key is read beside the agent.
        assert_eq!(
            judge_button(&key, Ok(Found::Free), true).verdict,
            Verdict::Ok
        );
        let judged = judge_button(&key, denied(), true);
        assert!(judged.todo.unwrap().contains("usermod -aG input"));
    }

    #[test]
    fn a_light_that_may_not_be_set_names_the_rule() {
        assert_eq!(judge_led(Ok(())).verdict, Verdict::Ok);
        let judged = judge_led(Err(io::ErrorKind::PermissionDenied.into()));
        assert!(judged.todo.unwrap().contains("90-sentrycam.rules"));
        let judged = judge_led(Err(io::ErrorKind::NotFound.into()));
        assert!(judged.todo.unwrap().contains("/sys/class/leds"));
    }
}
