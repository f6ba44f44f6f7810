//! Commands: what the cloud asks of a device, once.
//!
//! A command is a row before anybody is told. It becomes a signed document only when it is handed out, by
//! poll (`GET /edge/v1/commands`) or over MQTT, and since everything signed is in the row, both ways give
//! the same bytes for one key. What the device says about it comes back as records.
//!
//! | file | |
//! |---|---|
//! | `issue` | an operator asks, looks, cancels |
//! | `leave` | the end of a claim: asked for, done, or due |
//! | `deliver` | rows become documents; unanswered ones expire |
//! | `state` | the states, pure |
//! | `crate::project::command` | the device's words → the row |

pub mod deliver;
pub mod issue;
pub mod leave;
pub mod state;

pub use issue::{Wanted, cancel, send, show};
