//! Which cameras run: started, retuned and stopped one by one, so that the others never notice.
//!
//! One task owns all camera tasks. [`Cameras::apply`] brings what runs to a target by the steps of
//! [`crate::twin::diff`]. A camera that does not end in time is left behind and said so; its successor starts all the
//! same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::CameraContext;
use crate::agent::journal::Fact;
use crate::agent::records;
use crate::config::CameraConfig;
use crate::model::{CameraId, RecordId};
use crate::twin::diff::{Change, diff};

/// Ending an event and closing its clips takes at most this, as at a shutdown.
const STOP_LIMIT: Duration = Duration::from_secs(8);
/// Targets that may wait; the sender waits for the answer anyway.
const QUEUE: usize = 1;

struct Request {
    target: Vec<CameraConfig>,
    done: oneshot::Sender<()>,
}

/// Handle to the cameras; cheap to clone.
#[derive(Clone)]
pub struct Cameras(mpsc::Sender<Request>);

/// The task that owns the camera tasks.
pub struct Registry {
    context: CameraContext,
    requests: mpsc::Receiver<Request>,
    running: BTreeMap<CameraId, Running>,
    tasks: JoinSet<(CameraId, u64)>,
    starts: u64,
    stop: CancellationToken,
}

struct Running {
    start: u64,
    stop: CancellationToken,
    config: watch::Sender<CameraConfig>,
}

/// Makes the handle and the task; all cameras end with `stop`.
pub fn registry(context: CameraContext, stop: CancellationToken) -> (Cameras, Registry) {
    let (tx, requests) = mpsc::channel(QUEUE);
    let registry = Registry {
        context,
        requests,
        running: BTreeMap::new(),
        tasks: JoinSet::new(),
        starts: 0,
        stop,
    };
    (Cameras(tx), registry)
}

impl Cameras {
    /// Returns when the cameras are as `target` says, or the agent ends.
    pub async fn apply(&self, target: Vec<CameraConfig>) {
        let (done, applied) = oneshot::channel();
        if self.0.send(Request { target, done }).await.is_ok() {
            // An error means that the agent ends.
            let _ = applied.await;
        }
    }
}

impl Registry {
    /// Starts `cameras` and runs until `stop`; then all of them have ended.
    pub async fn run(mut self, cameras: Vec<CameraConfig>) {
        self.apply(cameras).await;
        let mut asked = true;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(ended) = self.tasks.join_next() => { resume(ended); }
                request = self.requests.recv(), if asked => match request {
                    Some(request) => {
                        self.apply(request.target).await;
                        // Whoever asked may be gone.
                        let _ = request.done.send(());
                    }
                    // Nobody will ask any more; what runs goes on.
                    None => asked = false,
                },
            }
        }
        // Their handle to the journal goes with them.
        while let Some(ended) = self.tasks.join_next().await {
            resume(ended);
        }
    }

    async fn apply(&mut self, target: Vec<CameraConfig>) {
        let running: Vec<CameraConfig> = self
            .running
            .values()
            .map(|r| r.config.borrow().clone())
            .collect();
        let changes = diff(&running, &target);
        self.stop_all_of(&changes).await;
        for change in changes {
            match change {
                Change::Stop(_) => {}
                Change::Retune(config) => {
                    if let Some(running) = self.running.get(&config.id) {
                        running.config.send_replace(config);
                    }
                }
                Change::Start(config) => self.start(config),
            }
        }
        // Last: while the disk is full this waits, and cameras must not.
        for camera in running {
            if !target.iter().any(|t| t.id == camera.id) {
                self.gone(&camera).await;
            }
        }
    }

    fn start(&mut self, config: CameraConfig) {
        self.starts += 1;
        let (id, start) = (config.id.clone(), self.starts);
        let stop = self.stop.child_token();
        let (sender, tuned) = watch::channel(config);
        let task = super::run(tuned, self.context.clone(), stop.clone());
        let running = Running {
            start,
            stop,
            config: sender,
        };
        self.running.insert(id.clone(), running);
        self.tasks.spawn(async move {
            task.await;
            (id, start)
        });
    }

    /// Ends those that have to, all at once, and waits for that.
    async fn stop_all_of(&mut self, changes: &[Change]) {
        let mut ending = BTreeSet::new();
        for change in changes {
            if let Change::Stop(id) = change
                && let Some(running) = self.running.remove(id)
            {
                running.stop.cancel();
                ending.insert((id.clone(), running.start));
            }
        }
        let all_ended = async {
            while !ending.is_empty()
                && let Some(ended) = self.tasks.join_next().await
            {
                if let Some(ended) = resume(ended) {
                    ending.remove(&ended);
                }
            }
        };
        if tokio::time::timeout(STOP_LIMIT, all_ended).await.is_err() {
            tracing::error!("a camera does not end, leaving it behind");
        }
    }

    /// It is no camera of this device any more: the status and the cloud hear of it.
    async fn gone(&self, camera: &CameraConfig) {
        let context = &self.context;
        context.status.forget_camera(camera.id.as_str());
        let now = context.time.mono();
        let record = records::camera_down(
            RecordId((context.ids)()),
            &camera.id,
            &camera.name,
            "removed",
            "it is not in the twin any more",
            u64::try_from(context.time.wall().0 / 1000).unwrap_or(0),
            now,
        );
        context.journal.write(Fact::Told, vec![record]).await;
    }
}

/// A camera task that panicked ends the process, as everywhere.
fn resume<T>(ended: Result<T, tokio::task::JoinError>) -> Option<T> {
    match ended {
        Ok(ended) => Some(ended),
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => None,
    }
}
