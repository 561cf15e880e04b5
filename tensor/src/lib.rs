//! Strided tensors: the shapes, and nothing but the shapes.
//!
//! A tensor is a flat buffer and a rule that turns an index into a position in it:
//!
//! ```text
//! position(i) = i[0]·strides[0] + i[1]·strides[1] + … + i[N−1]·strides[N−1]
//! ```
//!
//! [`Tensor`] owns its buffer and is always row-major (the last index runs fastest). [`View`]
//! borrows a buffer under any strides; slicing, permuting and broadcasting only compute new shapes
//! and strides. Nothing is copied until [`View::to_tensor`] is called.
//!
//! The rank `N` is part of the type, because each rank in Stable Diffusion is known when the line
//! is written: `let [n, h, w, c] = x.shape();` needs no check and no error path.
//!
//! There is no SIMD here, no thread and no `unsafe`; arithmetic lives in `aquatint-kernels`.
//!
//! Reading order: [`shape`] (strides), [`element`] (what a tensor holds), `tensor.rs`, `view.rs`,
//! then `concat.rs`, `display.rs` and `recycle.rs` (memory that is used again).

#![forbid(unsafe_code)]

mod concat;
mod display;
pub mod element;
mod recycle;
pub mod shape;
mod tensor;
mod view;

pub use concat::concat;
pub use element::{DType, Element, bf16, f16};
pub use recycle::{Recycled, Recycling};
pub use tensor::Tensor;
pub use view::View;
