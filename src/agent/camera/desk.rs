//! What somebody else may ask of a running camera: begin and end a recording, hand over what it shows now.
//!
//! The camera's own task answers between two packets; it never waits for whoever asked. A camera that is down says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::tap::Watch;
use crate::media::{Caps, Packet};
use crate::model::{CameraId, EventId, RecordingId};
use crate::time::{Anchor, Mono};

/// Questions that may wait for one camera; when full, whoever asks waits (and has a time limit of his own).
const QUEUE: usize = 4;

/// A recording on command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Its identity.
    pub id: RecordingId,
    /// The event that it belongs to.
    pub event: Option<EventId>,
    /// Ends by itself after this.
    pub at_most: Duration,
}

/// What a camera shows now, still encoded.
#[derive(Debug, Clone)]
pub struct Still {
    /// Video in decoding order: the newest key frame and, where they are few enough to be decoded at once, all that
    /// followed it. Never empty.
    pub packets: Vec<Packet>,
    /// What a decoder needs to know of them.
    pub caps: Caps,
    /// Maps them to time.
    pub anchor: Anchor,
}

/// Why a camera does not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum No {
    /// It delivers nothing now.
    Down,
    /// It is recording on command already, or watched by as many as may be.
    Busy,
    /// The clip disk takes nothing now.
    Disk,
}

/// A question, and who waits for the answer.
#[derive(Debug)]
pub enum Ask {
    /// Begin; answered with the moment of the first frame once its row is on its way to the disk.
    Start(Wish, oneshot::Sender<Result<Mono, No>>),
    /// End; `false`: it is not being recorded here.
    Stop(RecordingId, oneshot::Sender<bool>),
    /// What it shows now.
    Picture(oneshot::Sender<Result<Still, No>>),
    /// Its packets, from a key frame on.
    Watch(oneshot::Sender<Result<Watch, No>>),
}

impl Ask {
    /// Whoever asked has gone, and nothing is to be done for nobody. To end a recording is right all the same.
    pub fn is_void(&self) -> bool {
        match self {
            Ask::Start(_, reply) => reply.is_closed(),
            Ask::Stop(..) => false,
            Ask::Picture(reply) => reply.is_closed(),
            Ask::Watch(reply) => reply.is_closed(),
        }
    }

    /// The answer of a camera that delivers nothing. Whoever asked may have gone.
    pub fn decline(self) {
        match self {
            Ask::Start(_, reply) => drop(reply.send(Err(No::Down))),
            Ask::Stop(_, reply) => drop(reply.send(false)),
            Ask::Picture(reply) => drop(reply.send(Err(No::Down))),
            Ask::Watch(reply) => drop(reply.send(Err(No::Down))),
        }
    }
}

/// Finds running cameras by their id; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Desk(Arc<Mutex<BTreeMap<String, mpsc::Sender<Ask>>>>);

impl Desk {
    /// A camera's task begins and will answer; it takes the place of the one before.
    pub fn open(&self, camera: &CameraId) -> mpsc::Receiver<Ask> {
        let (tx, asks) = mpsc::channel(QUEUE);
        self.lock().insert(camera.to_string(), tx);
        asks
    }

    /// A running camera.
    pub fn camera(&self, id: &CameraId) -> Option<mpsc::Sender<Ask>> {
        let desk = self.lock();
        desk.get(id.as_str()).filter(|tx| !tx.is_closed()).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, mpsc::Sender<Ask>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_that_nobody_waits_for_is_ended_but_not_begun() {
        let (id, wish) = (RecordingId(uuid::Uuid::nil()), |id| Wish {
            id,
            event: None,
            at_most: Duration::from_secs(1),
        });
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Start(wish(id), reply);
        assert!(!ask.is_void());
        drop(answer);
        assert!(ask.is_void());
        let (reply, _) = oneshot::channel();
        assert!(!Ask::Stop(id, reply).is_void());
    }
}
