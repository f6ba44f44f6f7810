//! One connection to the broker, from CONNECT to its end: packets, answers and time in, actions out.
//!
//! Exactly one QoS 1 publication is under way; whoever gave it keeps it until [`Action::Settled`]. A message from
//! above is acknowledged only after the inbox has answered, in the order in which the messages came. A command that
//! cannot be taken now holds up the commands behind it, but no twin. Nothing outlives the session but what the caller
//! kept.

use std::collections::VecDeque;
use std::time::Duration;

use super::packet::{Incoming, Outgoing, PUBLISH_OVERHEAD, RECEIVE_MAXIMUM};
use super::reason::{Ended, Verdict};
use super::topics::{Down, Topics};
use crate::time::Mono;

const CONNACK_WITHIN: Duration = Duration::from_secs(10);
const ACK_WITHIN: Duration = Duration::from_secs(15);
/// After a denial nothing is published for this long.
const DENIED_PAUSE: Duration = Duration::from_secs(300);
const LATER_FIRST: Duration = Duration::from_secs(5);
const LATER_LONGEST: Duration = Duration::from_secs(300);
/// An inbox that cannot take a message now is asked again after this.
const OFFER_AGAIN: Duration = Duration::from_secs(2);
/// Messages that wait for the inbox, 4 MiB at most. The broker was told to stop at the receive maximum; Mosquitto
/// 2.0.11 was seen to send many more under load, which is no reason to leave it: nothing more is read until the inbox has
/// taken some.
const WAITING: usize = 8 * RECEIVE_MAXIMUM as usize;

/// What the inbox said of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is committed, now or long ago.
    Taken,
    /// It will never be taken; what has to be said of it is committed.
    Refused,
    /// Not now: it is not acknowledged, and offered again.
    Later,
}

/// What is to be published with QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// The broker keeps it for later subscribers.
    pub retain: bool,
}

/// What the caller has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Send(Outgoing),
    /// Offer this to the inbox and come back with its answer; one at a time.
    Offer { to: Down, payload: Vec<u8> },
    /// The cloud wants to be asked by HTTPS.
    Poke,
    /// The session is up.
    Up,
    /// What became of the publication that was given last.
    Settled(Verdict),
    /// The session is over.
    End(Ended),
}

/// Who this session is.
#[derive(Debug, Clone)]
pub struct Presence {
    /// The device's topics.
    pub topics: Topics,
    /// What the retained state says while it lasts.
    pub online: Vec<u8>,
    /// What it says afterwards; also the will.
    pub offline: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting { until: Mono },
    Subscribing { until: Mono, id: u16 },
    Open,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Online,
    Given,
    Offline,
}

#[derive(Debug)]
struct Held {
    to: Down,
    payload: Vec<u8>,
    id: Option<u16>,
    /// The inbox has it, or will never have it: acknowledged once everything before it is.
    answered: bool,
}

/// Twins and commands wait for each other only in their acknowledgements, whose order MQTT prescribes.
#[derive(Debug, Default)]
struct Lane {
    /// The oldest was put off until then.
    again: Option<Mono>,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    presence: Presence,
    keep_alive: Duration,
    stage: Stage,
    worked: bool,
    leaving: bool,
    next_id: u16,
    in_flight: Option<(u16, What, Mono)>,
    /// Nothing is published before this; taken away once it has passed.
    pause: Option<Mono>,
    later: Duration,
    max_packet: usize,
    ping_at: Mono,
    pong_by: Option<Mono>,
    waiting: VecDeque<Held>,
    twins: Lane,
    commands: Lane,
    offering: Option<Down>,
}

impl Session {
    /// Begins a session over a connection that stands.
    pub fn begin(presence: Presence, keep_alive: Duration, now: Mono) -> (Session, Vec<Action>) {
        let connect = Outgoing::Connect {
            keep_alive,
            will_topic: presence.topics.state(),
            will: presence.offline.clone(),
        };
        let until = now + CONNACK_WITHIN;
        let session = Session {
            presence,
            keep_alive,
            stage: Stage::Connecting { until },
            worked: false,
            leaving: false,
            next_id: 0,
            in_flight: None,
            pause: None,
            later: LATER_FIRST,
            max_packet: usize::MAX,
            ping_at: until,
            pong_by: None,
            waiting: VecDeque::new(),
            twins: Lane::default(),
            commands: Lane::default(),
            offering: None,
        };
        (session, vec![Action::Send(connect)])
    }

    /// Whether it had been up.
    pub fn worked(&self) -> bool {
        self.worked
    }

    /// Whether the next publication may be given.
    pub fn ready(&self, now: Mono) -> bool {
        self.is_idle() && !self.leaving && self.pause.is_none_or(|until| now >= until)
    }

    fn is_idle(&self) -> bool {
        self.worked && self.stage == Stage::Open && self.in_flight.is_none()
    }

    /// Whether the broker takes a publication whose topic and payload have so many bytes.
    pub fn fits(&self, bytes: usize) -> bool {
        bytes + PUBLISH_OVERHEAD <= self.max_packet
    }

    /// When [`Session::tick`] has to be called at the latest.
    pub fn deadline(&self) -> Mono {
        let stage = match self.stage {
            Stage::Connecting { until } => return until,
            Stage::Subscribing { until, .. } => Some(until),
            Stage::Open | Stage::Over => None,
        };
        [
            stage,
            self.in_flight.map(|(_, _, until)| until),
            self.pong_by,
            self.twins.again,
            self.commands.again,
            self.pause,
        ]
        .into_iter()
        .flatten()
        .fold(self.ping_at, Mono::min)
    }

    /// A packet came.
    pub fn packet(&mut self, now: Mono, packet: Incoming) -> Vec<Action> {
        match (self.stage, packet) {
            (_, Incoming::Disconnected { reason }) => self.end(Ended::Disconnected(reason)),
            (_, Incoming::Unexpected(what)) => self.end(Ended::Protocol(what)),
            (
                Stage::Connecting { .. },
                Incoming::Connected {
                    reason: 0,
                    keep_alive,
                    max_packet,
                    ..
                },
            ) => {
                // A broker may ask for more life signs, but not make us blind for longer.
                self.keep_alive = keep_alive.map_or(self.keep_alive, |k| k.min(self.keep_alive));
                self.max_packet = max_packet.map_or(usize::MAX, |n| n as usize);
                self.ping_at = now + self.patience();
                // Whatever the broker still knows of us: it does no harm, and it may have lost it.
                let id = self.new_id();
                self.stage = Stage::Subscribing {
                    until: now + ACK_WITHIN,
                    id,
                };
                let filters = self.presence.topics.subscriptions();
                vec![Action::Send(Outgoing::Subscribe { id, filters })]
            }
            (Stage::Connecting { .. }, Incoming::Connected { reason, .. }) => {
                self.end(Ended::Refused(reason))
            }
            (Stage::Connecting { .. }, _) => self.end(Ended::Protocol("something before CONNACK")),
            (_, Incoming::Connected { .. }) => self.end(Ended::Protocol("a second CONNACK")),
            (Stage::Subscribing { id: asked, .. }, Incoming::Subscribed { id, codes })
                if id == asked =>
            {
                if let Some(code) = codes.iter().find(|code| **code >= 0x80) {
                    return self.end(Ended::SubscriptionRefused(*code));
                }
                self.stage = Stage::Open;
                let state = Publication {
                    topic: self.presence.topics.state(),
                    payload: self.presence.online.clone(),
                    retain: true,
                };
                self.send(now, state, What::Online)
            }
            (_, Incoming::Subscribed { .. }) => self.end(Ended::Protocol("an unasked SUBACK")),
            (_, Incoming::Pong) => {
                self.pong_by = None;
                Vec::new()
            }
            (_, Incoming::Acked { id, reason }) => self.acked(now, id, reason),
            (_, Incoming::Published { topic, payload, id }) => self.message(&topic, payload, id),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Mono) -> Vec<Action> {
        match self.stage {
            Stage::Over => return Vec::new(),
            Stage::Connecting { until } if now >= until => return self.end(Ended::NoConnack),
            Stage::Connecting { .. } => return Vec::new(),
            Stage::Subscribing { until, .. } if now >= until => return self.end(Ended::NoSuback),
            Stage::Subscribing { .. } | Stage::Open => {}
        }
        if self.in_flight.is_some_and(|(_, _, until)| now >= until) {
            return self.end(Ended::NoPuback);
        }
        if self.pong_by.is_some_and(|by| now >= by) {
            return self.end(Ended::NoPong);
        }
        let mut actions = Vec::new();
        if now >= self.ping_at {
            self.ping_at = now + self.patience();
            self.pong_by.get_or_insert(now + self.patience());
            actions.push(Action::Send(Outgoing::Ping));
        }
        self.pause.take_if(|until| now >= *until);
        for lane in [&mut self.twins, &mut self.commands] {
            lane.again.take_if(|at| now >= *at);
        }
        actions.extend(self.offer());
        actions
    }

    /// Publishes; only when [`Session::ready`].
    pub fn publish(&mut self, now: Mono, publication: Publication) -> Vec<Action> {
        if !self.fits(publication.topic.len() + publication.payload.len()) {
            // The broker would end the session over it.
            return vec![Action::Settled(Verdict::Unfit)];
        }
        self.send(now, publication, What::Given)
    }

    /// The inbox answered for what it was offered.
    pub fn answered(&mut self, now: Mono, answer: Answer) -> Vec<Action> {
        let Some(to) = self.offering.take() else {
            return Vec::new();
        };
        if answer == Answer::Later {
            self.lane(to).again = Some(now + OFFER_AGAIN);
        } else if let Some(held) = self.oldest(to) {
            held.answered = true;
        }
        let mut actions = Vec::new();
        while let Some(held) = self.waiting.pop_front_if(|held| held.answered) {
            actions.extend(held.id.map(|id| Action::Send(Outgoing::Ack { id })));
        }
        actions.extend(self.offer());
        actions
    }

    fn lane(&mut self, to: Down) -> &mut Lane {
        match to {
            Down::Twin => &mut self.twins,
            Down::Command | Down::Poke => &mut self.commands,
        }
    }

    fn oldest(&mut self, to: Down) -> Option<&mut Held> {
        let mut waiting = self.waiting.iter_mut();
        waiting.find(|held| held.to == to && !held.answered)
    }

    /// Says good-bye: what is under way, the retained `offline`, DISCONNECT.
    pub fn leave(&mut self, now: Mono) -> Vec<Action> {
        self.leaving = true;
        match self.stage {
            Stage::Over => Vec::new(),
            Stage::Open if self.in_flight.is_some() => Vec::new(),
            Stage::Open => self.say_offline(now),
            Stage::Connecting { .. } | Stage::Subscribing { .. } => self.end(Ended::Stopped),
        }
    }

    fn say_offline(&mut self, now: Mono) -> Vec<Action> {
        let state = Publication {
            topic: self.presence.topics.state(),
            payload: self.presence.offline.clone(),
            retain: true,
        };
        self.send(now, state, What::Offline)
    }

    fn acked(&mut self, now: Mono, id: u16, reason: u8) -> Vec<Action> {
        let Some((_, what, _)) = self.in_flight.take_if(|(asked, _, _)| *asked == id) else {
            return self.end(Ended::Protocol("an unasked PUBACK"));
        };
        let verdict = Verdict::of(reason);
        match verdict {
            Verdict::Denied => self.pause = Some(now + DENIED_PAUSE),
            Verdict::Later => {
                self.pause = Some(now + self.later);
                self.later = (self.later * 2).min(LATER_LONGEST);
            }
            Verdict::Delivered | Verdict::NobodyListens | Verdict::Unfit => {
                self.later = LATER_FIRST;
            }
        }
        let mut actions = match what {
            What::Online => {
                self.worked = true;
                vec![Action::Up]
            }
            What::Given => vec![Action::Settled(verdict)],
            What::Offline => {
                let mut actions = vec![Action::Send(Outgoing::Disconnect)];
                actions.extend(self.end(Ended::Stopped));
                return actions;
            }
        };
        if self.leaving {
            actions.extend(self.say_offline(now));
        }
        actions
    }

    fn message(&mut self, topic: &[u8], payload: Vec<u8>, id: Option<u16>) -> Vec<Action> {
        let to = match self.presence.topics.down(topic) {
            Some(Down::Poke) => Err(Some(Action::Poke)),
            // A retained message that was deleted arrives empty; what is not ours teaches nothing.
            Some(_) if payload.is_empty() => Err(None),
            None => Err(None),
            Some(to) => Ok(to),
        };
        match to {
            Err(action) => {
                let ack = id.map(|id| Action::Send(Outgoing::Ack { id }));
                action.into_iter().chain(ack).collect()
            }
            Ok(_) if self.waiting.len() >= WAITING && id.is_none() => Vec::new(),
            Ok(_) if self.waiting.len() >= WAITING => {
                self.end(Ended::Protocol("more than the receive maximum"))
            }
            Ok(to) => {
                self.waiting.push_back(Held {
                    to,
                    payload,
                    id,
                    answered: false,
                });
                self.offer()
            }
        }
    }

    /// Whether another packet should be read now. Where it should not, TCP makes the broker wait: one that sends more than
    /// it may costs neither memory nor the session.
    pub fn reads(&self) -> bool {
        self.waiting.len() < WAITING
    }

    /// Offers the oldest twin, else the oldest command, unless something is being answered for.
    fn offer(&mut self) -> Vec<Action> {
        if self.offering.is_some() {
            return Vec::new();
        }
        for to in [Down::Twin, Down::Command] {
            if self.lane(to).again.is_some() {
                continue;
            }
            if let Some(payload) = self.oldest(to).map(|held| held.payload.clone()) {
                self.offering = Some(to);
                return vec![Action::Offer { to, payload }];
            }
        }
        Vec::new()
    }

    fn send(&mut self, now: Mono, publication: Publication, what: What) -> Vec<Action> {
        let id = self.new_id();
        self.in_flight = Some((id, what, now + ACK_WITHIN));
        vec![Action::Send(Outgoing::Publish {
            id: Some(id),
            topic: publication.topic,
            payload: publication.payload,
            retain: publication.retain,
        })]
    }

    fn end(&mut self, ended: Ended) -> Vec<Action> {
        self.stage = Stage::Over;
        vec![Action::End(ended)]
    }

    fn new_id(&mut self) -> u16 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }

    /// How long silence is borne, twice: a dead peer is known after 1.5 keep-alives at most.
    fn patience(&self) -> Duration {
        self.keep_alive * 3 / 4
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
