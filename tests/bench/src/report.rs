//! A table for people and the same figures as JSON.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Where figures and footage go: `target/bench`.
pub fn directory() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let target = exe
        .parent()
        .and_then(Path::parent)
        .context("the program lies outside a target directory")?;
    let directory = target.join("bench");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// A program that was built beside this one.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(
        path.exists(),
        "{} is missing: cargo build --release --workspace",
        path.display()
    );
    Ok(path)
}

/// Columns of text, printed as a Markdown table.
#[derive(Debug)]
pub struct Table(Vec<Vec<String>>);

impl Table {
    /// With a header.
    pub fn new<const N: usize>(header: [&str; N]) -> Table {
        Table(vec![header.map(str::to_owned).to_vec()])
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.to_vec());
    }

    /// Prints it.
    pub fn print(&self) {
        let columns = self.0.first().map_or(0, Vec::len);
        let width = |c: usize| {
            let cells = self.0.iter().filter_map(|r| r.get(c));
            cells.map(|t| t.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (i, row) in self.0.iter().enumerate() {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(t, w)| format!("{t:<w$}"))
                .collect();
            println!("| {} |", cells.join(" | "));
            if i == 0 {
                let rules: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
                println!("|-{}-|", rules.join("-|-"));
            }
        }
    }
}

/// The machine in a line: two runs compare only where it is the same.
pub fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo")
        .lines()
        .find_map(|l| {
            l.strip_prefix("model name")?
                .split_once(": ")
                .map(|(_, m)| m.to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    json!({ "cpu": cpu, "cores": cores, "load_1m_before": load.split(' ').next().and_then(|l| l.parse::<f64>().ok()) })
}

/// Prints the head of a benchmark.
pub fn head(title: &str, machine: &Value) {
    println!(
        "\n## {title}\n\n{} cores, {}, load before the run {}\n",
        machine["cores"],
        machine["cpu"].as_str().unwrap_or_default(),
        machine["load_1m_before"]
    );
}

/// Writes `target/bench/<name>.json`.
pub fn write(name: &str, figures: &Value) -> Result<()> {
    let path = directory()?.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(figures)?)?;
    println!("\nthe same as JSON: {}", path.display());
    Ok(())
}

/// `reached` or `missed`, for a goal.
pub fn word(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}

/// The share `p` (0..1) of sorted values, nearest rank.
pub fn percentile(sorted: &[f64], p: f64) -> f64 {
    let rank = (p * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.clamp(1, sorted.len().max(1)) - 1)
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let found = [0.5, 0.99, 1.0].map(|p| percentile(&values, p));
        assert_eq!(found, [50.0, 99.0, 100.0]);
        assert_eq!(percentile(&[7.0], 0.5), 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
