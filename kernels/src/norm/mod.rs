//! Norms: numbers are moved to mean 0 and scaled to variance 1, a group of channels or a pixel at a
//! time.

pub mod group;
pub mod layer;
pub mod stats;
