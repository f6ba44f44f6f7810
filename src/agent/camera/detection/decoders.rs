//! The decoder that runs: which one it is, and whether it still delivers.

use tokio::sync::mpsc;

use crate::demand::{Decoders, Watch};
use crate::media::sampler::{Fed, Sampler, SamplerEvent};
use crate::media::{Caps, Packet};
use crate::time::Mono;

/// Pictures that may wait: more than the packets that a decoder is given ahead. When full, the newest is dropped and
/// counted by the sampler.
const QUEUE: usize = 32;

/// A running decoder and its pictures.
#[derive(Debug)]
pub struct Current {
    sampler: Sampler,
    name: String,
    watch: Watch,
}

impl Current {
    /// Starts the decoder that `decoders` chooses; where that does not start, the next one.
    ///
    /// # Errors
    /// Not even software starts; the text says why.
    pub fn start(
        decoders: &mut Decoders,
        caps: &Caps,
        fps: f32,
        width: u32,
        now: Mono,
    ) -> Result<(Current, mpsc::Receiver<SamplerEvent>), String> {
        loop {
            let (tx, frames) = mpsc::channel(QUEUE);
            let name = decoders.choose(now).to_owned();
            match Sampler::start_with(&name, caps, fps, width, tx) {
                Ok(sampler) => {
                    let watch = Watch::default();
                    let current = Current {
                        sampler,
                        name,
                        watch,
                    };
                    return Ok((current, frames));
                }
                Err(e) => {
                    decoders.failed(&name, now);
                    if decoders.choose(now) == name {
                        return Err(e.to_string());
                    }
                    tracing::warn!(decoder = name, error = %e, "decoder does not start, trying the next");
                }
            }
        }
    }

    /// Name of its element.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sampler.
    pub fn sampler(&mut self) -> &mut Sampler {
        &mut self.sampler
    }

    /// Gives it a packet.
    pub fn push(&mut self, packet: &Packet, now: Mono) -> Fed {
        let fed = self.sampler.push(packet);
        if fed == Fed::Taken {
            self.watch.sent(now);
        }
        fed
    }

    /// It put a picture out.
    pub fn came(&mut self, now: Mono) {
        let owes = self.sampler.owes();
        self.watch.came(now, owes);
    }

    /// It owes pictures for too long.
    pub fn hangs(&self, now: Mono) -> bool {
        self.watch.hangs(now)
    }
}
