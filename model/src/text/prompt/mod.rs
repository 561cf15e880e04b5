//! Texts → what the UNet attends to.
//!
//! | syntax | a prompt is | as in |
//! |---|---|---|
//! | [`PromptSyntax::Plain`] | its first 75 tokens; brackets are brackets | diffusers |
//! | [`PromptSyntax::A1111`] | [`composition`], [`schedule`], [`emphasis`], [`chunks`], in this order | A1111's web UI |
//!
//! ```text
//! z = final_layer_norm(layers[..L + 1 − clip_skip](tokens))     for each chunk
//! z = layers[..L − clip_skip](tokens)                           of encoders of SDXL
//! z = z · weight of the token, then · mean(z before) / mean(z after)
//! chunks stand one after the other: [1, 77 · chunks, c]
//! ```
//!
//! `<lora:…>` asks for an adapter ([`extra_networks`]); the names of embeddings stand for their
//! vectors, and `__name__` for a line of a file ([`wildcards`]), in both syntaxes. What looks like
//! syntax and is read as words is reported (`tags.rs`). Read next: [`crate::networks::clip`], the
//! layers; `generate/text_schedule.rs`, where the result goes.

pub mod chunks;
pub mod composition;
pub mod emphasis;
pub mod extra_networks;
pub mod schedule;
pub(crate) mod tags;
pub mod wildcards;

use aquatint_kernels::Isa;
use aquatint_tensor::{Tensor, concat};

pub use chunks::Chunk;

use crate::error::{Error, Result};
use crate::networks::clip::{ClipTextConfig, ClipTextModel, TextOutput};
use crate::text::conditioning::TextConditioning;
use crate::text::tokenizer::Tokenizer;

/// How a prompt is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PromptSyntax {
    /// As diffusers reads it: every character is text, and what exceeds 75 tokens is cut off.
    #[default]
    Plain,
    /// As A1111 reads it: `(more)`, `[less]`, `(1.5 times:1.5)`, `BREAK`, `[from:to:when]`,
    /// `[a|b]`, `AND`; any length.
    A1111,
}

/// From texts to embeddings: a model's tokenizer and text encoder, and how they are used.
#[derive(Clone, Copy)]
pub struct PromptEncoder<'a> {
    /// Text → numbers.
    pub tokenizer: &'a Tokenizer,
    /// Numbers → vectors.
    pub text_encoder: &'a ClipTextModel,
    /// How prompts are read.
    pub syntax: PromptSyntax,
    /// 1 takes the output of the last layer that the model uses, 2 that of the one before, …;
    /// diffusers' `clip_skip` is one less. Plain prompts follow diffusers also in that the negative
    /// one is always read to the last layer.
    pub clip_skip: usize,
}

/// The tokens of a text, in its chunks, and the end of it that is cut off.
///
/// # Errors
/// See [`Tokenizer::encode`].
pub(crate) fn tokens(
    text: &str,
    syntax: PromptSyntax,
    tokenizer: &Tokenizer,
) -> Result<(Vec<Chunk>, Option<String>)> {
    match syntax {
        PromptSyntax::Plain => {
            let encoding = tokenizer.encode(text)?;
            let weights = vec![1.0; encoding.ids.len()];
            Ok((vec![Chunk { ids: encoding.ids, weights }], encoding.cut))
        }
        PromptSyntax::A1111 => Ok((chunks::split(&emphasis::parse(text), tokenizer)?, None)),
    }
}

/// About how many chunks a text will have; see [`chunks`].
pub(crate) fn estimated_chunks(text: &str, syntax: PromptSyntax) -> usize {
    match syntax {
        PromptSyntax::Plain => 1,
        PromptSyntax::A1111 => chunks::estimated(text),
    }
}

/// Checks what a request says against a model's number of layers.
///
/// # Errors
/// `Request` if so many layers cannot be left out.
pub(crate) fn check_clip_skip(clip_skip: usize, encoder: &ClipTextConfig) -> Result<()> {
    let layers = encoder.used_layers();
    match (1..=layers).contains(&clip_skip) {
        true => Ok(()),
        false => Err(Error::request(format_args!(
            "CLIP skip is {clip_skip}; expected 1 (the last layer) to {layers} (the first)"
        ))),
    }
}

impl PromptEncoder<'_> {
    /// A text in chunks, and the end of it that was cut off.
    ///
    /// # Errors
    /// See [`Tokenizer::encode`].
    pub fn chunks(&self, text: &str) -> Result<(Vec<Chunk>, Option<String>)> {
        tokens(text, self.syntax, self.tokenizer)
    }

    /// The embeddings of prompts in chunks: `[prompts, 77 · chunks, c]`. The prompt comes last, the
    /// negative prompt, if there is one, before it. A shorter one is continued with empty chunks,
    /// since the UNet sees both at once.
    pub fn embed(&self, isa: Isa, prompts: &[Vec<Chunk>]) -> Tensor<f32, 3> {
        self.encode(isa, prompts, prompts.iter().map(Vec::len).max().unwrap_or(0)).hidden
    }

    /// The same of `count` chunks each, with the pooled vectors of the prompts' first chunks, if
    /// the encoder has a projection.
    pub(crate) fn encode(&self, isa: Isa, prompts: &[Vec<Chunk>], count: usize) -> TextConditioning {
        let empty = Chunk::empty(self.tokenizer);
        let (mut rows, mut pooled) = (Vec::new(), Vec::new());
        for (i, chunks) in (1..=prompts.len()).zip(prompts) {
            let layers = self.layers(i < prompts.len());
            let mut parts = Vec::new();
            for i in 0..count {
                let chunk = chunks.get(i).unwrap_or(&empty);
                let (mut z, pool) = self.forward(isa, &chunk.ids, layers);
                weigh(z.as_mut_slice(), &chunk.weights);
                parts.push(z);
                pooled.extend(pool.filter(|_| i == 0));
            }
            rows.push(joined(&parts, 1));
        }
        let pooled = match &pooled[..] {
            [] => None,
            pooled => Some(joined(pooled, 0)),
        };
        TextConditioning { hidden: joined(&rows, 0), pooled, time_ids: None }
    }

    fn forward(&self, isa: Isa, ids: &[u32], layers: usize) -> (Tensor<f32, 3>, Option<Tensor<f32, 2>>) {
        match self.text_encoder.config().output {
            TextOutput::LastNormed => (self.text_encoder.forward_to(isa, &[ids], layers), None),
            TextOutput::Penultimate => self.text_encoder.forward_pooled(isa, &[ids], layers),
        }
    }

    /// How many layers read a text. diffusers' `clip_skip` is for the prompt only, A1111's for
    /// both.
    fn layers(&self, is_negative: bool) -> usize {
        let skipped = match self.syntax {
            PromptSyntax::Plain if is_negative => 0,
            _ => self.clip_skip - 1,
        };
        self.text_encoder.config().used_layers() - skipped
    }
}

fn joined<const N: usize>(parts: &[Tensor<f32, N>], axis: usize) -> Tensor<f32, N> {
    concat(&parts.iter().map(Tensor::view).collect::<Vec<_>>(), axis)
}

/// `z[i] · weights[i]`, all scaled so that their mean is as before. `z: [weights.len(), c]`,
/// row-major.
///
/// The mean is that of all tokens and channels of the chunk; A1111 calls this emphasis "Original".
fn weigh(z: &mut [f32], weights: &[f32]) {
    // A product with 1 changes nothing, a quotient of two equal means might.
    if weights.iter().all(|&weight| weight == 1.0) {
        return;
    }
    let mean = |z: &[f32]| z.iter().map(|&x| f64::from(x)).sum::<f64>() / z.len() as f64;
    let scale = |z: &mut [f32], factor: f32| z.iter_mut().for_each(|x| *x *= factor);
    let before = mean(z);
    let channels = z.len() / weights.len();
    for (row, &weight) in z.chunks_exact_mut(channels).zip(weights) {
        scale(row, weight);
    }
    let after = mean(z);
    scale(z, (before / after) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_the_mean() {
        let mut z = [1.0, 3.0, 2.0, 2.0];
        weigh(&mut z, &[2.0, 1.0]);
        // Weighed: 2, 6, 2, 2 with mean 3; before it was 2.
        let expected = [2.0, 6.0, 2.0, 2.0].map(|x| x * 2.0 / 3.0);
        assert!(z.iter().zip(expected).all(|(z, e)| (z - e).abs() < 1e-6), "{z:?}");
        let mut z = [0.1, 0.2, -0.3];
        weigh(&mut z, &[1.0; 3]);
        assert_eq!(z, [0.1, 0.2, -0.3], "not a bit changes without weights");
    }
}
