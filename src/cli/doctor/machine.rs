//! The agent itself, power and heat.

use std::path::Path;

use super::Finding;
use crate::agent::status::Status;
use crate::board::power;

/// The processor is slowed down from 80 °C on.
const HOT: f64 = 80.0;
const WARM: f64 = 70.0;

pub fn agent(status: &std::io::Result<Option<Status>>) -> Finding {
    const CHECK: &str = "agent";
    match status {
        Ok(Some(s)) => Finding::ok(CHECK, format!("{} runs, process {}", s.version, s.pid)),
        Ok(None) => Finding::warning(CHECK, "does not run", "systemctl start sentrycam"),
        Err(e) => Finding::warning(
            CHECK,
            format!("cannot be asked: {e}"),
            "run doctor as the agent's user (or root)",
        ),
    }
}

pub fn power() -> Vec<Finding> {
    judge(power::power(Path::new("/sys")))
}

fn judge(seen: power::Power) -> Vec<Finding> {
    let supply = match (seen.under_voltage, seen.under_voltage_ever) {
        (Some(true), _) => Finding::failure(
            "power",
            "the supply is too weak at this moment",
            "use the board's own power supply and a short cable; power disks by themselves",
        ),
        (_, Some(true)) => Finding::warning(
            "power",
            "the supply was too weak since the start",
            "use the board's own power supply and a short cable",
        ),
        (Some(false), _) => Finding::ok("power", "the supply is strong enough"),
        (None, _) => Finding::skipped("power", "this board does not tell"),
    };
    let heat = match seen.celsius {
        Some(c) if c >= HOT => Finding::failure(
            "heat",
            format!("{c:.0} °C, the processor is slowed down"),
            "cool the board: a heat sink, a fan, or out of the sun",
        ),
        Some(c) if c >= WARM => Finding::warning(
            "heat",
            format!("{c:.0} °C"),
            "give the board air before summer: it slows down at 80 °C",
        ),
        Some(c) => Finding::ok("heat", format!("{c:.0} °C")),
        None => Finding::skipped("heat", "this board does not tell"),
    };
    vec![supply, heat]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;

    #[test]
    fn power_and_heat_are_judged() {
        let judged = |under_voltage, under_voltage_ever, celsius| {
            let all = judge(power::Power {
                under_voltage,
                under_voltage_ever,
                celsius,
            });
            for f in &all {
                assert_eq!(f.todo.is_some(), f.verdict >= Verdict::Warning, "{f:?}");
            }
            (all[0].verdict, all[1].verdict)
        };
        use Verdict::{Failure, Ok, Skipped, Warning};
        assert_eq!(judged(None, None, None), (Skipped, Skipped));
        assert_eq!(judged(Some(false), Some(false), Some(45.0)), (Ok, Ok));
        assert_eq!(
            judged(Some(false), Some(true), Some(75.0)),
            (Warning, Warning)
        );
        assert_eq!(
            judged(Some(true), Some(true), Some(85.0)),
            (Failure, Failure)
        );
    }
}
