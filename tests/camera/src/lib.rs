//! RTSP cameras for tests, benchmarks and the demo.
//!
//! [`TestCamera`] is a well-behaved camera served by GStreamer: a pattern with a frame counter and motion at known
//! times, or a file in a seamless loop. [`BadCamera`] misbehaves by script, [`Proxy`] stands before a good one and
//! stalls or cuts it, [`Mangler`] spoils its packets. [`MediaServer`] is where a camera is published to. [`write_clip`] writes files. Everything listens on 127.0.0.1 and on ports of its own choice.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bad;
mod clients;
mod clip;
mod ingest;
mod mangle;
mod pattern;
mod player;
mod proxy;
mod record;
mod server;
mod tls;

pub use bad::{BadCamera, Misbehaviour};
pub use clip::{ClipSpec, write_clip};
pub use ingest::{Ingest, MediaServer};
pub use mangle::{Mangler, Spoil};
pub use pattern::{Scene, draw_counter, paint, read_counter, read_counter_scaled};
pub use proxy::Proxy;
pub use server::{Audio, Auth, Codec, Options, Picture, Source, TestCamera};
pub use tls::{issued, self_signed};
