//! Weighted pieces → chunks of 77 tokens.
//!
//! ```text
//! [start, 75 tokens, end] [start, 75 tokens, end] [start, the rest, end, pad, pad, …]
//! ```
//!
//! The text encoder sees one chunk at a time, so that a prompt may have any length, but words in different chunks do not know of
//! each other. A chunk that fills up inside of a phrase is therefore cut at its last comma, if that is at most 20 tokens back,
//! which is A1111's default ("comma padding backtrack").

use crate::error::Result;
use crate::text::prompt::emphasis::Piece;
use crate::text::tokenizer::Tokenizer;

/// What the text encoder sees at once: tokens and their weights, which are 1 for the marks and the padding.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// [`Tokenizer::max_length`] tokens.
    pub ids: Vec<u32>,
    /// As many weights.
    pub weights: Vec<f32>,
}

/// How far back a comma may be to be cut at.
const BACKTRACK: usize = 20;

impl Chunk {
    /// The chunk of an empty text.
    pub fn empty(tokenizer: &Tokenizer) -> Self {
        Self::new(tokenizer, &[])
    }

    fn new(tokenizer: &Tokenizer, tokens: &[(u32, f32)]) -> Self {
        let ids: Vec<u32> = tokens.iter().map(|&(id, _)| id).collect();
        let mut weights = vec![1.0];
        weights.extend(tokens.iter().map(|&(_, weight)| weight));
        weights.resize(tokenizer.max_length(), 1.0);
        Self { ids: tokenizer.framed(&ids), weights }
    }
}

/// Cuts a prompt into chunks; there is at least one.
///
/// # Errors
/// See [`Tokenizer::tokens`].
pub fn split(pieces: &[Piece], tokenizer: &Tokenizer) -> Result<Vec<Chunk>> {
    let room = tokenizer.max_length() - 2;
    let comma = tokenizer.id(",</w>");
    let mut chunks = Vec::new();
    let mut tokens: Vec<(u32, f32)> = Vec::new(); // of the chunk that is being filled
    let mut after_comma = None; // where in it the phrase behind its last comma begins
    for piece in pieces {
        let Piece::Text(text, weight) = piece else {
            chunks.push(Chunk::new(tokenizer, &tokens));
            tokens.clear();
            after_comma = None;
            continue;
        };
        for id in tokenizer.tokens(text)? {
            let is_comma = Some(id) == comma;
            if tokens.len() == room {
                let near = |at: &usize| room - at < BACKTRACK;
                let end = after_comma.take().filter(near).filter(|_| !is_comma).unwrap_or(room);
                let phrase = tokens.split_off(end);
                chunks.push(Chunk::new(tokenizer, &tokens));
                tokens = phrase;
            } else if is_comma {
                after_comma = Some(tokens.len() + 1);
            }
            tokens.push((id, *weight as f32));
        }
    }
    if !tokens.is_empty() || chunks.is_empty() {
        chunks.push(Chunk::new(tokenizer, &tokens));
    }
    Ok(chunks)
}
