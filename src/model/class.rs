//! Outbox classes: the priority of a record, and what happens to it when its class is full.

/// A record's class: its priority, its quota and what happens when that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// P0: command results, audit, claim, update, gaps. Never dropped: it takes the room of metrics and metadata.
    Critical = 0,
    /// P1: motion, camera up and down. When full, the oldest go, after metrics and metadata are empty.
    Alarm = 1,
    /// P2: recording metadata, snapshots. When full, the oldest go.
    Metadata = 2,
    /// P3: heartbeat, health. The newest replaces the one before it (same type and subject).
    Metric = 3,
}

impl Class {
    /// In order of priority.
    pub const ALL: [Class; 4] = [
        Class::Critical,
        Class::Alarm,
        Class::Metadata,
        Class::Metric,
    ];

    /// The column value.
    pub fn index(self) -> usize {
        self as usize
    }

    /// From the column value.
    pub fn from_index(i: i64) -> Option<Class> {
        usize::try_from(i)
            .ok()
            .and_then(|i| Class::ALL.get(i).copied())
    }

    /// Name for people and for `sync.gap`.
    pub fn name(self) -> &'static str {
        match self {
            Class::Critical => "P0",
            Class::Alarm => "P1",
            Class::Metadata => "P2",
            Class::Metric => "P3",
        }
    }

    /// Must be on disk before the producer goes on; the others share a commit (≤ 250 ms).
    pub fn commits_at_once(self) -> bool {
        matches!(self, Class::Critical | Class::Alarm)
    }
}
