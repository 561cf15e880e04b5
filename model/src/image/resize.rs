//! Another size: Lanczos' filter, and what to do when the proportions differ.
//!
//! ```text
//! out[x] = Σ_i w((i + ½ − c)/f)·in[i] / Σ_i w        c = (x + ½)·s, s = old/new, f = max(s, 1)
//! w(t)   = sinc(t)·sinc(t/3) for |t| < 3                six pixels, or more where the picture
//! shrinks
//! ```
//!
//! Rows first, then columns. Weights are integers of 22 bits after the point and the rows between
//! the two passes are bytes, as in Pillow, which diffusers uses: the result is Pillow's
//! `resize(..., LANCZOS)`, byte for byte.
//!
//! Source: Duchon, *Lanczos Filtering in One and Two Dimensions* (1979); the modes are those of
//! diffusers' `VaeImageProcessor.resize` (`default`, `crop`, `fill`).

use std::ops::Range;

use super::mask::Mask;
use super::raster::Raster;
use crate::image::Image;

/// What happens to a picture whose proportions are not those of the wanted size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResizeMode {
    /// As large as the wanted size; what sticks out is cut off evenly. diffusers' `crop`, but a
    /// picture that is larger by less than 8 pixels is cut only.
    #[default]
    Crop,
    /// The whole picture within the wanted size; its outermost pixels fill the bars. diffusers'
    /// `fill`.
    Fit,
    /// The whole picture, distorted. diffusers' `default`.
    Stretch,
}

impl Image {
    /// This picture in another size; a copy if it has that size already.
    ///
    /// # Panics
    /// If a side is 0.
    pub fn resized(&self, width: usize, height: usize, mode: ResizeMode) -> Self {
        let raster =
            Raster { width: self.width(), height: self.height(), channels: 3, bytes: self.pixels().to_vec() };
        Self::from_rgb(width, height, raster.resized(width, height, mode).bytes)
    }

    /// This picture in another size, each new pixel a copy of the old one under its centre:
    /// Pillow's `resize(..., NEAREST)`.
    ///
    /// ```
    /// # use aquatint_model::Image;
    /// let two = Image::from_rgb(2, 1, vec![1, 2, 3, 7, 8, 9]);
    /// let three = two.nearest(3, 1);
    /// assert_eq!(three.pixels(), [1, 2, 3, 7, 8, 9, 7, 8, 9]);
    /// ```
    ///
    /// # Panics
    /// If a side is 0.
    pub fn nearest(&self, width: usize, height: usize) -> Self {
        let raster =
            Raster { width: self.width(), height: self.height(), channels: 3, bytes: self.pixels().to_vec() };
        let (columns, rows) = (under_centres(self.width(), width), under_centres(self.height(), height));
        let gathered = raster.gather(width, height, |x, y| (columns[x], rows[y]));
        Self::from_rgb(width, height, gathered.bytes)
    }
}

impl Mask {
    /// This mask in another size; grey values appear at its edges.
    ///
    /// # Panics
    /// If a side is 0.
    pub fn resized(&self, width: usize, height: usize, mode: ResizeMode) -> Self {
        let raster =
            Raster { width: self.width(), height: self.height(), channels: 1, bytes: self.grey().to_vec() };
        Self::from_grey(width, height, raster.resized(width, height, mode).bytes)
    }
}

impl Raster {
    fn resized(&self, width: usize, height: usize, mode: ResizeMode) -> Self {
        assert!([self.width, self.height, width, height].iter().all(|&side| side > 0), "a side is 0");
        // Compared as width·height products: wider than the wanted size or not?
        let wider = self.width * height > width * self.height;
        let by_height = (self.width * height / self.height).max(1);
        let by_width = (self.height * width / self.width).max(1);
        let (scaled_width, scaled_height) = match (mode, wider) {
            _ if mode == ResizeMode::Crop && self.is_nearly(width, height) => (self.width, self.height),
            (ResizeMode::Stretch, _) => (width, height),
            (ResizeMode::Crop, true) => (by_height, height),
            (ResizeMode::Crop, false) => (width, by_width),
            (ResizeMode::Fit, true) => (width, by_width),
            (ResizeMode::Fit, false) => (by_height, height),
        };
        // Only what is kept is computed: of a picture that is much longer than wide the whole could
        // be too large for the memory.
        let (columns, rows) = (kept(scaled_width, width), kept(scaled_height, height));
        let scaled = self.lanczos_rows(scaled_width, &columns).transposed();
        let scaled = scaled.lanczos_rows(scaled_height, &rows).transposed();
        scaled.gather(width, height, |x, y| {
            (along(x, width, scaled_width) - columns.start, along(y, height, scaled_height) - rows.start)
        })
    }

    /// Whether less than a pixel of the latents is to be cut off each side. That is done without
    /// scaling, so that what is kept keeps its bits.
    fn is_nearly(&self, width: usize, height: usize) -> bool {
        const PIXEL: usize = 8;
        let nearly = |own: usize, wanted: usize| (wanted..wanted + PIXEL).contains(&own);
        nearly(self.width, width) && nearly(self.height, height)
    }

    fn transposed(&self) -> Self {
        self.gather(self.height, self.width, |x, y| (y, x))
    }

    /// Lanczos' filter along the rows: some of the pixels that each row has in a picture of this
    /// width.
    fn lanczos_rows(&self, width: usize, kept: &Range<usize>) -> Self {
        if width == self.width {
            return self.gather(kept.len(), self.height, |x, y| (kept.start + x, y));
        }
        let taps: Vec<Taps> = kept.clone().map(|x| Taps::lanczos(x, self.width, width)).collect();
        let channels = self.channels;
        let mut bytes = Vec::with_capacity(kept.len() * self.height * channels);
        for row in self.bytes.chunks_exact(self.width * channels) {
            for Taps { first, weights } in &taps {
                for channel in 0..channels {
                    let values = row[first * channels + channel..].iter().step_by(channels);
                    let sum: i64 = weights.iter().zip(values).map(|(w, &v)| w * i64::from(v)).sum();
                    bytes.push(((sum + HALF) >> FRACTION_BITS).clamp(0, 255) as u8);
                }
            }
        }
        Self { width: kept.len(), bytes, ..*self }
    }
}

/// The pixels of a side of `old` under the centres of those of a side of `new`. A centre may lie
/// between two pixels; the sums are rounded as in Pillow, so that it falls to the same one.
fn under_centres(old: usize, new: usize) -> Vec<usize> {
    let scale = old as f64 / new as f64;
    let mut centre = scale * 0.5;
    let mut next = || {
        let pixel = (centre as usize).min(old - 1);
        centre += scale;
        pixel
    };
    (0..new).map(|_| next()).collect()
}

/// Where pixel i of a side of `new` pixels lies on one of `scaled` pixels: the middle of one on
/// the middle of the other; beyond its edge the picture goes on with its last pixel.
fn along(i: usize, new: usize, scaled: usize) -> usize {
    (i + scaled / 2).saturating_sub(new / 2).min(scaled - 1)
}

/// All that [`along`] names.
fn kept(scaled: usize, new: usize) -> Range<usize> {
    along(0, new, scaled)..along(new - 1, new, scaled) + 1
}

/// Bits after the point of a weight: 32 of an integer, less 8 of the pixel and 2 of headroom.
const FRACTION_BITS: u32 = 32 - 8 - 2;
const ONE: f64 = (1 << FRACTION_BITS) as f64;
const HALF: i64 = 1 << (FRACTION_BITS - 1);

/// The weights of one output pixel, from input pixel `first` on.
struct Taps {
    first: usize,
    weights: Vec<i64>,
}

impl Taps {
    fn lanczos(x: usize, old: usize, new: usize) -> Self {
        const LOBES: f64 = 3.0;
        let scale = old as f64 / new as f64;
        let widen = scale.max(1.0);
        let support = LOBES * widen;
        let centre = (x as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(old);
        let sinc = |t: f64| match t * std::f64::consts::PI {
            0.0 => 1.0,
            t => t.sin() / t,
        };
        let inverse = 1.0 / widen;
        let weight = |i: usize| {
            let t = (i as f64 - centre + 0.5) * inverse;
            if (-LOBES..LOBES).contains(&t) { sinc(t) * sinc(t / LOBES) } else { 0.0 }
        };
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        Self { first, weights: weights.iter().map(|w| (w / sum * ONE).round() as i64).collect() }
    }
}
