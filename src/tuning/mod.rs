//! Tuning without guessing: what recorded pictures would have caused, drawn, and settings proposed from labelled clips.
//! Pure: pictures and settings in, events, drawings and proposals out.
//!
//! [`replay`] runs the live detector and the live event machine; nothing here decides anew what motion or an event is.

pub mod draw;
pub mod heat;
pub mod intervals;
pub mod masks;
pub mod replay;
pub mod suggest;
pub mod zones;
