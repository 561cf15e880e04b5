//! SRVGGNetCompact: a chain of convolutions at the small size; only the last one makes the large
//! picture.
//!
//! ```text
//! y = body.0, prelu, body.2, prelu, …, body.last        3·scale² channels
//! shuffle(y) + nearest(x)                               scale times larger
//! ```
//!
//! The network learns what is missing from the repeated pixels. Source: Real-ESRGAN's
//! `SRVGGNetCompact`; the shuffle is that of Shi et al. (2016), *Real-Time Single Image and Video
//! Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network*.

use aquatint_kernels::conv2d::Geometry;
use aquatint_kernels::{Isa, activation};
use aquatint_tensor::Tensor;

use crate::error::Result;
use crate::networks::layers::Conv2d;
use crate::source::Weights;

/// Sizes of the network.
pub(super) struct SrvggConfig {
    /// Channels between the convolutions.
    pub(super) filters: usize,
    /// Convolutions between the first and the last.
    pub(super) convolutions: usize,
    /// How many times larger a picture becomes.
    pub(super) scale: usize,
}

/// The network.
pub(super) struct SrvggNetCompact {
    /// Convolutions, each with the slopes behind it.
    body: Vec<(Conv2d, Vec<f32>)>,
    last: Conv2d,
    scale: usize,
}

impl SrvggNetCompact {
    pub(super) fn load(w: &Weights<'_>, config: &SrvggConfig) -> Result<Self> {
        let &SrvggConfig { filters, convolutions, scale } = config;
        let body = w.at("body");
        let geometry = Geometry::same(3);
        let conv = |i: usize| {
            let w = body.at(2 * i);
            match i {
                0 => Conv2d::load_in_f32(&w, [filters, 3], geometry),
                _ => Conv2d::load(&w, [filters; 2], geometry),
            }
        };
        let slopes = |i: usize| body.at(2 * i + 1).vector("weight", filters);
        Ok(Self {
            body: (0..=convolutions).map(|i| Ok((conv(i)?, slopes(i)?))).collect::<Result<_>>()?,
            last: Conv2d::load_in_f32(
                &body.at(2 * convolutions + 2),
                [3 * scale * scale, filters],
                geometry,
            )?,
            scale,
        })
    }

    /// `x: [1, h, w, 3]` in 0..1 → `[1, scale·h, scale·w, 3]`.
    pub(super) fn forward(&self, isa: Isa, x: Tensor<f32, 4>) -> Tensor<f32, 4> {
        let mut y = x.clone();
        for (conv, slopes) in &self.body {
            y = conv.forward::<f32>(isa, y.view()).into_tensor();
            activation::prelu(isa, y.as_mut_slice(), slopes);
        }
        let y = self.last.forward::<f32>(isa, y.view()).into_tensor();
        let ([n, height, width, channels], scale) = (x.shape(), self.scale);
        Tensor::from_fn([n, scale * height, scale * width, channels], |[n, row, column, c]| {
            let (i, j) = (row % scale, column % scale);
            let small = [n, row / scale, column / scale];
            let [n, row, column] = small;
            y[[n, row, column, (c * scale + i) * scale + j]] + x[[n, row, column, c]]
        })
    }
}
