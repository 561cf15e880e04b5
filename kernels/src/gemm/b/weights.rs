//! The right operand, packed once into the order in which the inner loop reads it.
//!
//! A panel is 32 output columns wide, and its depth is contiguous:
//!
//! ```text
//! panels[n / 32][k][n % 32]        k = (segment, position in the segment)
//! ```
//!
//! The depth comes in segments of equal length: one for a linear layer, one for each tap of a
//! convolution. Zeros fill the last panel. For products in f32, weights keep their published type;
//! 16-bit ones become `f32` a block at a time, just before use.
//!
//! For bf16 they are rounded once, when packed ([`pack`]), in k-steps of 32:
//!
//! ```text
//! panels[n / 32][term][k / 32][segment]     a `BTile` each
//! ```
//!
//! Here the segments alternate: the nine taps of 32 channels follow each other, and since
//! neighbouring taps see nearly the same pixels, they find them in the L1 cache.

use aquatint_tensor::{DType, View, bf16};
use rayon::prelude::*;

use super::pack::{self, Columns};
use super::panels::{Packable, Panels};
use crate::Precision;
use crate::cpu::simd::Simd;
use crate::cpu::tile::{BTile, NR, PanelRow, Row, TILE_K, split_bf16};

/// The weights of a linear layer or a convolution, packed for [`blocked`](super::super::blocked).
pub struct PackedWeights {
    panels: Panels,
    out_features: usize,
    segments: usize,
    segment_len: usize,
}

impl PackedWeights {
    /// Packs the weights of a linear layer, `w: [out_features, in_features]`, for products in f32.
    pub fn pack<T: Packable>(w: View<'_, T, 2>) -> Self {
        Self::pack_for(Precision::F32, w)
    }

    /// Packs `w: [out_features, in_features]` for products in any precision.
    pub fn pack_for<T: Packable>(precision: Precision, w: View<'_, T, 2>) -> Self {
        let [out_features, in_features] = w.shape();
        let w = w.reshape([out_features, 1, in_features]).expect("an axis of length 1 needs no copy");
        Self::pack_segments(precision, w)
    }

    /// Packs weights whose depth comes in segments, `w: [out_features, segments, segment_len]`
    /// under any strides.
    pub fn pack_segments<T: Packable>(precision: Precision, w: View<'_, T, 3>) -> Self {
        let [_, segments, segment_len] = w.shape();
        Self::pack_columns(precision, &Columns::of(w), [segments, segment_len])
    }

    /// Packs columns that may stand in another order; `depth`: the segments and their length.
    pub(in crate::gemm) fn pack_columns<T: Packable>(
        precision: Precision,
        columns: &Columns<'_, T>,
        [segments, segment_len]: [usize; 2],
    ) -> Self {
        let out_features = columns.out_features();
        let panels = match precision {
            Precision::F32 => T::wrap(pack::rows(columns)),
            Precision::Bf16 | Precision::Bf16x3 => {
                let each: Vec<Vec<usize>> = (0..segments).map(|segment| vec![segment]).collect();
                Panels::Steps(precision, pack::k_steps(precision, columns, &each))
            }
        };
        Self { panels, out_features, segments, segment_len }
    }

    /// Packs weights whose segment i is the sum of the segments `segments[i]` of `w: [out_features,
    /// segments, segment_len]`, summed in f32 and then rounded.
    ///
    /// # Panics
    /// If there is no such segment, a sum of none, or the precision is f32.
    pub fn pack_sums<T: Packable>(precision: Precision, w: View<'_, T, 3>, segments: &[Vec<usize>]) -> Self {
        let [out_features, all, segment_len] = w.shape();
        check_sums(segments, all);
        assert!(precision != Precision::F32, "only rounded weights are summed");
        let panels = Panels::Steps(precision, pack::k_steps(precision, &Columns::of(w), segments));
        Self { panels, out_features, segments: segments.len(), segment_len }
    }

    /// Packed weights each segment of which is `Σ factor · segment` over the segments of others,
    /// given as (which weights, which segment, factor).
    ///
    /// # Panics
    /// If the others differ in shape or precision, or were not rounded.
    pub(crate) fn combined(of: &[&PackedWeights], segments: &[Vec<(usize, usize, f32)>]) -> Self {
        let PackedWeights { out_features, segment_len, .. } = *of[0];
        let precision = of[0].precision();
        let alike = |w: &&PackedWeights| {
            w.out_features == out_features && w.segment_len == segment_len && w.precision() == precision
        };
        assert!(of.iter().all(alike), "only weights of one shape and precision can be combined");
        let per_segment = segment_len.div_ceil(TILE_K);
        let (k_steps, terms) = (segments.len() * per_segment, precision.terms());
        let step = |i: usize| {
            let (panel, term, step) = (i / k_steps / terms, i / k_steps % terms, i % k_steps);
            let number = |n, k| {
                let weighted = |&(which, segment, factor): &(usize, usize, f32)| {
                    let at = step / segments.len() * of[which].segments + segment;
                    factor
                        * (0..terms)
                            .map(|term| of[which].panel_k_steps(panel, term)[at].at(n, k))
                            .sum::<f32>()
                };
                let hi_lo = split_bf16(segments[step % segments.len()].iter().map(weighted).sum());
                if term == 0 { hi_lo.hi } else { hi_lo.lo }
            };
            BTile::from_fn(number)
        };
        let all = (0..out_features.div_ceil(NR) * terms * k_steps).into_par_iter().map(step).collect();
        Self { panels: Panels::Steps(precision, all), out_features, segments: segments.len(), segment_len }
    }

    /// PackedWeights without a column: a stand-in where only shapes are asked for.
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

    /// The precision of products with these weights.
    pub fn precision(&self) -> Precision {
        match &self.panels {
            Panels::F32(_) | Panels::F16(_) | Panels::Bf16(_) => Precision::F32,
            Panels::Steps(precision, _) => *precision,
        }
    }

    /// The memory that they take, padding included.
    pub fn bytes(&self) -> usize {
        match &self.panels {
            Panels::F32(panels) => size_of_val(&panels[..]),
            Panels::F16(panels) => size_of_val(&panels[..]),
            Panels::Bf16(panels) => size_of_val(&panels[..]),
            Panels::Steps(_, steps) => size_of_val(&steps[..]),
        }
    }

    /// The element type that the weights are kept in.
    pub fn dtype(&self) -> DType {
        match &self.panels {
            Panels::F32(_) => DType::F32,
            Panels::F16(_) => DType::F16,
            Panels::Bf16(_) | Panels::Steps(..) => DType::Bf16,
        }
    }

    /// `len` rows of a panel from depth `start`, as `f32`; `scratch` (of at least `len` rows) is
    /// used if they are not.
    ///
    /// # Panics
    /// If the weights were packed for another precision.
    #[inline(always)]
    pub(crate) fn block<'a, S: Simd>(
        &'a self,
        s: S,
        panel: usize,
        start: usize,
        len: usize,
        scratch: &'a mut [PanelRow],
    ) -> &'a [PanelRow] {
        let from = panel * self.segments * self.segment_len + start;
        let range = from..from + len;
        let scratch = &mut scratch[..len];
        match &self.panels {
            Panels::F32(panels) => return &panels[range],
            Panels::F16(panels) => s.widen_f16(flat(&panels[range]), flat_mut(scratch)),
            Panels::Bf16(panels) => widen_bf16(flat(&panels[range]), flat_mut(scratch)),
            Panels::Steps(precision, _) => panic!("these weights were packed for {precision}"),
        }
        scratch
    }

    /// Has those rows fetched into the L2 cache, which [`block`](Self::block) will soon be asked
    /// for.
    #[inline(always)]
    pub(crate) fn prefetch<S: Simd>(&self, s: S, panel: usize, start: usize, len: usize) {
        let from = panel * self.segments * self.segment_len + start;
        match &self.panels {
            Panels::F32(panels) => s.prefetch(flat(&panels[from..from + len])),
            Panels::F16(panels) => s.prefetch_f16(flat(&panels[from..from + len])),
            Panels::Bf16(_) | Panels::Steps(..) => {}
        }
    }

    /// The number of steps that the depth of a panel has, for weights that were rounded.
    pub(in crate::gemm) fn k_steps(&self) -> usize {
        self.segments * self.segment_len.div_ceil(TILE_K)
    }

    /// All steps of part `part` (0: high, 1: low) of a panel, for weights that were rounded: of
    /// each segment the first step, then of each the second.
    ///
    /// # Panics
    /// If they were not.
    #[inline]
    pub(in crate::gemm) fn panel_k_steps(&self, panel: usize, term: usize) -> &[BTile] {
        let Panels::Steps(precision, all) = &self.panels else { panic!("these weights were packed for f32") };
        let k_steps = self.k_steps();
        &all[(panel * precision.terms() + term) * k_steps..][..k_steps]
    }
}

fn check_sums(sums: &[Vec<usize>], segments: usize) {
    assert!(
        sums.iter().all(|sum| !sum.is_empty() && sum.iter().all(|&segment| segment < segments)),
        "{sums:?} are not sums of {segments} segments"
    );
}

/// `out[i] = x[i]`: a bf16 is the upper half of an f32.
#[inline(always)]
fn widen_bf16(x: &[bf16], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = f32::from_bits(u32::from(x.to_bits()) << 16);
    }
}

/// The numbers of neighbouring rows, one behind the other.
fn flat<T>(rows: &[Row<T>]) -> &[T] {
    const { assert!(size_of::<Row<T>>() == NR * size_of::<T>(), "a row must not need padding") };
    // SAFETY: a `Row<T>` is laid out as C does, an array of `NR` numbers, and by the assertion
    // above nothing else; so neighbouring rows are as many neighbouring numbers.
    unsafe { std::slice::from_raw_parts(rows.as_ptr().cast(), rows.len() * NR) }
}

/// The numbers of rows, to be written.
fn flat_mut<T>(rows: &mut [Row<T>]) -> &mut [T] {
    const { assert!(size_of::<Row<T>>() == NR * size_of::<T>(), "a row must not need padding") };
    // SAFETY: as for `flat`; the borrow is unique.
    unsafe { std::slice::from_raw_parts_mut(rows.as_mut_ptr().cast(), rows.len() * NR) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::portable::Portable;
    use aquatint_tensor::{Tensor, f16};

    #[test]
    fn a_panel_holds_32_columns_depth_by_depth() {
        let w = Tensor::from_fn([40, 2, 3], |[n, s, k]| (100 * n + 10 * s + k) as f32);
        let mut scratch = [PanelRow::ZERO; 6];
        for packed in [
            PackedWeights::pack_segments(Precision::F32, w.view()),
            PackedWeights::pack_segments(Precision::F32, w.convert::<f16>().view()),
            PackedWeights::pack_segments(Precision::F32, w.convert::<bf16>().view()),
        ] {
            let second = packed.block(Portable, 1, 1, 5, &mut scratch);
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

    #[test]
    fn rounded_weights_stand_in_pairs_and_every_segment_begins_with_a_new_step() {
        let w = Tensor::from_fn([40, 2, 35], |[n, s, k]| (100 * n + 50 * s + k) as f32);
        let rounded = |x: f32| bf16::from_f32(x).to_f32();
        for precision in [Precision::Bf16, Precision::Bf16x3] {
            let packed = PackedWeights::pack_segments(precision, w.view());
            assert_eq!(packed.k_steps(), 4); // 35 is two steps, twice
            let hi = packed.panel_k_steps(1, 0);
            assert_eq!(hi[0].at(7, 0), rounded(3900.0)); // column 39, segment 0, position 0
            assert_eq!(hi[1].at(0, 2), rounded(3252.0)); // column 32, segment 1, position 2
            assert_eq!(hi[3].at(0, 2), rounded(3284.0)); // column 32, segment 1, position 32 + 2
            assert_eq!(hi[3].at(0, 3), 0.0); // there is no position 35
            assert_eq!(hi[0].at(8, 0), 0.0); // there is no column 40
            if precision == Precision::Bf16x3 {
                assert_eq!(packed.panel_k_steps(1, 1)[0].at(7, 0), 3900.0 - rounded(3900.0));
            }
        }
    }
}
