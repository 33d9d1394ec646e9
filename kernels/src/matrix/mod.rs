//! Rank-2 storage and views: all the tensor library that a Transformer needs.
//!
//! - [`Matrix`] owns its elements, aligned to a cache line, and reuses its memory when resized.
//! - [`Mat`] and [`MatMut`] are views: rows, columns and a row stride. A head is a range of
//!   columns, a sequence a range of rows; neither is ever copied.
//! - [`Segments`] says where the sequences of a packed batch begin and end.

mod owned;
mod segments;
mod storage;
mod view;

pub use owned::{Element, Matrix};
pub use segments::{InvalidSegments, Segments};
pub use view::{Mat, MatMut};
