//! Prompts to what the UNet attends to, by every text encoder of the model.
//!
//! ```text
//! hidden   the encoders' vectors for each token, side by side     Stable Diffusion has one encoder
//! pooled   one vector for the whole prompt                        of models that take one
//! ```
//!
//! Stable Diffusion XL joins the vectors of two encoders and takes the pooled one of the second.

use aquatint_kernels::Isa;
use aquatint_tensor::{Tensor, concat};

use super::conditioning::TextConditioning;
use super::prompt::{PromptEncoder, PromptSyntax, tokens};
use super::tokenizer::Tokenizer;
use crate::error::Result;
use crate::networks::clip::{ClipTextConfig, ClipTextModel};
use crate::source::Component;
use crate::source::lazy::LazyNetwork;

/// A text encoder with the tokenizer that makes its input.
pub(crate) struct TextEncoder {
    pub(crate) component: &'static Component,
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
    let mut chunks = Vec::new();
    for encoder in encoders {
        let mut own = Vec::new();
        for (prompt, cut) in prompts.iter().zip(&mut cut) {
            let (split, rest) = tokens(prompt, reading.syntax, &encoder.tokenizer)?;
            own.push(split);
            *cut = cut.take().or(rest);
        }
        chunks.push(own);
    }
    // One encoder's words may be another's two; their vectors stand side by side all the same.
    let count = chunks.iter().flatten().map(Vec::len).max().unwrap_or(0);
    let (mut hidden, mut pooled) = (Vec::new(), None);
    for (encoder, chunks) in encoders.iter().zip(&chunks) {
        let network = encoder.network.get()?;
        let prompt_encoder = PromptEncoder {
            tokenizer: &encoder.tokenizer,
            text_encoder: &network,
            syntax: reading.syntax,
            clip_skip: reading.clip_skip,
        };
        let text = prompt_encoder.encode(isa, chunks, count);
        hidden.push(text.hidden);
        pooled = text.pooled.or(pooled);
        drop(network);
        encoder.network.release();
    }
    let hidden = match <[_; 1]>::try_from(hidden) {
        Ok([hidden]) => hidden,
        Err(hidden) => concat(&hidden.iter().map(Tensor::view).collect::<Vec<_>>(), 2),
    };
    Ok(Encoded { text: TextConditioning { hidden, pooled, time_ids: None }, cut })
}
