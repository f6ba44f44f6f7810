//! Decisions about recording: which packets are kept in memory, when an event starts and ends, where a file is cut, which
//! file must go, whether rows and files agree, how the disk is. Pure: time comes as an argument.

pub mod audit;
pub mod event;
pub mod joining;
pub mod retention;
pub mod ring;
pub mod storage;
