//! Live view as pure decisions: where a camera may be published to ([`place`]), how long and how often it is tried
//! ([`session`]), how many sessions there are ([`Book`]).
//!
//! A session is a lease: it ends by itself at its time, whatever else happens or does not. Time and randomness are
//! arguments; sockets and pipelines are the adapters'.

pub mod place;
pub mod session;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{CameraId, SessionId};
use crate::time::{Mono, Wall};

pub use place::{NoPlace, Place, Way, place};
pub use session::{Act, End, Reason, Session, Trouble};

/// Sessions of one device. When there are as many, another one is refused.
pub const MAX_SESSIONS: usize = 4;
/// The longest lease.
pub const LONGEST_LEASE: Duration = Duration::from_secs(4 * 3600);
/// A cloud's clock may be ahead by this.
const SKEW: Duration = Duration::from_secs(300);

/// When a lease that ends at `expires` is over on this boot's clock, which nobody can set.
///
/// # Errors
/// Words for people, where it is over already or too long.
pub fn lease_end(expires: Wall, wall: Wall, mono: Mono) -> Result<Mono, &'static str> {
    let left = u64::try_from(expires.since_us(wall)).unwrap_or(0);
    let left = Duration::from_micros(left);
    if left.is_zero() {
        return Err("expires_at is over");
    }
    if left > LONGEST_LEASE + SKEW {
        return Err("expires_at is more than 4 hours ahead");
    }
    Ok(mono + left.min(LONGEST_LEASE))
}

/// Why there is no further session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// This one runs.
    #[error("this session runs already")]
    Known,
    /// Its camera has another one.
    #[error("this camera has a live session")]
    Camera,
    /// [`MAX_SESSIONS`].
    #[error("this device has as many live sessions as it may")]
    Device,
}

/// The sessions that run: one a camera, [`MAX_SESSIONS`] in all.
#[derive(Debug, Clone, Default)]
pub struct Book(BTreeMap<SessionId, CameraId>);

impl Book {
    /// Enters a session.
    ///
    /// # Errors
    /// [`Full`]; nothing is entered then.
    pub fn enter(&mut self, session: SessionId, camera: &CameraId) -> Result<(), Full> {
        if self.0.contains_key(&session) {
            return Err(Full::Known);
        }
        if self.0.values().any(|c| c == camera) {
            return Err(Full::Camera);
        }
        if self.0.len() >= MAX_SESSIONS {
            return Err(Full::Device);
        }
        self.0.insert(session, camera.clone());
        Ok(())
    }

    /// It is over.
    pub fn leave(&mut self, session: SessionId) {
        self.0.remove(&session);
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None runs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_lease_lasts_at_most_four_hours_of_boot_time() {
        let (wall, mono) = (Wall::from_unix_seconds(1_000_000), Mono(7));
        let end = |s: i64| lease_end(Wall::from_unix_seconds(1_000_000 + s), wall, mono);
        assert_eq!(end(60), Ok(mono + Duration::from_secs(60)));
        assert_eq!(end(4 * 3600 + 300), Ok(mono + LONGEST_LEASE));
        assert!(end(0).is_err() && end(-5).is_err() && end(4 * 3600 + 301).is_err());
        assert!(lease_end(Wall(i64::MAX), Wall(i64::MIN), mono).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_two_sessions_of_a_camera_nor_more_than_there_may_be(
            steps in proptest::collection::vec((0u128..12, 0u8..7, proptest::bool::ANY), 0..100)
        ) {
            let mut book = Book::default();
            for (session, camera, enters) in steps {
                let session = SessionId(Uuid::from_u128(session));
                if enters {
                    let camera = format!("c{camera}").parse().unwrap();
                    let before = book.0.clone();
                    if book.enter(session, &camera).is_err() {
                        proptest::prop_assert_eq!(&before, &book.0);
                    }
                } else {
                    book.leave(session);
                }
                let cameras: std::collections::BTreeSet<_> = book.0.values().collect();
                proptest::prop_assert_eq!(cameras.len(), book.len());
                proptest::prop_assert!(book.len() <= MAX_SESSIONS);
            }
        }
    }
}
