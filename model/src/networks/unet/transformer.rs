//! The transformer after a residual block: pixels attend to each other and to the text.
//!
//! ```text
//! Transformer2DModel      x + proj_out(blocks(proj_in(norm(x))))   each pixel becomes a token
//! BasicTransformerBlock   h += attn1(norm1(h))          self-attention: to every pixel
//!                         h += attn2(norm2(h), text)    cross-attention: to the text's 77 vectors
//!                                                       (attn1, too, with `only_cross_attention`)
//!                         h += ff(norm3(h))             a small network for each pixel
//! FeedForward (GEGLU)     a, g = split(proj(h));  net.2(a · gelu(g))
//! ```
//!
//! Of the text only keys and values are needed, the same at each step:
//! [`Transformer2DModel::prepare`] computes them once for an image. With guidance two texts attend
//! with the same image; what comes before the cross-attention is computed for a single image, and
//! the result is repeated where the texts begin to matter. In channels-last layout an image
//! `[n, h, w, c]` *is* the token list `[n, h·w, c]`. At 64×64 there are 4096 tokens, and
//! self-attention compares all pairs of them.
//!
//! Source: Rombach et al. (2022), section 3.3; Shazeer, *GLU Variants Improve Transformer* (2020).

use std::borrow::Cow;

use aquatint_kernels::cpu::partition::for_each_chain;
use aquatint_kernels::{Isa, Precision};
use aquatint_tensor::{Tensor, View, concat};

use super::token_merge::MergedBatch;
use crate::error::Result;
use crate::networks::attention_maps;
use crate::networks::layers::{
    Activations, AttentionConfig, Epilogue, FeatureMap, GatedLinear, GroupNorm, Input, LayerNorm, Linear,
    Mask, PackedRowsMut, Stored, multi_head_attention,
};
use crate::networks::trace::{self, LayerWork};
use crate::source::{Role, Weights};

/// Fixed in diffusers, whatever the config says about other norms.
const GROUP_NORM_EPS: f32 = 1e-6;
const LAYER_NORM_EPS: f32 = 1e-5;

/// What a transformer looks like.
#[derive(Clone, Copy, Debug)]
pub struct TransformerConfig {
    /// Channels of the image.
    pub channels: usize,
    /// AttentionConfig of both attentions.
    pub heads: usize,
    /// Channels of the text embeddings.
    pub cross_attention_dim: usize,
    /// Transformer blocks, one after the other.
    pub layers: usize,
    /// Groups of the norm at the entrance.
    pub num_groups: usize,
    /// Whether the first attention is to the text as well, as in SDXS.
    pub only_cross_attention: bool,
    /// Whether the projections are stored as matrices instead of 1×1 kernels; the arithmetic is the
    /// same.
    pub use_linear_projection: bool,
}

/// What a transformer needs to know of the texts: keys and values for each of its blocks, `[texts,
/// tokens, channels]` each.
pub struct CrossAttnKv {
    blocks: Vec<BlockKv>,
    /// The share of the tokens that self-attention merges.
    token_merging: f64,
}

impl CrossAttnKv {
    /// The same, and this share of the tokens merged in self-attention.
    pub(super) fn merging(self, token_merging: f64) -> Self {
        Self { token_merging, ..self }
    }
}

/// Keys and values of the texts in a block.
struct BlockKv {
    /// Of its first attention, if that is to the text as well.
    attn1: Option<[Activations<3>; 2]>,
    attn2: [Activations<3>; 2],
}

/// A transformer over the pixels of an image.
pub struct Transformer2DModel {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<BasicTransformerBlock>,
    proj_out: Linear,
}

impl Transformer2DModel {
    /// Reads the weights.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(w: &Weights<'_>, config: TransformerConfig) -> Result<Self> {
        let channels = config.channels;
        let projection = |name| match config.use_linear_projection {
            true => Linear::load(&w.at(name), [channels; 2]),
            false => Linear::load_pointwise(&w.at(name), [channels; 2]),
        };
        Ok(Self {
            norm: GroupNorm::load(&w.at("norm"), channels, config.num_groups, GROUP_NORM_EPS)?,
            proj_in: projection("proj_in")?,
            transformer_blocks: (0..config.layers)
                .map(|i| BasicTransformerBlock::load(&w.at("transformer_blocks").at(i), config))
                .collect::<Result<_>>()?,
            proj_out: projection("proj_out")?,
        })
    }

    /// Keys and values of `text: [texts, tokens, cross_attention_dim]`.
    pub fn prepare(&self, isa: Isa, text: View<'_, f32, 3>) -> CrossAttnKv {
        let blocks = self.transformer_blocks.iter().map(|block| BlockKv {
            attn1: block.only_cross_attention.then(|| block.attn1.keys_and_values(isa, text.into())),
            attn2: block.attn2.keys_and_values(isa, text.into()),
        });
        CrossAttnKv { blocks: blocks.collect(), token_merging: 0.0 }
    }

    /// `x: [n, h, w, channels]` → `[texts, h, w, channels]`; text i looks at image i mod n.
    pub fn forward<T: Stored>(&self, isa: Isa, x: &FeatureMap<T>, text: &CrossAttnKv) -> FeatureMap<T> {
        let [n, height, width, channels] = x.shape();
        let normed = self.norm.forward(isa, x).reshape([n, height * width, channels]);
        let mut h = self.proj_in.forward(isa, &normed);
        drop(normed);
        let merging = Merging { ratio: text.token_merging, size: [height, width] };
        let blocks: Vec<_> = self.transformer_blocks.iter().zip(&text.blocks).collect();
        let (&(last, text), others) = blocks.split_last().expect("a transformer of at least one block");
        for (block, text) in others {
            h = block.forward(isa, h, text, Precision::F32, merging).into_tensor();
        }
        let h = last.forward(isa, h, text, self.proj_out.precision(), merging);
        let [texts, ..] = h.shape();
        let residual = repeated(x.pixels(), texts);
        let epilogue = Epilogue { residual: Some(residual.as_slice()), ..Epilogue::none() };
        self.proj_out.forward_to_image(isa, &h, [height, width], epilogue)
    }
}

/// Tokens that self-attention merges, of an image of `size`; see `token_merge.rs`.
#[derive(Clone, Copy)]
struct Merging {
    ratio: f64,
    size: [usize; 2],
}

/// Self-attention, cross-attention, feed-forward: each adds to the tokens.
struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
    only_cross_attention: bool,
}

impl BasicTransformerBlock {
    fn load(w: &Weights<'_>, config: TransformerConfig) -> Result<Self> {
        let TransformerConfig { channels, heads, cross_attention_dim, only_cross_attention, .. } = config;
        let first = only_cross_attention.then_some(cross_attention_dim);
        let norm = |name| LayerNorm::load(&w.at(name), channels, LAYER_NORM_EPS);
        Ok(Self {
            norm1: norm("norm1")?,
            attn1: Attention::load(&w.at("attn1"), channels, first, heads)?,
            norm2: norm("norm2")?,
            attn2: Attention::load(&w.at("attn2"), channels, Some(cross_attention_dim), heads)?,
            norm3: norm("norm3")?,
            ff: FeedForward::load(&w.at("ff"), channels)?,
            only_cross_attention,
        })
    }

    /// Rounded if the products of the layer `behind` are.
    fn forward(
        &self,
        isa: Isa,
        h: Tensor<f32, 3>,
        text: &BlockKv,
        behind: Precision,
        merging: Merging,
    ) -> Activations<3> {
        let h = match &text.attn1 {
            Some(text) => self.attn1.forward(isa, self.norm1.forward(isa, h.view()), text, &h),
            None => self.attend_to_itself(isa, h, merging),
        };
        let text = &text.attn2;
        let normed = self.norm2.forward(isa, h.view());
        if behind == Precision::F32 || behind != self.ff.out.precision() {
            let h = self.attn2.forward(isa, normed, text, &h);
            return self.ff.forward(isa, &self.norm3, &h).into();
        }
        let attended = self.attn2.attend(isa, normed, text);
        self.finish(isa, &attended, &h, behind)
    }

    /// `h + attn1(norm1(h))`, over fewer tokens if some are merged.
    fn attend_to_itself(&self, isa: Isa, h: Tensor<f32, 3>, merging: Merging) -> Tensor<f32, 3> {
        if merging.ratio <= 0.0 {
            let normed = self.norm1.forward(isa, h.view());
            let itself = self.attn1.keys_and_values(isa, (&normed).into());
            return self.attn1.forward(isa, normed, &itself, &h);
        }
        let merged = MergedBatch::of(isa, &h, merging.size, merging.ratio);
        let x: Activations<3> = merged.merge(&self.norm1.forward_f32(isa, h.view())).into();
        let itself = self.attn1.keys_and_values(isa, (&x).into());
        let attended = self.attn1.attend(isa, x, &itself);
        merged.add_unmerged(&self.attn1.to_out.forward(isa, &attended), h)
    }

    /// `x + ff(norm3(x))` with `x = h + attn2.to_out(attended)`, rounded, a chunk of tokens after
    /// the other: each token is on its own here.
    fn finish(
        &self,
        isa: Isa,
        attended: &Activations<3>,
        h: &Tensor<f32, 3>,
        behind: Precision,
    ) -> Activations<3> {
        let [contexts, tokens, channels] = attended.shape();
        let chain = contexts * tokens >= MIN_CHAINS.saturating_mul(TOKENS_OF_CHAIN);
        let at_once = if chain { TOKENS_OF_CHAIN } else { TOKENS_AT_ONCE };
        // The tokens of `h` begin again for each context; no chunk may reach beyond their end.
        let whole = (h.len() / channels).is_multiple_of(at_once);
        let h = if whole { Cow::Borrowed(h) } else { repeated(h, contexts) };
        let h = h.as_slice();
        let mut out = Activations::recycled(behind, attended.shape());
        let task = |(i, out): (usize, PackedRowsMut<'_>)| {
            let rows = i * at_once..(contexts * tokens).min((i + 1) * at_once);
            let residual = &h[rows.start * channels % h.len()..][..rows.len() * channels];
            let x = self.attn2.to_out.forward_rows(isa, attended, rows, residual);
            let tokens = View::from_slice([1, x.shape()[0], channels], x.as_slice());
            let gated = self.ff.proj.forward(isa, &self.norm3.forward(isa, tokens));
            self.ff.out.forward_packed_into(isa, &gated, x.as_slice(), out);
        };
        let chunks = out.row_chunks(at_once).into_iter().enumerate();
        if chain {
            let work = || LayerWork::depth_first([contexts * tokens, channels], attended.bytes());
            trace::layer(work, || for_each_chain(chunks.collect(), task));
        } else {
            chunks.for_each(task);
        }
        out
    }
}

/// Multi-head attention from `x` to `context`.
struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: AttentionConfig,
    /// Whether keys and values are those of the text.
    to_text: bool,
}

impl Attention {
    /// Self-attention, or cross-attention to a text of `text_channels` channels.
    fn load(w: &Weights<'_>, channels: usize, text_channels: Option<usize>, heads: usize) -> Result<Self> {
        let (queries, keys, context_channels) = match text_channels {
            None => (Role::SelfAttention, Role::Each, channels),
            Some(text_channels) => (Role::CrossAttention, Role::Once, text_channels),
        };
        Ok(Self {
            to_q: Linear::load_without_bias(&w.at("to_q").role(queries), [channels, channels])?,
            to_k: Linear::load_without_bias(&w.at("to_k").role(keys), [channels, context_channels])?,
            to_v: Linear::load_without_bias(&w.at("to_v").role(keys), [channels, context_channels])?,
            to_out: Linear::load(&w.at("to_out.0"), [channels, channels])?,
            heads: AttentionConfig { count: heads, mask: Mask::None, precision: w.precision() },
            to_text: text_channels.is_some(),
        })
    }

    /// `[to_k(context), to_v(context)]`.
    fn keys_and_values(&self, isa: Isa, context: Input<'_, 3>) -> [Activations<3>; 2] {
        [&self.to_k, &self.to_v].map(|layer| self.heads.project(isa, layer, context))
    }

    /// `residual + to_out(attention(to_q(x), k, v))`; context i meets `x` and `residual` number i
    /// mod n.
    fn forward(
        &self,
        isa: Isa,
        x: Activations<3>,
        context: &[Activations<3>; 2],
        residual: &Tensor<f32, 3>,
    ) -> Tensor<f32, 3> {
        let attended = self.attend(isa, x, context);
        let [contexts, ..] = attended.shape();
        add(isa, &self.to_out, &attended, repeated(residual, contexts).as_slice())
    }

    /// `attention(to_q(x), k, v)`.
    fn attend(&self, isa: Isa, x: Activations<3>, [k, v]: &[Activations<3>; 2]) -> Activations<3> {
        let q = self.heads.project(isa, &self.to_q, &x);
        drop(x);
        if self.to_text {
            attention_maps::observe(&q, k, self.heads.count);
        }
        multi_head_attention(isa, [&q, k, v], self.heads)
    }
}

/// Tokens that go through the feed-forward network together. It widens them fourfold: for all 8192
/// tokens of a step at 64×64 that would be 42 MB, written and read back; for 1024 it is 5 MB and
/// stays in the L3 cache. Fewer would be too few tasks for many cores.
const TOKENS_AT_ONCE: usize = 1024;
/// Tokens of a task that goes depth first through all that is behind the attention to the text,
/// where there are enough tasks: 1.2 MB for 320 channels, which stay in the L2 cache.
const TOKENS_OF_CHAIN: usize = 256;
/// Tasks from which on they are chains; `usize::MAX` switches chains off.
const MIN_CHAINS: usize = 16;

/// GEGLU: one half of the projection gates the other.
struct FeedForward {
    proj: GatedLinear,
    out: Linear,
}

impl FeedForward {
    fn load(w: &Weights<'_>, channels: usize) -> Result<Self> {
        let inner = 4 * channels;
        Ok(Self {
            proj: GatedLinear::load(&w.at("net.0.proj"), [2 * inner, channels])?,
            out: Linear::load(&w.at("net.2"), [channels, inner])?,
        })
    }

    /// `h + net.2(geglu(net.0.proj(norm(h))))`, for some tokens after the other: each is on its own
    /// here.
    fn forward(&self, isa: Isa, norm: &LayerNorm, h: &Tensor<f32, 3>) -> Tensor<f32, 3> {
        let [.., channels] = h.shape();
        let mut out = Tensor::recycled(h.shape());
        let chunks = h.as_slice().chunks(TOKENS_AT_ONCE * channels);
        for (h, out) in chunks.zip(out.as_mut_slice().chunks_mut(TOKENS_AT_ONCE * channels)) {
            let tokens = View::from_slice([1, h.len() / channels, channels], h);
            let gated = self.proj.forward(isa, &norm.forward(isa, tokens));
            let epilogue = Epilogue { residual: Some(h), ..Epilogue::default() };
            self.out.forward_into(isa, &gated, epilogue, out);
        }
        out
    }
}

/// `x: [n, ..]` → `[images, ..]`: the n images repeated.
fn repeated<T: Stored, const N: usize>(x: &Tensor<T, N>, images: usize) -> Cow<'_, Tensor<T, N>> {
    match images / x.shape()[0] {
        1 => Cow::Borrowed(x),
        times => Cow::Owned(concat(&vec![x.view(); times], 0)),
    }
}

/// `residual + layer(x)`.
fn add<'a>(isa: Isa, layer: &Linear, x: impl Into<Input<'a, 3>>, residual: &[f32]) -> Tensor<f32, 3> {
    layer.forward_with(isa, x, Epilogue { residual: Some(residual), ..Epilogue::default() })
}
