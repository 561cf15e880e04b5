//! Few output channels, the three of a picture or the four of a latent: a dot product for each,
//! along the input's channels.
//!
//! ```text
//! for each task of pixels
//!     for each few pixels                            (their 4 columns of sums live in registers)
//!         for each tap, for each vector of channels
//!             sums[pixel][column] += x[channels under the tap] · w[column][channels]
//!         out[pixel][column] = sum of the lanes + bias
//! ```
//!
//! The other forms compute a panel of 32 columns whatever there is to be computed; here a lane is a
//! channel of the input, not a column of the output, and no multiplication is wasted. The order of
//! a sum is another one, so results differ in the last digits.

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::indirect::PatchRows;
use super::{ConvWeights, Geometry};
use crate::Isa;
use crate::cpu::partition::row_major;
use crate::cpu::simd::{Op, Simd, portable::Portable};
use crate::gemm::{DepthRange, PanelRow, Rows};

/// The most output channels.
pub const MAX_COLUMNS: usize = 4;

/// Pixels of a task.
const TASK_PIXELS: usize = 256;
/// Channels of a part of a tap: the most that [`Rows::gather`] gives at a time.
const PART: usize = 512;

/// A convolution with few output channels; see [`conv2d`](super::conv2d()). `bias`: one number for
/// each.
///
/// # Panics
/// As [`conv2d`](super::conv2d()); also if there are more than [`MAX_COLUMNS`] output channels, or
/// the weights are not for f32.
pub fn conv2d(
    isa: Isa,
    x: View<'_, f32, 4>,
    w: &ConvWeights,
    geometry: Geometry,
    bias: &[f32],
) -> Tensor<f32, 4> {
    let ([images, height, width, channels], columns) = (x.shape(), w.out_channels());
    assert!(columns <= MAX_COLUMNS, "{columns} output channels are more than {MAX_COLUMNS}");
    assert_eq!(bias.len(), columns, "the bias has {} numbers for {columns} channels", bias.len());
    w.check(channels, geometry.kernel_size);
    let [out_height, out_width] = geometry.output_or_panic([height, width]);
    let mut out = Tensor::recycled([images, out_height, out_width, columns]);
    if out.is_empty() {
        return out;
    }
    let x = row_major(x);
    let pixels = PatchRows::new(&x, [height, width, channels], geometry);
    let taps = geometry.kernel_size[0] * geometry.kernel_size[1];
    let parts = parts(taps, channels);
    let w = columns_of(w, taps * channels);
    out.as_mut_slice().par_chunks_mut(TASK_PIXELS * columns).enumerate().for_each(|(i, out)| {
        isa.run(Task { pixels: &pixels, parts: &parts, w: &w, bias, first: i * TASK_PIXELS, out });
    });
    out
}

/// The depth, tap by tap.
fn parts(taps: usize, channels: usize) -> Vec<DepthRange> {
    let of_tap = |segment: usize| {
        (0..channels).step_by(PART).map(move |first| DepthRange {
            segment,
            range: first..channels.min(first + PART),
            start: segment * channels + first,
        })
    };
    (0..taps).flat_map(of_tap).collect()
}

/// The weights of each output channel one behind the other; zeros for those that do not exist.
fn columns_of(w: &ConvWeights, depth: usize) -> [Vec<f32>; MAX_COLUMNS] {
    let mut scratch = vec![PanelRow::ZERO; depth];
    let rows = w.packed.block(Portable, 0, 0, depth, &mut scratch);
    std::array::from_fn(|column| rows.iter().map(|row| row[column]).collect())
}

/// Some pixels of the output.
struct Task<'a> {
    pixels: &'a PatchRows<'a>,
    parts: &'a [DepthRange],
    w: &'a [Vec<f32>; MAX_COLUMNS],
    bias: &'a [f32],
    /// The first of them.
    first: usize,
    out: &'a mut [f32],
}

impl Op for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        // As many pixels as leave registers for a vector of each column's weights, and one of the
        // pixel.
        match S::REGISTERS {
            32.. => self.eval_with::<S, 6>(s),
            16.. => self.eval_with::<S, 2>(s),
            _ => self.eval_with::<S, 1>(s),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn eval_with<S: Simd, const PIXELS: usize>(self, s: S) {
        let Self { pixels, parts, w, bias, first, out } = self;
        let columns = bias.len();
        let count = out.len() / columns;
        let mut rows: Vec<&[f32]> = Vec::with_capacity(parts.len() * count);
        for part in parts {
            pixels.gather(first..first + count, part.clone(), &mut rows);
        }
        for (group, out) in out.chunks_mut(PIXELS * columns).enumerate() {
            let mut sums = [[s.zero(); MAX_COLUMNS]; PIXELS];
            for (part, rows) in parts.iter().zip(rows.chunks_exact(count)) {
                let len = part.range.len();
                let mut x: [&[f32]; PIXELS] = [&[]; PIXELS];
                for (i, x) in x.iter_mut().enumerate() {
                    // Behind the last pixel it is computed once more.
                    *x = &rows[(group * PIXELS + i).min(count - 1)][..len];
                }
                let mut y: [&[f32]; MAX_COLUMNS] = [&[]; MAX_COLUMNS];
                for (y, w) in y.iter_mut().zip(w) {
                    *y = &w[part.start..][..len];
                }
                for c in (0..len).step_by(S::LANES) {
                    let whole = c + S::LANES <= len;
                    let load = |x: &[f32]| if whole { s.load(&x[c..]) } else { s.load_or(&x[c..], 0.0) };
                    let mut weights = [s.zero(); MAX_COLUMNS];
                    for j in 0..MAX_COLUMNS {
                        weights[j] = load(y[j]);
                    }
                    for i in 0..PIXELS {
                        let x = load(x[i]);
                        for j in 0..MAX_COLUMNS {
                            sums[i][j] = s.mul_add(x, weights[j], sums[i][j]);
                        }
                    }
                }
            }
            for (sums, out) in sums.into_iter().zip(out.chunks_exact_mut(columns)) {
                for ((sum, bias), out) in sums.into_iter().zip(bias).zip(out) {
                    *out = s.sum(sum) + bias;
                }
            }
        }
    }
}
