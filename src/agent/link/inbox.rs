//! Where messages from above go: the link hands each over and acknowledges it to the broker after the answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::agent::inbox::Inbox as CommandInbox;
use crate::agent::twin::{OfferError, Report, TwinHandle};
use crate::command::Way;
use crate::link::{Answer, Down};
use crate::time::Mono;

/// An answer that is on its way.
pub type Offering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Takes what the broker brought.
pub trait Inbox: Send + Sync + 'static {
    /// Checks the document and commits it, or what has to be said of it. Bounded in time or not: the link goes on.
    ///
    /// The future may be dropped at any point; the broker then delivers the message again, so taking the same document
    /// twice must be harmless.
    fn offer(&self, payload: Vec<u8>) -> Offering<'_>;
}

/// Everything that the link connects.
#[derive(Clone)]
pub struct Plugs {
    /// Takes signed commands.
    pub commands: Arc<dyn Inbox>,
    /// Takes signed twins.
    pub twin: Arc<dyn Inbox>,
    /// Told when the cloud wants to be asked by HTTPS.
    pub poke: Arc<Notify>,
    /// The reported twin, which is retained; published on each connection and each change, once there is a twin.
    pub reported: watch::Receiver<Report>,
    /// Since when the broker is away; nothing while the link is up. Whoever polls in its place watches this.
    pub away: watch::Sender<Option<Mono>>,
}

impl Plugs {
    pub(super) fn of(&self, to: Down) -> &Arc<dyn Inbox> {
        match to {
            Down::Twin => &self.twin,
            Down::Command | Down::Poke => &self.commands,
        }
    }
}

/// Commands: whatever the inbox has on disk, or never will have, need not come again.
impl Inbox for CommandInbox {
    fn offer(&self, payload: Vec<u8>) -> Offering<'_> {
        Box::pin(async move {
            let verdict = CommandInbox::offer(self, &payload, Way::Mqtt).await;
            if verdict.may_acknowledge() {
                Answer::Taken
            } else {
                Answer::Later
            }
        })
    }
}

/// Commands of the keys that there are now; without keys nothing is taken.
impl Inbox for watch::Receiver<Option<CommandInbox>> {
    fn offer(&self, payload: Vec<u8>) -> Offering<'_> {
        let inbox = self.borrow().clone();
        Box::pin(async move {
            match inbox {
                Some(inbox) => Inbox::offer(&inbox, payload).await,
                None => Answer::Later,
            }
        })
    }
}

/// Twins: retained by the broker, so that one which cannot be stored now comes again.
impl Inbox for TwinHandle {
    fn offer(&self, payload: Vec<u8>) -> Offering<'_> {
        Box::pin(async move {
            match TwinHandle::offer(self, &payload).await {
                Ok(_) => Answer::Taken,
                Err(OfferError::Store(_) | OfferError::Ending) => Answer::Later,
                Err(OfferError::Unsigned(_) | OfferError::Refused(_)) => Answer::Refused,
            }
        })
    }
}
