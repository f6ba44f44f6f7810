//! Integration tests against real GStreamer, files and processes. Nothing sleeps; every wait has a deadline.

#![allow(clippy::unwrap_used)]

mod clip;
mod fixture;
mod sampler;
