//! The CPU: its instruction sets, vectors and tile units that are written once for all of them,
//! their peaks, and how work is cut into tasks. Nothing here knows a kernel.

pub mod isa;
pub mod partition;
pub mod peak;
pub mod simd;
pub mod stored;
pub mod tile;
