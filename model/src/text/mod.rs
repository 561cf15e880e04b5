//! From a text to the numbers that the text encoder reads.

pub(crate) mod conditioning;
pub(crate) mod encode;
pub mod prompt;
pub mod tokenizer;
