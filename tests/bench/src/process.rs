//! Other programs: started so that they cannot outlive this one, measured by `/proc`, ended by their id.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Ticks of `/proc/<pid>/stat` a second: the same on every Linux this runs on.
const TICKS: f64 = 100.0;
/// How long a program may take to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// A program that runs; dropping it ends it.
#[derive(Debug)]
pub struct Running(Child);

/// What a program has used since its start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time, of children that ended too.
    pub cpu_ms: f64,
    /// Most memory that was resident at once, MiB.
    pub peak_rss_mib: f64,
    /// Of it what belongs to this process alone (not mapped from files), now.
    pub anonymous_mib: f64,
    /// Now.
    pub threads: u64,
    /// Open now.
    pub descriptors: u64,
    /// Handed to `write` and its kin.
    pub written_bytes: u64,
    /// Sent to the disk, less what was removed before it got there.
    pub disk_bytes: u64,
}

/// `program`, killed by the kernel when this process dies; its process id is the program's own.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

impl Running {
    /// Starts it; what it says on standard error goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Running> {
        let file = fs::File::create(log)?;
        let name = format!("{command:?}");
        let child = command.stderr(file).spawn().with_context(|| name)?;
        Ok(Running(child))
    }

    /// Starts it with its standard output kept, and answers the rest of the line that begins with `ready `.
    pub fn start_ready(mut command: Command, log: &Path) -> Result<(Running, String)> {
        let file = fs::File::create(log)?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()?;
        let mut running = Running(child);
        let out = running.0.stdout.take().context("no standard output")?;
        for line in BufReader::new(out).lines() {
            if let Some(rest) = line?.strip_prefix("ready ") {
                let rest = rest.to_owned();
                return Ok((running, rest));
            }
        }
        bail!("it ended before it was ready, see {}", log.display())
    }

    /// Wraps a child that was started by [`command`].
    pub fn of(child: Child) -> Running {
        Running(child)
    }

    /// True while it runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// What it has used.
    pub fn usage(&self) -> Result<Usage> {
        let root = Path::new("/proc").join(self.0.id().to_string());
        let stat = fs::read_to_string(root.join("stat")).context("the program has ended")?;
        // The name may hold anything, parentheses too; fields 14 to 17 are the times.
        let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks: f64 = after
            .split(' ')
            .skip(11)
            .take(4)
            .filter_map(|f| f.parse::<f64>().ok())
            .sum();
        let status = fs::read_to_string(root.join("status"))?;
        // Some kernels hide it from other users.
        let io = fs::read_to_string(root.join("io")).unwrap_or_default();
        let descriptors = fs::read_dir(root.join("fd")).map_or(0, Iterator::count);
        Ok(Usage {
            cpu_ms: ticks * 1000.0 / TICKS,
            peak_rss_mib: field(&status, "VmHWM:") as f64 / 1024.0,
            anonymous_mib: field(&status, "RssAnon:") as f64 / 1024.0,
            threads: field(&status, "Threads:"),
            descriptors: descriptors as u64,
            written_bytes: field(&io, "wchar:"),
            disk_bytes: field(&io, "write_bytes:")
                .saturating_sub(field(&io, "cancelled_write_bytes:")),
        })
    }

    /// Asks it to end, waits for that, and says what it has used to its last instruction.
    pub fn end(self) -> Result<Usage> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no process")?, Signal::TERM)?;
        let stat = format!("/proc/{}/stat", self.0.id());
        let until = Instant::now() + 2 * PATIENCE;
        // Ended and not yet waited for, its figures are still there.
        while !fs::read_to_string(&stat)?.contains(") Z ") {
            ensure!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.usage()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw)
            && self.is_alive()
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + PATIENCE;
        while self.is_alive() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|l| {
            l.strip_prefix(name)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}
