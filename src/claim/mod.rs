//! Decides how a device without an owner becomes a camera of one: what presses of the button mean, when a claim window
//! opens and closes, what is asked of the cloud in it, and what the light shows. Pure: time is an argument.
//!
//! Whatever happens, a device is claimed or unclaimed: credentials count from the moment at which `current.json` holds
//! them, and it holds them only after the cloud has confirmed them in an answer signed with their own key.

pub mod led;
pub mod machine;
mod phase;
pub mod press;
pub mod windows;
