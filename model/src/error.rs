//! What can go wrong, in kinds that a caller tells apart.
//!
//! | kind | meaning | whose move it is |
//! |---|---|---|
//! | [`Error::Request`] | cannot be done as asked | change the request: a name, a size, the steps |
//! | [`Error::Model`] | the model cannot be loaded | repair the folder or choose another |
//! | [`Error::Interrupted`] | the caller ended it | nobody's |
//! | the rest | it failed while running | free the disk, pick another precision |
//!
//! Every message is one sentence that says what was found, what was expected and what to do.
//! Mistakes of the programmer (shapes that do not fit) panic instead; they are not part of this
//! type.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a picture was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be met: an unknown sampler, zero steps, a size that is no multiple of 8.
    #[error("{0}")]
    Request(String),

    /// The model cannot be loaded: a part is missing, a tensor has another shape, a setting is not
    /// supported.
    #[error("{0}")]
    Model(String),

    /// A model lacks a component.
    #[error("`{}`: holds {held}, but no {title}; give a file or folder with one as well ({published})", path.display())]
    MissingComponent {
        /// The model.
        path: PathBuf,
        /// What it has.
        held: String,
        /// The component's name: "vae".
        component: &'static str,
        /// The same as a person would say it.
        title: &'static str,
        /// Where such a component is published.
        published: &'static str,
    },

    /// A file or folder that the model needs cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A result cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A stage produced NaN or an infinity. No picture is better than a black one.
    #[error(
        "{stage} produced NaN or an infinite value; if it does so in f32 as well, the weights are \
         damaged, or no model of this kind"
    )]
    NotFinite {
        /// The stage, as a reader of the pipeline would name it: "the UNet at step 3", "the VAE
        /// decoder".
        stage: String,
    },

    /// Any other failure while running.
    #[error("{0}")]
    Run(String),

    /// The caller ended the run.
    #[error("interrupted")]
    Interrupted,
}

/// The kinds of [`Error`], for callers that map them to exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Asked for something that cannot be done.
    Request,
    /// The model cannot be loaded.
    Model,
    /// Failed while running.
    Run,
    /// Ended by the caller.
    Interrupted,
}

impl Error {
    /// An [`Error::Request`] from anything that can be printed.
    pub fn request(message: impl Display) -> Self {
        Self::Request(printable(&message.to_string()))
    }

    /// An [`Error::Model`] from anything that can be printed.
    pub fn model(message: impl Display) -> Self {
        Self::Model(printable(&message.to_string()))
    }

    /// An [`Error::Run`] from anything that can be printed.
    pub fn run(message: impl Display) -> Self {
        Self::Run(printable(&message.to_string()))
    }

    /// An [`Error::Model`] about one file: "`path`: message".
    pub fn in_file(path: impl AsRef<Path>, message: impl Display) -> Self {
        Self::model(format_args!("`{}`: {message}", path.as_ref().display()))
    }

    /// An [`Error::Read`]; made to be used as `.map_err(Error::reading(path))`.
    pub fn reading(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Read { path, source }
    }

    /// An [`Error::Write`]; made to be used as `.map_err(Error::writing(path))`.
    pub fn writing(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Write { path, source }
    }

    /// An [`Error::NotFinite`] that names the stage.
    pub fn not_finite(stage: impl Display) -> Self {
        Self::NotFinite { stage: stage.to_string() }
    }

    /// Which of the kinds this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(_) => ErrorKind::Request,
            Self::Model(_) | Self::MissingComponent { .. } | Self::Read { .. } => ErrorKind::Model,
            Self::Write { .. } | Self::NotFinite { .. } | Self::Run(_) => ErrorKind::Run,
            Self::Interrupted => ErrorKind::Interrupted,
        }
    }
}

/// The longest message, in characters; a value that somebody wrote into a file may have millions.
const LONGEST_MESSAGE: usize = 1000;

/// The longest value within a message.
const LONGEST_VALUE: usize = 100;

/// A text as it may be shown on a terminal: control characters, with which a file could steer it,
/// are escaped, and what is too long loses its middle.
pub fn printable(message: &str) -> String {
    let text = cut(message, LONGEST_MESSAGE);
    let is_steering = |c: char| {
        // Marks that turn the direction of writing are no control characters, but hide what follows
        // as well.
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_steering) {
        return text;
    }
    let escaped = |c: char| match is_steering(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// A value as it may stand in a message.
pub(crate) fn shortened(value: &str) -> String {
    cut(value, LONGEST_VALUE)
}

/// Three quarters of the characters from the beginning, the rest from the end.
fn cut(text: &str, longest: usize) -> String {
    if text.char_indices().nth(longest).is_none() {
        return text.to_owned();
    }
    let (front, back) = (longest * 3 / 4, longest / 4);
    let start = text.char_indices().nth(front).map_or(text.len(), |(at, _)| at);
    let end = text.char_indices().rev().nth(back - 1).map_or(0, |(at, _)| at);
    format!("{} … {}", &text[..start], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_a_matter_of_the_model_and_names_the_path() {
        let error = std::fs::read("/no/such/file")
            .map_err(Error::reading("/no/such/file"))
            .expect_err("it is missing");
        assert_eq!(error.kind(), ErrorKind::Model);
        assert!(error.to_string().starts_with("cannot read `/no/such/file`: "), "{error}");
    }

    #[test]
    fn a_stage_with_nan_is_named() {
        let error = Error::not_finite("the UNet at step 3");
        assert_eq!(error.kind(), ErrorKind::Run);
        assert!(error.to_string().starts_with("the UNet at step 3 produced NaN"), "{error}");
    }

    #[test]
    fn messages_cannot_steer_a_terminal_and_are_not_endless() {
        let error = Error::request("unknown sampler `\u{1b}]0;title\u{7}\u{9b}31m\u{202e}x`");
        assert_eq!(error.to_string(), "unknown sampler `\\u{1b}]0;title\\u{7}\\u{9b}31m\\u{202e}x`");
        let long = Error::model(format_args!("begin {} end", "ä".repeat(50_000_000))).to_string();
        assert!(long.starts_with("begin ä") && long.ends_with("ä end") && long.chars().count() < 1100);
        assert_eq!(printable("a plain sentence: ü ×"), "a plain sentence: ü ×");
        assert_eq!(shortened(&"x".repeat(100)).len(), 100);
    }
}
