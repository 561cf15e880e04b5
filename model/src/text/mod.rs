//! From a text to the numbers that the text encoder reads.

pub mod prompt;
pub mod tokenizer;
