//! The right operand, packed once into the order in which the inner loop reads it.
//!
//! A panel is 32 output columns wide: two AVX-512 vectors, four of eight lanes. All its depth stands together, so that
//! the inner loop walks through memory from start to end:
//!
//! ```text
//! panels[n / 32][k][n % 32]        k = (segment, position in the segment)
//! ```
//!
//! The depth comes in segments of equal length: one for a linear layer, one for each tap of a convolution. A last
//! panel that is not full is filled with zeros. Weights stay in the type in which they were published; 16-bit ones
//! become `f32` a block at a time, just before use.

use std::sync::Arc;

use aquatint_tensor::{DType, Element, View, bf16, f16};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Columns in a panel.
pub const PANEL: usize = 32;

/// One row of a panel: the same depth in 32 neighbouring columns.
pub type Panel = [f32; PANEL];

/// Rows of a panel that are summed at a time: 2 KB.
const SUMMED: usize = 16;

/// The weights of a linear layer or a convolution, packed for [`blocked`](super::blocked).
pub struct Weights {
    panels: Panels,
    out_features: usize,
    segments: usize,
    segment_len: usize,
}

/// The packed numbers in their published type. Not part of the public interface.
#[doc(hidden)]
pub enum Panels {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    /// See [`Weights::sums`].
    Sums {
        of: Arc<Weights>,
        segments: Vec<Vec<usize>>,
    },
}

/// An element type that weights can be packed from: `f32`, `f16` or `bf16`.
pub trait Packable: Element {
    #[doc(hidden)]
    fn wrap(panels: Vec<Self>) -> Panels;
}

impl Packable for f32 {
    fn wrap(panels: Vec<f32>) -> Panels {
        Panels::F32(panels)
    }
}
impl Packable for f16 {
    fn wrap(panels: Vec<f16>) -> Panels {
        Panels::F16(panels)
    }
}
impl Packable for bf16 {
    fn wrap(panels: Vec<bf16>) -> Panels {
        Panels::Bf16(panels)
    }
}

impl Weights {
    /// Packs the weights of a linear layer, `w: [out_features, in_features]`.
    pub fn pack<T: Packable>(w: View<'_, T, 2>) -> Self {
        let [out_features, in_features] = w.shape();
        let w = w.reshape([out_features, 1, in_features]).expect("an axis of length 1 needs no copy");
        Self::pack_segments(w)
    }

    /// Packs weights whose depth comes in segments, `w: [out_features, segments, segment_len]` under any strides.
    pub fn pack_segments<T: Packable>(w: View<'_, T, 3>) -> Self {
        let [out_features, segments, segment_len] = w.shape();
        let depth = segments * segment_len;
        let mut panels = vec![T::default(); out_features.div_ceil(PANEL) * depth * PANEL];
        if depth > 0 {
            panels.par_chunks_exact_mut(depth * PANEL).enumerate().for_each(|(i, panel)| {
                let first = i * PANEL;
                let columns = PANEL.min(out_features - first);
                let w = w.slice(0, first..first + columns);
                for (k, row) in panel.chunks_exact_mut(PANEL).enumerate() {
                    let (segment, position) = (k / segment_len, k % segment_len);
                    for (column, x) in row[..columns].iter_mut().enumerate() {
                        *x = w.at([column, segment, position]);
                    }
                }
            });
        }
        Self { panels: T::wrap(panels), out_features, segments, segment_len }
    }

    /// Weights whose segment i is the sum of the segments `segments[i]` of others. Nothing is stored: the sums are made a block at
    /// a time, just before use, in `f32`.
    ///
    /// # Panics
    /// If there is no such segment, or a sum of none.
    pub fn sums(of: &Arc<Weights>, segments: Vec<Vec<usize>>) -> Self {
        assert!(
            segments.iter().all(|sum| !sum.is_empty() && sum.iter().all(|&segment| segment < of.segments)),
            "{segments:?} are not sums of {} segments",
            of.segments
        );
        Self {
            out_features: of.out_features,
            segments: segments.len(),
            segment_len: of.segment_len,
            panels: Panels::Sums { of: Arc::clone(of), segments },
        }
    }

    /// Weights without a column: a stand-in where only shapes are asked for.
    pub fn empty() -> Self {
        Self { panels: Panels::F32(Vec::new()), out_features: 0, segments: 0, segment_len: 0 }
    }

    /// The number of output columns.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// The number of segments of the depth.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// The length of each segment of the depth.
    pub fn segment_len(&self) -> usize {
        self.segment_len
    }

    /// The element type that the weights are kept in.
    pub fn dtype(&self) -> DType {
        match &self.panels {
            Panels::F32(_) => DType::F32,
            Panels::F16(_) => DType::F16,
            Panels::Bf16(_) => DType::Bf16,
            Panels::Sums { of, .. } => of.dtype(),
        }
    }

    /// `len` rows of a panel from depth `start`, as `f32`; `scratch` (of at least `len` rows) is used if they are not. Of sums, the
    /// rows must lie in one segment.
    #[inline(always)]
    pub(super) fn block<'a>(
        &'a self,
        panel: usize,
        start: usize,
        len: usize,
        scratch: &'a mut [Panel],
    ) -> &'a [Panel] {
        let Panels::Sums { of, segments } = &self.panels else {
            return self.stored(panel, start, len, scratch);
        };
        let segment_len = self.segment_len.max(1);
        let (segment, position) = (start / segment_len, start % segment_len);
        assert!(position + len <= self.segment_len, "a block of sums crosses the border of a segment");
        of.sum(panel, &segments[segment], position, &mut scratch[..len]);
        &scratch[..len]
    }

    /// The same of weights that are stored.
    #[inline(always)]
    fn stored<'a>(&'a self, panel: usize, start: usize, len: usize, scratch: &'a mut [Panel]) -> &'a [Panel] {
        let from = (panel * self.segments * self.segment_len + start) * PANEL;
        let range = from..from + len * PANEL;
        let scratch = &mut scratch[..len];
        match &self.panels {
            Panels::F32(panels) => return panels[range].as_chunks().0,
            Panels::F16(panels) => panels[range].convert_to_f32_slice(scratch.as_flattened_mut()),
            Panels::Bf16(panels) => panels[range].convert_to_f32_slice(scratch.as_flattened_mut()),
            Panels::Sums { .. } => panic!("sums of sums are not supported"),
        }
        scratch
    }

    /// `sums[k] = Σ` over `segments` of the panel's row at `position + k` of the segment.
    #[inline(always)]
    fn sum(&self, panel: usize, segments: &[usize], position: usize, sums: &mut [Panel]) {
        let mut room = [[0.0; PANEL]; SUMMED];
        for (i, sums) in sums.chunks_mut(SUMMED).enumerate() {
            for (term, segment) in segments.iter().enumerate() {
                let start = segment * self.segment_len + position + i * SUMMED;
                let rows = self.stored(panel, start, sums.len(), &mut room);
                if term == 0 {
                    sums.copy_from_slice(rows);
                } else {
                    for (sum, x) in sums.as_flattened_mut().iter_mut().zip(rows.as_flattened()) {
                        *sum += x;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquatint_tensor::Tensor;

    #[test]
    fn a_panel_holds_32_columns_depth_by_depth() {
        let w = Tensor::from_fn([40, 2, 3], |[n, s, k]| (100 * n + 10 * s + k) as f32);
        let mut scratch = [[0.0; PANEL]; 6];
        for packed in [
            Weights::pack_segments(w.view()),
            Weights::pack_segments(w.convert::<f16>().view()),
            Weights::pack_segments(w.convert::<bf16>().view()),
        ] {
            let second = packed.block(1, 1, 5, &mut scratch);
            assert_eq!(second.len(), 5);
            let rounded = |x: f32| match packed.dtype() {
                DType::F32 => x,
                DType::F16 => f16::from_f32(x).to_f32(),
                DType::Bf16 => bf16::from_f32(x).to_f32(),
            };
            assert_eq!(second[0][7], rounded(3901.0)); // column 39, segment 0, position 1
            assert_eq!(second[2][0], rounded(3210.0)); // column 32, segment 1, position 0
            assert_eq!(second[2][8], 0.0); // there is no column 40
        }
    }
}
