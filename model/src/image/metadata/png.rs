//! The chunk `parameters` of a PNG file.
//!
//! | the text | chunk |
//! |---|---|
//! | in Latin-1 | `tEXt` |
//! | anything else | `iTXt`, which is UTF-8 |
//!
//! This is the choice of Pillow, with which A1111 writes; the reader takes either, and `zTXt`.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use png::{BitDepth, ColorType, DecodingError, Encoder, Info};

use crate::error::{Error, Result};
use crate::guard::guarded;

const KEYWORD: &str = "parameters";

/// Bytes of a text that is inflated; a few kilobytes of a file could be made to fill the memory.
const LONGEST_TEXT: usize = 1 << 20;

/// 8-bit RGB pixels as the bytes of a PNG file, with a text if there is one. `size` is width and
/// height.
///
/// # Errors
/// If the picture has no pixels, or more than a PNG can hold.
pub fn encode(size: [usize; 2], rgb: &[u8], parameters: Option<&str>) -> Result<Vec<u8>> {
    let side = |length| u32::try_from(length).map_err(Error::run);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, side(size[0])?, side(size[1])?);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    if let Some(text) = parameters {
        let text = text.replace('\0', ""); // ends a text in both chunks
        // Latin-1 that looks like UTF-8 would be taken for it; see `as_utf_8`.
        let latin_1 = text.chars().all(|c| u32::from(c) <= 0xff) && as_utf_8(&text).is_none();
        let added = match latin_1 {
            true => encoder.add_text_chunk(KEYWORD.into(), text),
            false => encoder.add_itxt_chunk(KEYWORD.into(), text),
        };
        added.map_err(Error::run)?;
    }
    let mut writer = encoder.write_header().map_err(Error::run)?;
    writer.write_image_data(rgb).map_err(Error::run)?;
    writer.finish().map_err(Error::run)?;
    Ok(bytes)
}

/// The text of a PNG file, if it has one.
///
/// # Errors
/// [`Error::Request`] if the file cannot be read or is no PNG.
pub fn read(path: &Path) -> Result<Option<String>> {
    let refused = |e: &dyn std::fmt::Display| {
        Error::request(format_args!("cannot read `{}` as a PNG picture: {e}", path.display()))
    };
    let file = File::open(path).map_err(|e| refused(&e))?;
    guarded(refused, || parameters(BufReader::new(file)).map_err(|e| refused(&e)))
}

/// The same of what would be a file's content.
///
/// # Errors
/// [`Error::Request`] if it is no PNG.
pub fn read_bytes(bytes: &[u8]) -> Result<Option<String>> {
    let refused =
        |e: &dyn std::fmt::Display| Error::request(format_args!("this is no PNG that can be read: {e}"));
    guarded(refused, || parameters(Cursor::new(bytes)).map_err(|e| refused(&e)))
}

fn parameters(file: impl BufRead + Seek) -> std::result::Result<Option<String>, DecodingError> {
    let mut reader = png::Decoder::new(file).read_info()?;
    if let Some(text) = text(reader.info()) {
        return text.map(Some);
    }
    // Some programs write their text behind the pixels.
    reader.finish()?;
    text(reader.info()).transpose()
}

/// All texts of a PNG file that can be read, by their keywords; `parameters` as [`read`] finds it.
///
/// # Errors
/// [`Error::Request`] if the file cannot be read or is no PNG.
pub fn read_all(path: &Path) -> Result<Vec<(String, String)>> {
    if let Some(parameters) = read(path)? {
        return Ok(vec![(KEYWORD.to_owned(), parameters)]);
    }
    let refused = |e: &dyn std::fmt::Display| {
        Error::request(format_args!("cannot read `{}` as a PNG picture: {e}", path.display()))
    };
    let file = File::open(path).map_err(|e| refused(&e))?;
    guarded(refused, || {
        let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(|e| refused(&e))?;
        reader.finish().map_err(|e| refused(&e))?;
        let info = reader.info();
        let plain = info.uncompressed_latin1_text.iter().map(|chunk| {
            (chunk.keyword.clone(), as_utf_8(&chunk.text).unwrap_or_else(|| chunk.text.clone()))
        });
        let compressed = info.compressed_latin1_text.iter().filter_map(|chunk| {
            let mut chunk = chunk.clone();
            chunk.decompress_text_with_limit(LONGEST_TEXT).ok()?;
            Some((chunk.keyword.clone(), chunk.get_text().ok()?))
        });
        let utf8 = info.utf8_text.iter().filter_map(|chunk| {
            let mut chunk = chunk.clone();
            chunk.decompress_text_with_limit(LONGEST_TEXT).ok()?;
            Some((chunk.keyword.clone(), chunk.get_text().ok()?))
        });
        Ok(plain.chain(compressed).chain(utf8).collect())
    })
}

/// What is UTF-8 in a chunk that the standard has in Latin-1, as stable-diffusion.cpp and others
/// write it; `None` if the bytes are no UTF-8, or only ASCII.
fn as_utf_8(latin_1: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = latin_1.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    String::from_utf8(bytes.filter(|bytes| !bytes.is_ascii())?).ok()
}

fn text(info: &Info<'_>) -> Option<std::result::Result<String, DecodingError>> {
    let plain = info.uncompressed_latin1_text.iter().find(|chunk| chunk.keyword == KEYWORD);
    let compressed = || info.compressed_latin1_text.iter().find(|chunk| chunk.keyword == KEYWORD);
    let utf8 = || info.utf8_text.iter().find(|chunk| chunk.keyword == KEYWORD);
    plain
        .map(|chunk| Ok(as_utf_8(&chunk.text).unwrap_or_else(|| chunk.text.clone())))
        .or_else(|| {
            let mut chunk = utf8()?.clone();
            Some(chunk.decompress_text_with_limit(LONGEST_TEXT).and_then(|()| chunk.get_text()))
        })
        .or_else(|| {
            let mut chunk = compressed()?.clone();
            Some(chunk.decompress_text_with_limit(LONGEST_TEXT).and_then(|()| chunk.get_text()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_stored_in_the_chunk_that_can_hold_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("p.png");
        let contains = |bytes: &[u8], chunk: &[u8]| bytes.windows(4).any(|window| window == chunk);
        for (text, chunk) in
            [("a fox\nSteps: 1", "tEXt"), ("Bär, ½", "tEXt"), ("熊 🐻", "iTXt"), ("Ã©", "iTXt")]
        {
            let bytes = encode([2, 1], &[1, 2, 3, 4, 5, 6], Some(text)).expect("a small picture");
            for other in ["tEXt", "iTXt"] {
                assert_eq!(contains(&bytes, other.as_bytes()), other == chunk, "{text}: {other}");
            }
            std::fs::write(&path, &bytes).expect("the folder is writable");
            assert_eq!(read(&path).expect("a valid PNG").as_deref(), Some(text));
            let pixels = image::load_from_memory(&bytes).expect("a valid PNG").into_rgb8();
            assert_eq!(pixels.as_raw(), &[1, 2, 3, 4, 5, 6]);
        }
        let bytes = encode([2, 1], &[0; 6], None).expect("a small picture");
        std::fs::write(&path, bytes).expect("the folder is writable");
        assert_eq!(read(&path).expect("a valid PNG"), None);
    }

    #[test]
    fn utf_8_in_a_chunk_of_latin_1_is_read_as_such() {
        for text in ["жёлтый кот, 猫", "Bär", "½ é", "plain"] {
            let stored: String = text.bytes().map(char::from).collect();
            assert_eq!(as_utf_8(&stored).as_deref(), Some(text).filter(|text| !text.is_ascii()));
            assert_eq!(as_utf_8(text), None, "{text}");
        }
    }

    #[test]
    fn a_compressed_text_is_inflated_up_to_a_limit() {
        let read = |length| {
            let mut chunk = png::text_metadata::ZTXtChunk::new(KEYWORD, "x".repeat(length));
            chunk.compress_text().expect("Latin-1");
            let mut info = Info::default();
            info.compressed_latin1_text.push(chunk);
            text(&info).expect("there is a text")
        };
        assert_eq!(read(LONGEST_TEXT).expect("not too long").len(), LONGEST_TEXT);
        assert!(read(LONGEST_TEXT + 1).is_err());
    }

    #[test]
    fn a_file_that_is_no_png_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("p.png");
        std::fs::write(&path, b"GIF89a").expect("the folder is writable");
        for path in [path, folder.path().join("none.png")] {
            let error = read(&path).expect_err("it is no PNG");
            assert_eq!(error.kind(), crate::ErrorKind::Request);
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
}
