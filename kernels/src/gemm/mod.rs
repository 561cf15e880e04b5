//! Matrix products, nearly all of Stable Diffusion's arithmetic: `C[m, n] = Σₖ A[m, k]·B[k, n]`.
//!
//! | step | idea | AVX-512 | AVX2 | portable |
//! |---|---|---|---|---|
//! | [`mod@reference`] | three loops and sums in `f64`: the definition | | | |
//! | [`row_at_a_time`] | weights in panels of 32 columns; one row of A meets one panel in vector registers | 68, 25 % | 69, 51 % | 52, 84 % |
//! | [`blocked`] | twelve rows share each panel (384 sums live in registers), blocks fit the caches, all cores work | 474, 86 % | 244, 90 % | 80, 65 % |
//!
//! GFLOP/s and share of the peak (`benches/benches/peak.rs`) of an AMD EPYC (Zen 5), 512 rows, 1280
//! → 1280, the last on two cores: `cargo bench -p aquatint-benches --bench gemm --
//! "512x1280-1280"`.
//!
//! A is a [`Rows`]: where each row's numbers are, rows of a matrix or pixels of a convolution's
//! input. B is a [`PackedWeights`], packed once when a model is loaded.
//!
//! Names are those of GotoBLAS: an MR × NR tile of sums in registers, KC of the depth in the L1
//! cache, MC × NC a task. *Segments* cut the depth K, one for each tap of a convolution. In bf16 a
//! *k-step* is 32 of the depth, what a tile register holds; a *term* is `hi` or `lo` of a number.
//!
//! Read next: `b/` and `a/` (operands), `cpu/tile/microkernel.rs` (registers), `blocked.rs`
//! (caches), `partition.rs` (cores), `epilogue/`; then [`cpu::tile`](crate::cpu::tile), `tiled.rs`.

pub(crate) mod a;
mod b;
pub mod blocked;
mod epilogue;
mod partition;
pub mod reference;
pub mod row_at_a_time;
pub(crate) mod tiled;

use crate::cpu::stored::Stored;
pub use crate::cpu::tile::BTile;
pub(crate) use crate::cpu::tile::MAX_VECTORS;
pub(crate) use crate::cpu::tile::microkernel::{MR, MR_STEP, tile};
pub use crate::cpu::tile::{NR, PanelRow, Row};
use crate::{Isa, Precision};
pub use a::packed::PackedA;
pub(crate) use a::packed::RowsFrom;
pub use a::rows::{ConcatRows, DepthRange, Matrix, Rows};
pub(crate) use a::rows::{RowSource, ZEROS};
pub use b::panels::Packable;
pub use b::weights::PackedWeights;
pub use epilogue::Epilogue;
pub(crate) use epilogue::Output;
pub(crate) use epilogue::TileOrigin;
pub use epilogue::geglu::GegluWeights;
pub(crate) use epilogue::stats;
pub use epilogue::stats::{ChannelStats, Welford};
pub(crate) use partition::rows_of;

/// `out[m, n] = epilogue(Σₖ a[m, k]·w[n, k])` for `rows` rows; `out: [rows, w.out_features()]`,
/// row-major.
///
/// # Panics
/// If `out` or the epilogue's terms have other sizes.
pub fn product<T: Stored>(
    isa: Isa,
    rows: usize,
    a: &impl Rows,
    w: &PackedWeights,
    epilogue: &Epilogue<'_, T>,
    out: &mut [T],
) {
    product_to(isa, a, w, epilogue, rows_of(out, rows, w.out_features()).into());
}

/// [`product`] for as many rows as the output has, which may be anywhere.
pub(crate) fn product_to<T: Stored>(
    isa: Isa,
    a: &impl Rows,
    w: &PackedWeights,
    epilogue: &Epilogue<'_, T>,
    out: Output<'_, T>,
) {
    match w.precision() {
        Precision::F32 => blocked::product(isa, a, w, epilogue, out.rows),
        Precision::Bf16 | Precision::Bf16x3 => tiled::product(isa, a, w, epilogue, out),
    }
}

#[cfg(test)]
mod tests;
