//! The arithmetic of Stable Diffusion on a CPU.

pub mod activation;
pub mod attention;
mod chunks;
pub mod conv2d;
pub mod elementwise;
pub mod gemm;
pub mod group_norm;
pub mod isa;
pub mod layer_norm;
pub mod linear;
pub mod simd;
pub mod softmax;
pub mod upsample;

pub use isa::{Isa, IsaError};
#[cfg(test)]
mod testing;
