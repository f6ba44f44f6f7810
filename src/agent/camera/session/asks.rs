//! A session's answers to what others ask of its camera.

use super::Session;
use crate::agent::camera::desk::{Ask, No, Still, Wish};
use crate::agent::journal::Fact;
use crate::time::{Mono, Pts};

impl Session {
    /// Answers one question while frames arrive. Whoever asked may have gone.
    pub(super) async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Start(wish, reply) => drop(reply.send(self.start_manual(wish).await)),
            Ask::Stop(id, reply) => drop(reply.send(self.recorder.end_manual(id))),
            Ask::Picture(reply) => drop(reply.send(self.still().ok_or(No::Down))),
            Ask::Watch(reply) => drop(reply.send(self.ring.watch())),
        }
    }

    /// Answers everything with "down"; never ends.
    pub async fn decline_asks(&mut self) {
        while let Some(ask) = self.asks.recv().await {
            ask.decline();
        }
        std::future::pending().await
    }

    fn still(&self) -> Option<Still> {
        let stream = self.recorder.current_stream()?;
        let packet = self.ring.cut(Pts(u64::MAX)).next()?.clone();
        Some(Still {
            caps: stream.caps.video.clone(),
            taken: stream.anchor.mono(packet.pts),
            packet,
        })
    }

    async fn start_manual(&mut self, wish: Wish) -> Result<Mono, No> {
        let newest_gop = self.ring.cut(Pts(u64::MAX));
        let (opening, record, committed) = self.recorder.begin_manual(wish, newest_gop)?;
        let started = opening.started;
        let camera = self.config.id.clone();
        tracing::info!(camera = %camera, recording = %wish.id, "recording on command");
        let fact = Fact::ClipOpened {
            camera,
            clip: opening,
        };
        let journal = &self.context.journal;
        journal
            .write_then(fact, vec![record], Some(committed))
            .await;
        Ok(started)
    }
}
