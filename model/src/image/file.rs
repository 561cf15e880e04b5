//! Pictures from outside: a PNG, JPEG or WebP file of any kind becomes 8-bit RGB.
//!
//! ```text
//! content, not name    decides the format
//! header               refused here if the picture is too large, before memory is taken
//! EXIF orientation     turned and mirrored, as a viewer shows it
//! grey, 16 bits        → 8-bit RGB
//! transparent pixels   laid over white, because the model knows no transparency; what was transparent is kept as a mask
//! ```
//!
//! diffusers drops the alpha channel and shows whatever colour is stored under it; over white is
//! what a viewer shows. Read next: `resize.rs`, `mask.rs`.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{Image, Mask, jpeg};
use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::input_file;

/// 100 million pixels: the largest cameras make pictures of this size, and its 16-bit RGBA fits
/// into 0.8 GB.
const LARGEST_AREA: u64 = 100_000_000;

/// Larger files are not read at all.
const LARGEST_FILE: u64 = 1 << 30;

/// A picture that somebody made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// The picture, over white where it is transparent.
    pub image: Image,
    /// White where the picture is transparent; `None` if the file has no alpha channel.
    pub transparent: Option<Mask>,
}

impl ImageFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Request`] if the file cannot be read, is no picture, is damaged or too large.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        open(path.as_ref()).map(Self::from_image)
    }

    /// Decodes what would be a file's content.
    ///
    /// # Errors
    /// [`Error::Request`] if it is no picture, is damaged or too large.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        decode(bytes).map(Self::from_image).map_err(Error::request)
    }

    fn from_image(image: DynamicImage) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        if !image.color().has_alpha() {
            return Self {
                image: Image::from_rgb(width, height, image.into_rgb8().into_raw()),
                transparent: None,
            };
        }
        let rgba = image.into_rgba8().into_raw();
        let pixels = rgba.as_chunks::<4>().0;
        let over_white = |c: u8, a: u8| {
            let (c, a) = (u32::from(c), u32::from(a));
            ((c * a + 255 * (255 - a) + 127) / 255) as u8
        };
        let rgb = pixels.iter().flat_map(|&[r, g, b, a]| [r, g, b].map(|c| over_white(c, a))).collect();
        let transparent = pixels.iter().map(|[.., a]| 255 - a).collect();
        Self {
            image: Image::from_rgb(width, height, rgb),
            transparent: Some(Mask::from_grey(width, height, transparent)),
        }
    }
}

impl Mask {
    /// Reads a file as a mask: the luminance of the stored colours, whatever the alpha channel
    /// says. As diffusers, so that black stays kept where it is transparent.
    ///
    /// # Errors
    /// See [`ImageFile::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        open(path.as_ref()).map(Self::from_image)
    }

    /// Decodes what would be a file's content.
    ///
    /// # Errors
    /// See [`ImageFile::from_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        decode(bytes).map(Self::from_image).map_err(Error::request)
    }

    fn from_image(image: DynamicImage) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        Self::from_picture(&Image::from_rgb(width, height, image.into_rgb8().into_raw()))
    }
}

/// Reads a file; the error names it.
fn open(path: &Path) -> Result<DynamicImage> {
    let refused = |reason: String| Error::request(format_args!("`{}`: {reason}", path.display()));
    let bytes = input_file::read(path, LARGEST_FILE);
    decode(&bytes.map_err(|error| refused(format!("cannot read the picture: {error}")))?).map_err(refused)
}

/// Decodes a file's content; the error is a sentence.
fn decode(bytes: &[u8]) -> std::result::Result<DynamicImage, String> {
    let reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let format = reader.format();
    if !matches!(format, Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) {
        return Err("this is no PNG, JPEG or WebP picture".into());
    }
    match format {
        Some(ImageFormat::Jpeg) => jpeg::check(bytes, LARGEST_AREA)?,
        Some(ImageFormat::WebP) if is_animated_webp(bytes) => {
            return Err("this WebP is an animation; expected a still picture".into());
        }
        _ => {}
    }
    guarded(|reason| format!("the picture is damaged or not supported: {reason}"), || decode_known(reader))
}

/// Decodes what is known to be a PNG, JPEG or WebP file.
fn decode_known(mut reader: ImageReader<Cursor<&[u8]>>) -> std::result::Result<DynamicImage, String> {
    let damaged = |error: image::ImageError| format!("the picture is damaged or not supported: {error}");
    let mut limits = Limits::default();
    limits.max_alloc = Some(LARGEST_AREA * 8);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > LARGEST_AREA {
        return Err(format!(
            "the picture is {width}×{height}; expected at most {} million pixels",
            LARGEST_AREA / 1_000_000
        ));
    }
    // A damaged EXIF block is no reason to refuse the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Whether a WebP file is an animation, which no still picture is, and on which the decoder panics.
///
/// `RIFF`, size, `WEBP`, then `VP8X` with its own size and flags, if the file has more than pixels.
fn is_animated_webp(bytes: &[u8]) -> bool {
    const ANIMATION: u8 = 1 << 1;
    bytes.get(12..16) == Some(b"VP8X") && bytes.get(20).is_some_and(|flags| flags & ANIMATION != 0)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
