//! The tasks: one file (or folder) each. They hold the loops; decisions are below, in the pure floors.
//!
//! | task | does |
//! |---|---|
//! | [`camera`] | captures, detects, keeps clips; one a camera |
//! | [`journal`] | commits facts and records, in order |
//! | [`claimer`] | finds the device an owner, owns its keys |
//! | [`syncer`] | runs the uploader while there are keys |
//! | [`wipe`] | runs once: removes what a former owner left |
//! | [`uploader`] | brings the outbox to the cloud |
//! | [`health`] | heartbeat, figures, the watchdog's probe |
//! | [`status`] | tells a command line how the agent is |
//! | [`startup`] | runs once: puts in order what a crash left |

pub mod camera;
pub mod claimer;
pub mod health;
pub mod journal;
pub mod records;
pub mod startup;
pub mod status;
pub mod syncer;
pub mod time;
pub mod uploader;
pub mod wipe;
