//! The user comment of a JPEG or WebP file, where A1111 puts its text.
//!
//! ```text
//! JPEG  APP1 "Exif\0\0" block      WebP  chunk `EXIF`       block = a small TIFF file
//! block: IFD 0 → Exif IFD → tag 0x9286 UserComment = "UNICODE\0" and UTF-16, big endian
//! ```
//!
//! The standard leaves the byte order of the UTF-16 open; piexif, with which A1111 writes and
//! reads, always has it big endian. Some programs write it little endian: of the two readings the
//! one with more ASCII in it is taken. Source: Exif 2.3, section 4.6.5; the behaviour of piexif's
//! `UserComment`.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use exif::experimental::Writer;
use exif::{Field, In, Reader, Tag, Value};

use crate::error::{Error, Result};
use crate::guard::guarded;

/// The prefix of text in UTF-16.
const UNICODE: &[u8; 8] = b"UNICODE\0";

/// The prefix of text in ASCII.
const ASCII: &[u8; 8] = b"ASCII\0\0\0";

/// A JPEG segment holds 65,533 bytes; this leaves room for the directories around the text.
const LONGEST: usize = 65_000;

/// The EXIF block that holds a text.
///
/// # Errors
/// If the text is too long for a JPEG file.
pub fn encode(text: &str) -> Result<Vec<u8>> {
    let mut comment = UNICODE.to_vec();
    comment.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
    if comment.len() > LONGEST {
        return Err(Error::run(format_args!(
            "the picture's text has {} bytes; EXIF holds {LONGEST}: write a PNG",
            comment.len()
        )));
    }
    let field = Field { tag: Tag::UserComment, ifd_num: In::PRIMARY, value: Value::Undefined(comment, 0) };
    let mut writer = Writer::new();
    writer.push_field(&field);
    let mut block = Cursor::new(Vec::new());
    writer.write(&mut block, false).map_err(Error::run)?;
    Ok(block.into_inner())
}

/// The text of a JPEG or WebP file, if it has one.
///
/// # Errors
/// [`Error::Request`] if the file cannot be read or is no picture.
pub fn read(path: &Path) -> Result<Option<String>> {
    let refused = |e: &dyn std::fmt::Display| {
        Error::request(format_args!("cannot read `{}` as a PNG, JPEG or WebP picture: {e}", path.display()))
    };
    let bytes = fs::read(path).map_err(|e| refused(&e))?;
    guarded(refused, || comment(bytes).map_err(|e| refused(&e)))
}

/// The same of what would be a file's content.
///
/// # Errors
/// [`Error::Request`] if it is no such picture.
pub fn read_bytes(bytes: &[u8]) -> Result<Option<String>> {
    let refused = |e: &dyn std::fmt::Display| {
        Error::request(format_args!("this is no JPEG or WebP picture that can be read: {e}"))
    };
    guarded(refused, || comment(bytes.to_vec()).map_err(|e| refused(&e)))
}

/// The text in a file's EXIF block.
fn comment(bytes: Vec<u8>) -> std::result::Result<Option<String>, exif::Error> {
    let mut reader = Reader::new();
    // piexif leaves out the four bytes that say "no further directory", and the text is read there.
    reader.continue_on_error(true);
    let block = reader.read_from_container(&mut Cursor::new(bytes));
    match block.or_else(|error| error.distill_partial_result(|_| {})) {
        Ok(block) => {
            Ok(block.get_field(Tag::UserComment, In::PRIMARY).and_then(|field| match &field.value {
                Value::Undefined(comment, _) => text(comment),
                _ => None,
            }))
        }
        Err(exif::Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of a user comment.
fn text(comment: &[u8]) -> Option<String> {
    let (code, text) = comment.split_first_chunk::<8>()?;
    match code {
        UNICODE => {
            let big: Vec<u16> =
                text.as_chunks::<2>().0.iter().map(|&pair| u16::from_be_bytes(pair)).collect();
            let little: Vec<u16> = big.iter().map(|unit| unit.swap_bytes()).collect();
            let ascii = |units: &[u16]| units.iter().filter(|&&unit| unit < 128).count();
            let units = if ascii(&little) > ascii(&big) { little } else { big };
            Some(String::from_utf16_lossy(&units))
        }
        ASCII => Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout that piexif gives for the same text, byte for byte.
    #[test]
    fn the_block_is_a_big_endian_tiff_with_two_directories() {
        let block = encode("fox").expect("a short text");
        assert!(block.starts_with(b"MM\0*"), "{block:?}");
        let comment = b"UNICODE\0\0f\0o\0x";
        assert!(block.windows(comment.len()).any(|window| window == comment), "{block:?}");
        assert!(block.windows(2).any(|tag| tag == [0x87, 0x69]), "IFD 0 points to the Exif IFD");
    }

    #[test]
    fn comments_in_every_code_are_read() {
        let utf_16 = |order: fn(u16) -> [u8; 2]| {
            let units = "Bär, 熊\nSteps: 1".encode_utf16().flat_map(order);
            UNICODE.iter().copied().chain(units).collect::<Vec<u8>>()
        };
        for comment in [utf_16(u16::to_be_bytes), utf_16(u16::to_le_bytes)] {
            assert_eq!(text(&comment).as_deref(), Some("Bär, 熊\nSteps: 1"));
        }
        assert_eq!(text(b"ASCII\0\0\0a fox\0").as_deref(), Some("a fox"));
        assert_eq!(text(b"JIS\0\0\0\0\0a fox"), None);
        assert_eq!(text(b"short"), None);
    }

    #[test]
    fn a_text_that_does_not_fit_is_refused() {
        assert!(encode(&"a".repeat(40_000)).is_err());
    }
}
