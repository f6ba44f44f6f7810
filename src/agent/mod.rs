//! The tasks: one file (or folder) each. They hold the loops; decisions are below, in the pure floors.
//!
//! | task | does |
//! |---|---|
//! | [`camera`] | captures, detects, keeps clips; one a camera |
//! | [`journal`] | commits facts and records, in order |
//! | [`pictures`] | makes the pictures of events, one event after another |
//! | [`claimer`] | finds the device an owner, owns its keys |
//! | [`claimed`] | runs what needs the cloud while there are keys |
//! | [`wipe`] | runs once: removes what a former owner left |
//! | [`uploader`] | brings the outbox to the cloud |
//! | [`media_upload`] | brings clips and pictures to object storage |
//! | [`inbox`], [`poll`] | take commands in: from whoever brings them, by asking the cloud |
//! | [`executor`] | carries them out, one after another |
//! | [`live`] | publishes cameras to media servers, each for a lease |
//! | [`link`] | MQTT: presence, hints, what the cloud sends |
//! | [`janitor`] | keeps the clips within quota, age and free space; tells how the disk is |
//! | [`health`] | heartbeat, figures |
//! | [`herald`] | tells systemd: ready, status line, progress |
//! | [`twin`] | takes what the cloud wants this device to be, and makes it so |
//! | [`status`] | tells a command line how the agent is |
//! | [`reindex`] | makes rows and files agree again after a lost database |
//! | [`startup`] | runs once: puts in order what a crash left |

pub mod camera;
pub mod claimed;
pub mod claimer;
pub mod commands;
pub mod disk;
pub mod executor;
pub mod health;
pub mod herald;
pub mod inbox;
pub mod janitor;
pub mod journal;
pub mod link;
pub mod live;
pub mod media_upload;
pub mod pictures;
pub mod poll;
pub mod records;
pub mod reindex;
pub mod startup;
pub mod status;
pub mod time;
pub mod twin;
pub mod uploader;
pub mod wipe;

#[cfg(test)]
mod command_tests;
