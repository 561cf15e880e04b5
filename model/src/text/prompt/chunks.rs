//! Weighted pieces → chunks of 77 tokens.
//!
//! ```text
//! [start, 75 tokens, end] [start, 75 tokens, end] [start, the rest, end, pad, pad, …]
//! ```
//!
//! The text encoder sees one chunk at a time, so that a prompt may have any length, but words in
//! different chunks do not know of each other. A chunk that fills up inside of a phrase is
//! therefore cut at its last comma, if that is at most 20 tokens back, which is A1111's default
//! ("comma padding backtrack").

use crate::error::{Error, Result};
use crate::text::prompt::emphasis::Piece;
use crate::text::tokenizer::Tokenizer;

/// What the text encoder sees at once: tokens and their weights, which are 1 for the marks and the
/// padding.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// [`Tokenizer::max_length`] tokens.
    pub ids: Vec<u32>,
    /// As many weights.
    pub weights: Vec<f32>,
}

/// The most chunks of a prompt: nearly 10,000 tokens. Each takes a run of the text encoder and keys
/// and values in every layer of the UNet that attends to the text.
pub const MOST_CHUNKS: usize = 128;

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
/// `Request` if there are more than [`MOST_CHUNKS`]; see also [`Tokenizer::tokens`].
pub fn split(pieces: &[Piece], tokenizer: &Tokenizer) -> Result<Vec<Chunk>> {
    let room = tokenizer.max_length() - 2;
    let comma = tokenizer.id(",</w>");
    let mut chunks = Vec::new();
    let mut tokens: Vec<(u32, f32)> = Vec::new(); // of the chunk that is being filled
    let mut after_comma = None; // where in it the phrase behind its last comma begins
    for piece in pieces {
        if chunks.len() > MOST_CHUNKS {
            break;
        }
        let Piece::Text(text, weight) = piece else {
            chunks.push(Chunk::new(tokenizer, &tokens));
            tokens.clear();
            after_comma = None;
            continue;
        };
        for id in tokenizer.tokens(text)? {
            let is_comma = Some(id) == comma;
            // The vectors of an embedding stay together.
            if !tokens.is_empty() && tokens.len() < room && tokens.len() + tokenizer.learned_count(id) > room
            {
                chunks.push(Chunk::new(tokenizer, &tokens));
                tokens.clear();
                after_comma = None;
            }
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
    if chunks.len() > MOST_CHUNKS {
        return Err(Error::request(format_args!(
            "the prompt has more than {MOST_CHUNKS} chunks of {room} tokens; expected fewer: shorten \
             it, or take out some `BREAK`"
        )));
    }
    Ok(chunks)
}

/// About how many chunks a prompt will have, for an estimate of the memory: words of up to six
/// letters and every other sign are taken for a token each.
pub(super) fn estimated(prompt: &str) -> usize {
    const ROOM: usize = 75;
    let words = |text: &str| -> usize {
        let pieces = text.split_inclusive(|c: char| !c.is_ascii_alphabetic());
        pieces.map(|piece| piece.trim_end().len().div_ceil(6)).sum()
    };
    let chunks = |text: &str| words(text).div_ceil(ROOM).max(1);
    prompt.split("BREAK").map(chunks).sum::<usize>().min(MOST_CHUNKS)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::text::prompt::emphasis;

    fn tokenizer() -> Tokenizer {
        let folder = Path::new(crate::EMBEDDED).join("tokenizer");
        Tokenizer::load(&folder).expect("the embedded model has a tokenizer")
    }

    #[test]
    fn a_prompt_has_a_number_of_chunks_that_can_be_computed() {
        let tokenizer = tokenizer();
        let chunks = |text: &str| split(&emphasis::parse(text), &tokenizer);
        let breaks = |count| vec!["a"; count].join(" BREAK ");
        assert_eq!(chunks(&breaks(MOST_CHUNKS)).expect("just so many").len(), MOST_CHUNKS);
        for text in [breaks(MOST_CHUNKS + 1), breaks(10_000), "(a".repeat(500_000)] {
            let error = chunks(&text).expect_err("too many").to_string();
            assert!(error.contains("more than 128 chunks of 75 tokens"), "{error}");
        }
    }

    #[test]
    fn the_estimate_is_near_the_truth() {
        let tokenizer = tokenizer();
        let texts =
            ["", "a fox", "a BREAK b BREAK c", &"a red fox in the snow, ".repeat(60), &"x ".repeat(300)];
        for text in texts {
            let exact = split(&emphasis::parse(text), &tokenizer).expect("not too many").len();
            let about = estimated(text);
            assert!(
                about <= exact + exact / 2 && exact <= about + about / 2 + 1,
                "{text}: {about}, not {exact}"
            );
        }
    }
}
