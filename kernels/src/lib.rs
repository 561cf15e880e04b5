//! The arithmetic of Stable Diffusion on a CPU: kernels from their definition to their fastest form, one idea at a time.
//!
//! | folder | what | where in Stable Diffusion |
//! |---|---|---|
//! | [`gemm`], [`linear`] | matrix products | a third of a UNet step |
//! | [`conv2d`] | convolutions | half of a UNet step, nearly all of the VAE |
//! | [`attention`] | softmax(Q·Kᵀ)·V | each transformer block, to the image and to the text |
//! | [`group_norm`], [`layer_norm`], [`softmax`] | statistics of neighbours | between all of these |
//! | [`activation`], [`elementwise`], [`upsample`] | number by number | the same |
//! | [`moments`] | mean and variance for a norm, taken by the layer in front of it | between these |
//! | [`operand`] | what a norm makes for a product: f32, or rounded | between these |
//! | [`upsample_conv`] | an upsampling and the convolution after it, without the large image | between the levels of UNet and decoder |
//! | [`peak`] | how fast all of these could be at most | |
//! | [`isa`], [`simd`] | which instructions the CPU has; vector code that is written once | below all of these |
//!
//! Every kernel with more than one form is a folder with a ladder: `reference.rs` is the definition, with sums in `f64`; each further file is one
//! idea; `mod.rs` lists the steps, with their speed where arithmetic is the limit, and picks. All agree with the reference on every instruction set.
//!
//! Kernels take an [`Isa`] first and cut their work by shape, so that a result has the same bits on any number of threads.
//! They know shapes, not networks: what a UNet is stands in `aquatint-model`.
//!
//! Reading order: [`gemm`] (three loops, then vectors, then register tiles), [`simd`] (how a loop is written once for all CPUs), [`conv2d`] (from
//! seven loops to a product that never writes its matrix), [`gemm::bf16`] (tile units), [`attention`], [`group_norm`] and [`moments`].

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
pub mod moments;
pub mod operand;
pub mod peak;
mod precision;
pub mod simd;
pub mod softmax;
pub mod upsample;
pub mod upsample_conv;

pub use isa::{Bf16Gain, Isa, IsaError};
pub use precision::{Precision, UnknownPrecision};
#[cfg(test)]
mod testing;
