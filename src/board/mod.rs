//! The machine: clocks, entropy, button, light, its name on the local network, its restart. The only folder that names
//! their crates.
pub mod announce;
pub mod button;
pub mod clock;
pub mod entropy;
pub mod facts;
pub mod led;
pub mod logind;
pub mod power;
