//! The one door for tasks, and their ordered end.
//!
//! Every task has a name and a phase. At shutdown the phases end one after the other, in the order of [`Phase`], which
//! is against the flow of the data; a phase that takes longer than its share is left behind by name. A task that ends
//! by a panic ends the process, and systemd starts it again.

pub mod failpoint;
pub mod logging;
pub mod watchdog;

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// What is said after the intake may take this long.
const FAREWELL: Duration = Duration::from_secs(1);

/// When a task ends. All phases together take 15 s at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Cameras: no more frames; events are ended and clips closed before the task ends.
    Intake,
    /// The journal: every fact is on disk.
    Journal,
    /// The uploader: a last pass.
    Sync,
    /// Status, watchdog, health.
    Serving,
}

impl Phase {
    /// In order.
    pub const ALL: [Phase; 4] = [Phase::Intake, Phase::Journal, Phase::Sync, Phase::Serving];

    /// What the phase may take.
    pub fn budget(self) -> Duration {
        Duration::from_secs(match self {
            Phase::Intake => 8,
            Phase::Journal => 2,
            Phase::Sync => 3,
            Phase::Serving => 1,
        })
    }
}

/// Owns all tasks.
pub struct Supervisor {
    phases: Vec<PhaseTasks>,
    failed: mpsc::Sender<&'static str>,
    failures: mpsc::Receiver<&'static str>,
}

struct PhaseTasks {
    phase: Phase,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Default for Supervisor {
    fn default() -> Self {
        let (failed, failures) = mpsc::channel(8);
        let phase = |phase| PhaseTasks {
            phase,
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        Self {
            phases: Phase::ALL.map(phase).into(),
            failed,
            failures,
        }
    }
}

impl Supervisor {
    /// The token that is cancelled when `phase` has to end.
    pub fn stop_token(&self, phase: Phase) -> CancellationToken {
        self.phases[phase as usize].stop.clone()
    }

    /// Starts a task. If it panics, [`Supervisor::failure`] tells its name.
    pub fn spawn(
        &mut self,
        phase: Phase,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let failed = self.failed.clone();
        let guard = FailGuard {
            name,
            failed: Some(failed),
        };
        self.phases[phase as usize].tasks.spawn(async move {
            let mut guard = guard;
            task.await;
            guard.failed = None;
        });
    }

    /// Waits for a task that panicked and names it.
    pub async fn failure(&mut self) -> &'static str {
        // The supervisor holds a sender itself, so this never ends without a failure.
        self.failures.recv().await.unwrap_or("supervisor")
    }

    /// Ends one phase, within its budget; `false`: it was too slow and is left behind.
    async fn end(&mut self, phase: Phase) -> bool {
        let p = &mut self.phases[phase as usize];
        p.stop.cancel();
        let drain = async { while p.tasks.join_next().await.is_some() {} };
        let ended = timeout(p.phase.budget(), drain).await.is_ok();
        if !ended {
            tracing::warn!(phase = ?p.phase, tasks = p.tasks.len(), "shutdown phase took too long, going on");
        }
        ended
    }

    /// Ends all phases in order; returns the phases that were too slow. After the intake, when nobody else has anything
    /// to say, comes `farewell`.
    pub async fn shut_down(mut self, farewell: impl Future<Output = ()>) -> Vec<Phase> {
        let mut late = Vec::new();
        let mut farewell = Some(farewell);
        for phase in Phase::ALL {
            if !self.end(phase).await {
                late.push(phase);
            }
            if let Some(farewell) = farewell.take()
                && timeout(FAREWELL, farewell).await.is_err()
            {
                tracing::warn!("nobody took the last record");
            }
        }
        late
    }
}

struct FailGuard {
    name: &'static str,
    failed: Option<mpsc::Sender<&'static str>>,
}

impl Drop for FailGuard {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(failed) = &self.failed
        {
            // Full means that a failure is being handled already.
            let _ = failed.try_send(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test(start_paused = true)]
    async fn phases_end_in_order_and_a_late_one_is_left_behind() {
        let mut supervisor = Supervisor::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        for phase in Phase::ALL {
            let (order, stop) = (Arc::clone(&order), supervisor.stop_token(phase));
            supervisor.spawn(phase, "t", async move {
                stop.cancelled().await;
                if phase == Phase::Journal {
                    std::future::pending::<()>().await;
                }
                order.lock().unwrap().push(phase);
            });
        }
        let said = Arc::clone(&order);
        let farewell = async move { assert_eq!(*said.lock().unwrap(), [Phase::Intake]) };
        assert_eq!(supervisor.shut_down(farewell).await, [Phase::Journal]);
        assert_eq!(
            *order.lock().unwrap(),
            [Phase::Intake, Phase::Sync, Phase::Serving]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_farewell_that_nobody_takes_holds_nothing_up() {
        let mut supervisor = Supervisor::default();
        let stop = supervisor.stop_token(Phase::Serving);
        supervisor.spawn(Phase::Serving, "t", async move { stop.cancelled().await });
        let began = tokio::time::Instant::now();
        assert_eq!(supervisor.shut_down(std::future::pending()).await, []);
        assert_eq!(began.elapsed(), FAREWELL);
        let all: Duration = Phase::ALL.iter().map(|p| p.budget()).sum();
        assert_eq!(all + FAREWELL, Duration::from_secs(15));
    }

    #[tokio::test]
    async fn a_panic_is_named() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn(Phase::Intake, "camera", async { panic!("on purpose") });
        assert_eq!(supervisor.failure().await, "camera");
    }
}
