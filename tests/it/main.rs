//! The one integration-test binary: real GStreamer, real servers, no sleeping; each test waits for what it wants to
//! see, with a deadline.

#![allow(clippy::unwrap_used)]

mod capture;
mod capture_local;
mod watch;
