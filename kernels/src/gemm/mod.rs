//! Matrix products: `C[m, n] = Σₖ A[m, k]·B[k, n]`, where nearly all of Stable Diffusion's arithmetic happens.
//!
//! | step | idea | AVX-512 | AVX2 | portable |
//! |---|---|---|---|---|
//! | [`mod@reference`] | three loops and sums in `f64`: the definition | | | |
//! | [`row_at_a_time`] | weights in panels of 32 columns; one row of A meets one panel in vector registers | 68, 25 % | 69, 51 % | 52, 84 % |
//! | [`blocked`] | twelve rows share each panel (384 sums live in registers), blocks fit the caches, all cores work | 474, 86 % | 244, 90 % | 80, 65 % |
//!
//! GFLOP/s and share of the peak (`benches/benches/peak.rs`) of an AMD EPYC (Zen 5), 512 rows, 1280 → 1280: the first two on one core and
//! of one core's peak, the last on two. `cargo bench -p aquatint-benches --bench gemm -- "512x1280-1280"`.
//!
//! A is never copied. It is a [`Rows`]: a rule that says where each row's numbers stand. A matrix gives its rows, a
//! convolution gives pixels of its input; both are the same loop. B is a [`Weights`], packed once when a
//! model is loaded.
//!
//! Read next: `microkernel.rs` (the registers), then `blocked.rs` (the caches), `cut.rs` (the cores), then `conv2d`.

pub mod bf16;
pub mod blocked;
mod cut;
mod epilogue;
mod finish;
mod gated;
pub(crate) mod microkernel;
mod pack;
pub mod reference;
mod rounding;
pub mod row_at_a_time;
mod rows;
mod weights;

pub use epilogue::Epilogue;
pub(crate) use epilogue::Place;
pub use gated::GatedWeights;
pub(crate) use microkernel::{ROW_STEP, TILE_ROWS, tile};
pub(crate) use rows::ZEROS;
pub use rows::{Joined, Matrix, Part, Rows};
pub(crate) use weights::MAX_VECTORS;
pub use weights::{PANEL, Packable, Panel, Row, Weights};

#[cfg(test)]
mod tests;
