//! Prompts to what the UNet attends to, by every text encoder of the model.
//!
//! ```text
//! hidden   the encoders' vectors for each token, side by side     Stable Diffusion has one encoder
//! pooled   one vector for the whole prompt                        of models that take one
//! ```
//!
//! Stable Diffusion XL joins the vectors of two encoders and takes the pooled one of the second.

use std::time::{Duration, Instant};

use aquatint_kernels::Isa;
use aquatint_tensor::{Tensor, concat};

use super::prompt::{PromptEncoder, PromptSyntax};
use super::tokenizer::Tokenizer;
use crate::error::Result;
use crate::networks::clip::{ClipTextConfig, ClipTextModel};
use crate::source::lazy::LazyNetwork;

/// A text encoder with the tokenizer that makes its input.
pub(crate) struct TextEncoder {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) network: LazyNetwork<ClipTextModel>,
    pub(crate) config: ClipTextConfig,
}

/// How prompts are read; see [`PromptEncoder`].
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) syntax: PromptSyntax,
    pub(crate) clip_skip: usize,
}

/// What the UNet takes of the prompts.
#[derive(Clone)]
pub(crate) struct TextConditioning {
    /// `[prompts, tokens, c]`. There are 77 tokens; of long prompts in A1111's syntax a multiple.
    pub(crate) hidden: Tensor<f32, 3>,
    /// `[prompts, c]`
    pub(crate) pooled: Option<Tensor<f32, 2>>,
}

/// Prompts that went through all encoders.
pub(crate) struct Encoded {
    pub(crate) text: TextConditioning,
    /// What was cut off the end of each prompt.
    pub(crate) cut: Vec<Option<String>>,
    /// How long the networks took.
    pub(crate) time: Duration,
}

/// Encodes `prompts`; the last is the prompt, the one before it, if any, the negative prompt.
///
/// # Errors
/// If a prompt cannot be split into tokens, or an encoder cannot be loaded.
pub(crate) fn encode(
    isa: Isa,
    encoders: &[TextEncoder],
    prompts: &[&str],
    reading: Reading,
) -> Result<Encoded> {
    let mut cut = vec![None; prompts.len()];
    let (mut hidden, mut time) = (Vec::new(), Duration::ZERO);
    for encoder in encoders {
        let network = encoder.network.get()?;
        let prompt_encoder = PromptEncoder {
            tokenizer: &encoder.tokenizer,
            text_encoder: &network,
            syntax: reading.syntax,
            clip_skip: reading.clip_skip,
        };
        let mut chunks = Vec::new();
        for (prompt, cut) in prompts.iter().zip(&mut cut) {
            let (split, rest) = prompt_encoder.chunks(prompt)?;
            chunks.push(split);
            *cut = cut.take().or(rest);
        }
        let start = Instant::now();
        hidden.push(prompt_encoder.embed(isa, &chunks));
        time += start.elapsed();
        drop(network);
        encoder.network.release();
    }
    let hidden = match <[_; 1]>::try_from(hidden) {
        Ok([hidden]) => hidden,
        Err(hidden) => concat(&hidden.iter().map(Tensor::view).collect::<Vec<_>>(), 2),
    };
    Ok(Encoded { text: TextConditioning { hidden, pooled: None }, cut, time })
}

impl TextConditioning {
    /// For `n` images: each prompt n times.
    pub(crate) fn repeated(&self, n: usize) -> Self {
        let rows = |prompts: usize| (0..prompts * n).map(move |i| i / n..i / n + 1);
        let [prompts, ..] = self.hidden.shape();
        let hidden: Vec<_> = rows(prompts).map(|row| self.hidden.view().slice(0, row)).collect();
        let pooled = self.pooled.as_ref().map(|pooled| {
            let views: Vec<_> = rows(prompts).map(|row| pooled.view().slice(0, row)).collect();
            concat(&views, 0)
        });
        Self { hidden: concat(&hidden, 0), pooled }
    }
}
