//! The decoder that runs: which one it is, whether it shows what software shows, and whether it still delivers.

use tokio::sync::mpsc;

use crate::demand::{ALIKE, Decoders, Watch, difference};
use crate::media::sampler::{Fed, Mark, Sampler, SamplerEvent};
use crate::media::{Caps, OwnedGray, Packet};
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
    /// Its first key frame has been compared, or need not be.
    proved: bool,
}

/// The first key frame of a hardware decoder, held back until software has decoded it too.
#[derive(Debug)]
pub struct Proof {
    picture: Option<(OwnedGray, Mark)>,
    /// Decodes until this is dropped.
    _software: Sampler,
    other: mpsc::Receiver<SamplerEvent>,
    since: Mono,
}

impl Proof {
    /// Begins to decode `packet`, of which `picture` was made, by `software`. Where that does not start, the picture
    /// comes back: there is nothing to compare it with.
    pub fn start(
        software: &str,
        caps: &Caps,
        packet: &Packet,
        picture: (OwnedGray, Mark),
        now: Mono,
    ) -> Result<Proof, (OwnedGray, Mark)> {
        let (tx, other) = mpsc::channel(1);
        let width = picture.0.width as u32;
        let Ok(mut sampler) = Sampler::start_with(software, caps, f32::MAX, width, tx) else {
            return Err(picture);
        };
        if sampler.push(packet) != Fed::Taken {
            return Err(picture);
        }
        sampler.drain();
        Ok(Proof {
            picture: Some(picture),
            _software: sampler,
            other,
            since: now,
        })
    }

    /// The picture that is proved; `Err`: software shows something else. Cancel safe.
    pub async fn done(&mut self) -> Result<Option<(OwnedGray, Mark)>, f32> {
        let other = self.other.recv().await;
        let picture = self.picture.take();
        let (Some(SamplerEvent::Frame(other, _)), Some((own, _))) = (other, &picture) else {
            return Ok(picture);
        };
        let same_size = (own.width, own.height) == (other.width, other.height);
        match difference(&own.luma, &other.luma).filter(|_| same_size) {
            Some(d) if d <= ALIKE => Ok(picture),
            d => Err(d.unwrap_or(f32::INFINITY)),
        }
    }

    /// When software was asked.
    pub fn since(&self) -> Mono {
        self.since
    }

    /// The picture, unproved.
    pub fn into_picture(self) -> Option<(OwnedGray, Mark)> {
        self.picture
    }
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
                        proved: !decoders.is_unproved(&name),
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

    /// Whether the key frame that it just put out is the first, and has to be compared. True once.
    pub fn asks_for_proof(&mut self) -> bool {
        !std::mem::replace(&mut self.proved, true)
    }

    /// It put a picture out.
    pub fn came(&mut self, now: Mono) {
        let owes = self.sampler.owes();
        self.watch.came(now, owes);
    }

    /// It owes pictures for too long.
    pub fn hangs(&self, now: Mono) -> bool {
        self.watch.hangs(now, self.sampler.backlog() > 0)
    }
}
