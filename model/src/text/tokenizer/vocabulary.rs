//! CLIP's own vocabulary, which all of Stable Diffusion share, so that a folder can be
//! made without a download.
//!
//! ```text
//!     0..256      one symbol for each byte            "a"
//!   256..512      the same at the end of a word       "a</w>"
//!   512..49406    one for each merge, in order        "i n" → "in"
//! 49406, 49407    <|startoftext|>, <|endoftext|>
//! ```
//!
//! So the merges are all that must be stored: `assets/clip_merges.txt.gz`, one pair a line (origin
//! and licence in `assets/README.md`).

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::{Map, Value};

use crate::{Error, Result};

static MERGES: &[u8] = include_bytes!("../../../assets/clip_merges.txt.gz");

/// The mark of a symbol that ends a word.
const END_OF_WORD: &str = "</w>";

/// A BPE vocabulary.
#[derive(Debug, Clone)]
pub struct ClipVocabulary {
    /// The tokens; a token's place is its number.
    pub tokens: Vec<String>,
    /// The pairs that are merged, the first one first.
    pub merges: Vec<(String, String)>,
}

/// The vocabulary of OpenAI's CLIP: 49,408 tokens, 48,894 merges.
///
/// ```
/// let vocabulary = aquatint_model::text::tokenizer::clip_vocabulary();
/// assert_eq!(vocabulary.merges[0], ("i".into(), "n".into()));
/// assert_eq!(vocabulary.tokens[512], "in");
/// assert_eq!(vocabulary.tokens[49406], "<|startoftext|>");
/// ```
pub fn clip_vocabulary() -> ClipVocabulary {
    let mut text = String::new();
    GzDecoder::new(MERGES).read_to_string(&mut text).expect("the embedded merges are gzip and UTF-8");
    let pair = |line: &str| {
        let (a, b) = line.split_once(' ').expect("each line of the embedded merges is a pair");
        (a.to_owned(), b.to_owned())
    };
    let merges: Vec<(String, String)> = text.lines().map(pair).collect();

    let bytes = byte_symbols();
    let mut tokens: Vec<String> = bytes.iter().map(char::to_string).collect();
    tokens.extend(bytes.iter().map(|symbol| format!("{symbol}{END_OF_WORD}")));
    tokens.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
    tokens.extend(["<|startoftext|>", "<|endoftext|>"].map(str::to_owned));
    ClipVocabulary { tokens, merges }
}

/// Writes `vocab.json` and `merges.txt` as they are published.
///
/// # Errors
/// `Write` if the folder or a file cannot be written.
pub fn write_clip_vocabulary(folder: &Path) -> Result<()> {
    let ClipVocabulary { tokens, merges } = clip_vocabulary();
    let vocab: Map<String, Value> = tokens.into_iter().zip((0u32..).map(Value::from)).collect();
    let vocab = Value::Object(vocab).to_string();
    let mut lines = String::from("#version: 0.2\n");
    for (a, b) in merges {
        lines.extend([&a, " ", &b, "\n"]);
    }
    std::fs::create_dir_all(folder).map_err(Error::writing(folder))?;
    for (name, text) in [("vocab.json", vocab), ("merges.txt", lines)] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(Error::writing(&path))?;
    }
    Ok(())
}

/// A printable character for each byte, in the order of CLIP's table: first the bytes that are
/// printable in Latin-1, which stand for themselves, then the others, which take the characters
/// from U+0100 up.
fn byte_symbols() -> Vec<char> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let themselves = (0..=255).filter(printable).map(char::from);
    let others = (0..=255u8).filter(|byte| !printable(byte)).zip('\u{100}'..).map(|(_, symbol)| symbol);
    themselves.chain(others).collect()
}
