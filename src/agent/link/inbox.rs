//! Where messages from above go: the link hands each over and acknowledges it to the broker after the answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

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
    /// The reported twin, as it is to be retained; published on each connection and each change.
    pub reported: watch::Receiver<Option<Vec<u8>>>,
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

impl Default for Plugs {
    /// Nobody takes anything: messages stay with the broker.
    fn default() -> Self {
        let (_, reported) = watch::channel(None);
        let (away, _) = watch::channel(None);
        Plugs {
            commands: Arc::new(Nobody),
            twin: Arc::new(Nobody),
            poke: Arc::default(),
            reported,
            away,
        }
    }
}

struct Nobody;

impl Inbox for Nobody {
    fn offer(&self, _: Vec<u8>) -> Offering<'_> {
        Box::pin(std::future::ready(Answer::Later))
    }
}
