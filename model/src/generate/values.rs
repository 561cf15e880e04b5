//! Types of settings that no other part of the library has: the task, the seed, margins.

use std::str::FromStr;

use crate::error::Result;
use crate::image::mask::Margins;
use crate::image::metadata::Parameters;
use crate::rng::random_seed;

/// What is made from what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskKind {
    /// A picture from a text.
    #[default]
    TextToImage,
    /// A picture from a text and a picture.
    ImageToImage,
    /// A part of a picture anew.
    Inpaint,
}

impl TaskKind {
    /// From what a picture was made, as its text says. A1111 writes no hash of a mask, and a
    /// strength for its second pass over an enlarged picture (`Hires …`) as well, which is still
    /// made from text.
    pub fn of(parameters: &Parameters) -> Self {
        let has = |key: &str| parameters.get(key).is_some();
        let enlarged = parameters.settings.iter().any(|(key, _)| key.starts_with("Hires "));
        if ["Mask hash", "Mask blur", "Mask mode", "Inpaint area"].into_iter().any(has) {
            Self::Inpaint
        } else if has("Denoising strength") && !enlarged {
            Self::ImageToImage
        } else {
            Self::TextToImage
        }
    }
}

/// A seed, or the demand for a random one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// This one.
    Given(u64),
    /// Another one each time.
    Random,
}

impl Seed {
    /// The number.
    ///
    /// # Errors
    /// `Run` if the operating system has no random numbers.
    pub fn number(self) -> Result<u64> {
        match self {
            Self::Given(seed) => Ok(seed),
            Self::Random => random_seed(),
        }
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "-1" => Ok(Self::Random),
            _ => text.parse().map(Self::Given).map_err(|_| {
                format!("expected a whole number from 0 to {}, or -1 for a random one", u64::MAX)
            }),
        }
    }
}

/// Beyond this a typing error is likelier than intent.
const LARGEST_MARGIN: usize = 4096;

/// Reads `left,right,top,bottom`.
///
/// # Errors
/// What was expected, if it is not that.
pub fn margins(text: &str) -> std::result::Result<Margins, String> {
    let numbers: Option<Vec<usize>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[left, right, top, bottom]) if left.max(right).max(top).max(bottom) <= LARGEST_MARGIN => {
            Ok(Margins { left, right, top, bottom })
        }
        _ => Err(format!("expected four numbers of pixels up to {LARGEST_MARGIN}, as in 64,64,0,0")),
    }
}

/// Reads `1024x768` or `16,8`: two numbers of pixels.
///
/// # Errors
/// What was expected, if it is not that.
pub fn pair(text: &str) -> std::result::Result<[usize; 2], String> {
    const LARGEST: usize = u16::MAX as usize;
    let numbers = text.split_once(['x', '×', ',']).and_then(|(a, b)| {
        let number = |text: &str| text.trim().parse().ok().filter(|&number| number <= LARGEST);
        Some([number(a)?, number(b)?])
    });
    numbers.ok_or_else(|| format!("expected two numbers of pixels up to {LARGEST}, as in 1024x768 or 16,8"))
}
