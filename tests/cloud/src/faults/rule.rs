//! One rule of the fault layer.

use serde::{Deserialize, Serialize};

/// What to do to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// Answer this status at once, unsigned.
    Fail {
        /// The status.
        status: u16,
        /// The problem's code; without it, the usual one of the status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// Value of `Retry-After`: seconds or an HTTP date.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
    },
    /// Say nothing for so long, then cut the connection. Nothing is processed.
    Hang {
        /// Seconds.
        seconds: f64,
    },
    /// Wait so long, then process as usual.
    Delay {
        /// Seconds.
        seconds: f64,
    },
    /// Cut the connection before processing.
    CutBefore,
    /// Process and commit, then cut the connection instead of answering.
    CutAfterCommit,
    /// Process the batch twice; the answer is the second's. Commands: hand out each twice.
    Duplicate,
    /// Answer with the results, or the commands, in reversed order.
    Reorder,
    /// Hand out hostile documents (see `crate::hostile`) whose name begins with this, instead of real ones:
    /// at most 400 KB of commands, or the first twin.
    Hostile {
        /// Beginning of their names; empty for all.
        #[serde(default)]
        name: String,
        /// So many of them are left out first.
        #[serde(default)]
        skip: usize,
    },
    /// Hand out the newest commands again, whether they have ended or expired.
    Stale,
    /// For this request the cloud's clock is so far ahead.
    Skew {
        /// Seconds, may be negative.
        seconds: i64,
    },
    /// 200 with a body that is not JSON; nothing is processed.
    #[serde(rename = "garbage_200")]
    Garbage200,
    /// 200 with a page of HTML, as a captive portal does; nothing is processed.
    #[serde(rename = "html_200")]
    Html200,
    /// Process and commit; of the answer half arrives.
    #[serde(rename = "truncated_200")]
    Truncated200,
    /// A signed 200 without results; nothing is stored.
    EmptyResults,
    /// A signed 200 that says `retry` for each record; nothing is stored.
    RetryAll,
    /// 410 `unclaimed` without a signature: must never wipe anything.
    #[serde(rename = "unsigned_410")]
    Unsigned410,
    /// Process and answer, with the signature taken off.
    UnsignedAnswer,
    /// Process and answer, with a `Date` so far off, changed after signing.
    AlteredDate {
        /// Seconds, may be negative.
        seconds: i64,
    },
    /// 502 with a page of HTML, as a proxy does; nothing is processed.
    #[serde(rename = "html_502")]
    Html502,
}

impl What {
    /// `Fail` with a status and its usual code.
    pub fn fail(status: u16) -> Self {
        Self::Fail {
            status,
            code: None,
            retry_after: None,
        }
    }
}

/// The code that the protocol's table has for a status.
pub(super) fn usual_code(status: u16) -> &'static str {
    match status {
        400 => "malformed",
        401 => "unknown-key",
        403 => "suspended",
        404 => "not-found",
        409 => "in-progress",
        410 => "unclaimed",
        413 => "too-large",
        415 => "encoding",
        422 => "idempotency-mismatch",
        426 => "agent-too-old",
        429 => "too-many-requests",
        502..=504 => "unavailable",
        _ => "internal",
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule<W = What> {
    /// Applies to paths that begin with this; empty for all.
    #[serde(default)]
    pub path: String,
    /// What to do.
    #[serde(flatten)]
    pub what: W,
    /// Leave so many matching requests alone first.
    #[serde(default)]
    pub after: u64,
    /// Apply to so many requests, then no more; without it, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Apply with this probability, 0 to 1; without it, always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Seed of the probability: the same seed gives the same sequence.
    #[serde(default)]
    pub seed: u64,
}

impl<W> Rule<W> {
    /// Always do this to paths that begin with `path`.
    pub fn always(path: impl Into<String>, what: W) -> Self {
        Self {
            path: path.into(),
            what,
            after: 0,
            times: None,
            probability: None,
            seed: 0,
        }
    }

    /// Do this to the first `times` requests to paths that begin with `path`.
    pub fn times(path: impl Into<String>, what: W, times: u64) -> Self {
        Self {
            times: Some(times),
            ..Self::always(path, what)
        }
    }

    /// Do this with a probability, by a seeded sequence.
    pub fn sometimes(path: impl Into<String>, what: W, probability: f64, seed: u64) -> Self {
        Self {
            probability: Some(probability),
            seed,
            ..Self::always(path, what)
        }
    }
}

/// A rule in use.
#[derive(Debug)]
pub(super) struct Live<W = What> {
    pub(super) rule: Rule<W>,
    pub(super) hits: u64,
    matched: u64,
    random: u64,
}

impl<W: Clone> Live<W> {
    pub(super) fn new(rule: Rule<W>) -> Self {
        let random = rule.seed;
        Self {
            rule,
            hits: 0,
            matched: 0,
            random,
        }
    }

    /// What to do to the next request of this path, if this rule applies.
    pub(super) fn pick(&mut self, path: &str) -> Option<W> {
        if !path.starts_with(&self.rule.path) {
            return None;
        }
        self.matched += 1;
        if self.matched <= self.rule.after
            || self.rule.times.is_some_and(|times| self.hits >= times)
        {
            return None;
        }
        if let Some(probability) = self.rule.probability
            && self.next_random() >= probability
        {
            return None;
        }
        self.hits += 1;
        Some(self.rule.what.clone())
    }

    /// SplitMix64, as a number from 0 to below 1.
    fn next_random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_counts_what_it_matches() {
        let mut live = Live::new(Rule {
            after: 1,
            ..Rule::times("/edge", What::CutBefore, 2)
        });
        let picks: Vec<bool> = ["/x", "/edge/a", "/edge/b", "/edge/c", "/edge/d"]
            .map(|p| live.pick(p).is_some())
            .into();
        assert_eq!(picks, [false, false, true, true, false]);
    }

    #[test]
    fn a_seed_gives_the_same_sequence_again() {
        let sequence = |seed| {
            let mut live = Live::new(Rule::sometimes("", What::Reorder, 0.3, seed));
            (0..1000)
                .map(|_| live.pick("/").is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
        let hits = sequence(7).iter().filter(|hit| **hit).count();
        assert!((200..400).contains(&hits), "{hits}");
    }

    #[test]
    fn rules_are_read_from_json() {
        let rules: Vec<Rule> = serde_json::from_str(
            r#"[{"path": "/edge", "what": "fail", "status": 503, "retry_after": "7", "times": 2},
                {"what": "hang", "seconds": 1.5}, {"what": "garbage_200", "probability": 0.5, "seed": 3},
                {"what": "unsigned_410"}, {"what": "skew", "seconds": -600}]"#,
        )
        .unwrap();
        assert_eq!(rules.len(), 5);
        assert_eq!(rules[4].what, What::Skew { seconds: -600 });
    }
}
