//! The form in bf16: each of the four phases is a 2×2 convolution of the small image, and writes
//! every second pixel of every second row.
//!
//! The sums of the weights are made and rounded when they are packed, as a tile unit would wait for
//! them, and the plain weights are not kept.
//!
//! Images of an odd size, which grow to one row less than the double, need the plain weights. They
//! follow from the sums (`plain` below).

use aquatint_tensor::{Tensor, View};

use super::{UpsampleWeights, check};
use crate::Isa;
use crate::conv2d;
use crate::conv2d::indirect_tiles::{IndirectTiles, pack_image};
use crate::conv2d::{Geometry, Padding};
use crate::cpu::stored::Stored;
use crate::gemm::{self, ChannelStats, Epilogue, Output, tiled};

/// See [`upsample_conv`](super::upsample_conv()).
///
/// # Panics
/// As [`upsample_conv`](super::upsample_conv()); also if the weights are for f32.
pub fn upsample_conv<X: Stored, T: Stored>(
    isa: Isa,
    x: View<'_, X, 4>,
    w: &UpsampleWeights,
    epilogue: Epilogue<'_, T>,
) -> Tensor<T, 4> {
    upsample_conv_to(isa, x, w, (epilogue, None))
}

/// [`upsample_conv`], which adds the statistics of what it stores to `stats`.
pub(super) fn upsample_conv_to<X: Stored, T: Stored>(
    isa: Isa,
    x: View<'_, X, 4>,
    w: &UpsampleWeights,
    (epilogue, mut stats): (Epilogue<'_, T>, Option<&mut ChannelStats>),
) -> Tensor<T, 4> {
    check(x, w, &epilogue);
    let phases = w.phases();
    let ([images, height, width, _], columns) = (x.shape(), phases[0].out_channels());
    let mut out = Tensor::recycled([images, 2 * height, 2 * width, columns]);
    if out.is_empty() {
        return out;
    }
    let mut pixels: [Vec<&mut [T]>; 4] = [const { Vec::new() }; 4];
    for (i, pixel) in out.as_mut_slice().chunks_exact_mut(columns).enumerate() {
        let (y, x) = (i / (2 * width), i % (2 * width));
        pixels[2 * (y % 2) + x % 2].push(pixel);
    }
    // Packed once for all four.
    let x = pack_image(isa, x, phases[0].precision(), Geometry::same(3));
    for ((phase, w), rows) in PHASES.into_iter().zip(phases).zip(pixels) {
        let a = IndirectTiles::new(&x, geometry(phase));
        let out = Output { rows, stats: stats.as_deref_mut() };
        tiled::product_packed(isa, &a, &w.packed, &epilogue, out);
    }
    out
}

/// Where in its square an output pixel is: row and column.
pub(super) const PHASES: [[usize; 2]; 4] = [[0, 0], [0, 1], [1, 0], [1, 1]];

/// Which taps of the 3×3 window each tap of a phase's 2×2 one is the sum of.
pub(super) fn taps([row, column]: [usize; 2]) -> Vec<Vec<usize>> {
    let taps = PHASES.map(|[i, j]| {
        let columns = sources(column, j);
        sources(row, i).iter().flat_map(|row| columns.iter().map(move |column| 3 * row + column)).collect()
    });
    taps.to_vec()
}

/// The 3×3 weights again, from sums that were rounded. Along an axis
///
/// ```text
/// w₀ and w₂ are there;  w₁ = ((w₁ + w₂) − w₂)/2 + ((w₀ + w₁) − w₀)/2
/// ```
///
/// and the same of both axes. The middle tap gathers 16 rounding errors, each a quarter or less:
/// about twice that of a weight which was rounded itself.
pub(super) fn plain(phases: &[conv2d::ConvWeights; 4]) -> conv2d::ConvWeights {
    /// For each tap of three: phase, tap of two, factor.
    const AXIS: [&[(usize, usize, f32)]; 3] =
        [&[(0, 0, 1.0)], &[(0, 1, 0.5), (1, 1, -0.5), (1, 0, 0.5), (0, 0, -0.5)], &[(1, 1, 1.0)]];
    let tap = |tap: usize| {
        let columns = AXIS[tap % 3];
        let terms = AXIS[tap / 3].iter().flat_map(|&(row_phase, i, row)| {
            columns.iter().map(move |&(phase, j, column)| (2 * row_phase + phase, 2 * i + j, row * column))
        });
        terms.collect()
    };
    let taps: Vec<_> = (0..9).map(tap).collect();
    let packed = gemm::PackedWeights::combined(&phases.each_ref().map(|w| &w.packed), &taps);
    conv2d::ConvWeights::of_packed(packed, [3, 3])
}

/// The taps of the 3×3 window that fall on tap `tap` of the 2×2 one, along one axis.
fn sources(phase: usize, tap: usize) -> &'static [usize] {
    match (phase, tap) {
        (0, 0) => &[0],
        (0, _) => &[1, 2],
        (_, 0) => &[0, 1],
        (_, _) => &[2],
    }
}

/// A 2×2 window that reaches one pixel up or down, and one to the left or right.
fn geometry([row, column]: [usize; 2]) -> Geometry {
    let padding = Padding { top: 1 - row, bottom: row, left: 1 - column, right: column };
    Geometry { kernel_size: [2, 2], stride: [1, 1], padding, dilation: [1, 1] }
}
