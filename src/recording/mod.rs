//! Decisions about recording: which packets are kept in memory, when an event starts and ends, where a file is cut.
//! Pure: pts come as arguments.

pub mod event;
pub mod ring;
