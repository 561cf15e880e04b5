//! Text → 77 numbers: CLIP's byte-level BPE tokenizer.
//!
//! ```text
//! "A photo of Cats!" → lower case, single spaces → words: a · photo · of · cats · !
//!                    → bytes of each word, the last one marked `</w>`, merged pair by pair in the
//!                    order of the merges
//!                    → [start, a</w>, photo</w>, of</w>, cats</w>, !</w>, end, pad, pad, ...]
//! ```
//!
//! A text encoder always sees the same number of tokens: 77, of which two mark start and end. What
//! does not fit is cut and reported. Padding differs: Stable Diffusion 1.x pads with the end mark,
//! 2.x with `!` (token 0), which the files say. A special token within the text is found as
//! such: with 2.x, `!` becomes token 0 and not `!</w>`.
//!
//! The crate `tokenizers` does the work; this module reads the folder as transformers'
//! `CLIPTokenizer` does. Sources: Radford et al. 2021 (arXiv:2103.00020), section 2.4; Sennrich et
//! al. 2016 (arXiv:1508.07909) for BPE. Next: [`vocabulary`], then the text encoder in `clip/`.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;

use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use crate::error::shortened;
use crate::guard::guarded;
use crate::source::files;
use crate::{Error, Result};
use learned::{Learned, Segment};
use settings::Settings;

mod learned;
mod settings;
pub mod vocabulary;

#[cfg(test)]
mod tests;

pub use vocabulary::{ClipVocabulary, clip_vocabulary, write_clip_vocabulary};

/// A tokenizer with the marks and the length that its text encoder expects.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    words: tokenizers::Tokenizer,
    start: u32,
    end: u32,
    pad: u32,
    max_length: usize,
    vocab_size: usize,
    /// Words that stand for learned vectors.
    learned: Learned,
}

/// A text as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Start, text, end and padding: always [`Tokenizer::max_length`] tokens.
    pub ids: Vec<u32>,
    /// The end of the text, if it did not fit.
    pub cut: Option<String>,
}

impl Tokenizer {
    /// Reads a folder that holds `tokenizer.json`, or `vocab.json` and `merges.txt`; and, if they
    /// are there, `tokenizer_config.json` and `special_tokens_map.json`.
    ///
    /// # Errors
    /// `Read` or `Model`, with the file's name, if one is missing or says something impossible.
    pub fn load(folder: &Path) -> Result<Self> {
        let settings = Settings::read(folder)?;
        let (json, vocab, merges) =
            (folder.join("tokenizer.json"), folder.join("vocab.json"), folder.join("merges.txt"));
        let mut words = if files::is_file(&json) {
            from_json(&json)?
        } else if files::is_file(&vocab) || files::is_file(&merges) {
            from_vocab_and_merges(&vocab, &merges, settings.unknown())?
        } else if files::is_published(folder) {
            let ClipVocabulary { tokens, merges } = clip_vocabulary();
            let tokens = tokens.into_iter().zip(0u32..).collect();
            bpe(folder, tokens, merges, settings.unknown())?
        } else {
            let expected = "expected `tokenizer.json`, or `vocab.json` and `merges.txt`; found neither";
            return Err(Error::in_file(folder, expected));
        };
        let refused = |reason: &dyn Display| Error::in_file(folder, reason);
        guarded(refused, || add_tokens(&mut words, &settings).map_err(|reason| refused(&reason)))?;

        let lacks = |token: &str| refused(&lacks(token));
        let id = |token: &str| words.token_to_id(token).ok_or_else(|| lacks(token));
        let (start, end, pad) = (id(settings.start())?, id(settings.end())?, id(settings.pad())?);
        let largest = words.get_vocab(true).into_values().max().unwrap_or(0);
        Ok(Self {
            start,
            end,
            pad,
            max_length: settings.max_length(),
            vocab_size: largest as usize + 1,
            words,
            learned: Learned::default(),
        })
    }

    /// `text` as [`Tokenizer::max_length`] numbers.
    ///
    /// # Errors
    /// `Run` if the tokenizer's rules fail on this text, which those of CLIP do not.
    pub fn encode(&self, text: &str) -> Result<Encoding> {
        let (tokens, starts): (Vec<u32>, Vec<usize>) = self.placed(text)?.into_iter().unzip();
        let room = self.max_length - 2;
        let kept = tokens.len().min(room);
        let cut = starts.get(room).and_then(|&start| text.get(start..));

        Ok(Encoding { ids: self.framed(&tokens[..kept]), cut: cut.map(|cut| cut.trim().to_owned()) })
    }

    /// The tokens of `text` alone, however many.
    ///
    /// # Errors
    /// See [`Tokenizer::encode`].
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.placed(text)?.into_iter().map(|(id, _)| id).collect())
    }

    /// The tokens of `text`, and where each begins.
    fn placed(&self, text: &str) -> Result<Vec<(u32, usize)>> {
        let mut placed = Vec::new();
        for (start, segment) in self.learned.segments(text) {
            match segment {
                Segment::Learned(ids) => placed.extend(ids.map(|id| (id, start))),
                Segment::Text(text) => {
                    let encoding = self.encoded(text)?;
                    let starts = encoding.get_offsets().iter().map(|&(offset, _)| start + offset);
                    placed.extend(encoding.get_ids().iter().copied().zip(starts));
                }
            }
        }
        Ok(placed)
    }

    /// How a token is written: `fox</w>`, or the word of a learned vector.
    pub fn written(&self, id: u32) -> Option<String> {
        self.learned.word(id).or_else(|| self.words.id_to_token(id))
    }

    /// From now on `word` stands for `count` vectors, the first of which has the number `first`.
    pub fn learn(&mut self, word: &str, first: u32, count: u32) {
        self.learned.add(word, first..first + count);
    }

    /// How many vectors begin with this token: more than one for the first of a learned word, else
    /// one.
    pub fn learned_count(&self, id: u32) -> usize {
        self.learned.count(id)
    }

    fn encoded(&self, text: &str) -> Result<tokenizers::Encoding> {
        let refused = |reason: &dyn Display| Error::run(format_args!("tokenizer: {reason}"));
        guarded(refused, || self.words.encode(text, false).map_err(|e| refused(&e)))
    }

    /// Start, `tokens`, end and padding: [`Tokenizer::max_length`] numbers.
    ///
    /// # Panics
    /// If there are more than `max_length − 2` tokens.
    pub fn framed(&self, tokens: &[u32]) -> Vec<u32> {
        assert!(tokens.len() + 2 <= self.max_length, "{} tokens are too many", tokens.len());
        let mut ids = Vec::with_capacity(self.max_length);
        ids.push(self.start);
        ids.extend(tokens);
        ids.push(self.end);
        ids.resize(self.max_length, self.pad);
        ids
    }

    /// The number of a token of the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.words.token_to_id(token)
    }

    /// How many tokens every text becomes: 77 for Stable Diffusion.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// One more than the largest token: how many rows the text encoder's table must have.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

/// The tokenizer of a `tokenizer.json`, without its own padding and cutting.
fn from_json(path: &Path) -> Result<tokenizers::Tokenizer> {
    let bytes = files::open(path)?;
    let refused = |reason: &dyn Display| Error::in_file(path, reason);
    guarded(refused, || {
        // The crate panics on JSON that ends inside of some objects.
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|e| refused(&e))?;
        let mut words = tokenizers::Tokenizer::from_bytes(&*bytes).map_err(|e| refused(&e))?;
        words.with_padding(None);
        words.with_truncation(None).map_err(|e| refused(&e))?;
        Ok(words)
    })
}

fn lacks(token: &str) -> String {
    format!("the vocabulary lacks the special token `{}`", shortened(token))
}

/// Adds what the vocabulary's own file does not have: learned tokens, which continue it, and how
/// the marks are found in a text.
fn add_tokens(words: &mut tokenizers::Tokenizer, settings: &Settings) -> std::result::Result<(), String> {
    let known = words.get_added_vocabulary().get_vocab().clone();
    let vocabulary = words.get_vocab(true).into_values().max().map_or(0, |largest| largest + 1);
    let wrong = |token: &AddedToken, id: u32, expected: u32| {
        format!("the added token `{}` has number {id}; expected {expected}", shortened(&token.content))
    };
    let (mut added, mut next) = (Vec::new(), vocabulary);
    for (id, token) in settings.added_tokens() {
        match words.token_to_id(&token.content) {
            Some(found) if found == *id => {}
            Some(found) => return Err(wrong(token, *id, found)),
            None if token.special && *id < vocabulary => return Err(lacks(&token.content)),
            None if *id == next => next += 1,
            None => return Err(wrong(token, *id, next)),
        }
        if !known.contains_key(&token.content) {
            added.push(token.clone());
        }
    }
    let marks = settings.marks();
    let is_mark = |token: &AddedToken| marks.iter().any(|mark| mark.content == token.content);
    added.retain(|token| !is_mark(token) || words.token_to_id(&token.content).is_none());
    words.add_tokens(&added);

    let mut special: Vec<AddedToken> = Vec::new();
    for mark in marks.into_iter().filter(|mark| !known.contains_key(&mark.content)) {
        if words.token_to_id(&mark.content).is_none() {
            return Err(lacks(&mark.content));
        }
        special.retain(|earlier| earlier.content != mark.content);
        special.push(mark.clone());
    }
    words.add_special_tokens(&special);
    match settings.added_tokens().iter().find(|(id, token)| words.token_to_id(&token.content) != Some(*id)) {
        Some((id, token)) => Err(wrong(token, *id, words.token_to_id(&token.content).unwrap_or(0))),
        None => Ok(()),
    }
}

/// The tokenizer that `vocab.json` and `merges.txt` mean, with the rules of CLIP around them.
fn from_vocab_and_merges(vocab: &Path, merges: &Path, unknown: &str) -> Result<tokenizers::Tokenizer> {
    let text = files::read_to_string(vocab)?;
    let tokens: HashMap<String, u32> = serde_json::from_str(&text).map_err(|e| {
        Error::in_file(vocab, format_args!("expected an object of tokens and their numbers: {e}"))
    })?;
    let text = files::read_to_string(merges)?;
    bpe(merges, tokens, parse_merges(merges, &text)?, unknown)
}

fn bpe(
    path: &Path,
    tokens: HashMap<String, u32>,
    merges: Merges,
    unknown: &str,
) -> Result<tokenizers::Tokenizer> {
    let refused = |reason: &dyn Display| {
        Error::in_file(path, format_args!("does not belong to `vocab.json`: {reason}"))
    };
    let build = || {
        BPE::builder()
            .vocab_and_merges(tokens.into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges)
            .unk_token(unknown.to_owned())
            .end_of_word_suffix("</w>".to_owned())
            .build()
    };
    let bpe = guarded(refused, || build().map_err(|e| refused(&e)))?;
    with_rules_of_clip(bpe).map_err(|e| Error::run(format_args!("tokenizer: {e}")))
}

/// One merge a line, two symbols each, after an optional line with a version.
fn parse_merges(path: &Path, text: &str) -> Result<Merges> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version"));
    let pair = |(i, line): (usize, &str)| match line.split_once(' ') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains(' ') => {
            Ok((a.to_owned(), b.to_owned()))
        }
        _ => {
            let line_number = i + 1;
            let found = shortened(line);
            let expected = "expected two symbols and a space between";
            Err(Error::in_file(path, format_args!("line {line_number}: {expected}, found {found:?}")))
        }
    };
    lines.map(pair).collect()
}

/// How CLIP prepares a text: Unicode NFC, runs of white space to one space, lower case; then words,
/// contractions, single digits and runs of other signs; then bytes.
fn with_rules_of_clip(bpe: BPE) -> tokenizers::Result<tokenizers::Tokenizer> {
    const WORDS: &str = concat!(
        r"<\|startoftext\|>|<\|endoftext\|>",
        r"|'s|'t|'re|'ve|'m|'ll|'d",
        r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    );
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?;
    let split = Split::new(SplitPattern::Regex(WORDS.to_owned()), SplitDelimiterBehavior::Removed, true)?;
    let mut words = tokenizers::Tokenizer::new(bpe);
    words.with_normalizer(Some(Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()])));
    let bytes = ByteLevel::new(false, true, true);
    words.with_pre_tokenizer(Some(PreTokenizers::new(vec![split.into(), bytes.into()])));
    Ok(words)
}
