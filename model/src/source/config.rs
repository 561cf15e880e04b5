//! Reading a part's `config.json`: each key with its type, its range and its default, and no key
//! passed over in silence.
//!
//! diffusers' models have far more switches than Stable Diffusion uses. A part reads the
//! keys that it supports; [`ConfigFile::finish`] then looks at the rest: a switch that is set to
//! its *neutral* value changes nothing and is fine, any other value is an error that names it. A
//! picture that is subtly wrong would be worse.
//!
//! ```text
//! `unet/config.json`: `block_out_channels` is 1000000000 in entry 1; expected a whole number from 1 to 1048576
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::source::files;

/// Range of a number of channels, features or tokens. The largest published is 49408 (CLIP's
/// vocabulary).
pub const SIZE: RangeInclusive<usize> = 1..=1 << 20;
/// Range of a number of blocks, layers, heads or groups.
pub const COUNT: RangeInclusive<usize> = 1..=1024;

/// A `config.json`, and which of its keys were read.
pub struct ConfigFile {
    path: PathBuf,
    values: Map<String, Value>,
    read: RefCell<BTreeSet<&'static str>>,
}

impl ConfigFile {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read, or is not a JSON object.
    pub fn open(path: &Path) -> Result<Self> {
        let text = files::read_to_string(path)?;
        Self::parse(path, &text)
    }

    /// The config in `text`; `path` is for messages.
    ///
    /// # Errors
    /// If `text` is not a JSON object.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        match serde_json::from_str(text) {
            Ok(Value::Object(values)) => Ok(Self { path: path.to_owned(), values, read: RefCell::default() }),
            Ok(other) => {
                Err(Error::in_file(path, format_args!("expected a JSON object, found {}", shorten(&other))))
            }
            Err(error) => Err(Error::in_file(path, format_args!("not valid JSON: {error}"))),
        }
    }

    /// An error about this file.
    pub fn error(&self, message: impl fmt::Display) -> Error {
        Error::in_file(&self.path, message)
    }

    /// Puts another value in the place of a key's, or adds it.
    pub fn set(&mut self, key: &str, value: Value) {
        self.values.insert(key.to_owned(), value);
    }

    /// All keys, as JSON.
    pub fn to_json(&self) -> String {
        Value::Object(self.values.clone()).to_string()
    }

    /// Whether a key is there and null, where that is something else than absence.
    pub fn is_null(&self, key: &'static str) -> bool {
        self.values.get(key).is_some_and(Value::is_null)
    }

    /// The value of a key; `None` also for `null`, which diffusers writes for "not given".
    pub fn get(&self, key: &'static str) -> Option<&Value> {
        self.read.borrow_mut().insert(key);
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// A whole number.
    ///
    /// # Errors
    /// As for every read: if the value has another type or is out of range.
    pub fn count(&self, key: &'static str, default: usize, range: RangeInclusive<usize>) -> Result<usize> {
        match self.get(key) {
            Some(value) => {
                whole_number(value, &range).ok_or_else(|| self.expected(key, value, whole(&range)))
            }
            None => Ok(default),
        }
    }

    /// A list of whole numbers, not empty and at most 16 long.
    ///
    /// # Errors
    /// See [`ConfigFile::count`].
    pub fn counts(
        &self,
        key: &'static str,
        default: &[usize],
        range: RangeInclusive<usize>,
    ) -> Result<Vec<usize>> {
        let Some(value) = self.get(key) else { return Ok(default.to_vec()) };
        let list = self.list(key, value)?;
        list.iter()
            .enumerate()
            .map(|(i, entry)| {
                whole_number(entry, &range).ok_or_else(|| self.expected_entry(key, i, entry, whole(&range)))
            })
            .collect()
    }

    /// One whole number for each of `blocks` blocks, given as a list or as a single number for all.
    ///
    /// # Errors
    /// See [`ConfigFile::count`]; also if the list has another length.
    pub fn per_block(
        &self,
        key: &'static str,
        blocks: usize,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<Vec<usize>> {
        if !self.get(key).is_some_and(Value::is_array) {
            return Ok(vec![self.count(key, default, range)?; blocks]);
        }
        let list = self.counts(key, &[], range)?;
        if list.len() != blocks {
            return Err(self.error(format_args!(
                "`{key}` has {} entries; expected {blocks}, one for each block",
                list.len()
            )));
        }
        Ok(list)
    }

    /// A finite number within `range`.
    ///
    /// # Errors
    /// See [`ConfigFile::count`].
    pub fn number(&self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_f64().filter(|number| range.contains(number)).ok_or_else(|| {
            self.expected(key, value, format_args!("a number from {} to {}", range.start(), range.end()))
        })
    }

    /// True or false.
    ///
    /// # Errors
    /// See [`ConfigFile::count`].
    pub fn flag(&self, key: &'static str, default: bool) -> Result<bool> {
        match self.get(key) {
            Some(value) => value.as_bool().ok_or_else(|| self.expected(key, value, "true or false")),
            None => Ok(default),
        }
    }

    /// One of a few names.
    ///
    /// # Errors
    /// See [`ConfigFile::count`].
    pub fn choice<T: Copy>(&self, key: &'static str, default: T, choices: &[(&str, T)]) -> Result<T> {
        match self.get(key) {
            Some(value) => named(value, choices).ok_or_else(|| self.expected(key, value, one_of(choices))),
            None => Ok(default),
        }
    }

    /// A list of names, each from a few.
    ///
    /// # Errors
    /// See [`ConfigFile::count`].
    pub fn choices<T: Copy>(
        &self,
        key: &'static str,
        default: &[T],
        choices: &[(&str, T)],
    ) -> Result<Vec<T>> {
        let Some(value) = self.get(key) else { return Ok(default.to_vec()) };
        let list = self.list(key, value)?;
        list.iter()
            .enumerate()
            .map(|(i, entry)| {
                named(entry, choices).ok_or_else(|| self.expected_entry(key, i, entry, one_of(choices)))
            })
            .collect()
    }

    /// Looks at the keys that were not read.
    ///
    /// `neutral` is an object of switches that are not supported, each with the list of its neutral
    /// values; `ignored` are keys that cannot change a picture. A key in neither is unknown: fine
    /// only if it is switched off (`null` or `false`). Keys that begin with `_` are diffusers' own
    /// notes.
    ///
    /// # Errors
    /// If a switch has a value that is not supported.
    pub fn finish(self, neutral: &Value, ignored: &[&str]) -> Result<()> {
        let read = self.read.borrow();
        for (key, value) in &self.values {
            if key.starts_with('_') || read.contains(key.as_str()) || ignored.contains(&key.as_str()) {
                continue;
            }
            match neutral.get(key).and_then(Value::as_array) {
                Some(neutral) if !is_neutral(value, neutral) => {
                    let supported: Vec<String> = neutral.iter().map(Value::to_string).collect();
                    return Err(self.error(format_args!(
                        "`{key}` is {}, which is not supported; expected {}",
                        shorten(value),
                        supported.join(" or ")
                    )));
                }
                None if !matches!(value, Value::Null | Value::Bool(false)) => {
                    return Err(self.error(format_args!(
                        "`{key}` is {}; this setting is not known, so it cannot be honoured",
                        shorten(value)
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn list<'a>(&self, key: &str, value: &'a Value) -> Result<&'a [Value]> {
        match value.as_array() {
            Some(list) if (1..=16).contains(&list.len()) => Ok(list),
            _ => Err(self.expected(key, value, "a list of 1 to 16 entries")),
        }
    }

    fn expected(&self, key: &str, found: &Value, expected: impl fmt::Display) -> Error {
        self.error(format_args!("`{key}` is {}; expected {expected}", shorten(found)))
    }

    fn expected_entry(&self, key: &str, entry: usize, found: &Value, expected: impl fmt::Display) -> Error {
        self.error(format_args!("`{key}` is {} in entry {entry}; expected {expected}", shorten(found)))
    }
}

/// A neutral value, or a list of them (diffusers lets many switches differ from block to block).
fn is_neutral(value: &Value, neutral: &[Value]) -> bool {
    let equals = |a: &Value, b: &Value| a == b || (a.is_number() && a.as_f64() == b.as_f64());
    neutral.iter().any(|neutral| equals(value, neutral))
        || value.as_array().is_some_and(|list| list.iter().all(|entry| is_neutral(entry, neutral)))
}

/// A whole number within `range`; also one that is written as `2.0`.
fn whole_number(value: &Value, range: &RangeInclusive<usize>) -> Option<usize> {
    let number = match value.as_u64() {
        Some(number) => usize::try_from(number).ok()?,
        None => value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..1e9).contains(x))? as usize,
    };
    range.contains(&number).then_some(number)
}

fn whole(range: &RangeInclusive<usize>) -> String {
    if range.start() == range.end() {
        return range.start().to_string();
    }
    format!("a whole number from {} to {}", range.start(), range.end())
}

fn named<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Option<T> {
    let name = value.as_str()?;
    choices.iter().find(|(choice, _)| *choice == name).map(|&(_, value)| value)
}

fn one_of<T>(choices: &[(&str, T)]) -> String {
    let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    names.join(" or ")
}

/// The value as JSON, at most 60 characters of it.
fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(text: &str) -> ConfigFile {
        ConfigFile::parse(Path::new("unet/config.json"), text).expect("the test's JSON is valid")
    }

    fn message<T>(result: Result<T>) -> String {
        match result {
            Ok(_) => panic!("expected an error"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn absent_and_null_keys_take_the_default() {
        let config = config(r#"{"in_channels": null}"#);
        assert_eq!(config.count("in_channels", 4, SIZE).expect("default"), 4);
        assert_eq!(config.per_block("attention_head_dim", 3, 8, COUNT).expect("default"), [8, 8, 8]);
    }

    #[test]
    fn numbers_out_of_range_name_key_found_and_expected() {
        let cases = [
            (r#"{"k": -4}"#, "`unet/config.json`: `k` is -4; expected a whole number from 1 to 1048576"),
            (r#"{"k": 0}"#, "`k` is 0; expected"),
            (r#"{"k": 1e300}"#, "`k` is 1e+300; expected"),
            (r#"{"k": 2.5}"#, "`k` is 2.5; expected"),
            (r#"{"k": "4"}"#, "`k` is \"4\"; expected"),
            (r#"{"k": [4]}"#, "`k` is [4]; expected"),
        ];
        for (text, expected) in cases {
            let found = message(config(text).count("k", 1, SIZE));
            assert!(found.contains(expected), "{found}");
        }
        let found = message(config(r#"{"k": [320, 1000000000]}"#).counts("k", &[], SIZE));
        assert!(found.contains("`k` is 1000000000 in entry 1; expected a whole number"), "{found}");
    }

    #[test]
    fn lists_must_have_an_entry_for_each_block() {
        let found = message(config(r#"{"k": [5, 10]}"#).per_block("k", 4, 8, COUNT));
        assert!(found.contains("`k` has 2 entries; expected 4"), "{found}");
        assert!(message(config(r#"{"k": []}"#).counts("k", &[], SIZE)).contains("a list of 1 to 16 entries"));
    }

    #[test]
    fn names_must_be_known() {
        let found =
            message(config(r#"{"act_fn": "mish"}"#).choice("act_fn", 0, &[("silu", 0), ("swish", 0)]));
        assert!(found.contains(r#"`act_fn` is "mish"; expected "silu" or "swish""#), "{found}");
    }

    #[test]
    fn what_was_not_read_must_be_neutral() {
        let neutral =
            json!({"conv_in_kernel": [3], "class_embed_type": [null], "only_cross_attention": [false]});
        let finish = |text: &str| config(text).finish(&neutral, &["dropout"]);
        let fine = r#"{"_note": 1, "conv_in_kernel": 3.0, "only_cross_attention": [false, false], "dropout": 0.1, "new": null}"#;
        finish(fine).expect("everything is neutral");
        let found = message(finish(r#"{"class_embed_type": "timestep"}"#));
        assert!(
            found.contains(r#"`class_embed_type` is "timestep", which is not supported; expected null"#),
            "{found}"
        );
        assert!(
            message(finish(r#"{"only_cross_attention": [false, true]}"#)).contains("`only_cross_attention`")
        );
        assert!(message(finish(r#"{"new": 7}"#)).contains("`new` is 7; this setting is not known"));
    }

    #[test]
    fn text_that_is_no_object_is_refused() {
        let parse = |text| ConfigFile::parse(Path::new("c.json"), text);
        assert!(message(parse("[1]")).contains("expected a JSON object, found [1]"));
        assert!(message(parse("{")).contains("not valid JSON"));
    }
}
