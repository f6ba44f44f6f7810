//! What the caller of a failed operation can do.

/// The retry class that every adapter error has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same call may succeed later (disk full, device busy, network down).
    Later,
    /// The same call will always fail (malformed input, unsupported format).
    Never,
    /// The process cannot do its work (missing plugin, broken installation).
    Fatal,
}
