//! Decisions about events and clips: when an event starts and ends, where a file is cut. Pure: pts come as arguments.

pub mod event;
pub mod segment;
