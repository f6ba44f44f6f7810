//! A session's answers to what others ask of its camera.

use super::Session;
use super::strongest::bounded;
use crate::agent::camera::desk::{Ask, No, Still, Wish};
use crate::agent::journal::Fact;
use crate::media::{Packet, Track};
use crate::time::{Mono, Pts};

/// Of a GOP that is decoded for a snapshot: 4 s at 30 frames a second. In a longer one its key frame is the picture.
const CURRENT_PACKETS: usize = 120;

impl Session {
    /// Answers one question while frames arrive.
    pub(super) async fn answer(&mut self, ask: Ask) {
        if ask.is_void() {
            // A command that has timed out must not record after all.
            return;
        }
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
        let newest = self.ring.cut(Pts(u64::MAX));
        let video: Vec<&Packet> = newest.filter(|p| p.track == Track::Video).collect();
        let key = (*video.first()?).clone();
        let few = video.len() <= CURRENT_PACKETS;
        let packets = few.then(|| bounded(video)).flatten();
        Some(Still {
            caps: stream.caps.video.clone(),
            anchor: stream.anchor,
            packets: packets.unwrap_or_else(|| vec![key]),
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
