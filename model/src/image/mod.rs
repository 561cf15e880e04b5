//! A finished picture: 8 bits for each of red, green and blue, and how it becomes a file.
//!
//! PNG and WebP keep every value; JPEG does not. All of them hold the text that says how the
//! picture was made.

mod caption;
pub mod file;
mod jpeg;
pub mod mask;
pub mod metadata;
mod raster;
pub mod resize;

use std::fmt;
use std::path::Path;

use aquatint_tensor::{Tensor, View};
use sha2::{Digest, Sha256};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

pub use file::ImageFile;
pub use mask::Mask;
pub use resize::ResizeMode;

use crate::error::{Error, Result};
use crate::image::metadata::{Parameters, exif, png};
use crate::whole_file::write_whole;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lossless; the text is in a chunk `parameters`.
    Png,
    /// Lossy, with a quality from 1 to 100; the text is in EXIF.
    Jpeg(u8),
    /// Lossless; the text is in EXIF.
    WebP,
}

impl Format {
    /// What [`Image::save`] takes for JPEG: few people see the loss.
    pub const QUALITY: u8 = 92;

    /// The format that a file name's extension means; `quality` is for JPEG.
    pub fn of(path: &Path, quality: u8) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg(quality)),
            "webp" => Some(Self::WebP),
            _ => None,
        }
    }
}

/// An 8-bit RGB picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    /// Rows from top to bottom, pixels from left to right, three bytes each.
    pixels: Vec<u8>,
    /// How it was made.
    parameters: Option<Parameters>,
}

impl Image {
    /// A picture from its bytes: rows from top to bottom, three bytes a pixel.
    ///
    /// # Panics
    /// If there are not `3 · width · height` bytes.
    pub fn from_rgb(width: usize, height: usize, pixels: Vec<u8>) -> Self {
        assert_eq!(
            pixels.len(),
            3 * width * height,
            "a picture of {width}×{height} has three bytes for each pixel"
        );
        Self { width, height, pixels, parameters: None }
    }

    /// `round(255 · clamp(x / 2 + 1/2, 0, 1))`, ties to even: the rounding of diffusers' image
    /// processor.
    ///
    /// `x: [height, width, 3]`, −1 black, 1 white.
    ///
    /// ```
    /// # use aquatint_model::Image;
    /// # use aquatint_tensor::Tensor;
    /// let x = Tensor::from_vec([1, 1, 3], vec![-1.5, 0.0, 1.0]);
    /// assert_eq!(Image::from_signed(x.view()).pixels(), [0, 128, 255]);
    /// ```
    pub fn from_signed(x: View<'_, f32, 3>) -> Self {
        let [height, width, channels] = x.shape();
        assert_eq!(channels, 3, "a picture has red, green and blue");
        let byte = |x: f32| ((x * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        Self { width, height, pixels: x.iter().map(byte).collect(), parameters: None }
    }

    /// `2·(byte/255) − 1`: what the VAE's encoder reads. → `[1, height, width, 3]`
    pub fn to_signed(&self) -> Tensor<f32, 4> {
        let signed = |&byte: &u8| 2.0 * (f32::from(byte) / 255.0) - 1.0;
        Tensor::from_vec([1, self.height, self.width, 3], self.pixels.iter().map(signed).collect())
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Rows from top to bottom, three bytes a pixel.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// How it was made; every file of it contains this as text, see [`metadata`].
    pub fn parameters(&self) -> Option<&Parameters> {
        self.parameters.as_ref()
    }

    /// The same, to be changed.
    pub fn parameters_mut(&mut self) -> Option<&mut Parameters> {
        self.parameters.as_mut()
    }

    /// The same picture, made as `parameters` say.
    pub fn with_parameters(self, parameters: Parameters) -> Self {
        Self { parameters: Some(parameters), ..self }
    }

    /// The text that its files contain.
    fn text(&self) -> Option<String> {
        self.parameters.as_ref().map(Parameters::to_string)
    }

    /// Ten hex digits by which the picture can be recognised: SHA-256 of width and height (64 bits
    /// each, little endian) and pixels.
    pub fn hash(&self) -> String {
        content_hash(self.width, self.height, &self.pixels)
    }

    /// The picture as the bytes of a PNG file.
    ///
    /// # Errors
    /// If it has no pixels, or more than a PNG can hold.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        png::encode([self.width, self.height], &self.pixels, self.text().as_deref())
    }

    /// The picture as the bytes of a file.
    ///
    /// # Errors
    /// If it has no pixels, or more than the format can hold.
    pub fn to_bytes(&self, format: Format) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match format {
            Format::Png => return self.to_png(),
            Format::Jpeg(quality) => self.encode(JpegEncoder::new_with_quality(&mut bytes, quality))?,
            Format::WebP => self.encode(WebPEncoder::new_lossless(&mut bytes))?,
        }
        Ok(bytes)
    }

    fn encode(&self, mut encoder: impl ImageEncoder) -> Result<()> {
        if let Some(text) = self.text() {
            encoder.set_exif_metadata(exif::encode(&text)?).map_err(Error::run)?;
        }
        let side = |length| u32::try_from(length).map_err(Error::run);
        let (width, height) = (side(self.width)?, side(self.height)?);
        encoder.write_image(&self.pixels, width, height, ExtendedColorType::Rgb8).map_err(Error::run)
    }

    /// Writes a file of the kind that its name says, PNG if it says none. It appears under its name
    /// only when it is complete; a file of that name is replaced.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.save_as(path, Format::of(path, Format::QUALITY).unwrap_or(Format::Png))
    }

    /// Writes a file of a kind.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_as(&self, path: impl AsRef<Path>, format: Format) -> Result<()> {
        write_whole(path.as_ref(), &self.to_bytes(format)?)
    }

    /// Pictures of one size, from left to right.
    ///
    /// # Panics
    /// If there are none, or if their sizes differ.
    pub fn strip(pictures: &[Self]) -> Self {
        Self::sheet(pictures, pictures.len())
    }

    /// Pictures of one size in rows of `columns`, from left to right and from top to bottom; what
    /// is left of the last row is white.
    ///
    /// # Panics
    /// If there are none, or if their sizes differ.
    pub fn sheet(pictures: &[Self], columns: usize) -> Self {
        assert!(!pictures.is_empty() && columns > 0, "a sheet needs a picture and a column");
        let (width, height) = (pictures[0].width, pictures[0].height);
        let same_size = |picture: &Self| (picture.width, picture.height) == (width, height);
        assert!(pictures.iter().all(same_size), "sizes differ");
        let mut pixels = Vec::with_capacity(3 * width * height * pictures.len());
        for row in pictures.chunks(columns) {
            for y in 0..height {
                for picture in row {
                    pixels.extend(&picture.pixels[3 * width * y..][..3 * width]);
                }
                pixels.resize(pixels.len() + 3 * width * (columns - row.len()), 255);
            }
        }
        Self::from_rgb(width * columns, height * pictures.len().div_ceil(columns), pixels)
    }
}

/// The first ten hex digits of SHA-256, as A1111 shortens the hashes of models.
pub(crate) fn content_hash(width: usize, height: usize, bytes: &[u8]) -> String {
    let mut sha = Sha256::new();
    for side in [width, height] {
        sha.update((side as u64).to_le_bytes());
    }
    sha.update(bytes);
    sha.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

/// Only the size: the pixels would fill the screen.
impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}×{})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn bytes_are_the_nearest_and_halves_go_to_the_even_one() {
        let signed = |byte: f32| byte / 255.0 * 2.0 - 1.0;
        let x = Tensor::from_vec([1, 2, 3], [0.4, 0.6, 127.6, 254.4, 254.6, 300.0].map(signed).to_vec());
        assert_eq!(Image::from_signed(x.view()).pixels(), [0, 1, 128, 254, 255, 255]);
        let half = Tensor::from_vec([1, 1, 3], vec![0.0; 3]); // 127.5
        assert_eq!(Image::from_signed(half.view()).pixels(), [128; 3]);
    }

    #[test]
    fn a_saved_picture_reads_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("p.png");
        let picture = Image::from_rgb(2, 1, vec![1, 2, 3, 250, 251, 252]);
        picture.save(&path).expect("the folder is writable");
        let read = image::open(&path).expect("a valid PNG").into_rgb8();
        assert_eq!((read.dimensions(), read.as_raw().as_slice()), ((2, 1), picture.pixels()));
        let names: Vec<_> = fs::read_dir(folder.path()).expect("readable").collect();
        assert_eq!(names.len(), 1, "the temporary file is gone: {names:?}");
    }

    #[test]
    fn every_format_keeps_the_text_and_the_lossless_ones_the_pixels() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pixels = (0..3 * 16 * 16).map(|i| (i * 7 % 256) as u8).collect();
        let picture = Image::from_rgb(16, 16, pixels)
            .with_parameters(Parameters::parse("a fox, 熊\nSteps: 2, Seed: 7, Size: 16x16"));
        for (name, lossless) in [("p.png", true), ("p.webp", true), ("p.jpg", false), ("p.JPEG", false)] {
            let path = folder.path().join(name);
            picture.save(&path).expect("the folder is writable");
            let text = metadata::read(&path).expect("a valid picture");
            assert_eq!(text, picture.text(), "{name}");
            let read = ImageFile::open(&path).expect("a valid picture").image;
            assert_eq!(read.pixels() == picture.pixels(), lossless, "{name}");
            assert_eq!((read.width(), read.height()), (16, 16));
        }
        let [small, large] =
            [30, 95].map(|quality| picture.to_bytes(Format::Jpeg(quality)).expect("a picture").len());
        assert!(small < large, "the quality counts: {small}, {large}");
    }

    #[test]
    fn a_strip_stands_side_by_side() {
        let two = [1, 3].map(|i| Image::from_rgb(1, 2, vec![i, i, i, i + 1, i + 1, i + 1]));
        assert_eq!(Image::strip(&two), Image::from_rgb(2, 2, vec![1, 1, 1, 3, 3, 3, 2, 2, 2, 4, 4, 4]));
    }

    #[test]
    fn a_sheet_is_filled_with_white() {
        let three = [1, 2, 3].map(|i| Image::from_rgb(1, 1, vec![i; 3]));
        let expected = [[1; 3], [2; 3], [3; 3], [255; 3]].concat();
        assert_eq!(Image::sheet(&three, 2), Image::from_rgb(2, 2, expected));
    }

    #[test]
    fn an_unwritable_path_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("missing/p.png");
        let error = Image::from_rgb(1, 1, vec![0; 3]).save(&path).expect_err("the folder is missing");
        assert!(error.to_string().contains("missing/p.png"), "{error}");
    }
}
