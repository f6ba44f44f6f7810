//! `doctor`: looks at everything that the agent needs, and says for each failure the one thing to do.
//!
//! Changes nothing but a test file that it removes; every check is bounded in time. Where the agent runs, its cameras and
//! its link are judged by what it says: a camera is not opened twice, the broker's account not used twice. Exit code: 0 all well, 1 a warning, 2 a failure.

mod broker;
mod cameras;
mod cloud;
mod disk;
mod front;
mod machine;

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::{Format, output};
use crate::agent::status::ask;
use crate::agent::twin::store::in_force_at_rest;
use crate::config::Config;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Not there to be checked.
    Skipped,
    /// As it should be.
    Ok,
    /// Works, but not well or not for long.
    Warning,
    /// Does not work.
    Failure,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    check: &'static str,
    verdict: Verdict,
    /// What was seen.
    detail: String,
    /// The one thing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    todo: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
        Finding {
            check,
            verdict: Verdict::Ok,
            detail: detail.into(),
            todo: None,
        }
    }

    fn skipped(check: &'static str, detail: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Skipped,
            ..Finding::ok(check, detail)
        }
    }

    fn warning(check: &'static str, detail: impl Into<String>, todo: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Warning,
            todo: Some(todo.into()),
            ..Finding::ok(check, detail)
        }
    }

    fn failure(check: &'static str, detail: impl Into<String>, todo: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Failure,
            ..Finding::warning(check, detail, todo)
        }
    }

    fn is_failure(&self) -> bool {
        self.verdict == Verdict::Failure
    }
}

pub fn run(config: &Config, format: Format) -> anyhow::Result<ExitCode> {
    crate::media::init().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let findings = runtime.block_on(all(config));
    // A resolver that hangs is left behind.
    runtime.shutdown_timeout(Duration::from_millis(100));
    let worst = worst(&findings);
    if format.json {
        output::json(&json!({ "verdict": worst, "findings": findings }))?;
    } else {
        show(&findings)?;
    }
    Ok(ExitCode::from(match worst {
        Verdict::Skipped | Verdict::Ok => 0,
        Verdict::Warning => 1,
        Verdict::Failure => 2,
    }))
}

fn worst(findings: &[Finding]) -> Verdict {
    let all = findings.iter().map(|f| f.verdict);
    all.max().unwrap_or(Verdict::Ok)
}

async fn all(config: &Config) -> Vec<Finding> {
    let bar = output::spinner("asking the agent");
    let status = ask(&config.state_dir).await;
    let mut findings = vec![machine::agent(&status)];
    let status = status.ok().flatten();
    let twin = in_force_at_rest(config);
    bar.set_message("looking at the cameras");
    findings.extend(cameras::check(&twin.cameras, status.as_ref()).await);
    bar.set_message("asking the cloud");
    findings.extend(cloud::check(config, twin.cloud.api_base, status.as_ref()).await);
    bar.set_message("writing to the disk");
    findings.extend(disk::check(config).await);
    findings.extend(front::check(&config.board, status.is_some()));
    findings.extend(machine::power());
    bar.finish_and_clear();
    findings
}

fn show(findings: &[Finding]) -> anyhow::Result<()> {
    let mut table = output::table(&["", "CHECK", "WHAT WAS SEEN"]);
    for f in findings {
        let word = match f.verdict {
            Verdict::Skipped => "-",
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failure => "FAILURE",
        };
        table.add_row([word, f.check, &f.detail]);
        if let Some(todo) = &f.todo {
            table.add_row(["", "", &format!("→ {todo}")]);
        }
    }
    output::print(&table, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides() {
        let (ok, skipped) = (Finding::ok("a", ""), Finding::skipped("b", ""));
        assert_eq!(worst(&[]), Verdict::Ok);
        assert_eq!(worst(&[ok.clone(), skipped.clone()]), Verdict::Ok);
        let warning = Finding::warning("c", "", "do");
        assert_eq!(worst(&[warning.clone(), ok.clone()]), Verdict::Warning);
        let failure = Finding::failure("d", "", "do");
        assert_eq!(worst(&[ok, failure, warning, skipped]), Verdict::Failure);
    }
}
