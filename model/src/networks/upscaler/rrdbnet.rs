//! RRDBNet: residual blocks of residual dense blocks, the network of ESRGAN.
//!
//! ```text
//! dense   x₁ = lrelu(conv1(x)), x₂ = lrelu(conv2([x, x₁])), …, x₅ = conv5([x, x₁, …, x₄])
//!         x + 0.2·x₅
//! block   x + 0.2·dense₃(dense₂(dense₁(x)))
//! net     f = conv_first(x);  f = f + conv_body(blocks(f))
//!         f = lrelu(conv_up(nearest_2x(f)))       for each doubling
//!         conv_last(lrelu(conv_hr(f)))
//! ```
//!
//! Models for less than fourfold enlargement double as often, and begin with smaller pictures: a
//! square of 2×2 or 4×4 pixels becomes one of 12 or 48 channels (*pixel unshuffle*). LeakyReLU has
//! a slope of 0.2.
//!
//! Source: Wang et al. (2018), figure 4; BasicSR's `RRDBNet`.

use aquatint_kernels::conv2d::{Geometry, upsample};
use aquatint_kernels::{Isa, activation};
use aquatint_tensor::{Tensor, View, concat};

use super::spelling::Spelling;
use crate::error::Result;
use crate::networks::layers::Conv2d;
use crate::source::Weights;

/// The slope of LeakyReLU, and by how much the blocks' results count.
const SLOPE: f32 = 0.2;
const RESIDUAL_SCALE: f32 = 0.2;

/// Sizes of the network.
pub(super) struct RrdbConfig {
    pub(super) spelling: Spelling,
    /// Channels between the blocks.
    pub(super) filters: usize,
    /// Channels that each convolution of a dense block adds.
    pub(super) growth: usize,
    pub(super) blocks: usize,
    /// Doublings.
    pub(super) ups: usize,
    /// By how much the picture is smaller at the entrance.
    pub(super) unshuffle: usize,
}

impl RrdbConfig {
    /// How many times larger a picture becomes.
    pub(super) fn scale(&self) -> usize {
        (1 << self.ups) / self.unshuffle
    }
}

/// The network.
pub(super) struct RrdbNet {
    conv_first: Conv2d,
    /// Blocks of three dense blocks.
    body: Vec<[DenseBlock; 3]>,
    conv_body: Conv2d,
    conv_up: Vec<Conv2d>,
    conv_hr: Conv2d,
    conv_last: Conv2d,
    unshuffle: usize,
}

struct DenseBlock {
    /// The convolutions in their order.
    conv: [Conv2d; 5],
}

impl RrdbNet {
    pub(super) fn load(w: &Weights<'_>, config: &RrdbConfig) -> Result<Self> {
        let &RrdbConfig { spelling, filters, growth, blocks, ups, unshuffle } = config;
        let conv = |name: String, channels| Conv2d::load(&w.at(name), channels, Geometry::same(3));
        let [hr, last] = spelling.last(ups);
        let dense = |block, dense| {
            let conv = |i: usize| {
                let out = if i == 5 { filters } else { growth };
                conv(spelling.dense(block, dense, i), [out, filters + (i - 1) * growth])
            };
            Ok(DenseBlock { conv: [conv(1)?, conv(2)?, conv(3)?, conv(4)?, conv(5)?] })
        };
        Ok(Self {
            conv_first: Conv2d::load_in_f32(
                &w.at(spelling.first()),
                [filters, 3 * unshuffle * unshuffle],
                Geometry::same(3),
            )?,
            body: (0..blocks)
                .map(|block| Ok([dense(block, 1)?, dense(block, 2)?, dense(block, 3)?]))
                .collect::<Result<_>>()?,
            conv_body: conv(spelling.body(blocks), [filters; 2])?,
            conv_up: (1..=ups).map(|i| conv(spelling.up(i), [filters; 2])).collect::<Result<_>>()?,
            conv_hr: conv(hr, [filters; 2])?,
            conv_last: Conv2d::load_in_f32(&w.at(last), [3, filters], Geometry::same(3))?,
            unshuffle,
        })
    }

    /// `x: [1, h, w, 3]` in 0..1 → `[1, scale·h, scale·w, 3]`.
    pub(super) fn forward(&self, isa: Isa, x: Tensor<f32, 4>) -> Tensor<f32, 4> {
        let [_, height, width, _] = x.shape();
        let x =
            if self.unshuffle == 1 { x } else { unshuffled(&reflected(&x, self.unshuffle), self.unshuffle) };
        let first = apply(isa, &self.conv_first, x.view());
        let mut f = first.clone();
        for dense in &self.body {
            let y = dense.iter().fold(f.clone(), |x, dense| dense.forward(isa, x));
            f = plus(f, &y, RESIDUAL_SCALE);
        }
        f = plus(first, &apply(isa, &self.conv_body, f.view()), 1.0);
        for conv in &self.conv_up {
            f = bent(isa, apply(isa, conv, upsample::nearest_2x(isa, f.view()).view()));
        }
        f = bent(isa, apply(isa, &self.conv_hr, f.view()));
        let out = self.conv_last.forward_last(isa, f.view());
        // The rows and columns that made whole squares of the input are cut off.
        let scale = (1 << self.conv_up.len()) / self.unshuffle;
        match out.shape() == [1, scale * height, scale * width, 3] {
            true => out,
            false => out.view().slice(1, 0..scale * height).slice(2, 0..scale * width).to_tensor(),
        }
    }
}

impl DenseBlock {
    fn forward(&self, isa: Isa, x: Tensor<f32, 4>) -> Tensor<f32, 4> {
        let [last, others] = [&self.conv[4..], &self.conv[..4]];
        let mut all = x.clone();
        for conv in others {
            let new = bent(isa, apply(isa, conv, all.view()));
            all = concat(&[all.view(), new.view()], 3);
        }
        plus(x, &apply(isa, &last[0], all.view()), RESIDUAL_SCALE)
    }
}

fn apply(isa: Isa, conv: &Conv2d, x: View<'_, f32, 4>) -> Tensor<f32, 4> {
    conv.forward::<f32>(isa, x).into_tensor()
}

/// `lrelu(x)`
fn bent(isa: Isa, mut x: Tensor<f32, 4>) -> Tensor<f32, 4> {
    let channels = x.shape()[3];
    activation::prelu(isa, x.as_mut_slice(), &vec![SLOPE; channels]);
    x
}

/// `x + scale·y`
fn plus(mut x: Tensor<f32, 4>, y: &Tensor<f32, 4>, scale: f32) -> Tensor<f32, 4> {
    x.as_mut_slice().iter_mut().zip(y.as_slice()).for_each(|(x, y)| *x += scale * y);
    x
}

/// Each square of `factor`² pixels as one: channel c·factor² + factor·i + j is channel c of the
/// pixel in row i and column j. torch's `pixel_unshuffle`.
fn unshuffled(x: &Tensor<f32, 4>, factor: usize) -> Tensor<f32, 4> {
    let [n, height, width, channels] = x.shape();
    let squares = factor * factor;
    Tensor::from_fn([n, height / factor, width / factor, channels * squares], |[n, y, column, c]| {
        let (i, j) = (c % squares / factor, c % factor);
        x[[n, y * factor + i, column * factor + j, c / squares]]
    })
}

/// With rows below and columns to the right, mirrored, to whole squares.
fn reflected(x: &Tensor<f32, 4>, multiple: usize) -> Tensor<f32, 4> {
    let [n, height, width, channels] = x.shape();
    // The last pixel is not repeated; a picture of one pixel has no other.
    let mirror = |i: usize, side: usize| if i < side { i } else { (2 * side).saturating_sub(2 + i) };
    let sides = [height, width].map(|side| side.next_multiple_of(multiple));
    if sides == [height, width] {
        return x.clone();
    }
    Tensor::from_fn([n, sides[0], sides[1], channels], |[n, y, column, c]| {
        x[[n, mirror(y, height), mirror(column, width), c]]
    })
}
