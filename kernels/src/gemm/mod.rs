//! Matrix products.

pub(crate) mod tile;
