//! The decoder that runs: which one it is, whether it shows what software shows, and whether it still delivers.
//!
//! Hardware is started on a thread of its own: a driver may hold up whoever opens it. What it answers too late is
//! dropped there, and the thread ends with it.

use tokio::sync::{mpsc, oneshot};

use crate::demand::{ALIKE, Decoder, Decoders, Fed, HANG, Mark, Watch, difference};
use crate::media::gst::GstError;
use crate::media::sampler::{Sampler, SamplerEvent};
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

/// A decoder that runs, and where its pictures come from.
pub type Running = (Current, mpsc::Receiver<SamplerEvent>);

/// How a start begins.
#[derive(Debug)]
pub enum Begun {
    /// It runs.
    Runs(Running),
    /// Its driver is being asked.
    Later(Starting),
}

/// A hardware decoder that is being started.
#[derive(Debug)]
pub struct Starting {
    name: String,
    since: Mono,
    started: oneshot::Receiver<Result<Sampler, GstError>>,
    /// Taken where it runs.
    frames: Option<mpsc::Receiver<SamplerEvent>>,
}

impl Starting {
    fn begin(name: &str, caps: &Caps, fps: f32, width: u32, now: Mono) -> Result<Starting, String> {
        let (tx, frames) = mpsc::channel(QUEUE);
        let (tell, started) = oneshot::channel();
        let (element, caps) = (name.to_owned(), caps.clone());
        std::thread::Builder::new()
            .name("decoder-start".into())
            .spawn(move || {
                // Too late for anybody: the sampler goes here.
                let _ = tell.send(Sampler::start_with(&element, &caps, fps, width, tx));
            })
            .map_err(|e| e.to_string())?;
        Ok(Starting {
            name: name.to_owned(),
            since: now,
            started,
            frames: Some(frames),
        })
    }

    /// Name of its element.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its driver has had [`HANG`] to answer.
    pub fn hangs(&self, now: Mono) -> bool {
        now.since(self.since) >= HANG
    }

    /// What came of it. Cancel safe.
    ///
    /// # Errors
    /// It does not start; the text says why.
    pub async fn done(&mut self, decoders: &Decoders) -> Result<Running, String> {
        let sampler = match (&mut self.started).await {
            Ok(Ok(sampler)) => sampler,
            Ok(Err(e)) => return Err(e.to_string()),
            Err(_) => return Err("its thread ended".into()),
        };
        let frames = self.frames.take().ok_or("it was started before")?;
        Ok((Current::of(sampler, &self.name, decoders), frames))
    }
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
    fn of(sampler: Sampler, name: &str, decoders: &Decoders) -> Current {
        Current {
            sampler,
            name: name.to_owned(),
            watch: Watch::default(),
            proved: !decoders.is_unproved(name),
        }
    }

    /// Starts the decoder that `decoders` chooses; where that cannot be tried, the next one. Does not block.
    ///
    /// # Errors
    /// Not even software starts; the text says why.
    pub fn start(
        decoders: &mut Decoders,
        caps: &Caps,
        fps: f32,
        width: u32,
        now: Mono,
    ) -> Result<Begun, String> {
        loop {
            let name = decoders.choose(now).to_owned();
            if name == decoders.software() {
                let (tx, frames) = mpsc::channel(QUEUE);
                let sampler = Sampler::start_with(&name, caps, fps, width, tx);
                let sampler = sampler.map_err(|e| e.to_string())?;
                return Ok(Begun::Runs((Current::of(sampler, &name, decoders), frames)));
            }
            match Starting::begin(&name, caps, fps, width, now) {
                Ok(starting) => return Ok(Begun::Later(starting)),
                Err(e) => {
                    tracing::warn!(
                        decoder = name,
                        error = e,
                        "decoder does not start, trying the next"
                    );
                    decoders.failed(&name, now);
                }
            }
        }
    }

    /// Name of its element.
    pub fn name(&self) -> &str {
        &self.name
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

impl Decoder<Packet> for Current {
    fn push(&mut self, packet: &Packet, now: Mono) -> Fed {
        let fed = self.sampler.push(packet);
        if fed == Fed::Taken {
            self.watch.sent(now);
        }
        fed
    }

    fn drain(&mut self) {
        self.sampler.drain();
    }

    fn rewind(&mut self) -> u64 {
        self.sampler.rewind()
    }

    fn backlog(&self) -> u64 {
        self.sampler.backlog()
    }

    fn fed(&self) -> u64 {
        self.sampler.counts().fed
    }
}
