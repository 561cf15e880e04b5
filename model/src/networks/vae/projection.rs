//! The cheap look at latents: red, green and blue as sums of the channels, without the decoder.
//!
//! ```text
//! rgb(y, x) = W·latent(y, x) + b          one pixel for each of the latents; W: 3 × channels
//! ```
//!
//! The VAE keeps colours almost linearly in its few channels, so this shows shapes and colours,
//! blurred. Programs carry the W of Stable Diffusion 1.x as a table that was fitted once,
//! which is wrong for any other VAE. Here W and b are fitted by least squares to the one picture at
//! hand, whose latents and pixels are both known when it is finished: the best that any such W can
//! do for it.

use crate::image::Image;

/// W and b.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    shape: [usize; 3],
    /// For each colour the weight of each channel, and last the constant.
    weights: [Vec<f64>; 3],
}

impl Projection {
    /// The least-squares fit to a picture and its `latents`, of `shape` `[channels, height,
    /// width]`. The picture's sides must be multiples of the latents'.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn fit(shape: [usize; 3], latents: &[f32], picture: &Image) -> Self {
        let [channels, height, width] = shape;
        assert_eq!(latents.len(), channels * height * width, "latents of {shape:?}");
        let factor = picture.width() / width;
        assert_eq!(
            (picture.width(), picture.height()),
            (width * factor, height * factor),
            "a picture of the latents"
        );
        // The normal equations (AᵀA + εI)·w = Aᵀc, where a row of A is a pixel's channels and 1.
        let n = channels + 1;
        let mut normal = vec![vec![0.0; n + 3]; n];
        let mut row = vec![1.0; n + 3];
        for pixel in 0..height * width {
            for channel in 0..channels {
                row[channel] = f64::from(latents[channel * height * width + pixel]);
            }
            let mean = mean_of_square(picture, pixel / width, pixel % width, factor);
            row[n..].copy_from_slice(&mean);
            for i in 0..n {
                for j in 0..n + 3 {
                    normal[i][j] += row[i] * row[j];
                }
            }
        }
        // A little towards 0, so that channels that do not vary leave a solution.
        let ridge = 1e-6 * (height * width) as f64;
        (0..n).for_each(|i| normal[i][i] += ridge);
        eliminate(&mut normal);
        let weights = std::array::from_fn(|colour| normal.iter().map(|row| row[n + colour]).collect());
        Self { shape, weights }
    }

    /// The same W and b for latents of another size, `[channels, height, width]`.
    ///
    /// # Panics
    /// If the channels are not those of the fit.
    #[must_use]
    pub fn for_shape(&self, shape: [usize; 3]) -> Self {
        assert_eq!(shape[0], self.shape[0], "channels");
        Self { shape, weights: self.weights.clone() }
    }

    /// One pixel for each of the latents.
    ///
    /// # Panics
    /// If the latents do not have the shape of the fit.
    pub fn picture(&self, latents: &[f32]) -> Image {
        let [channels, height, width] = self.shape;
        let area = height * width;
        assert_eq!(latents.len(), channels * area, "latents of {:?}", self.shape);
        let value = |pixel: usize, weights: &[f64]| {
            let sum: f64 = (0..channels).map(|c| weights[c] * f64::from(latents[c * area + pixel])).sum();
            (sum + weights[channels]).round().clamp(0.0, 255.0) as u8
        };
        let pixels = (0..area).flat_map(|pixel| self.weights.each_ref().map(|weights| value(pixel, weights)));
        Image::from_rgb(width, height, pixels.collect())
    }
}

/// The mean colour of the pixels of one latent.
fn mean_of_square(picture: &Image, y: usize, x: usize, factor: usize) -> [f64; 3] {
    let mut sum = [0.0; 3];
    for row in y * factor..(y + 1) * factor {
        let start = 3 * (row * picture.width() + x * factor);
        for pixel in picture.pixels()[start..start + 3 * factor].chunks_exact(3) {
            sum.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += f64::from(value));
        }
    }
    sum.map(|sum| sum / (factor * factor) as f64)
}

/// Gauss and Jordan: turns `[M | C]` into `[1 | M⁻¹·C]`, for M symmetric and positive definite,
/// which needs no pivots.
fn eliminate(rows: &mut [Vec<f64>]) {
    for column in 0..rows.len() {
        let pivot = rows[column][column];
        rows[column].iter_mut().for_each(|x| *x /= pivot);
        let above = rows[column].clone();
        for (i, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let factor = row[column];
            debug_assert!(factor.is_finite(), "row {i} is finite");
            row.iter_mut().zip(&above).for_each(|(x, above)| *x -= factor * above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Colours that are sums of the channels are found exactly.
    #[test]
    fn a_linear_picture_is_reproduced() {
        let shape = [2, 3, 4];
        let latents: Vec<f32> = (0..24).map(|i| ((i * 7 % 11) as f32 - 5.0) / 4.0).collect();
        let colour = |pixel: usize| {
            let (a, b) = (latents[pixel], latents[12 + pixel]);
            [100.0 + 40.0 * a, 90.0 - 20.0 * a + 12.0 * b, 128.0 + 32.0 * b].map(|x| x.round() as u8)
        };
        let pixels: Vec<u8> = (0..6 * 8).flat_map(|i| colour(i / 8 / 2 * 4 + i % 8 / 2)).collect();
        let picture = Image::from_rgb(8, 6, pixels);
        let found = Projection::fit(shape, &latents, &picture).picture(&latents);
        assert_eq!((found.width(), found.height()), (4, 3));
        for pixel in 0..12 {
            for (c, expected) in colour(pixel).into_iter().enumerate() {
                let found = found.pixels()[3 * pixel + c];
                assert!(found.abs_diff(expected) <= 1, "{pixel}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn channels_that_do_not_vary_are_no_obstacle() {
        let picture = Image::from_rgb(2, 2, vec![10; 12]);
        let found = Projection::fit([4, 2, 2], &[0.5; 16], &picture).picture(&[0.5; 16]);
        assert!(found.pixels().iter().all(|&x| x.abs_diff(10) <= 1), "{:?}", found.pixels());
    }
}
