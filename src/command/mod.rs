//! Commands of the cloud as pure decisions: what a signed document asks, whether it is let in, what becomes of it.
//!
//! A command takes effect at most once and ends in exactly one state. What is expired, unknown, out of range or not for
//! this device has no effect. There is no command that runs a program or opens a path, and none will be added.

pub mod admission;
pub mod document;
pub mod kinds;
pub mod limits;
pub mod states;
pub mod stream;

pub use admission::{Decision, Facts, decide};
pub use document::{Moment, Opened};
pub use kinds::{Command, Kind};
pub use states::State;

/// Which way a document came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Pushed by the broker.
    Mqtt,
    /// Asked for by HTTPS.
    Poll,
}

impl Way {
    /// The column's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Way::Mqtt => "mqtt",
            Way::Poll => "poll",
        }
    }
}

/// Text for people in a status: at most 512 bytes, no control characters.
pub fn detail(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(512));
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.len() + c.len_utf8() > 512 {
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_short_and_printable() {
        assert_eq!(detail("a\n\u{1b}[31mb"), "a  [31mb");
        let long = detail(&"é".repeat(1000));
        assert!(long.len() <= 512 && long.chars().all(|c| c == 'é'));
    }
}
