//! The layers of which all three networks are made: weights beside `load` and `forward`.
//!
//! ```text
//! Linear      y = x·Wᵀ + b                    also a 1×1 convolution: channels are contiguous
//! Conv2d      y = Σ w[o, c, i, j] · x[.., c] + b         UpsampleConv2d: of a doubled image
//! GroupNorm   y = (x − mean) / √(variance + eps) · weight + bias    over a group's channels
//! LayerNorm   the same over the channels of one token
//! Embedding   y = table[id]
//! ```
//!
//! The fields of a layer that has parts of its own carry the names of the checkpoint, so that
//! `w.at("conv1")` loads the field `conv1`. There is no common trait: each network calls its layers
//! by name, in the order of the formula.
//!
//! Images are `[n, h, w, c]`, tokens `[n, tokens, c]`, both f32. The layer that makes an
//! [`FeatureMap`] may take the moments of its channels while it stores them, and a group norm
//! behind it reads the image once instead of twice. What a norm makes is an [`Activations`]
//! instead, for the linear layer or convolution behind it: rounded already, if that layer's
//! products are in bf16.

use std::ops::Range;
use std::sync::Arc;

use aquatint_kernels::conv2d::{self, Geometry, narrow};
use aquatint_kernels::gemm::{ChannelStats, GegluWeights, Welford};
use aquatint_kernels::norm::group::{self as group_norm, Activation, NormInput};
use aquatint_kernels::packed_input::ALayout;
use aquatint_kernels::{
    Isa, Precision, attention, conv2d::upsample, gemm, linear, norm::layer as layer_norm,
};
use aquatint_tensor::{Tensor, View};

pub use aquatint_kernels::cpu::stored::Stored;
pub use aquatint_kernels::gemm::Epilogue;
pub use aquatint_kernels::packed_input::{Activations, Input, PackedRowsMut};

use crate::error::Result;
use crate::source::{Table, Weights};

use super::trace::{self, LayerWork};

/// `y = x·Wᵀ + b`.
pub struct Linear {
    weight: Arc<gemm::PackedWeights>,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// `shape`: `[out_features, in_features]`.
    ///
    /// # Errors
    /// As for every `load` in this file: if a tensor is missing or has another shape.
    pub fn load(w: &Weights<'_>, shape: [usize; 2]) -> Result<Self> {
        Ok(Self { weight: w.linear("weight", shape)?, bias: Some(w.vector("bias", shape[0])?) })
    }

    /// A layer that has no bias.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load_without_bias(w: &Weights<'_>, shape: [usize; 2]) -> Result<Self> {
        Ok(Self { weight: w.linear("weight", shape)?, bias: None })
    }

    /// A 1×1 convolution: the same arithmetic, stored as `[out_channels, in_channels, 1, 1]`.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load_pointwise(w: &Weights<'_>, shape: [usize; 2]) -> Result<Self> {
        Ok(Self { weight: w.pointwise("weight", shape)?, bias: Some(w.vector("bias", shape[0])?) })
    }

    /// A 1×1 convolution of images that are joined channel by channel; `segment_len` divides the
    /// channels of each.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load_pointwise_concat(w: &Weights<'_>, shape: [usize; 2], segment_len: usize) -> Result<Self> {
        let weight = w.pointwise_segments("weight", shape, segment_len)?;
        Ok(Self { weight, bias: Some(w.vector("bias", shape[0])?) })
    }

    /// Of images that are joined channel by channel: `[n, h, w, c₀]`, `[n, h, w, c₁]`, … → `[n, h,
    /// w, out_channels]`.
    pub fn forward_concat<T: Stored>(&self, isa: Isa, inputs: &[View<'_, T, 4>]) -> Tensor<T, 4> {
        let size = size_of::<T>();
        let epilogue = Epilogue { bias: self.bias.as_deref(), ..Epilogue::none() };
        let bytes = || inputs.iter().map(|input| size * input.shape().iter().product::<usize>()).sum();
        let rows = || inputs.iter().map(|input| input.shape()[..3].iter().product()).max().unwrap_or(0);
        trace::layer(
            || LayerWork::linear("linear of several", rows(), &self.weight, [bytes(), size]),
            || linear::linear_concat(isa, inputs, &self.weight, epilogue),
        )
    }

    /// The precision of the products.
    pub fn precision(&self) -> Precision {
        self.weight.precision()
    }

    /// Whether the weights of both are the same object in memory.
    #[cfg(test)]
    pub(crate) fn shares_weights(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.weight, &other.weight)
    }

    /// `x: [.., in_features]` → `[.., out_features]`.
    pub fn forward<'a, const N: usize>(&self, isa: Isa, x: impl Into<Input<'a, N>>) -> Tensor<f32, N> {
        self.forward_with(isa, x, Epilogue::default())
    }

    /// The same, written to a part of a larger result, with more to be done to each number before
    /// it is stored; the bias is filled in here.
    pub fn forward_into<'a, T: Stored, const N: usize>(
        &self,
        isa: Isa,
        x: impl Into<Input<'a, N>>,
        epilogue: Epilogue<'_, T>,
        out: &mut [T],
    ) {
        let epilogue = Epilogue { bias: self.bias.as_deref(), ..epilogue };
        let x = x.into();
        trace::layer(|| self.work(x, epilogue), || linear::linear_into(isa, x, &self.weight, epilogue, out));
    }

    /// `residual + layer(x)` of some rows of `x`, all axes but the last taken as one.
    pub fn forward_rows<const N: usize>(
        &self,
        isa: Isa,
        x: &Activations<N>,
        rows: Range<usize>,
        residual: &[f32],
    ) -> Tensor<f32, 2> {
        let terms = Epilogue { bias: self.bias.as_deref(), residual: Some(residual), ..Epilogue::default() };
        let (count, all) = (rows.len(), x.shape()[..N - 1].iter().product::<usize>());
        let bytes = [x.bytes() * count / all.max(1), 8];
        trace::layer(
            || LayerWork::linear("linear with residual", count, &self.weight, bytes),
            || linear::linear_of_rows(isa, x, rows, &self.weight, terms),
        )
    }

    /// `residual + layer(x)`, rounded, written to some rows of the activations of a layer behind
    /// it.
    pub fn forward_packed_into<'a, const N: usize>(
        &self,
        isa: Isa,
        x: impl Into<Input<'a, N>>,
        residual: &[f32],
        out: PackedRowsMut<'_>,
    ) {
        let terms = [self.bias.as_deref(), Some(residual)];
        let (x, w) = (x.into(), &self.weight);
        let bytes = [x.bytes(), 4 + trace::bytes_packed_for(w.precision())];
        trace::layer(
            || LayerWork::linear("linear with residual", rows_of(x), w, bytes),
            || linear::linear_packed_into(isa, x, w, terms, out),
        );
    }

    /// The same, with more to be done to each result before it is stored; the bias is filled in
    /// here.
    pub fn forward_with<'a, T: Stored, const N: usize>(
        &self,
        isa: Isa,
        x: impl Into<Input<'a, N>>,
        epilogue: Epilogue<'_, T>,
    ) -> Tensor<T, N> {
        let epilogue = Epilogue { bias: self.bias.as_deref(), ..epilogue };
        let x = x.into();
        trace::layer(|| self.work(x, epilogue), || linear::linear(isa, x, &self.weight, epilogue))
    }

    /// [`forward_with`](Self::forward_with) of tokens that are the pixels of images of `[height,
    /// width]`, for a group norm behind it: `x: [n, height·width, in_features]` → `[n, height,
    /// width, out_features]`.
    pub fn forward_to_image<'a, T: Stored>(
        &self,
        isa: Isa,
        x: impl Into<Input<'a, 3>>,
        [height, width]: [usize; 2],
        epilogue: Epilogue<'_, T>,
    ) -> FeatureMap<T> {
        let epilogue = Epilogue { bias: self.bias.as_deref(), ..epilogue };
        let x = x.into();
        let (y, stats) = trace::layer(
            || self.work(x, epilogue),
            || linear::linear_with_stats(isa, x, &self.weight, epilogue),
        );
        let [n, _, channels] = y.shape();
        FeatureMap::new((y.reshape([n, height, width, channels]), stats))
    }

    fn work<T, const N: usize>(&self, x: Input<'_, N>, epilogue: Epilogue<'_, T>) -> LayerWork {
        let residual = epilogue.residual.is_some();
        let kind = if residual { "linear with residual" } else { "linear" };
        let each = if residual { 2 } else { 1 } * size_of::<T>();
        LayerWork::linear(kind, rows_of(x), &self.weight, [x.bytes(), each])
    }
}

/// Rows of the matrix that a layer sees.
fn rows_of<const N: usize>(x: Input<'_, N>) -> usize {
    x.shape()[..N - 1].iter().product()
}

/// A linear layer with bias of whose results one half is the gate of the other.
pub struct GatedLinear {
    weight: Arc<GegluWeights>,
}

impl GatedLinear {
    /// `shape`: `[2·features, in_features]`, the gates in the second half.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load(w: &Weights<'_>, shape: [usize; 2]) -> Result<Self> {
        Ok(Self { weight: w.gated("weight", "bias", shape)? })
    }

    /// `value·gelu(gate)`: `x: [.., in_features]` → `[.., features]`, for another linear layer.
    pub fn forward<'a, const N: usize>(&self, isa: Isa, x: impl Into<Input<'a, N>>) -> Activations<N> {
        let x = x.into();
        let w = &self.weight;
        trace::layer(|| LayerWork::geglu(rows_of(x), w, x.bytes()), || linear::linear_geglu(isa, x, w))
    }
}

/// What a convolution or a residual block makes.
#[derive(Clone)]
pub struct FeatureMap<T: Stored> {
    /// `[n, h, w, c]`; private, so that nothing changes them behind the statistics.
    pixels: Tensor<T, 4>,
    /// Of its channels, for a group norm behind it; `None` if the layer that made it did not take
    /// them.
    stats: Option<ChannelStats>,
}

impl<T: Stored> FeatureMap<T> {
    /// Pixels, and the statistics of their channels if the layer that made them took them.
    fn new((pixels, stats): (Tensor<T, 4>, Option<ChannelStats>)) -> Self {
        Self { pixels, stats }
    }

    /// An image of which nothing is known but its pixels.
    pub fn of_pixels(pixels: Tensor<T, 4>) -> Self {
        Self { pixels, stats: None }
    }

    /// Some rows of an image, to be normalised with the statistics `whole` of all of it:
    /// `[1, rows, w, c]`.
    pub fn of_rows(rows: Tensor<T, 4>, whole: &[Welford]) -> Self {
        let [_, height, width, _] = rows.shape();
        Self { pixels: rows, stats: Some(ChannelStats::of_whole(whole, height * width)) }
    }

    /// The pixels.
    pub fn view(&self) -> View<'_, T, 4> {
        self.pixels.view()
    }

    /// Images, height, width, channels.
    pub fn shape(&self) -> [usize; 4] {
        self.pixels.shape()
    }

    /// The pixels as they are stored.
    pub fn pixels(&self) -> &Tensor<T, 4> {
        &self.pixels
    }

    /// The pixels alone.
    pub fn into_tensor(self) -> Tensor<T, 4> {
        self.pixels
    }

    /// `self + other`, whose images are as many or a multiple: image i adds to image i mod n.
    ///
    /// # Panics
    /// If the sizes do not fit.
    #[must_use]
    pub fn plus(&self, isa: Isa, other: View<'_, f32, 4>) -> Self {
        let ([n, ours @ ..], [images, theirs @ ..]) = (self.shape(), other.shape());
        assert!(ours == theirs && images.is_multiple_of(n), "{:?} + {:?}", self.shape(), other.shape());
        let mut sum = other.to_tensor();
        let terms = T::widen_all(isa, self.pixels.as_slice().into());
        sum.as_mut_slice().iter_mut().zip(terms.iter().cycle()).for_each(|(sum, x)| *sum += x);
        let mut pixels = Tensor::recycled(sum.shape());
        T::narrow(sum.as_slice(), pixels.as_mut_slice());
        Self { pixels, stats: None }
    }
}

/// A convolution with bias.
pub struct Conv2d {
    weight: Arc<conv2d::ConvWeights>,
    bias: Vec<f32>,
    geometry: Geometry,
    /// Whether it has so few output channels that a dot product for each is faster, and may differ
    /// in the last digits.
    narrow: bool,
}

impl Conv2d {
    /// `channels`: `[out_channels, in_channels]`.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load(w: &Weights<'_>, channels: [usize; 2], geometry: Geometry) -> Result<Self> {
        let [out_channels, in_channels] = channels;
        let [height, width] = geometry.kernel_size;
        let w = if conv2d::winograd::can(Precision::F32, geometry) { &w.for_window() } else { w };
        Ok(Self {
            weight: w.conv("weight", [out_channels, in_channels, height, width])?,
            bias: w.vector("bias", out_channels)?,
            geometry,
            narrow: false,
        })
    }

    /// A convolution that has no bias.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load_without_bias(w: &Weights<'_>, channels: [usize; 2], geometry: Geometry) -> Result<Self> {
        let [out_channels, in_channels] = channels;
        let [height, width] = geometry.kernel_size;
        let weight = w.conv("weight", [out_channels, in_channels, height, width])?;
        Ok(Self { weight, bias: vec![0.0; out_channels], geometry, narrow: false })
    }

    /// A network's first or last layer, which is in f32 whatever the precision of `w` is.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load_in_f32(w: &Weights<'_>, channels: [usize; 2], geometry: Geometry) -> Result<Self> {
        // A network in f32 keeps its sums in the order that they always had.
        let narrow = w.precision() != Precision::F32 && channels[0] <= narrow::MAX_COLUMNS;
        Ok(Self { narrow, ..Self::load(&w.in_f32(), channels, geometry)? })
    }

    /// `x: [n, h, w, in_channels]` → `[n, h', w', out_channels]`.
    pub fn forward<'a, T: Stored>(&self, isa: Isa, x: impl Into<Input<'a, 4>>) -> FeatureMap<T> {
        self.forward_with(isa, x, Epilogue::none())
    }

    /// The same for a network's last layer, whose result no norm reads.
    pub fn forward_last<'a>(&self, isa: Isa, x: impl Into<Input<'a, 4>>) -> Tensor<f32, 4> {
        match x.into() {
            Input::F32(x) if self.narrow => trace::layer(
                || LayerWork::conv(x.into(), &self.weight, self.geometry, [4, 0]),
                || narrow::conv2d(isa, x, &self.weight, self.geometry, &self.bias),
            ),
            x => self.forward(isa, x).into_tensor(),
        }
    }

    /// The same, with more to be done to each result before it is stored; the bias is filled in
    /// here.
    pub fn forward_with<'a, T: Stored>(
        &self,
        isa: Isa,
        x: impl Into<Input<'a, 4>>,
        epilogue: Epilogue<'_, T>,
    ) -> FeatureMap<T> {
        let x = x.into();
        let epilogue = Epilogue { bias: Some(&self.bias), ..epilogue };
        let size = size_of::<T>();
        let residual = if epilogue.residual.is_some() { size } else { 0 };
        FeatureMap::new(trace::layer(
            || LayerWork::conv(x, &self.weight, self.geometry, [size, residual]),
            || conv2d::conv2d_with_stats(isa, x, &self.weight, self.geometry, epilogue),
        ))
    }
}

/// A 3×3 convolution of an enlarged image.
pub struct UpsampleConv2d {
    weight: Arc<upsample::UpsampleWeights>,
    bias: Vec<f32>,
}

impl UpsampleConv2d {
    /// As many channels in as out.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load(w: &Weights<'_>, channels: usize) -> Result<Self> {
        let plain = Self::load_without_bias(w, channels)?;
        Ok(Self { bias: w.vector("bias", channels)?, ..plain })
    }

    /// The same without a bias.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load_without_bias(w: &Weights<'_>, channels: usize) -> Result<Self> {
        Ok(Self { weight: w.upsample_conv("weight", channels)?, bias: vec![0.0; channels] })
    }

    /// Each pixel repeated in a square, then convolved: `x: [n, h, w, c]` → `[n, 2h, 2w, c]`.
    pub fn forward<T: Stored>(&self, isa: Isa, x: View<'_, T, 4>) -> FeatureMap<T> {
        let epilogue = Epilogue { bias: Some(&self.bias[..]), ..Epilogue::none() };
        let out = x.shape().map(|side| 2 * side);
        FeatureMap::new(trace::layer(
            || LayerWork::upsample_conv(x.shape(), out, [size_of::<T>(), self.weight.bytes()]),
            || upsample::upsample_conv_with_stats(isa, x, &self.weight, epilogue),
        ))
    }

    /// Enlarged to any size, then convolved: `x: [n, h, w, c]` → `[n, size[0], size[1], c]`.
    pub fn forward_to<T: Stored>(&self, isa: Isa, x: View<'_, T, 4>, size: [usize; 2]) -> FeatureMap<T> {
        let wide = T::widen_all(isa, x.to_tensor().into_vec().into());
        let enlarged = upsample::nearest(isa, View::from_slice(x.shape(), &wide), size);
        let (w, geometry) = (self.weight.plain(), Geometry::same(3));
        let epilogue = Epilogue { bias: Some(&self.bias[..]), ..Epilogue::none() };
        FeatureMap::new(trace::layer(
            || LayerWork::upsample_conv(x.shape(), enlarged.shape(), [size_of::<T>(), self.weight.bytes()]),
            || conv2d::conv2d_with_stats(isa, enlarged.view(), w, geometry, epilogue),
        ))
    }
}

/// Normalisation of an image over groups of channels.
pub struct GroupNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    num_groups: usize,
    eps: f32,
    /// Of a linear layer that follows, and of a 3×3 window.
    precisions: [Precision; 2],
}

impl GroupNorm {
    /// A norm over `num_groups` groups of `channels / num_groups` channels each, in front of a
    /// layer of the precision of `w`.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load(w: &Weights<'_>, channels: usize, num_groups: usize, eps: f32) -> Result<Self> {
        let (weight, bias) = (w.vector("weight", channels)?, w.vector("bias", channels)?);
        let precisions = [w.precision(), w.for_window().precision()];
        Ok(Self { weight, bias, num_groups, eps, precisions })
    }

    /// Channels that it normalises.
    pub fn channels(&self) -> usize {
        self.weight.len()
    }

    /// `x: [n, h, w, c]` → the same shape, for a linear layer.
    pub fn forward<T: Stored>(&self, isa: Isa, x: &FeatureMap<T>) -> Activations<4> {
        self.normalise(isa, &[x], Activation::None, ALayout::rows(self.precisions[0]))
    }

    /// `silu(norm(x))` for a 3×3 convolution: in one pass, since the two always come together.
    pub fn forward_silu<T: Stored>(&self, isa: Isa, x: &FeatureMap<T>) -> Activations<4> {
        self.forward_silu_concat(isa, &[x])
    }

    /// The same of images that are joined channel by channel.
    pub fn forward_silu_concat<T: Stored>(&self, isa: Isa, inputs: &[&FeatureMap<T>]) -> Activations<4> {
        self.normalise(isa, inputs, Activation::Silu, ALayout::image(self.precisions[1]))
    }

    fn normalise<'a, T: Stored>(
        &self,
        isa: Isa,
        images: &[&'a FeatureMap<T>],
        activation: Activation,
        layout: ALayout,
    ) -> Activations<4> {
        let piece =
            |image: &&'a FeatureMap<T>| NormInput { pixels: image.view(), stats: image.stats.as_ref() };
        let inputs: Vec<_> = images.iter().map(piece).collect();
        let norm = group_norm::GroupNorm {
            num_groups: self.num_groups,
            eps: self.eps,
            weight: &self.weight,
            bias: &self.bias,
            activation,
        };
        trace::layer(
            || LayerWork::group_norm(&inputs, layout.precision),
            || group_norm::group_norm_packed(isa, &inputs, norm, layout),
        )
    }
}

/// Normalisation of each token over its channels.
pub struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
    /// Of the layer that follows.
    precision: Precision,
}

impl LayerNorm {
    /// A norm over `channels` channels, in front of a layer of the precision of `w`.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load(w: &Weights<'_>, channels: usize, eps: f32) -> Result<Self> {
        let (weight, bias) = (w.vector("weight", channels)?, w.vector("bias", channels)?);
        Ok(Self { weight, bias, eps, precision: w.precision() })
    }

    /// `x: [n, tokens, c]` → the same shape, for a linear layer.
    pub fn forward<T: Stored>(&self, isa: Isa, x: View<'_, T, 3>) -> Activations<3> {
        let written = trace::bytes_packed_for(self.precision);
        trace::layer(
            || LayerWork::layer_norm(x.shape(), [size_of::<T>(), written]),
            || layer_norm::layer_norm_packed(isa, x, &self.weight, &self.bias, self.eps, self.precision),
        )
    }
}

impl LayerNorm {
    /// The same in f32, whatever follows.
    pub fn forward_f32(&self, isa: Isa, x: View<'_, f32, 3>) -> Tensor<f32, 3> {
        layer_norm::layer_norm(isa, x, &self.weight, &self.bias, self.eps)
    }
}

/// A table of vectors, looked up by number.
pub struct Embedding {
    weight: Table,
}

impl Embedding {
    /// `shape`: `[entries, channels]`.
    ///
    /// # Errors
    /// See [`Linear::load`].
    pub fn load(w: &Weights<'_>, shape: [usize; 2]) -> Result<Self> {
        Ok(Self { weight: w.table("weight", shape)? })
    }

    /// `out += table[id]`.
    ///
    /// # Panics
    /// If `id` is not in the table.
    pub fn add_to(&self, id: usize, out: &mut [f32]) {
        self.weight.add_row(id, out);
    }
}

/// Whether a token may look at those behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mask {
    /// Every token sees all others.
    None,
    /// A token sees itself and those before it.
    Causal,
}

/// How the channels attend.
#[derive(Clone, Copy, Debug)]
pub struct AttentionConfig {
    /// Equal parts into which the channels are cut; each attends on its own.
    pub count: usize,
    /// Who sees whom.
    pub mask: Mask,
    /// The precision of the products.
    pub precision: Precision,
}

impl AttentionConfig {
    fn settings(self, channels: usize) -> attention::Attention {
        let scale = 1.0 / ((channels / self.count) as f32).sqrt();
        attention::Attention { scale, causal: self.mask == Mask::Causal, precision: self.precision }
    }

    /// `layer(x)` as [`multi_head_attention`] wants it: `x: [n, tokens, in_features]` → `[n,
    /// tokens, c]`.
    pub fn project<'a>(self, isa: Isa, layer: &Linear, x: impl Into<Input<'a, 3>>) -> Activations<3> {
        let channels = layer.weight.out_features();
        if !attention::takes_packed(isa, self.settings(channels), channels / self.count) {
            return layer.forward(isa, x).into();
        }
        let (x, w) = (x.into(), &layer.weight);
        trace::layer(
            || {
                LayerWork::linear(
                    "linear, packed",
                    rows_of(x),
                    w,
                    [x.bytes(), trace::bytes_packed_for(w.precision())],
                )
            },
            || linear::linear_packed(isa, x, w, layer.bias.as_deref()),
        )
    }
}

/// `softmax(Q·Kᵀ / √head_dim)·V` for each head, of what [`AttentionConfig::project`] made.
///
/// `q: [m, tokens, c]`, `k` and `v: [n, keys, c]` → `[n, tokens, c]`; keys number i meet queries
/// number i mod m.
pub fn multi_head_attention(isa: Isa, qkv: [&Activations<3>; 3], heads: AttentionConfig) -> Activations<3> {
    let [.., channels] = qkv[0].shape();
    trace::layer(
        || LayerWork::attention(qkv, heads.count),
        || attention::attention_of_activations(isa, qkv, heads.count, heads.settings(channels)),
    )
}
