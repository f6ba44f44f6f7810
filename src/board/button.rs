//! The button: a GPIO line, a key of an input device, or a pipe that another program writes to. Levels come out; what
//! they mean is `claim::press`.

use std::io;
use std::path::Path;
use std::time::Duration;

use evdev::{Device, EventStream, EventType, KeyCode};
use gpiocdev::Request;
use gpiocdev::line::{Bias, EdgeDetection, EdgeKind};
use gpiocdev::tokio::AsyncRequest;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::config::{ButtonConfig, GpioLine};

/// The kernel drops what is shorter; `claim::press` does the rest.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// An open button.
pub enum Button {
    /// Kernel's line events, uAPI v2.
    Gpio(AsyncRequest),
    /// Kernel's input events.
    Key {
        stream: Box<EventStream>,
        code: KeyCode,
    },
    /// `1` and `0`.
    Pipe(pipe::Receiver),
}

impl Button {
    /// Opens it. Needs a runtime.
    ///
    /// # Errors
    /// Not there, in use, or not allowed.
    pub fn open(config: &ButtonConfig) -> io::Result<Button> {
        match config {
            ButtonConfig::Gpio {
                chip,
                line,
                active_low,
            } => gpio(chip.as_deref(), line, *active_low)
                .map(|request| Button::Gpio(AsyncRequest::new(request))),
            ButtonConfig::Key { device, code } => {
                let code = KeyCode(*code);
                let device = Device::open(device)?;
                if !device
                    .supported_keys()
                    .is_some_and(|keys| keys.contains(code))
                {
                    return Err(io::Error::other(format!(
                        "the device has no key {}",
                        code.0
                    )));
                }
                Ok(Button::Key {
                    stream: Box::new(device.into_event_stream()?),
                    code,
                })
            }
            // Held for writing too, so that it does not end when a writer goes.
            ButtonConfig::Pipe(path) => {
                make_pipe(path)?;
                let mut options = pipe::OpenOptions::new();
                Ok(Button::Pipe(options.read_write(true).open_receiver(path)?))
            }
        }
    }

    /// Waits for the next level; `true` is pressed. Cancel safe.
    ///
    /// # Errors
    /// The button is gone.
    pub async fn next(&mut self) -> io::Result<bool> {
        match self {
            Button::Gpio(request) => {
                let event = request.read_edge_event().await.map_err(io::Error::other)?;
                Ok(event.kind == EdgeKind::Rising)
            }
            Button::Key { stream, code } => loop {
                let event = stream.next_event().await?;
                // 2 is the repetition of a key that is held.
                if event.event_type() == EventType::KEY
                    && event.code() == code.0
                    && event.value() < 2
                {
                    return Ok(event.value() == 1);
                }
            },
            Button::Pipe(receiver) => loop {
                match receiver.read_u8().await? {
                    b'1' => return Ok(true),
                    b'0' => return Ok(false),
                    _ => {}
                }
            },
        }
    }
}

fn gpio(chip: Option<&Path>, line: &GpioLine, active_low: bool) -> io::Result<Request> {
    let mut request = Request::builder();
    match (chip, line) {
        (Some(chip), GpioLine::Offset(offset)) => {
            request.on_chip(chip).with_line(*offset);
        }
        (_, line) => {
            let name = match line {
                GpioLine::Name(name) => name.clone(),
                GpioLine::Offset(n) => n.to_string(),
            };
            let found = gpiocdev::find_named_line(&name)
                .ok_or_else(|| io::Error::other(format!("no GPIO line is named {name}")))?;
            request.with_found_line(&found);
        }
    }
    request
        .with_consumer("sentrycam")
        .with_bias(if active_low {
            Bias::PullUp
        } else {
            Bias::PullDown
        })
        .with_debounce_period(DEBOUNCE)
        .with_edge_detection(EdgeDetection::BothEdges);
    if active_low {
        request.as_active_low();
    }
    request.request().map_err(io::Error::other)
}

fn make_pipe(path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    match mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Err(e) if e != rustix::io::Errno::EXIST => Err(e.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_pipe_is_a_button_whose_writers_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("button");
        let mut button = Button::open(&ButtonConfig::Pipe(path.clone())).unwrap();
        for _ in 0..2 {
            let mut writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            writer.write_all(b"1 x\n0").unwrap();
            drop(writer);
            assert!(button.next().await.unwrap());
            assert!(!button.next().await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_button_that_is_not_there_says_so() {
        let missing = |config| Button::open(&config).err().unwrap().to_string();
        let gpio = |chip: Option<&str>, line| ButtonConfig::Gpio {
            chip: chip.map(Into::into),
            line,
            active_low: true,
        };
        assert!(!missing(gpio(Some("/nowhere/gpiochip0"), GpioLine::Offset(1))).is_empty());
        assert!(missing(gpio(None, GpioLine::Name("NOSUCH".into()))).contains("NOSUCH"));
        let key = ButtonConfig::Key {
            device: "/nowhere/event0".into(),
            code: 116,
        };
        assert!(!missing(key).is_empty());
    }
}
