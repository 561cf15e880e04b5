//! The CPU: which instructions it has, vectors and tile units that are written once, how fast all of them are, and how work is cut into tasks.

pub mod isa;
pub(crate) mod partition;
pub mod peak;
pub mod simd;
pub mod tile;
