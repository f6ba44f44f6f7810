//! The machine: clocks, entropy, its restart. The only folder that reads them, and that names `zbus`.
pub mod clock;
pub mod entropy;
pub mod logind;
pub mod power;
