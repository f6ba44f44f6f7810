//! The twin: what a device is to be, one signed document with a growing version (protocol section 6).
//!
//! ```text
//! settings (by section) ─┐
//! cameras.desired ───────┼─ compile ─▶ doc ── changed? ─▶ version + 1 ─▶ GET /edge/v1/twin, down/twin
//! ai_policies ∩ licence ─┘
//! ```
//! A section that nobody set is not in the document: the device's own file holds there. Passwords of
//! cameras are wrapped in the database, `***` wherever a person looks, and in clear in the signed
//! document only.
//!
//! The device validates; the cloud refuses only what no device could take.

pub mod document;
pub mod store;
pub mod wish;
