//! Randomness for nonces, jitter and ids.

use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

use crate::time::Wall;

/// The system's random source; cheap to clone.
#[derive(Debug, Clone)]
pub struct Entropy(SystemRandom);

impl Default for Entropy {
    fn default() -> Self {
        Entropy(SystemRandom::new())
    }
}

impl Entropy {
    /// Random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.0
            .fill(&mut out)
            .expect("the kernel's random source works");
        out
    }

    /// The source itself, for keys.
    pub fn source(&self) -> &dyn SecureRandom {
        &self.0
    }

    /// Uniform in 0..1.
    pub fn unit(&self) -> f64 {
        (u64::from_le_bytes(self.bytes()) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A UUIDv7 (RFC 9562 §5.7) of the given time.
    pub fn uuid_v7(&self, now: Wall) -> Uuid {
        let ms = u64::try_from(now.0 / 1000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(ms, &self.bytes()).into_uuid()
    }
}
