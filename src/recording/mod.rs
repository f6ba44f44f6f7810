//! What is kept and when: decisions about recordings. Pure: values and `now` in, values out.

pub mod ring;
