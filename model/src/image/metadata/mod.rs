//! The text inside a picture that says how it was made, in the form of A1111's web UI.
//!
//! ```text
//! a fox in the snow
//! Negative prompt: blurry
//! Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 42, Size: 512x512, Model hash: …, Version: …
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | this one | the text ↔ prompts and a list of keys and values, with A1111's quoting and its reader's rules |
//! | [`png`] | the text ↔ a chunk of a PNG file |
//! | [`exif`] | the text ↔ the user comment of a JPEG or WebP file |
//! | `others` | what other programs write → this list |
//! | [`infotext`](crate::generate::infotext) | the list ↔ a [`TextToImage`](crate::TextToImage) |
//! | [`model_id`](crate::source::model_id) | the name and hash by which the model goes |
//!
//! The form cannot hold everything: white space at the ends of a line is lost, and a line of the
//! prompt that begins with `Negative prompt:` ends it. Source: the behaviour of A1111's
//! `create_infotext` and `parse_generation_parameters`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

pub mod exif;
mod others;
pub mod png;

use crate::error::{Error, Result};
use crate::input_file;

/// How a PNG begins.
const PNG: &[u8] = b"\x89PNG";

/// The text of a PNG, JPEG or WebP file, if it has one; the content decides which of them it is.
///
/// # Errors
/// [`Error::Request`] if the file cannot be read or is no such picture.
pub fn read(path: &Path) -> Result<Option<String>> {
    if is_png(path)? { png::read(path) } else { exif::read(path) }
}

/// The same of what would be a file's content.
///
/// # Errors
/// [`Error::Request`] if it is no such picture.
pub fn read_bytes(bytes: &[u8]) -> Result<Option<String>> {
    if bytes.starts_with(PNG) { png::read_bytes(bytes) } else { exif::read_bytes(bytes) }
}

/// Whether a file begins as a PNG.
fn is_png(path: &Path) -> Result<bool> {
    input_file::check_is_file(path).map_err(|error| {
        let path = path.display();
        Error::request(format_args!("cannot read `{path}` as a PNG, JPEG or WebP picture: {error}"))
    })?;
    let mut start = [0; PNG.len()];
    let opened = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    Ok(opened.is_ok() && start == PNG)
}

/// The settings in a PNG, JPEG or WebP file, in A1111's form or in that of ComfyUI, InvokeAI,
/// NovelAI or Fooocus; `None` if there are none.
///
/// # Errors
/// [`Error::Request`] if the file cannot be read or is no such picture, or if it holds a graph of
/// ComfyUI that is not that of one picture.
pub fn read_parameters(path: &Path) -> Result<Option<Parameters>> {
    let texts = match is_png(path)? {
        true => png::read_all(path)?,
        false => exif::read(path)?.map(|text| ("parameters".to_owned(), text)).into_iter().collect(),
    };
    if let Some(parameters) = others::read(&texts)? {
        return Ok(Some(parameters));
    }
    let text = texts.iter().find(|(keyword, _)| keyword == "parameters");
    Ok(text.map(|(_, text)| Parameters::parse(text)).filter(|found| !found.settings.is_empty()))
}

/// Prompts, and settings by their A1111 names, in the order in which they are written.
///
/// ```
/// # use aquatint_model::image::metadata::Parameters;
/// let parameters = Parameters::parse("a fox\nSteps: 20, Sampler: Euler a, Seed: 7, Model: \"v1:5, pruned\"");
/// assert_eq!(parameters.prompt, "a fox");
/// assert_eq!(parameters.get("Model"), Some("v1:5, pruned"));
/// assert_eq!(parameters.to_string(), "a fox\nSteps: 20, Sampler: Euler a, Seed: 7, Model: \"v1:5, pruned\"");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// What the picture should show.
    pub prompt: String,
    /// What it should not show.
    pub negative_prompt: String,
    /// Keys and values.
    pub settings: Vec<(String, String)>,
}

const NEGATIVE: &str = "Negative prompt:";

impl Parameters {
    /// Adds a setting at the end.
    pub fn push(&mut self, key: &str, value: impl fmt::Display) {
        self.settings.push((key.to_owned(), value.to_string()));
    }

    /// Replaces the value of a setting, or adds it at the end.
    pub fn set(&mut self, key: &str, value: impl fmt::Display) {
        match self.settings.iter_mut().rev().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value.to_string(),
            None => self.push(key, value),
        }
    }

    /// Adds a setting behind another one, or at the end if there is none of that name.
    pub fn insert_after(&mut self, other: &str, key: &str, value: impl fmt::Display) {
        let position = self.settings.iter().position(|(name, _)| name == other);
        let position = position.map_or(self.settings.len(), |index| index + 1);
        self.settings.insert(position, (key.to_owned(), value.to_string()));
    }

    /// Adds what only the run can tell: its digest, and the step after which it was ended if it
    /// was.
    pub(crate) fn with_run(mut self, digest: &str, stopped: Option<usize>) -> Self {
        self.insert_after("Version", "Steps digest", digest);
        if let Some(steps) = stopped {
            self.insert_after("Version", "Stopped after", steps);
        }
        self
    }

    /// What differs from `other`, a phrase each: "Seed: 7 instead of 8".
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = String> + 'a {
        let texts = [
            ("prompt", &self.prompt, &other.prompt),
            ("negative prompt", &self.negative_prompt, &other.negative_prompt),
        ];
        let texts = texts.into_iter().filter(|(_, ours, theirs)| ours != theirs);
        let texts = texts.map(|(key, ours, theirs)| format!("the {key} \"{ours}\" instead of \"{theirs}\""));
        let keys = self.settings.iter().map(|(key, _)| key.as_str());
        let missing =
            other.settings.iter().map(|(key, _)| key.as_str()).filter(move |key| self.get(key).is_none());
        let different = keys.chain(missing).filter(move |key| self.get(key) != other.get(key));
        texts.chain(different.map(move |key| {
            let value = |parameters: &'a Self| parameters.get(key).unwrap_or("nothing");
            format!("{key}: {} instead of {}", value(self), value(other))
        }))
    }

    /// The value of a setting; of several with one key the last counts, as for A1111.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Reads what A1111, or a program that writes in its form, has written. Any text can be read:
    /// what does not look like settings is a prompt.
    pub fn parse(text: &str) -> Self {
        // Group 1 is a key of letters, digits, spaces, `-` and `/`; group 2 a JSON string or
        // anything up to a comma.
        static SETTING: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r#"\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)"#)
                .expect("the expression is valid")
        });
        /// A last line with fewer settings is part of the prompt: people write colons and commas
        /// there.
        const FEWEST: usize = 3;

        let text = text.trim();
        let pairs = |line: &str| -> Settings {
            SETTING.captures_iter(line).map(|found| (found[1].to_owned(), unquoted(&found[2]))).collect()
        };
        let (mut lines, last) = text.rsplit_once('\n').unwrap_or(("", text));
        let mut settings = pairs(last);
        if settings.len() < FEWEST {
            (lines, settings) = (text, Vec::new());
            if let Some((before, line, behind)) = settings_within(text)
                && pairs(line).len() >= FEWEST
            {
                (lines, settings) = (before, pairs(line));
                settings.extend(behind);
            }
        }
        settings.retain(|(_, value)| !value.is_empty());

        let (mut prompt, mut negative) = (Vec::new(), Vec::new());
        let mut in_negative = false;
        for line in lines.lines().map(str::trim) {
            let rest = line.strip_prefix(NEGATIVE);
            in_negative |= rest.is_some();
            let into = if in_negative { &mut negative } else { &mut prompt };
            let line = rest.map_or(line, str::trim);
            // An empty first line leaves no trace.
            if !(into.is_empty() && line.is_empty()) {
                into.push(line);
            }
        }
        Self { prompt: prompt.join("\n"), negative_prompt: negative.join("\n"), settings }
    }
}

/// Keys and values.
type Settings = Vec<(String, String)>;

/// The last line that begins as A1111's settings do, the text before it, and settings of lines
/// behind it, as extensions write them: `Template: a {fox|cat}`, with a value of one line or
/// several.
fn settings_within(text: &str) -> Option<(&str, &str, Settings)> {
    const FIRST_KEY: &str = "Steps: ";
    let start = match text.rfind("\nSteps: ") {
        Some(at) => at + 1,
        None => text.starts_with(FIRST_KEY).then_some(0)?,
    };
    let (line, behind) = text[start..].split_once('\n')?;
    let mut settings = Settings::new();
    for line in behind.lines() {
        let is_key = |key: &str| {
            let letters = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '/' | '_');
            key.len() > 1 && key.starts_with(char::is_alphanumeric) && key.chars().all(letters)
        };
        match (line.split_once(':').filter(|(key, _)| is_key(key)), settings.last_mut()) {
            (Some((key, value)), _) => settings.push((key.to_owned(), value.trim().to_owned())),
            (None, Some((_, value))) => *value = [value.as_str(), line.trim()].join("\n"),
            (None, None) => return None, // a prompt
        }
    }
    Some((&text[..start], line, settings))
}

/// The form in which the text is stored.
impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blocks = Vec::new();
        if !self.prompt.is_empty() {
            blocks.push(self.prompt.clone());
        }
        if !self.negative_prompt.is_empty() {
            blocks.push(format!("{NEGATIVE} {}", self.negative_prompt));
        }
        let settings: Vec<_> =
            self.settings.iter().map(|(key, value)| format!("{key}: {}", quoted(value))).collect();
        blocks.push(settings.join(", "));
        f.write_str(blocks.join("\n").trim())
    }
}

/// A value that would confuse the reader becomes a JSON string.
fn quoted(value: &str) -> String {
    let loses = value.trim() != value || value.starts_with('"'); // white space, or quotes of its own
    match loses || value.contains([',', ':', '\n', '\r']) {
        true => serde_json::Value::from(value).to_string(),
        false => value.to_owned(),
    }
}

/// The way back; what only looks like a JSON string stays as it is.
fn unquoted(value: &str) -> String {
    let string = if value.starts_with('"') { serde_json::from_str(value).ok() } else { None };
    string.unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests;
