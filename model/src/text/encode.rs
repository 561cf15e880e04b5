//! Prompts to what the UNet attends to, by every text encoder of the model.
//!
//! ```text
//! hidden   the encoders' vectors for each token, side by side     Stable Diffusion has one encoder
//! pooled   one vector for the whole prompt                        of models that take one
//! ```
//!
//! Stable Diffusion XL joins the vectors of two encoders and takes the pooled one of the second.

use std::iter::repeat_n;

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
    let mut hidden = Vec::new();
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
        hidden.push(prompt_encoder.embed(isa, &chunks));
        drop(network);
        encoder.network.release();
    }
    let hidden = match <[_; 1]>::try_from(hidden) {
        Ok([hidden]) => hidden,
        Err(hidden) => concat(&hidden.iter().map(Tensor::view).collect::<Vec<_>>(), 2),
    };
    Ok(Encoded { text: TextConditioning { hidden, pooled: None }, cut })
}

impl TextConditioning {
    /// The conditioning of images that are made together, of each text as many as stand beside it:
    /// the first prompt of every image, then the second, if there are two.
    ///
    /// # Panics
    /// If there are no texts, or if they do not have as many prompts and tokens.
    pub(crate) fn joined(texts: &[(Self, usize)]) -> Self {
        let [prompts, ..] = texts[0].0.hidden.shape();
        let of_prompt = |prompt| texts.iter().flat_map(move |(text, n)| repeat_n((text, prompt), *n));
        let rows: Vec<_> = (0..prompts).flat_map(of_prompt).collect();
        let hidden: Vec<_> = rows.iter().map(|(text, i)| text.hidden.view().slice(0, *i..i + 1)).collect();
        let pooled = rows.iter().map(|(text, i)| Some(text.pooled.as_ref()?.view().slice(0, *i..i + 1)));
        let pooled: Option<Vec<_>> = pooled.collect();
        Self { hidden: concat(&hidden, 0), pooled: pooled.map(|views| concat(&views, 0)) }
    }
}
