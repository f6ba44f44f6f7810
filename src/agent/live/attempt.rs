//! One try to publish: watch the camera, judge the address, connect, feed the publisher until something ends.
//!
//! Everything that can take time has a limit, and nothing here is waited for by the camera.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use super::{Parts, Start};
use crate::agent::camera::desk::Ask;
use crate::agent::camera::tap::{Feed, Watch};
use crate::agent::status::StatusHub;
use crate::cloud::relay::{Relay, RelayError};
use crate::cloud::vetted;
use crate::live::{Place, Trouble, Way};
use crate::media::publish::{Broken, Fed, Publisher};
use crate::media::{TrackCaps, codec_of};
use crate::time::Mono;
use crate::wire::address::Denied;

/// A camera that is up sends a key frame within this.
const FIRST_KEY: Duration = Duration::from_secs(15);
/// Before this, RTSP and RTMP are still talking about the stream.
const TALK: u64 = 5 << 10;
/// Nothing is taken for this long: the server, or the pipeline, hangs.
const STALL: Duration = Duration::from_secs(12);
/// Bytes are counted this often.
const LOOK: Duration = Duration::from_millis(250);
/// What the pipeline says of a connection that ended comes a moment later.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Why a try has ended.
#[derive(Debug)]
pub(super) struct Lost {
    pub trouble: Trouble,
    /// For people, without keys.
    pub text: String,
}

impl Lost {
    pub(super) fn new(trouble: Trouble, text: impl ToString) -> Lost {
        let text = text.to_string();
        Lost { trouble, text }
    }
}

/// What a session has come to, over all its tries.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The server takes pictures.
    pub live: Notify,
    /// Taken by servers.
    pub bytes: AtomicU64,
    /// Packets dropped because a server was behind.
    pub dropped: AtomicU64,
}

/// One try.
pub(super) struct Attempt {
    pub parts: Parts,
    pub start: Arc<Start>,
    pub progress: Arc<Progress>,
    pub ending: CancellationToken,
}

/// How much the server took of this try.
enum Meter {
    Relay(Arc<AtomicU64>),
    Srt,
}

impl Attempt {
    pub(super) async fn run(self) -> Lost {
        self.publish().await.unwrap_or_else(|lost| lost)
    }

    async fn publish(&self) -> Result<Lost, Lost> {
        let place = self.parts.place(&self.start);
        let place = place.map_err(|e| Lost::new(Trouble::Refused, e))?;
        let addresses = vetted::resolve(&place.host, place.port, &self.parts.allowed).await;
        let addresses = addresses.map_err(|e| {
            let trouble = match e {
                Denied::Unresolved => Trouble::Unreachable,
                _ => Trouble::Refused,
            };
            Lost::new(trouble, format!("publish_endpoint {e}"))
        })?;
        let relay = match &place.way {
            Way::Srt { .. } => None,
            _ => {
                let tls = place.protocol.is_tls().then(|| self.parts.tls.clone());
                let relay = Relay::open(&place.host, &addresses, tls).await;
                Some(relay.map_err(|e| Lost::new(Trouble::Unreachable, e))?)
            }
        };
        // Last, so that it begins with the newest key frame.
        let mut watch = self.watch().await?;
        let caps = self.caps(&mut watch, &place).await?;
        let Some(relay) = relay else {
            // One datagram socket tries one address: the family that every network has.
            let to = addresses.iter().find(|a| a.is_ipv4());
            let to = to.or(addresses.first()).copied();
            let none = || Lost::new(Trouble::Unreachable, "publish_endpoint has no address");
            let to = to.ok_or_else(none)?;
            let never = std::future::pending();
            return Ok(self.feed(place, to, watch, caps, Meter::Srt, never).await);
        };
        let to = relay.address();
        let to = to.map_err(|e| Lost::new(Trouble::Publisher, e))?;
        let meter = Meter::Relay(relay.sent());
        Ok(self
            .feed(place, to, watch, caps, meter, relay.carry())
            .await)
    }

    async fn watch(&self) -> Result<Watch, Lost> {
        let down = || Lost::new(Trouble::CameraDown, "the camera delivers nothing");
        let camera = self.parts.desk.camera(&self.start.camera);
        let (reply, answer) = oneshot::channel();
        let asked = camera.ok_or_else(down)?.send(Ask::Watch(reply)).await;
        asked.map_err(|_| down())?;
        match answer.await {
            Ok(Ok(watch)) => Ok(watch),
            _ => Err(down()),
        }
    }

    /// The caps come first, with the first key frame.
    async fn caps(&self, watch: &mut Watch, place: &Place) -> Result<TrackCaps, Lost> {
        let caps = match timeout(FIRST_KEY, watch.feed.recv()).await {
            Ok(Some(Feed::Stream(caps))) => caps,
            _ => return Err(Lost::new(Trouble::CameraDown, "no key frame came")),
        };
        match codec_of(&caps.video) {
            Some(codec) if place.protocol.carries(codec) => Ok(caps),
            codec => {
                let codec = codec.map_or("this".to_owned(), |c| c.to_string());
                let text = format!("{} cannot carry {codec} video", place.protocol);
                Err(Lost::new(Trouble::Unsupported, text))
            }
        }
    }

    async fn feed(
        &self,
        place: Place,
        to: SocketAddr,
        watch: Watch,
        caps: TrackCaps,
        meter: Meter,
        carry: impl Future<Output = RelayError>,
    ) -> Lost {
        tokio::pin!(carry);
        let (tx, mut broken) = mpsc::channel(1);
        let way = place.way;
        let starting = tokio::task::spawn_blocking(move || Publisher::start(&caps, &way, to, tx));
        let publisher = tokio::select! {
            started = starting => match started {
                Ok(Ok(publisher)) => publisher,
                Ok(Err(e)) => match broken.try_recv() {
                    Ok(broken) => return told(broken),
                    Err(_) => return Lost::new(Trouble::Publisher, e),
                },
                Err(e) => return Lost::new(Trouble::Publisher, e),
            },
            end = &mut carry => return ended(&end),
        };
        let mut feeding = Feeding {
            progress: &self.progress,
            status: &self.parts.status,
            session: self.start.session.to_string(),
            time: &self.parts.time,
            publisher,
            meter,
            counted: 0,
            live: false,
            grew: self.parts.time.mono(),
        };
        let lost = tokio::select! {
            lost = feeding.run(watch, &mut broken, &self.ending) => lost,
            end = &mut carry => match timeout(LAST_WORD, broken.recv()).await {
                Ok(Some(broken)) if broken.auth => told(broken),
                _ => ended(&end),
            },
        };
        feeding.count();
        self.progress
            .dropped
            .fetch_add(feeding.publisher.dropped(), Relaxed);
        if self.ending.is_cancelled() {
            // The server hears of the end as long as its connection is there.
            let publisher = feeding.publisher;
            let stopping = tokio::task::spawn_blocking(move || publisher.stop());
            tokio::select! {
                _ = stopping => {}
                _ = &mut carry => {}
            }
        }
        lost
    }
}

fn told(broken: Broken) -> Lost {
    let trouble = if broken.auth {
        Trouble::Auth
    } else {
        Trouble::Publisher
    };
    Lost::new(trouble, broken.text)
}

fn ended(end: &RelayError) -> Lost {
    let trouble = match end {
        RelayError::Unreachable(_) | RelayError::Closed | RelayError::Broken(_) => {
            Trouble::Unreachable
        }
        RelayError::Stalled | RelayError::Pipeline => Trouble::Publisher,
    };
    Lost::new(trouble, end)
}

/// A publisher at work.
struct Feeding<'a> {
    progress: &'a Progress,
    status: &'a StatusHub,
    session: String,
    time: &'a crate::agent::time::TimeKeeper,
    publisher: Publisher,
    meter: Meter,
    /// Of this try's bytes, in the session's.
    counted: u64,
    live: bool,
    /// When bytes were taken last.
    grew: Mono,
}

impl Feeding<'_> {
    async fn run(
        &mut self,
        mut watch: Watch,
        broken: &mut mpsc::Receiver<Broken>,
        ending: &CancellationToken,
    ) -> Lost {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = ending.cancelled() => return Lost::new(Trouble::Publisher, "it ends"),
                Some(broken) = broken.recv() => return told(broken),
                _ = look.tick() => {
                    self.count();
                    if self.time.mono().since(self.grew) > STALL {
                        return Lost::new(Trouble::Publisher, "the server takes nothing");
                    }
                }
                feed = watch.feed.recv() => match feed {
                    Some(Feed::Packet(packet)) => {
                        if self.publisher.push(&packet) == Fed::Failed {
                            return Lost::new(Trouble::Publisher, "the pipeline takes nothing more");
                        }
                    }
                    Some(Feed::Stream(_)) => {
                        return Lost::new(Trouble::CameraDown, "the camera sends another stream");
                    }
                    None => return Lost::new(Trouble::CameraDown, "the camera is down"),
                },
            }
        }
    }

    /// Counts what the server took since the last look.
    fn count(&mut self) {
        let taken = match &self.meter {
            Meter::Relay(sent) => sent.load(Relaxed),
            Meter::Srt => self.publisher.srt_sent().unwrap_or(0),
        };
        if taken > self.counted {
            let before = self.progress.bytes.fetch_add(taken - self.counted, Relaxed);
            let all = before + taken - self.counted;
            self.status.live_bytes(&self.session, all);
            self.counted = taken;
            self.grew = self.time.mono();
        }
        let talk = match self.meter {
            Meter::Relay(_) => TALK,
            Meter::Srt => 0,
        };
        if !self.live && taken > talk {
            self.live = true;
            self.progress.live.notify_one();
        }
    }
}
