//! What of the outbox goes over MQTT as well: command states with QoS 1, one at a time, and alarms as hints.
//!
//! Rows are only read here. A state is passed when the broker has it, or will never have it this way; an alarm is
//! passed when it was sent once. Alarms of the time without a connection are not hinted at any more.

use std::collections::VecDeque;

use serde_json::Value;
use uuid::Uuid;

use crate::db::{Db, DbError, Urgency, tail};
use crate::link::{Publication, Topics, Verdict};
use crate::model::{Class, EpochId};
use crate::wire::envelope::{Stored, render};

/// Rows that are read at once.
const CHUNK: usize = 16;
/// A state that was under way when so many connections broke is not tried again over MQTT.
const TRIES: u8 = 3;
const STATUS_TYPE: &str = "io.sentrycam.command.status.v1";

/// Rows that were read.
#[derive(Debug, Default)]
pub struct Rows {
    critical: Vec<Stored>,
    alarms: Vec<Stored>,
    newest: Option<u64>,
}

/// Where the link stands in the outbox.
#[derive(Debug)]
pub struct Tail {
    edge_id: String,
    epoch: EpochId,
    topics: Topics,
    /// Everything up to this was dealt with.
    settled: u64,
    /// Everything up to this is in `queue`, or no state.
    read: u64,
    queue: VecDeque<(u64, Publication)>,
    tries: u8,
    /// Alarms up to this were hinted at; none while not connected.
    hinted: Option<u64>,
    /// There may be more.
    more: bool,
}

impl Tail {
    /// Begins at the oldest row.
    pub fn new(edge_id: &str, epoch: EpochId) -> Tail {
        Tail {
            edge_id: edge_id.to_owned(),
            epoch,
            topics: Topics::of(edge_id),
            settled: 0,
            read: 0,
            queue: VecDeque::new(),
            tries: 0,
            hinted: None,
            more: true,
        }
    }

    /// A session is over; `blamed`: what was under way may be why.
    pub fn disconnected(&mut self, under_way: bool, blamed: bool) {
        if under_way {
            self.tries = self.tries.saturating_add(1);
            if blamed || self.tries >= TRIES {
                tracing::warn!("a command's state breaks the connection, it goes by HTTPS alone");
                self.pass();
            }
        }
        self.queue.clear();
        self.read = self.settled;
        self.hinted = None;
        self.more = true;
    }

    /// Rows were put.
    pub fn grown(&mut self) {
        self.more = true;
    }

    /// Whether reading may bring something.
    pub fn hungry(&self) -> bool {
        self.more && self.queue.len() < CHUNK
    }

    /// Reads on.
    pub fn look(
        &mut self,
        db: &Db,
    ) -> impl Future<Output = Result<Rows, DbError>> + Send + 'static {
        self.more = false;
        let (db, after, hinted) = (db.clone(), self.read, self.hinted);
        async move {
            db.call(Urgency::Now, move |c, _| {
                Ok(Rows {
                    critical: tail::after(c, Class::Critical, after, CHUNK)?,
                    alarms: match hinted {
                        Some(seq) => tail::after(c, Class::Alarm, seq, CHUNK)?,
                        None => Vec::new(),
                    },
                    newest: match hinted {
                        Some(_) => None,
                        None => Some(tail::newest(c)?),
                    },
                })
            })
            .await
        }
    }

    /// Takes what was read; returns the payloads of hints.
    pub fn take(&mut self, rows: Rows) -> Vec<Vec<u8>> {
        self.more |= rows.critical.len() == CHUNK || rows.alarms.len() == CHUNK;
        if let Some(newest) = rows.newest {
            self.hinted = Some(newest);
        }
        for row in rows.critical {
            self.read = self.read.max(row.seq);
            if let Some(publication) = self.state(&row) {
                self.queue.push_back((row.seq, publication));
            }
        }
        if self.queue.is_empty() {
            self.settled = self.read;
        }
        let mut hints = Vec::with_capacity(rows.alarms.len());
        for row in rows.alarms {
            self.hinted = self.hinted.max(Some(row.seq));
            hints.extend(render(&self.edge_id, self.epoch, &row).map(String::into_bytes));
        }
        hints
    }

    /// The next state to publish.
    pub fn next(&self) -> Option<&Publication> {
        self.queue.front().map(|(_, publication)| publication)
    }

    /// What became of [`Tail::next`].
    pub fn settle(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Delivered | Verdict::NobodyListens | Verdict::Unfit => self.pass(),
            Verdict::Denied | Verdict::Later => {}
        }
    }

    fn pass(&mut self) {
        self.tries = 0;
        if let Some((seq, _)) = self.queue.pop_front() {
            self.settled = seq;
        }
        if self.queue.is_empty() {
            self.settled = self.settled.max(self.read);
        }
    }

    /// A command's state as a publication; `None`: another record, or one that cannot be read.
    fn state(&self, row: &Stored) -> Option<Publication> {
        // Most records of this class are states: rendering first and reading it back costs little.
        let payload = render(&self.edge_id, self.epoch, row)?;
        let event: Value = serde_json::from_str(&payload).ok()?;
        if event["type"] != STATUS_TYPE {
            return None;
        }
        let command: Uuid = event["data"]["command_id"].as_str()?.parse().ok()?;
        Some(Publication {
            topic: self.topics.command_status(command),
            payload: payload.into_bytes(),
            retain: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, RecordId};
    use crate::time::{Mono, TimeQuality};
    use crate::wire::envelope::BootClock;
    use serde_json::json;

    fn row(seq: u64, kind: &str, data: Value) -> Stored {
        Stored {
            seq,
            id: RecordId(Uuid::from_u128(seq.into())),
            boot: BootId(Uuid::nil()),
            at: Mono(0),
            body: json!({ "type": kind, "severity": "info", "data": data }).to_string(),
            clock: BootClock {
                offset_us: 0,
                quality: TimeQuality::None,
            },
        }
    }

    fn state(seq: u64) -> Stored {
        row(
            seq,
            STATUS_TYPE,
            json!({ "command_id": Uuid::from_u128(seq.into()) }),
        )
    }

    fn tail(critical: Vec<Stored>) -> Tail {
        let mut tail = Tail::new("e-1", EpochId(Uuid::nil()));
        tail.more = false;
        let rows = Rows {
            critical,
            ..Rows::default()
        };
        assert_eq!(tail.take(rows), Vec::<Vec<u8>>::new());
        tail
    }

    #[test]
    fn what_is_no_state_is_passed_with_the_states_around_it() {
        let other = |seq| row(seq, "io.sentrycam.sync.gap.v1", json!({}));
        let nameless = row(4, STATUS_TYPE, json!({ "command_id": "../../state" }));
        let mut t = tail(vec![
            other(1),
            state(2),
            other(3),
            nameless,
            state(5),
            other(6),
        ]);
        assert_eq!(t.queue.len(), 2);
        assert_eq!(t.settled, 0);
        t.settle(Verdict::Delivered);
        assert_eq!(t.settled, 2);
        t.settle(Verdict::NobodyListens);
        assert_eq!((t.settled, t.next()), (6, None));
        assert_eq!(tail(vec![other(1)]).settled, 1);
    }

    #[test]
    fn what_the_broker_puts_off_stays_the_next_and_what_it_cannot_take_is_passed() {
        let mut t = tail(vec![state(1), state(2)]);
        for verdict in [Verdict::Denied, Verdict::Later] {
            t.settle(verdict);
            assert_eq!((t.settled, t.queue.len()), (0, 2));
        }
        t.settle(Verdict::Unfit);
        assert_eq!((t.settled, t.queue.len()), (1, 1));
    }

    #[test]
    fn a_lost_connection_reads_again_and_a_state_that_breaks_it_is_passed() {
        let mut t = tail(vec![state(1), state(2)]);
        t.settle(Verdict::Delivered);
        t.disconnected(false, false);
        assert_eq!((t.read, t.queue.len(), t.hungry()), (1, 0, true));
        for passed in [1, 1, 2] {
            let rows = Rows {
                critical: vec![state(2)],
                ..Rows::default()
            };
            t.take(rows);
            t.disconnected(true, false);
            assert_eq!((t.settled, t.read), (passed, passed));
        }
        let mut t = tail(vec![state(1)]);
        t.disconnected(true, true);
        assert_eq!(t.settled, 1, "the broker said that it is to blame");
    }
}
