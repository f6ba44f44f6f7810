//! Printing: tables for people, JSON for programs, a spinner on what takes longer than two seconds.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Prints a value as JSON.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// An empty table with these headings.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings);
    table
}

/// Prints a table, or says what is not there.
pub fn print(table: &Table, empty: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if table.is_empty() {
        writeln!(out, "{empty}")?;
    } else {
        for line in table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    Ok(())
}

/// Shows on a terminal that something goes on.
pub fn spinner(text: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(text);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Shows on a terminal how far something is.
pub fn bar(text: &'static str, of: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {pos}/{len}");
    let bar = ProgressBar::new(of)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(text);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Seconds as people say them.
pub fn age(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_well() {
        assert_eq!(age(0.04), "0.0 s");
        assert_eq!(age(90.0), "90 s");
        assert_eq!(age(3600.0), "60 min");
        assert_eq!(age(86_400.0 * 3.0), "3.0 d");
    }
}
