//! A cloud of a page: it keeps what a real one keeps (records by id, answers by key, a clock) and a network before it
//! loses, cuts, repeats, delays and falsifies by dice. It counts what a proof needs and shares no code with the agent.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sentrycam::board::clock::Clock;
use sentrycam::cloud::client::Call;
use sentrycam::cloud::{ClientError, Reply, Transport};
use sentrycam::time::Wall;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dice::Dice;

/// What happens to the next request. Chosen by dice, or by hand.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    Fine,
    /// The request is lost.
    Lost,
    /// The answer is lost, after the commit.
    Cut,
    /// Neither comes in time; `true`: it was committed.
    Slow(bool),
    /// The process is killed while it waits; `true`: after the commit.
    Killed(bool),
    /// Something else than the cloud answers.
    Noise(u16, &'static str, &'static str),
    /// The cloud answers this problem.
    Problem(u16, &'static str, Option<u64>),
    /// Committed; the list of results is reversed, misses some, or says things nobody asked for.
    Odd,
    /// Nothing is stored: `retry` for some, the others stored.
    Retry,
    /// An earlier request arrives once more before this one.
    Repeat,
}

/// What the cloud holds.
#[derive(Default)]
pub struct Cloud {
    /// First version of each record: the later ones are duplicates.
    pub records: BTreeMap<Uuid, Value>,
    /// Idempotency keys with body and answer.
    answers: HashMap<Uuid, (Vec<u8>, Vec<u8>)>,
    earlier: Vec<Vec<Value>>,
    /// Ids that the cloud refuses by name.
    pub refuses: BTreeSet<Uuid>,
    /// Ids that make it refuse the whole batch.
    pub chokes_on: BTreeSet<Uuid>,
    pub skew_s: i64,
    /// Percent of requests that meet a fate.
    pub trouble: u64,
    pub requests: u64,
    pub dice: Option<Dice>,
    /// Set where the process was killed in the last request.
    pub killed: bool,
}

/// A handle; clones are the same cloud.
#[derive(Clone, Default)]
pub struct Model(Arc<Mutex<Cloud>>);

impl Model {
    pub fn cloud(&self) -> MutexGuard<'_, Cloud> {
        self.0.lock().unwrap()
    }
}

impl Transport for Model {
    fn edge_id(&self) -> &str {
        "e-model"
    }

    async fn send(
        &self,
        call: &Call<'_>,
        created: Wall,
        _: [u8; 16],
    ) -> Result<Reply, ClientError> {
        let outcome = self.cloud().take(call, created);
        match outcome {
            Some(outcome) => outcome,
            // The process dies here: the caller drops this future.
            None => std::future::pending().await,
        }
    }
}

impl Cloud {
    fn now(&self) -> i64 {
        Clock::default().system_wall().unix_seconds() + self.skew_s
    }

    fn fate(&mut self) -> Fate {
        let trouble = self.trouble;
        let Some(dice) = &mut self.dice else {
            return Fate::Fine;
        };
        if !dice.percent(trouble) {
            return Fate::Fine;
        }
        let hotel = ("text/html", "<html>Welcome</html>");
        match dice.below(22) {
            0..=2 => Fate::Lost,
            3..=5 => Fate::Cut,
            6 => Fate::Slow(false),
            7 => Fate::Slow(true),
            8 => Fate::Killed(false),
            9..=10 => Fate::Killed(true),
            11 => Fate::Noise(200, hotel.0, hotel.1),
            12 => Fate::Noise(200, "application/json", "{\"results\":[{\"id\":\"019"),
            13 => Fate::Noise(502, hotel.0, hotel.1),
            14 => Fate::Noise(400, hotel.0, hotel.1),
            15 => Fate::Odd,
            16 => Fate::Retry,
            17..=18 => Fate::Repeat,
            19 => Fate::Problem(503, "unavailable", Some(7)),
            _ => match dice.below(9) {
                0 => Fate::Problem(401, "replayed-nonce", None),
                1 => Fate::Problem(401, "unknown-key", None),
                2 => Fate::Problem(403, "suspended", None),
                3 => Fate::Problem(404, "not-found", None),
                4 => Fate::Problem(409, "in-progress", None),
                5 => Fate::Problem(410, "unclaimed", None),
                6 => Fate::Problem(415, "encoding", None),
                7 => Fate::Problem(422, "idempotency-mismatch", None),
                _ => Fate::Problem(426, "agent-too-old", None),
            },
        }
    }

    /// `None`: the process is killed.
    fn take(&mut self, call: &Call<'_>, created: Wall) -> Option<Result<Reply, ClientError>> {
        self.requests += 1;
        let fate = self.fate();
        match fate {
            Fate::Lost => return Some(Err(ClientError::NoAnswer("lost".into()))),
            Fate::Slow(false) => return Some(Err(ClientError::TimedOut(Duration::ZERO))),
            Fate::Killed(false) => {
                self.killed = true;
                return None;
            }
            Fate::Noise(status, _, body) => return Some(Ok(self.reply(status, "", body.into()))),
            Fate::Problem(status, code, after) => {
                let mut reply = self.reply(status, code, Vec::new());
                reply.retry_after = after.map(Duration::from_secs);
                return Some(Ok(reply));
            }
            Fate::Repeat if !self.earlier.is_empty() => {
                let n = self.earlier.len() as u64;
                let which = self.dice.as_mut().map_or(0, |d| d.below(n)) as usize;
                let batch = self.earlier[which].clone();
                self.store(&batch);
            }
            _ => {}
        }
        if created.unix_seconds().abs_diff(self.now()) > 300 {
            return Some(Ok(self.reply(401, "clock-skew", Vec::new())));
        }
        let Some(body) = call.body else {
            return Some(Ok(self.reply(200, "", b"{}".to_vec())));
        };
        let answer = match self.process(body, call.idempotency_key, &fate) {
            Ok(answer) => answer,
            Err(reply) => return Some(Ok(reply)),
        };
        match fate {
            Fate::Cut => Some(Err(ClientError::NoAnswer("cut".into()))),
            Fate::Slow(_) => Some(Err(ClientError::TimedOut(Duration::ZERO))),
            Fate::Killed(_) => {
                self.killed = true;
                None
            }
            _ => Some(Ok(self.reply(200, "", answer))),
        }
    }

    fn process(&mut self, body: &[u8], key: Option<Uuid>, fate: &Fate) -> Result<Vec<u8>, Reply> {
        if let Some((known, answer)) = key.and_then(|key| self.answers.get(&key)) {
            if known != body {
                return Err(self.reply(422, "idempotency-mismatch", Vec::new()));
            }
            return Ok(answer.clone());
        }
        let batch: Vec<Value> = serde_json::from_slice(body).unwrap();
        assert!(batch.len() <= 256 && body.len() <= 512 << 10);
        if batch.iter().any(|r| self.chokes_on.contains(&id(r))) {
            return Err(self.reply(400, "malformed", Vec::new()));
        }
        let (now, later) = if *fate == Fate::Retry {
            batch.split_at(batch.len() / 2)
        } else {
            (&batch[..], &[][..])
        };
        let mut results = self.store(now);
        results.extend(
            later
                .iter()
                .map(|r| json!({ "id": id(r), "status": "retry" })),
        );
        if *fate == Fate::Odd {
            results.reverse();
            results.truncate(batch.len().div_ceil(2));
            results.push(json!({ "id": Uuid::now_v7(), "status": "accepted" }));
        }
        let answer = json!({ "results": results }).to_string().into_bytes();
        if later.is_empty()
            && let Some(key) = key
        {
            self.answers.insert(key, (body.to_vec(), answer.clone()));
        }
        self.earlier.push(batch);
        Ok(answer)
    }

    /// One transaction.
    fn store(&mut self, batch: &[Value]) -> Vec<Value> {
        let mut results = Vec::with_capacity(batch.len());
        for record in batch {
            let id = id(record);
            let status = match self.records.entry(id) {
                _ if self.refuses.contains(&id) => "rejected",
                Entry::Occupied(_) => "duplicate",
                Entry::Vacant(place) => {
                    place.insert(record.clone());
                    "accepted"
                }
            };
            results.push(json!({ "id": id, "status": status, "code": "schema" }));
        }
        results
    }

    fn reply(&self, status: u16, code: &str, body: Vec<u8>) -> Reply {
        Reply {
            status,
            code: code.to_owned(),
            date: Some(Wall::from_unix_seconds(self.now())),
            etag: None,
            cached: false,
            retry_after: None,
            authentic: status == 200,
            body,
        }
    }
}

fn id(record: &Value) -> Uuid {
    record["id"].as_str().unwrap().parse().unwrap()
}
