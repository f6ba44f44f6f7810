//! The machine: clocks, entropy. The only folder that reads them.
pub mod clock;
pub mod entropy;
