//! A picture that comes with a request: a file, or the bytes of one.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::image::{ImageFile, Mask};

/// A PNG, JPEG or WebP picture.
#[derive(Clone, PartialEq, Eq)]
pub enum ImageInput {
    /// A file. Who takes requests from others should refuse it.
    Path(PathBuf),
    /// What would be in the file.
    Bytes(Arc<[u8]>),
}

/// The first bytes of a picture, in base64: PNG, JPEG, WebP.
const BASE64_STARTS: [&str; 3] = ["iVBORw0KGgo", "/9j/", "UklGR"];

/// Shorter base64 is no picture, but perhaps a path.
const FEWEST_CHARACTERS: usize = 64;

impl ImageInput {
    /// A picture as A1111's API has it: base64, alone or in a data URL; else a path.
    ///
    /// # Errors
    /// `Request` if a data URL holds no base64.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(url) = text.strip_prefix("data:") {
            let decoded = url.split_once(";base64,").and_then(|(_, data)| base64::decode(data.trim()).ok());
            return decoded.map(Self::from).ok_or_else(|| {
                Error::request("a picture's data URL cannot be read; expected data:image/png;base64,…")
            });
        }
        let may_be_data =
            text.len() >= FEWEST_CHARACTERS && BASE64_STARTS.iter().any(|start| text.starts_with(start));
        Ok(match may_be_data.then(|| base64::decode(text.trim_end())) {
            Some(Ok(bytes)) => bytes.into(),
            _ => Self::Path(text.into()),
        })
    }

    /// Reads the picture.
    ///
    /// # Errors
    /// See [`ImageFile::open`].
    pub fn open(&self) -> Result<ImageFile> {
        match self {
            Self::Path(path) => ImageFile::open(path),
            Self::Bytes(bytes) => ImageFile::from_bytes(bytes),
        }
    }

    /// Reads the picture as a mask.
    ///
    /// # Errors
    /// See [`Mask::open`].
    pub fn open_mask(&self) -> Result<Mask> {
        match self {
            Self::Path(path) => Mask::open(path),
            Self::Bytes(bytes) => Mask::from_bytes(bytes),
        }
    }
}

impl From<Vec<u8>> for ImageInput {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<PathBuf> for ImageInput {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl fmt::Display for ImageInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "`{}`", path.display()),
            Self::Bytes(_) => f.write_str("the picture"),
        }
    }
}

/// Not the bytes, which would fill the screen.
impl fmt::Debug for ImageInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "Path({})", path.display()),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;

    #[test]
    fn base64_is_a_picture_and_other_text_a_path() {
        let png = Image::from_rgb(1, 1, vec![1, 2, 3]).to_png().expect("a PNG");
        let data = base64::encode(&png);
        for text in [data.clone(), format!("data:image/png;base64,{data}")] {
            let input = ImageInput::parse(&text).expect("base64");
            assert_eq!(input, ImageInput::from(png.clone()));
            assert_eq!(input.open().expect("a picture").image.pixels(), [1, 2, 3]);
        }
        for path in ["fox.png", "/9j/fox.jpg", "iVBORw0KGgo", "/9j/a"] {
            assert_eq!(ImageInput::parse(path).expect("a path"), ImageInput::Path(path.into()));
        }
        assert!(ImageInput::parse("data:image/png;base64,???").is_err());
        assert!(ImageInput::parse("data:,x").is_err());
    }
}
