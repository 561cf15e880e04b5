//! What happens to a finished product while it is still in the cache.

use aquatint_tensor::View;

use super::weights::Panel;
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

    /// Writes columns `column..` of output row `m` from one row of a panel; `out` may be narrower than the panel, and can be
    /// written past the caches. `watch` sees what is written.
    #[inline(always)]
    pub(crate) fn store<S: Simd>(
        &self,
        s: S,
        product: &Panel,
        (m, at): (usize, Place),
        streamed: bool,
        out: &mut [f32],
        watch: &mut impl Watch<S>,
    ) {
        let part = |x: &[f32]| if x.len() < S::LANES { s.load_or(x, 0.0) } else { s.load(x) };
        let per_image = self.per_image.map(|view| {
            let rows_per_image = at.rows / view.shape()[0];
            &view.as_slice().expect("checked to be row-major")[m / rows_per_image * at.columns..]
        });
        for (i, out) in out.chunks_mut(S::LANES).enumerate() {
            let offset = i * S::LANES;
            let columns = at.column + offset..at.column + offset + out.len();
            let mut v = s.load(&product[offset..]);
            if let Some(bias) = self.bias {
                v = s.add(v, part(&bias[columns.clone()]));
            }
            if let Some(per_image) = per_image {
                v = s.add(v, part(&per_image[columns.clone()]));
            }
            if let Some(residual) = self.residual {
                v = s.add(v, part(&residual[m * at.columns..][columns]));
            }
            if self.scale != 1.0 {
                v = s.mul(v, s.splat(self.scale));
            }
            watch.see(s, i, v);
            match out.len() < S::LANES {
                true => s.store_part(v, out),
                false if streamed => s.stream(v, out),
                false => s.store(v, out),
            }
        }
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
