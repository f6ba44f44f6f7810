//! The button: a GPIO line, a key of an input device, or a pipe that another program writes to. Levels come out; what
//! they mean is `claim::press`.

use std::io;
use std::path::Path;
use std::time::Duration;

use evdev::{Device, EventStream, EventType, KeyCode};
use gpiocdev::chip::Chip;
use gpiocdev::line::{Bias, EdgeDetection, EdgeKind};
use gpiocdev::tokio::AsyncRequest;
use gpiocdev::{FoundLine, Request};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::config::{ButtonConfig, GpioLine};

/// The kernel drops what is shorter; `claim::press` does the rest.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// What a line that we hold says of its holder.
pub const CONSUMER: &str = "sentrycam";

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
                Ok(Button::Key {
                    stream: Box::new(keys(device, code)?.into_event_stream()?),
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

/// How a button is for somebody who does not take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It can be taken, or shared.
    Free,
    /// Somebody has taken it, by this name.
    Held(String),
    /// Made when the agent starts.
    NotYet,
}

/// Looks whether a button can be used, and leaves it as it is.
///
/// # Errors
/// As [`Button::open`]; of the kind `PermissionDenied` where it is not allowed.
pub fn look(config: &ButtonConfig) -> io::Result<Found> {
    use std::os::unix::fs::FileTypeExt as _;
    match config {
        ButtonConfig::Gpio {
            chip,
            line,
            active_low,
        } => {
            let found = find(chip.as_deref(), line)?;
            if found.info.used {
                return Ok(Found::Held(found.info.consumer));
            }
            gpio(chip.as_deref(), line, *active_low).map(|_given_back| Found::Free)
        }
        ButtonConfig::Key { device, code } => {
            keys(device, KeyCode(*code)).map(|_closed| Found::Free)
        }
        ButtonConfig::Pipe(path) => match std::fs::metadata(path) {
            Ok(there) if there.file_type().is_fifo() => Ok(Found::Free),
            Ok(_) => Err(io::Error::other("there is something else than a pipe")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Found::NotYet),
            Err(e) => Err(e),
        },
    }
}

fn keys(device: &Path, code: KeyCode) -> io::Result<Device> {
    let device = Device::open(device)?;
    if device
        .supported_keys()
        .is_some_and(|keys| keys.contains(code))
    {
        return Ok(device);
    }
    let text = format!("the device has no key {}", code.0);
    Err(io::Error::other(text))
}

fn gpio(chip: Option<&Path>, line: &GpioLine, active_low: bool) -> io::Result<Request> {
    let mut request = Request::builder();
    request
        .with_found_line(&find(chip, line)?)
        .with_consumer(CONSUMER)
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
    request.request().map_err(io_error)
}

fn find(chip: Option<&Path>, line: &GpioLine) -> io::Result<FoundLine> {
    let name = match (chip, line) {
        (Some(chip), GpioLine::Offset(offset)) => {
            let chip = Chip::from_path(chip).map_err(io_error)?;
            let info = chip.line_info(*offset).map_err(io_error)?;
            let chip = chip.path().to_owned();
            return Ok(FoundLine { chip, info });
        }
        (_, GpioLine::Name(name)) => name.clone(),
        (None, GpioLine::Offset(n)) => n.to_string(),
    };
    if let Some(found) = gpiocdev::find_named_line(&name) {
        return Ok(found);
    }
    // Lines of a chip that may not be opened have no names.
    for chip in gpiocdev::chip::chips().unwrap_or_default() {
        let closed = Chip::from_path(chip).err().map(io_error);
        if let Some(e) = closed.filter(|e| e.kind() == io::ErrorKind::PermissionDenied) {
            return Err(e);
        }
    }
    Err(io::Error::other(format!("no GPIO line is named {name}")))
}

/// Keeps the kind of an error.
fn io_error(e: gpiocdev::Error) -> io::Error {
    match e {
        gpiocdev::Error::Os(code) => io::Error::from_raw_os_error(code.0),
        e => io::Error::other(e),
    }
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

    #[test]
    fn looking_at_a_button_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("button");
        let pipe = ButtonConfig::Pipe(path.clone());
        assert_eq!(look(&pipe).unwrap(), Found::NotYet);
        assert!(!path.exists());
        make_pipe(&path).unwrap();
        assert_eq!(look(&pipe).unwrap(), Found::Free);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(look(&pipe).is_err());
        let gpio = ButtonConfig::Gpio {
            chip: None,
            line: GpioLine::Name("NOSUCH".into()),
            active_low: true,
        };
        assert!(look(&gpio).unwrap_err().to_string().contains("NOSUCH"));
    }
}
