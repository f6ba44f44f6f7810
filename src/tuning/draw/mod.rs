//! Pictures that show what detection saw: boxes, zones, the score curve, contact sheets. Pure: pixels in, pixels out.

mod canvas;
mod curve;
mod frame;
mod sheet;

pub use canvas::{Canvas, Rect};
pub use curve::{Column, Curve, columns};
pub use frame::{Look, annotate, film_frame, film_height};
pub use sheet::{MAX_CLIPS, PICTURES, Pick, Section, THUMB_WIDTH, WIDTH, caption, picks, sheet};
