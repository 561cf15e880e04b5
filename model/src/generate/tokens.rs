//! What the text encoder sees of a request's prompts.

use super::pipeline::Pipeline;
use super::request::TextToImage;
use crate::error::Result;
use crate::text::prompt::extra_networks::without_tags;
use crate::text::prompt::{self, PromptSyntax};

/// A token of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its number.
    pub id: u32,
    /// How it is written: `fox</w>`.
    pub text: String,
    /// How much it counts; 1 but for prompts in A1111's syntax.
    pub weight: f32,
}

/// What becomes of a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptTokens {
    /// Its tokens, with start and end of each chunk, without what fills the rest of it.
    pub tokens: Vec<Token>,
    /// The end of it that is cut off.
    pub cut: Option<String>,
}

impl Pipeline {
    /// The tokens of the request's prompt and of its negative prompt, for the first text encoder.
    ///
    /// # Errors
    /// If a prompt cannot be split into tokens, or is too long.
    pub fn prompt_tokens(&self, request: &TextToImage) -> Result<[PromptTokens; 2]> {
        let prompt = match request.prompt_syntax {
            PromptSyntax::A1111 => without_tags(&request.prompt),
            PromptSyntax::Plain => request.prompt.clone(),
        };
        let tokens =
            |text: &str| -> Result<PromptTokens> {
                let Some(encoder) = self.text_encoders.first() else { return Ok(PromptTokens::default()) };
                let tokenizer = &encoder.tokenizer;
                let (chunks, cut) = prompt::tokens(text, request.prompt_syntax, tokenizer)?;
                let mut tokens = Vec::new();
                for chunk in chunks {
                    // What fills the rest is the end mark, again and again, or another token.
                    let filler = chunk.ids.last().copied();
                    let other = |&id: &u32| Some(id) != filler;
                    let filled = chunk.ids.iter().rposition(other).map_or(0, |last| last + 1);
                    let is_end = filler.is_some() && filler == tokenizer.id("<|endoftext|>");
                    let shown = (filled + usize::from(is_end)).min(chunk.ids.len());
                    tokens.extend(chunk.ids.iter().zip(&chunk.weights).take(shown).map(|(&id, &weight)| {
                        Token { id, text: tokenizer.written(id).unwrap_or_default(), weight }
                    }));
                }
                Ok(PromptTokens { tokens, cut })
            };
        Ok([tokens(&prompt)?, tokens(&request.negative_prompt)?])
    }
}
