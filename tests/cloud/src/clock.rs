//! The cloud's clock: the system's, plus a skew that tests set.
//!
//! Everything that verification, `Date` and signed answers call "now" comes from here, so that a
//! skewed cloud is wrong consistently. The database keeps its own clock for `received_at`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A clock that can be wrong by a set number of seconds. Clones share the skew.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    skew_s: Arc<AtomicI64>,
}

impl Clock {
    /// Sets how many seconds the clock is ahead of the system's.
    pub fn set_skew(&self, seconds: i64) {
        self.skew_s.store(seconds, Ordering::Relaxed);
    }

    /// The time as this cloud believes it, `extra_s` seconds further ahead for one request.
    pub fn now(&self, extra_s: i64) -> jiff::Timestamp {
        let skew = self.skew_s.load(Ordering::Relaxed).saturating_add(extra_s);
        let now = jiff::Timestamp::now();
        now.checked_add(jiff::SignedDuration::from_secs(skew))
            .unwrap_or(now)
    }
}

/// Formats a time as an HTTP date (RFC 9110 section 5.6.7): `Sat, 21 Nov 2026 02:00:00 GMT`.
pub fn http_date(at: jiff::Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::UTC)
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_date_has_the_one_form_of_rfc_9110() {
        let at = jiff::Timestamp::from_second(1_795_226_401).unwrap();
        assert_eq!(http_date(at), "Sat, 21 Nov 2026 02:00:01 GMT");
    }
}
