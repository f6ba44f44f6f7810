//! The tasks: one file (or folder) each. They hold the loops; decisions are below, in the pure floors.
//!
//! | task | does |
//! |---|---|
//! | [`camera`] | captures, detects, keeps clips; one a camera |
//! | [`journal`] | commits facts and records, in order |
//! | [`uploader`] | brings the outbox to the cloud |
//! | [`link`] | MQTT: presence, hints, what the cloud sends |
//! | [`health`] | heartbeat, figures, the watchdog's probe |
//! | [`status`] | tells a command line how the agent is |
//! | [`startup`] | runs once: puts in order what a crash left |

pub mod camera;
pub mod health;
pub mod journal;
pub mod link;
pub mod records;
pub mod startup;
pub mod status;
pub mod time;
pub mod uploader;
