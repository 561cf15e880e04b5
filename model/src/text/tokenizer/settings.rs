//! The small files beside a vocabulary: which tokens are special, and how long a text is.
//!
//! `tokenizer_config.json` says it, and `special_tokens_map.json` overrides it (Stable Diffusion
//! 2.x names its padding only there), unless the former lists `added_tokens_decoder`, as newer
//! versions of transformers write it. A token is a string, or an object with its `content` and how
//! to look for it. Both files may be absent: then CLIP's own tokens are meant.
//!
//! Learned tokens (textual inversion) are in `added_tokens_decoder` as well, or, by older versions,
//! in `added_tokens.json`, an object of tokens and their numbers.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::shortened;
use crate::source::files;
use crate::{Error, Result};

/// Special tokens and length.
#[derive(Debug)]
pub(super) struct Settings {
    start: AddedToken,
    end: AddedToken,
    unknown: AddedToken,
    pad: AddedToken,
    /// All tokens beside the vocabulary with their numbers, in the order of these.
    added: Vec<(u32, AddedToken)>,
    max_length: usize,
}

/// The length where the files say nothing (transformers then writes 10³⁰): that of CLIP.
const DEFAULT_LENGTH: usize = 77;

impl Settings {
    /// Reads the two files of `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let config = JsonFile::read(folder.join("tokenizer_config.json"))?;
        let map = JsonFile::read(folder.join("special_tokens_map.json"))?;
        let decoder = config.added_tokens()?;
        let named = |key: &str, default: &AddedToken| -> Result<AddedToken> {
            let legacy = if decoder.is_none() { map.token(key)? } else { None };
            let token = match legacy {
                Some(token) => Some(token),
                None => config.token(key)?,
            };
            let token = token.unwrap_or_else(|| default.clone()).special(true);
            let listed = decoder.iter().flatten().find(|(_, listed)| listed.content == token.content);
            Ok(listed.map_or(token, |(_, listed)| listed.clone()).special(true))
        };
        let end_of_text = AddedToken::from("<|endoftext|>", true);
        let start = named("bos_token", &AddedToken::from("<|startoftext|>", true))?;
        let [end, unknown, pad] = ["eos_token", "unk_token", "pad_token"].map(|key| named(key, &end_of_text));
        let added = match decoder {
            Some(decoder) => decoder,
            None => JsonFile::read(folder.join("added_tokens.json"))?.numbered_tokens()?,
        };
        Ok(Self { start, end: end?, unknown: unknown?, pad: pad?, max_length: config.max_length()?, added })
    }

    /// Tokens that the vocabulary may lack, with their numbers.
    pub(super) fn added_tokens(&self) -> &[(u32, AddedToken)] {
        &self.added
    }

    /// The marks; of two with the same content the later counts.
    pub(super) fn marks(&self) -> [&AddedToken; 4] {
        [&self.start, &self.end, &self.unknown, &self.pad]
    }

    /// The mark before a text.
    pub(super) fn start(&self) -> &str {
        &self.start.content
    }

    /// The mark after a text.
    pub(super) fn end(&self) -> &str {
        &self.end.content
    }

    /// What a symbol becomes that is not in the vocabulary.
    pub(super) fn unknown(&self) -> &str {
        &self.unknown.content
    }

    /// What fills the rest.
    pub(super) fn pad(&self) -> &str {
        &self.pad.content
    }

    /// How many tokens every text becomes.
    pub(super) fn max_length(&self) -> usize {
        self.max_length
    }
}

/// A JSON object, empty if the file is absent.
struct JsonFile {
    path: PathBuf,
    keys: Map<String, Value>,
}

impl JsonFile {
    fn read(path: PathBuf) -> Result<Self> {
        if !files::is_file(&path) {
            return Ok(Self { path, keys: Map::new() });
        }
        let text = files::read_to_string(&path)?;
        let keys = serde_json::from_str(&text)
            .map_err(|e| Error::in_file(&path, format_args!("not a JSON object: {e}")))?;
        Ok(Self { path, keys })
    }

    /// The token under `key`.
    fn token(&self, key: &str) -> Result<Option<AddedToken>> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self.parse_token(key, value).map(Some),
        }
    }

    /// The tokens of `added_tokens_decoder`, in the order of their numbers.
    fn added_tokens(&self) -> Result<Option<Vec<(u32, AddedToken)>>> {
        const KEY: &str = "added_tokens_decoder";
        let Some(Value::Object(entries)) = self.keys.get(KEY) else { return Ok(None) };
        let mut tokens = Vec::new();
        for (id, value) in entries {
            let id: u32 = id.parse().map_err(|_| self.unexpected(KEY, value))?;
            tokens.push((id, self.parse_token(KEY, value)?));
        }
        tokens.sort_by_key(|&(id, _)| id);
        Ok(Some(tokens))
    }

    /// All keys as learned tokens whose values are their numbers.
    fn numbered_tokens(&self) -> Result<Vec<(u32, AddedToken)>> {
        let number = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let token = |(content, value): (&String, &Value)| match number(value) {
            Some(id) => Ok((id, AddedToken::from(content.clone(), false))),
            None => Err(Error::in_file(
                &self.path,
                format_args!(
                    "`{}` is {}; expected its number",
                    shortened(content),
                    shortened(&value.to_string())
                ),
            )),
        };
        let mut tokens = self.keys.iter().map(token).collect::<Result<Vec<_>>>()?;
        tokens.sort_by_key(|&(id, _)| id);
        Ok(tokens)
    }

    /// `model_max_length`.
    fn max_length(&self) -> Result<usize> {
        const KEY: &str = "model_max_length";
        match self.keys.get(KEY) {
            None | Some(Value::Null) => Ok(DEFAULT_LENGTH),
            Some(value) if value.as_f64().is_some_and(|length| length > 1e9) => Ok(DEFAULT_LENGTH),
            Some(value) => match value.as_u64() {
                Some(length @ 3..=65_536) => Ok(length as usize),
                _ => Err(Error::in_file(
                    &self.path,
                    format_args!(
                        "`{KEY}` is {}; expected a whole number from 3 to 65536",
                        shortened(&value.to_string())
                    ),
                )),
            },
        }
    }

    /// A string, or an object with `content` and flags.
    fn parse_token(&self, key: &str, value: &Value) -> Result<AddedToken> {
        if let Value::String(content) = value {
            return Ok(AddedToken::from(content.clone(), true));
        }
        let content =
            value.get("content").and_then(Value::as_str).ok_or_else(|| self.unexpected(key, value))?;
        let flag = |name: &str| value.get(name).and_then(Value::as_bool);
        let token = AddedToken::from(content, flag("special").unwrap_or(true))
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false));
        let normalized = flag("normalized").unwrap_or(token.normalized);
        Ok(token.normalized(normalized))
    }

    fn unexpected(&self, key: &str, value: &Value) -> Error {
        Error::in_file(
            &self.path,
            format_args!(
                "`{key}` is {}; expected a token, as a string or as an object with `content`",
                shortened(&value.to_string())
            ),
        )
    }
}
