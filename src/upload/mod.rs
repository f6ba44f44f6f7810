//! What is uploaded next, whether it may go now, how fast, and what an answer means: the decisions of the media upload. Pure.

pub mod answer;
pub mod gate;
pub mod order;
pub mod rate;
