//! `a __colour__ fox`: one line of a file, drawn by the seed.
//!
//! `__colour__` stands for a line of `colour.txt` in a folder, `__animals/cats__` for one of
//! `animals/cats.txt`. Empty lines and those that begin with `#` do not count; a line may hold
//! wildcards itself. The same seed draws the same lines, whatever the machine; pictures hold the
//! text that was drawn.
//!
//! Source: the files of A1111's extensions `stable-diffusion-webui-wildcards` and
//! `sd-dynamic-prompts`; which line a seed draws is our own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use crate::error::{Error, Result};

/// A wildcard in a line of a wildcard, and so on; a file that names itself ends here.
const DEEPEST: usize = 16;

/// A larger file is no list of words.
const LARGEST_FILE: u64 = 1 << 26;

/// A longer prompt is a mistake in the files.
const LONGEST: usize = 1 << 20;

fn wildcard() -> &'static Regex {
    static WILDCARD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"__[A-Za-z0-9][\w/\-]*?__").expect("the expression is valid"));
    &WILDCARD
}

/// Whether there is a wildcard in a text.
pub fn has_wildcard(text: &str) -> bool {
    wildcard().is_match(text)
}

/// Draws lines for one picture.
#[derive(Debug)]
pub struct Wildcards<'a> {
    folder: &'a Path,
    /// The state of the generator, SplitMix64.
    state: u64,
}

impl<'a> Wildcards<'a> {
    /// The files of a folder, and a picture's seed.
    pub fn new(folder: &'a Path, seed: u64) -> Self {
        Self { folder, state: seed }
    }

    /// The text with a line for each wildcard. Further texts of the picture draw further numbers.
    ///
    /// # Errors
    /// `Request` if there is no file of a name, or no line in it, or if files name each other in a
    /// circle.
    pub fn fill(&mut self, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        for _ in 0..DEEPEST {
            if !has_wildcard(&text) {
                return Ok(text);
            }
            let (mut filled, mut end) = (String::new(), 0);
            for found in wildcard().find_iter(&text) {
                filled.push_str(&text[end..found.start()]);
                filled.push_str(&self.line(found.as_str().trim_matches('_'))?);
                end = found.end();
            }
            filled.push_str(&text[end..]);
            if filled.len() > LONGEST {
                break;
            }
            text = filled;
        }
        Err(Error::request(format_args!(
            "the wildcards in `{}` name each other more than {DEEPEST} times, or make a text of more than {LONGEST} bytes; \
             expected files that end in words",
            self.folder.display()
        )))
    }

    /// A line of a file.
    fn line(&mut self, name: &str) -> Result<String> {
        let path = self.folder.join(format!("{name}.txt"));
        let refused = |reason: &dyn std::fmt::Display| {
            Error::request(format_args!("`__{name}__`: `{}` {reason}", path.display()))
        };
        let size = fs::metadata(&path).map(|file| file.len()).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => refused(&format_args!("does not exist; {}", self.names())),
            _ => refused(&format_args!("cannot be read: {error}")),
        })?;
        if size > LARGEST_FILE {
            return Err(refused(&format_args!("has {size} bytes; expected up to {LARGEST_FILE}")));
        }
        let bytes = fs::read(&path).map_err(|error| refused(&format_args!("cannot be read: {error}")))?;
        let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes));
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        if lines.is_empty() {
            return Err(refused(&"has no line with words; expected one a line"));
        }
        Ok(lines[(self.number() % lines.len() as u64) as usize].to_owned())
    }

    /// The names that there are.
    fn names(&self) -> String {
        let files = fs::read_dir(self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let texts = files.filter(|path: &PathBuf| path.extension().is_some_and(|e| e == "txt"));
        let mut names: Vec<_> =
            texts.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
        names.sort();
        names.truncate(20);
        match names.is_empty() {
            true => "the folder has no .txt files".into(),
            false => format!("there are {}", names.join(", ")),
        }
    }

    /// The next number: SplitMix64 (Steele et al., *Fast Splittable Pseudorandom Number
    /// Generators*, 2014).
    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("writable");
        fs::create_dir(folder.path().join("animals")).expect("writable");
        write("colour.txt", "\u{feff}# colours\nred\n\n  blue \r\ngreen\n");
        write("animals/big.txt", "elephant");
        write("scene.txt", "a __colour__ __animals/big__");
        write("circle.txt", "__circle__");
        write("grows.txt", "__grows__ __grows__ __grows__ __grows__");
        write("empty.txt", "# nothing\n");
        folder
    }

    /// Vectors of SplitMix64 from the author's program, seed 1234567.
    #[test]
    fn the_generator_is_splitmix64() {
        let mut wildcards = Wildcards::new(Path::new(""), 1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(expected.map(|_| wildcards.number()), expected);
    }

    #[test]
    fn every_line_comes_and_a_seed_always_draws_the_same() {
        let folder = folder();
        let fill = |text: &str, seed| Wildcards::new(folder.path(), seed).fill(text).expect("files exist");
        let drawn: std::collections::BTreeSet<_> = (0..40).map(|seed| fill("__colour__", seed)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), ["blue", "green", "red"]);
        assert_eq!(fill("x __scene__", 3), fill("x __scene__", 3));
        assert!(fill("x __scene__.", 3).ends_with(" elephant."));
        assert_eq!(fill("snake_case __ a__ ___", 3), "snake_case __ a__ ___");
        let both = fill("__colour__ __colour__ __colour__ __colour__ __colour__ __colour__", 1);
        assert!(both.split(' ').any(|word| !both.starts_with(word)), "{both}");
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let folder = folder();
        for (text, message) in [
            ("__color__", "does not exist; there are circle, colour, empty, grows, scene"),
            ("__empty__", "has no line with words"),
            ("__circle__", "name each other"),
            ("__grows__", "name each other"),
        ] {
            let error = Wildcards::new(folder.path(), 1).fill(text).expect_err(text).to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
