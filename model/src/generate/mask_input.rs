//! A mask that comes with a request: a picture, or rectangles.

use std::fmt;
use std::path::PathBuf;

use super::image_input::ImageInput;
use crate::error::{Error, Result};
use crate::image::Mask;

/// Where a picture is repainted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaskInput {
    /// A picture of the same size: white is repainted.
    Image(ImageInput),
    /// Rectangles `[left, top, right, bottom]` in pixels; the last two are just outside.
    Boxes(Vec<[usize; 4]>),
}

impl MaskInput {
    /// Rectangles as in `40,40,80,80` or, several, `40,40,80,80;0,0,16,16`; else what
    /// [`ImageInput::parse`] reads.
    ///
    /// # Errors
    /// `Request` if a rectangle is empty, or a data URL holds no base64.
    pub fn parse(text: &str) -> Result<Self> {
        let corner = |number: &str| number.trim().parse::<usize>().ok();
        let corners = |text: &str| {
            <[usize; 4]>::try_from(text.split(',').map(corner).collect::<Option<Vec<_>>>()?).ok()
        };
        let Some(boxes) = text.split(';').map(corners).collect::<Option<Vec<_>>>() else {
            return ImageInput::parse(text).map(Self::Image);
        };
        match boxes.iter().find(|[left, top, right, bottom]| left >= right || top >= bottom) {
            Some([left, top, right, bottom]) => Err(Error::request(format_args!(
                "the rectangle {left},{top},{right},{bottom} is empty; expected left,top,right,bottom in pixels, as in 40,40,80,80"
            ))),
            None => Ok(Self::Boxes(boxes)),
        }
    }

    /// The mask for a picture of this size; pictures may have any.
    ///
    /// # Errors
    /// `Request` if a picture cannot be read, or a rectangle lies outside.
    pub fn open(&self, width: usize, height: usize) -> Result<Mask> {
        let boxes = match self {
            Self::Image(image) => return image.open_mask(),
            Self::Boxes(boxes) => boxes,
        };
        let mut grey = vec![0; width * height];
        for &[left, top, right, bottom] in boxes {
            if right > width || bottom > height {
                return Err(Error::request(format_args!(
                    "the rectangle {left},{top},{right},{bottom} lies outside of the picture, which is {width}×{height}"
                )));
            }
            for row in grey.chunks_exact_mut(width).take(bottom).skip(top) {
                row[left..right].fill(255);
            }
        }
        Ok(Mask::from_grey(width, height, grey))
    }
}

impl From<ImageInput> for MaskInput {
    fn from(image: ImageInput) -> Self {
        Self::Image(image)
    }
}

impl From<PathBuf> for MaskInput {
    fn from(path: PathBuf) -> Self {
        Self::Image(path.into())
    }
}

impl fmt::Display for MaskInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(image) => image.fmt(f),
            Self::Boxes(boxes) => {
                let boxes: Vec<_> = boxes.iter().map(|[l, t, r, b]| format!("{l},{t},{r},{b}")).collect();
                f.write_str(&boxes.join(";"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_are_white() {
        let mask = MaskInput::parse("1,0,3,1; 0,2,1,3").expect("two rectangles").open(4, 3).expect("inside");
        assert_eq!(mask.grey(), [0, 255, 255, 0, 0, 0, 0, 0, 255, 0, 0, 0]);
        let image = MaskInput::parse("1,2,3.png").expect("a path");
        assert_eq!(image, MaskInput::Image(ImageInput::Path("1,2,3.png".into())));
    }

    #[test]
    fn rectangles_without_pixels_are_refused() {
        for text in ["3,0,3,1", "4,0,3,1"] {
            let error = MaskInput::parse(text).expect_err(text).to_string();
            assert!(error.contains("is empty; expected left,top,right,bottom"), "{error}");
        }
        let outside = MaskInput::parse("0,0,5,1").expect("a rectangle");
        assert!(outside.open(4, 3).expect_err("too wide").to_string().contains("4×3"));
    }
}
