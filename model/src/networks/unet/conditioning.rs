//! What the UNet takes besides the latent, in the form in which its blocks use it.
//!
//! ```text
//! of the timesteps   time_emb_proj(silu(temb))   a row for each step, in each residual block
//! of the texts       to_k(text), to_v(text)      in each transformer
//! ```
//!
//! Neither depends on the latent. Computed when a picture begins instead of at each of its steps,
//! keys and values are computed once instead of 20 times, and the weights of the time embeddings
//! (100 MB in f32, for a vector at a time) are read once.

use aquatint_kernels::Isa;
use aquatint_tensor::{Tensor, View};

use super::addition_embedding::Addition;
use super::resnet::ResnetBlock2D;
use super::transformer::{CrossAttnKv, Transformer2DModel};

/// The same for every block, before the first step.
#[derive(Clone, Copy)]
pub struct BlockInputs<'a> {
    /// `silu(temb)` for all steps: `[steps · rows, time_embed_dim]`.
    pub silu_temb: View<'a, f32, 2>,
    /// Rows of each step: 1 for all texts, or one for each.
    pub rows: usize,
    /// The text embeddings: `[texts, tokens, cross_attention_dim]`.
    pub text: View<'a, f32, 3>,
    /// The share of the tokens that self-attention merges here.
    pub token_merging: f64,
}

/// What an image is conditioned on, for all steps.
#[derive(Clone, Copy)]
pub struct Conditions<'a> {
    /// The text embeddings: `[texts, tokens, cross_attention_dim]`.
    pub text: View<'a, f32, 3>,
    /// Of the calls of `forward` to come.
    pub timesteps: &'a [f32],
    /// For models that take it as an input; 1 is none.
    pub guidance_scale: f32,
    /// The share of the tokens that self-attention merges at the outermost level; 0 is none. See
    /// [`token_merge`](super::token_merge).
    pub token_merging: f64,
    /// For models whose config has an `addition`.
    pub addition: Option<Addition<'a>>,
}

/// What is added to the UNet's skips and to its middle: the outputs of a ControlNet or an adapter.
#[derive(Clone, Copy, Default)]
pub struct Residuals<'a> {
    /// One for each skip, from `conv_in` on; or none at all. `[texts, h, w, c]` or `[n, h, w, c]`.
    pub down_blocks: &'a [Tensor<f32, 4>],
    /// For the result of the middle block.
    pub mid_block: Option<&'a Tensor<f32, 4>>,
}

/// Everything that a picture's steps have in common; see
/// [`UNet2DConditionModel::prepare`](super::UNet2DConditionModel::prepare).
pub struct Conditioning {
    pub(super) texts: usize,
    /// Whether the time embedding differs from text to text, so that nothing can be shared.
    pub(super) time_per_text: bool,
    pub(super) down_blocks: Vec<BlockConditioning>,
    pub(super) mid_block: Option<BlockConditioning>,
    pub(super) up_blocks: Vec<BlockConditioning>,
}

/// The part of it that belongs to one block.
pub struct BlockConditioning {
    /// For each residual block, `[steps · rows, channels]`.
    times: Vec<Tensor<f32, 2>>,
    rows: usize,
    /// For each transformer.
    texts: Vec<CrossAttnKv>,
}

impl BlockConditioning {
    pub(super) fn new(
        isa: Isa,
        resnets: &[ResnetBlock2D],
        attentions: &[Transformer2DModel],
        BlockInputs { silu_temb, rows, text, token_merging }: BlockInputs<'_>,
    ) -> Self {
        Self {
            times: resnets.iter().map(|resnet| resnet.project_time(isa, silu_temb)).collect(),
            rows,
            texts: attentions
                .iter()
                .map(|attention| attention.prepare(isa, text).merging(token_merging))
                .collect(),
        }
    }

    /// What the block needs at a step.
    pub(super) fn at(&self, step: usize) -> StepConditioning<'_> {
        StepConditioning { block: self, step }
    }
}

/// What a block needs at a step.
#[derive(Clone, Copy)]
pub struct StepConditioning<'a> {
    block: &'a BlockConditioning,
    step: usize,
}

impl<'a> StepConditioning<'a> {
    /// For residual block number i: `[1, channels]`, or `[texts, channels]`.
    pub(super) fn time(&self, i: usize) -> View<'a, f32, 2> {
        let rows = self.block.rows;
        self.block.times[i].view().slice(0, self.step * rows..(self.step + 1) * rows)
    }

    /// For transformer number i.
    pub(super) fn text(&self, i: usize) -> &'a CrossAttnKv {
        &self.block.texts[i]
    }
}
