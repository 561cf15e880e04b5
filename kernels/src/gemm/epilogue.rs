//! What happens to a finished product while it is still in the cache.

use aquatint_tensor::View;

use super::weights::{PANEL, Panel};
use crate::moments::{Taken, Watch};
use crate::simd::Simd;

/// `out[m, n] = (product[m, n] + bias[n] + per_image[image(m), n] + residual[m, n]) · scale`, absent terms being 0.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    /// One number for each output column.
    pub bias: Option<&'a [f32]>,
    /// One row for each image, added to all its pixels: the time embedding of a residual block. `[images, columns]`,
    /// row-major; the rows of the product are divided evenly among the images.
    pub per_image: Option<View<'a, f32, 2>>,
    /// A tensor of the output's size, row-major: the input of a residual block or of an attention layer.
    pub residual: Option<&'a [f32]>,
    /// A factor for everything: diffusers' `1 / output_scale_factor`.
    pub scale: f32,
    /// Where the moments of each image's columns are left, for a group norm; see [`Taken`] when they are.
    pub moments: Option<&'a Taken>,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Self { bias: None, per_image: None, residual: None, scale: 1.0, moments: None }
    }
}

impl<'a> Epilogue<'a> {
    /// Only a bias, if there is one.
    pub fn bias(bias: Option<&'a [f32]>) -> Self {
        Self { bias, ..Self::default() }
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

    /// Has fetched what [`store`](Self::store) will read of columns `column..` of output row `m`.
    #[inline(always)]
    pub(crate) fn prefetch<S: Simd>(&self, s: S, m: usize, at: Place, width: usize) {
        if let Some(residual) = self.residual {
            s.prefetch(&residual[m * at.columns + at.column..][..width]);
        }
    }

    /// Writes columns `column..` of output row `m` from one row of a panel; `out` may be narrower than the panel. `watch` sees what is written.
    #[inline(always)]
    pub(crate) fn store<S: Simd>(
        &self,
        s: S,
        product: &Panel,
        (m, at): (usize, Place),
        out: &mut [f32],
        watch: &mut impl Watch<S>,
    ) {
        let per_image = self.per_image.map(|view| {
            let rows_per_image = at.rows / view.shape()[0];
            &view.as_slice().expect("checked to be row-major")[m / rows_per_image * at.columns..]
        });
        let residual = self.residual.map(|residual| &residual[m * at.columns..]);
        let columns = at.column..at.column + out.len();
        let terms = [self.bias, per_image, residual].map(|term| term.map(|row| &row[columns.clone()]));
        let mut whole = [[0.0; PANEL]; 3];
        for (whole, row) in whole.iter_mut().zip(terms) {
            if let Some(row) = row {
                whole[..row.len()].copy_from_slice(row);
            }
        }
        let terms: [_; 3] = std::array::from_fn(|i| terms[i].and(Some(&whole[i])));
        let mut sums = Panel::ZERO;
        for lanes in (0..PANEL).step_by(S::LANES) {
            let v = self.finish(
                s,
                s.load(&product[lanes..]),
                terms.map(|row| row.map(|row| s.load(&row[lanes..]))),
            );
            if lanes < out.len() {
                watch.see(s, lanes / S::LANES, v);
            }
            s.store(v, &mut sums[lanes..]);
        }
        out.copy_from_slice(&sums[..out.len()]);
    }

    /// The same of a whole panel, for some rows from `m` on, which can be written past the caches. The place of the panel in each row of `out` is
    /// from `column` on.
    #[inline(always)]
    pub(crate) fn store_rows<S: Simd>(
        &self,
        s: S,
        sums: &[Panel],
        (m, at): (usize, Place),
        streamed: bool,
        (out, column): (&mut [&mut [f32]], usize),
        watch: &mut impl Watch<S>,
    ) {
        let per_image = self
            .per_image
            .map(|view| (view.as_slice().expect("checked to be row-major"), at.rows / view.shape()[0]));
        // A vector of each row and then the next, so that what the rows share stays in registers.
        for lanes in (0..PANEL).step_by(S::LANES) {
            let first = at.column + lanes;
            let bias = self.bias.map(|bias| s.load(&bias[first..]));
            for (i, (sums, out)) in sums.iter().zip(&mut *out).enumerate() {
                let row = m + i;
                let per_image = per_image.map(|(all, rows)| s.load(&all[row / rows * at.columns + first..]));
                let residual = self.residual.map(|all| s.load(&all[row * at.columns + first..]));
                let v = self.finish(s, s.load(&sums[lanes..]), [bias, per_image, residual]);
                watch.see(s, lanes / S::LANES, v);
                match streamed {
                    true => s.stream(v, &mut out[column + lanes..]),
                    false => s.store(v, &mut out[column + lanes..]),
                }
            }
        }
    }

    /// The formula for some lanes of a row, of those terms that there are.
    #[inline(always)]
    #[expect(
        clippy::manual_flatten,
        reason = "an iterator's closures would not be inlined into the instruction set's code"
    )]
    fn finish<S: Simd>(&self, s: S, product: S::V, terms: [Option<S::V>; 3]) -> S::V {
        let mut v = product;
        for term in terms {
            if let Some(term) = term {
                v = s.add(v, term);
            }
        }
        if self.scale != 1.0 {
            v = s.mul(v, s.splat(self.scale));
        }
        v
    }
}

/// Where in the output a row of a panel goes.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The first column.
    pub(crate) column: usize,
    /// The number of the first row that is computed.
    pub(crate) first_row: usize,
    /// Rows of the whole output.
    pub(crate) rows: usize,
    /// Columns of the whole output.
    pub(crate) columns: usize,
}

impl Place {
    /// The first of an output of `[rows, columns]`.
    pub(crate) fn of(rows: usize, columns: usize) -> Self {
        Self { column: 0, first_row: 0, rows, columns }
    }
}
