//! The formula for each number of a product before it is stored, while it is still in the cache.
//! `store.rs` calls it.

use std::ops::Range;

use aquatint_tensor::View;

pub(in crate::gemm) mod geglu;
pub(in crate::gemm) mod round;
pub(crate) mod stats;
pub(in crate::gemm) mod store;

use crate::cpu::simd::Simd;
use crate::cpu::stored::Stored;
use crate::cpu::tile::{MAX_VECTORS, NR, PanelRow};
use stats::{ChannelStats, StatsSink};

/// `out[m, n] = max(sum · scale, floor)` with `sum = product[m, n] + bias[n] + per_image[image(m),
/// n] + residual[m, n]`, absent terms being 0.
#[derive(Clone, Copy)]
pub struct Epilogue<'a, T = f32> {
    /// One number for each output column.
    pub bias: Option<&'a [f32]>,
    /// One row for each image, added to all its pixels: the time embedding of a residual block.
    /// `[images, columns]`, row-major; the rows of the product are divided evenly among the images.
    pub per_image: Option<View<'a, f32, 2>>,
    /// A tensor of the output's size, row-major: the input of a residual block or of an attention
    /// layer.
    /// Output and residual are stored in the same type.
    pub residual: Option<&'a [T]>,
    /// A factor for everything: diffusers' `1 / output_scale_factor`.
    pub scale: f32,
    /// Below this nothing is stored: −∞ for everything, 0 for a ReLU. NaN stays NaN.
    pub floor: f32,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Self::none()
    }
}

impl<'a> Epilogue<'a> {
    /// Only a bias, if there is one.
    pub fn bias(bias: Option<&'a [f32]>) -> Self {
        Self { bias, ..Self::default() }
    }
}

impl<'a, T: Stored> Epilogue<'a, T> {
    /// Nothing is added.
    pub fn none() -> Self {
        Self { bias: None, per_image: None, residual: None, scale: 1.0, floor: f32::NEG_INFINITY }
    }

    /// Panics unless all terms fit an output of `[rows, columns]`.
    pub(crate) fn check(&self, rows: usize, columns: usize) {
        if let Some(bias) = self.bias {
            assert_eq!(bias.len(), columns, "the bias has {} numbers for {columns} columns", bias.len());
        }
        if let Some(per_image) = self.per_image {
            let [images, width] = per_image.shape();
            assert_eq!(width, columns, "per_image has {width} numbers for {columns} columns");
            assert!(
                images > 0 && rows.is_multiple_of(images),
                "{rows} rows cannot belong to {images} images"
            );
            assert!(per_image.as_slice().is_some(), "per_image must be row-major");
        }
        if let Some(residual) = self.residual {
            let (found, wanted) = (residual.len(), rows * columns);
            assert_eq!(found, wanted, "the residual has {found} numbers, the output {wanted}");
        }
    }

    /// Prefetches the residual that [`store_rows`](Self::store_rows) will read for these rows of a
    /// whole panel.
    #[inline(always)]
    pub(crate) fn prefetch<S: Simd>(&self, s: S, rows: Range<usize>, at: TileOrigin) {
        let Some(residual) = self.residual.filter(|_| at.has_whole_panel()) else { return };
        for row in rows {
            T::prefetch(s, panel_row(residual, row * at.columns + at.column));
        }
    }

    /// Writes columns `column..` of output row `m` from one row of a panel; `out` may be narrower
    /// than the panel. `stats` sees what is written.
    #[inline(always)]
    pub(crate) fn store<S: Simd>(
        &self,
        s: S,
        product: &PanelRow,
        (m, at): (usize, TileOrigin),
        out: &mut [T],
        stats: &mut impl StatsSink<S>,
    ) {
        let per_image = self.images(at).map(|(all, rows)| &all[m / rows * at.columns..]);
        let mut widened = PanelRow::ZERO;
        let residual = self.residual.map(|all| {
            let row = &all[m * at.columns + at.column..][..out.len()];
            T::widen(s, row, &mut widened[..out.len()])
        });
        let mut terms = [ABSENT; 3];
        if let Some(residual) = residual {
            terms[2][..out.len()].copy_from_slice(residual);
        }
        for (term, row) in terms.iter_mut().zip([self.bias, per_image]) {
            if let Some(row) = row {
                term[..out.len()].copy_from_slice(&row[at.column..][..out.len()]);
            }
        }
        let [scale, floor] = [self.scale, self.floor].map(|x| s.splat(x));
        let mut sums = PanelRow::ZERO;
        for i in 0..NR / S::LANES {
            let lanes = i * S::LANES;
            let [bias, per_image, residual] = &terms;
            let terms = [s.load(&bias[lanes..]), s.load(&per_image[lanes..]), s.load(&residual[lanes..])];
            let v = formula(s, s.load(&product[lanes..]), terms, [scale, floor]);
            if lanes < out.len() {
                stats.add(s, i, v);
            }
            s.store(v, &mut sums[lanes..]);
        }
        T::narrow(&sums[..out.len()], out);
    }

    /// Stores some rows from `m` on. The place of the panel in each row of `out` is from `column`
    /// on; a whole one can be written past the caches.
    ///
    /// Runs in the tile unit's shadow: at most 10–24 instructions a vector. Shared terms are
    /// hoisted; absent ones add −0 instead of branching.
    #[inline(always)]
    pub(crate) fn store_rows<S: Simd>(
        &self,
        s: S,
        sums: &[PanelRow],
        (m, at): (usize, TileOrigin),
        streamed: bool,
        (out, column): (&mut [&mut [T]], usize),
        stats: &mut impl StatsSink<S>,
    ) {
        if !at.has_whole_panel() {
            for (m, (product, out)) in (m..).zip(sums.iter().zip(out)) {
                self.store(s, product, (m, at), &mut out[column..], stats);
            }
            return;
        }
        let (images, residual) = (self.images(at), self.residual);
        let bias = vectors(s, self.bias.map_or(&ABSENT, |bias| panel_row(bias, at.column)));
        let [scale, floor] = [self.scale, self.floor].map(|x| s.splat(x));
        let mut start = 0;
        while start < sums.len() {
            let (per_image, end) = match images {
                Some((all, rows)) => {
                    let image = (m + start) / rows;
                    (panel_row(all, image * at.columns + at.column), sums.len().min((image + 1) * rows - m))
                }
                None => (&ABSENT, sums.len()),
            };
            let per_image = vectors(s, per_image);
            let rows = sums[start..end].iter().zip(&mut out[start..end]);
            for (row, (sums, out)) in (m + start..).zip(rows) {
                let residual = residual.map(|all| panel_row(all, row * at.columns + at.column));
                let out: &mut [T; NR] = out[column..].first_chunk_mut().expect("room for a panel");
                for i in 0..NR / S::LANES {
                    let lanes = i * S::LANES;
                    let residual = match residual {
                        Some(residual) => T::load(s, &residual[lanes..]),
                        None => s.load(&ABSENT),
                    };
                    let terms = [bias[i], per_image[i], residual];
                    let v = formula(s, s.load(&sums[lanes..]), terms, [scale, floor]);
                    stats.add(s, i, v);
                    match streamed {
                        true => T::stream(s, v, &mut out[lanes..]),
                        false => T::store(s, v, &mut out[lanes..]),
                    }
                }
            }
            start = end;
        }
    }

    /// The rows of `per_image`, and how many rows of the output have one of them in common.
    #[inline(always)]
    fn images(&self, at: TileOrigin) -> Option<(&'a [f32], usize)> {
        self.per_image
            .map(|view| (view.as_slice().expect("checked to be row-major"), at.rows / view.shape()[0]))
    }
}

/// A row of a term that there is not: −0 can be added to any number, even to −0, and changes
/// nothing.
static ABSENT: [f32; NR] = [-0.0; NR];

/// A panel's columns, from `first` on.
#[inline(always)]
fn panel_row<T>(numbers: &[T], first: usize) -> &[T; NR] {
    numbers[first..].first_chunk().expect("a whole panel")
}

/// The columns of a panel as vectors.
#[inline(always)]
fn vectors<S: Simd>(s: S, columns: &[f32; NR]) -> [S::V; MAX_VECTORS] {
    let mut vectors = [s.zero(); MAX_VECTORS];
    for i in 0..NR / S::LANES {
        vectors[i] = s.load(&columns[i * S::LANES..]);
    }
    vectors
}

/// The formula for some lanes of a row.
#[inline(always)]
fn formula<S: Simd>(
    s: S,
    product: S::V,
    [bias, per_image, residual]: [S::V; 3],
    [scale, floor]: [S::V; 2],
) -> S::V {
    let sum = s.add(s.add(s.add(product, bias), per_image), residual);
    s.max(floor, s.mul(sum, scale))
}

/// What a product writes.
pub(crate) struct Output<'a, T = f32> {
    /// The place of each row.
    pub(crate) rows: Vec<&'a mut [T]>,
    /// The statistics of the columns of each image, if they are wanted; products in f32 leave them
    /// empty.
    pub(crate) stats: Option<&'a mut ChannelStats>,
}

impl<'a, T> From<Vec<&'a mut [T]>> for Output<'a, T> {
    fn from(rows: Vec<&'a mut [T]>) -> Self {
        Self { rows, stats: None }
    }
}

/// Where in the output a row of a panel goes.
#[derive(Clone, Copy)]
pub(crate) struct TileOrigin {
    /// The first column.
    pub(crate) column: usize,
    /// The number of the first row that is computed.
    pub(crate) first_row: usize,
    /// Rows of the whole output.
    pub(crate) rows: usize,
    /// Columns of the whole output.
    pub(crate) columns: usize,
}

impl TileOrigin {
    /// The first of an output of `[rows, columns]`.
    pub(crate) fn of(rows: usize, columns: usize) -> Self {
        Self { column: 0, first_row: 0, rows, columns }
    }

    /// Whether as many columns are left as a panel has.
    #[inline(always)]
    fn has_whole_panel(self) -> bool {
        self.column + NR <= self.columns
    }
}
