//! The arithmetic of Stable Diffusion on a CPU: kernels from their definition to their fastest
//! form, one idea at a time.
//!
//! | folder | what | where in Stable Diffusion |
//! |---|---|---|
//! | [`gemm`], [`linear`] | matrix products | a third of a UNet step |
//! | [`conv2d`] | convolutions | half of a UNet step, nearly all of the VAE |
//! | [`conv2d::upsample`] | a doubling and the convolution after it | between the levels |
//! | [`attention`] | softmax(Q·Kᵀ)·V | each transformer block, to the image and to the text |
//! | [`norm`], [`softmax`] | statistics of neighbours | between all of these |
//! | [`activation`], [`elementwise`] | number by number | the same |
//! | [`packed_input`] | what a norm makes for a product: f32, or packed in bf16 | the same |
//! | [`cpu`] | instruction sets, vectors, tile units, peaks | below all of these |
//!
//! Every kernel with more than one form is a folder with a ladder: `reference.rs` is the
//! definition, with sums in `f64`; each further file is one idea; `mod.rs` lists the steps and
//! picks. Kernels take an [`Isa`] first and cut their work by shape: the same bits on any number of
//! threads. Read `kernels/README.md` (the life of a convolution), then [`gemm`], [`cpu::simd`],
//! [`conv2d`], [`cpu::tile`], [`attention`], [`norm::group`].

pub mod activation;
pub mod attention;
pub mod conv2d;
pub mod cpu;
pub mod elementwise;
pub mod gemm;
pub mod linear;
pub mod norm;
pub mod packed_input;
mod precision;
pub mod softmax;

pub use cpu::isa::{Bf16Gain, Isa, IsaError};
pub use precision::{Precision, UnknownPrecision};
#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod testing;
