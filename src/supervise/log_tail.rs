//! The last log lines, in memory: what a diagnostic bundle shows of them. Bounded; the oldest goes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Lines kept.
const LINES: usize = 400;
/// Bytes of one line.
const LINE_BYTES: usize = 1024;

static TAIL: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// The lines, oldest first.
pub fn lines() -> Vec<String> {
    let tail = TAIL.lock().unwrap_or_else(PoisonError::into_inner);
    tail.iter().cloned().collect()
}

/// Writes to standard error, and remembers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tee;

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        remember(&String::from_utf8_lossy(bytes));
        io::stderr().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn remember(text: &str) {
    let mut tail = TAIL.lock().unwrap_or_else(PoisonError::into_inner);
    for line in text.lines().filter(|l| !l.is_empty()) {
        if tail.len() == LINES {
            tail.pop_front();
        }
        tail.push_back(plain(line));
    }
}

/// Without colours, and not longer than a line may be.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len().min(LINE_BYTES));
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            let _ = chars.find(char::is_ascii_alphabetic);
        } else if out.len() + c.len_utf8() > LINE_BYTES {
            break;
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_without_colours() {
        for n in 0..LINES + 10 {
            remember(&format!("\u{1b}[32m INFO\u{1b}[0m line {n}\n"));
        }
        remember(&"x".repeat(5000));
        let lines = lines();
        assert!(lines.len() <= LINES);
        assert!(
            lines
                .iter()
                .any(|l| l == &format!(" INFO line {}", LINES + 9))
        );
        assert!(lines.iter().all(|l| l.len() <= LINE_BYTES));
    }
}
