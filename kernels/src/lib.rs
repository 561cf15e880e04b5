//! The arithmetic of Stable Diffusion on a CPU: kernels from their definition to their fastest
//! form, one idea at a time.
//!
//! | folder | what | where in Stable Diffusion |
//! |---|---|---|
//! | [`gemm`], [`linear`] | matrix products | a third of a UNet step |
//! | [`conv2d`] | convolutions | half of a UNet step, nearly all of the VAE |
//! | [`attention`] | softmax(Q·Kᵀ)·V | each transformer block, to the image and to the text |
//! | [`norm::group`], [`norm::layer`], [`softmax`] | statistics of neighbours | between all of these |
//! | [`activation`], [`elementwise`], [`conv2d::upsample::nearest`] | number by number | the same |
//! | [`norm::stats`] | mean and variance for a norm, taken by the layer in front of it | between these |
//! | [`packed_input`] | what a norm makes for a product: f32, or rounded | between these |
//! | [`conv2d::upsample`] | an upsampling and the convolution after it, without the large image | between the levels of UNet and decoder |
//! | [`cpu::peak`] | how fast all of these could be at most | |
//! | [`cpu::isa`], [`cpu::simd`] | which instructions the CPU has; vector code that is written once | below all of these |
//!
//! Every kernel with more than one form is a folder with a ladder: `reference.rs` is the
//! definition, with sums in `f64`; each further file is one idea; `mod.rs` lists the steps, with
//! their speed where arithmetic is the limit, and picks. All agree with the reference on every
//! instruction set.
//!
//! Kernels take an [`Isa`] first and cut their work by shape, so that a result has the same bits on
//! any number of threads. They know shapes, not networks: what a UNet is stands in
//! `aquatint-model`.
//!
//! Reading order: [`gemm`] (three loops, then vectors, then register tiles), [`cpu::simd`] (how a
//! loop is written once for all CPUs), [`conv2d`] (from seven loops to a product that never writes
//! its matrix), [`cpu::tile`] (tile units), [`attention`], [`norm::group`] and [`norm::stats`].

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
