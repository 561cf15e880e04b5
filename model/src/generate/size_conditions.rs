//! What Stable Diffusion XL's UNet takes of sizes, crops and scores.
//!
//! ```text
//! base      [original height, width, crop top, left, target height, width]
//! refiner   [original height, width, crop top, left, aesthetic score]
//! ```
//!
//! A text has its own, the negative text others if they are given. The defaults are diffusers': the
//! picture's size as original and target size, no crop, a score of 6 and of 2.5 for the negative
//! text; what is not given for the negative text is as for the other.
//!
//! Source: Podell et al., *SDXL* (2023), section 2.2; `_get_add_time_ids` of diffusers'
//! `StableDiffusionXLPipeline` and `...Img2ImgPipeline`. Read next:
//! `networks/unet/addition_embedding.rs`.

use std::path::Path;

use aquatint_tensor::Tensor;

use crate::error::{Error, Result};
use crate::networks::clip::ClipTextConfig;
use crate::networks::unet::UNetConfig;

/// What a model of Stable Diffusion XL says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct XlSettings {
    /// Whether an empty negative prompt means vectors of zeros, not those of an empty text.
    pub(super) force_zeros_for_empty_prompt: bool,
    /// Whether it takes a score in place of the target size: the refiner.
    pub(super) requires_aesthetics_score: bool,
}

/// Sizes are `[width, height]`, crops `[left, top]`, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SizeConditions {
    /// The size that a training picture would have had before it was scaled and cropped.
    pub original: Option<[usize; 2]>,
    /// What would have been cut off it.
    pub crop: Option<[usize; 2]>,
    /// The size to which it would have been brought.
    pub target: Option<[usize; 2]>,
    /// The same for the negative text.
    pub negative_original: Option<[usize; 2]>,
    /// See [`SizeConditions::negative_original`].
    pub negative_crop: Option<[usize; 2]>,
    /// See [`SizeConditions::negative_original`].
    pub negative_target: Option<[usize; 2]>,
    /// How well the picture would be liked, 1 to 10; for the refiner.
    pub aesthetic_score: Option<f32>,
    /// The same for the negative text.
    pub negative_aesthetic_score: Option<f32>,
}

/// diffusers' default scores.
const AESTHETIC_SCORE: f32 = 6.0;
const NEGATIVE_AESTHETIC_SCORE: f32 = 2.5;

impl SizeConditions {
    /// Whether `models` take what is given.
    ///
    /// # Errors
    /// `Request` if sizes or scores are given that none of them takes.
    pub(super) fn check(&self, models: &[Option<XlSettings>]) -> Result<()> {
        let scores = self.aesthetic_score.or(self.negative_aesthetic_score);
        let sizes = Self { aesthetic_score: None, negative_aesthetic_score: None, ..*self };
        if sizes != Self::default() && models.iter().all(Option::is_none) {
            return Err(Error::request(
                "original size, crop and target size are given, which only Stable Diffusion XL takes; leave them out",
            ));
        }
        let takes_scores = |model: &Option<XlSettings>| model.is_some_and(|xl| xl.requires_aesthetics_score);
        match scores {
            Some(score) if !score.is_finite() => Err(Error::request(format_args!(
                "an aesthetic score is {score}; expected a number, 1 to 10 are usual"
            ))),
            Some(_) if !models.iter().any(takes_scores) => Err(Error::request(
                "an aesthetic score is given, which only Stable Diffusion XL's refiner takes; leave it out",
            )),
            _ => Ok(()),
        }
    }
}

impl XlSettings {
    /// Whether the UNet's embedding has room for the text and the numbers.
    pub(super) fn check<'a>(
        self,
        folder: &Path,
        texts: impl Iterator<Item = &'a ClipTextConfig>,
        unet: &UNetConfig,
    ) -> Result<()> {
        let pooled = texts.filter_map(|text| text.projection_dim).last().unwrap_or(0);
        let Some(addition) = unet.addition else { return Ok(()) };
        let expected = pooled + self.numbers() * addition.time_embed_dim;
        if addition.in_channels == expected && pooled > 0 {
            return Ok(());
        }
        Err(Error::in_file(
            folder,
            format_args!(
                "the UNet's `projection_class_embeddings_input_dim` is {}; expected {expected}: {pooled} of the text and \
                 {} numbers of {} channels",
                addition.in_channels,
                self.numbers(),
                addition.time_embed_dim
            ),
        ))
    }

    fn numbers(self) -> usize {
        if self.requires_aesthetics_score { 5 } else { 6 }
    }

    /// The numbers for `texts` texts of a picture of this size, the first of which may be the
    /// negative one: `[texts, 5 or 6]`.
    pub(super) fn time_ids(
        self,
        size: [usize; 2],
        given: &SizeConditions,
        texts: usize,
        has_negative: bool,
    ) -> Tensor<f32, 2> {
        let original = given.original.unwrap_or(size);
        let target = given.target.unwrap_or(size);
        let positive = Numbers {
            original,
            crop: given.crop.unwrap_or_default(),
            target,
            score: given.aesthetic_score.unwrap_or(AESTHETIC_SCORE),
        };
        // diffusers' base takes the crop for both texts unless negative sizes are given.
        let apart = given.negative_original.is_some() || given.negative_target.is_some();
        let crop = if apart || self.requires_aesthetics_score { [0, 0] } else { positive.crop };
        let negative = Numbers {
            original: given.negative_original.unwrap_or(original),
            crop: given.negative_crop.unwrap_or(crop),
            target: given.negative_target.unwrap_or(target),
            score: given.negative_aesthetic_score.unwrap_or(NEGATIVE_AESTHETIC_SCORE),
        };
        let rows = (0..texts).flat_map(|i| {
            let Numbers { original, crop, target, score } =
                if i == 0 && has_negative { &negative } else { &positive };
            let mut row =
                [*original, *crop].into_iter().flat_map(|[x, y]| [y as f32, x as f32]).collect::<Vec<_>>();
            match self.requires_aesthetics_score {
                true => row.push(*score),
                false => row.extend([target[1] as f32, target[0] as f32]),
            }
            row
        });
        Tensor::from_vec([texts, self.numbers()], rows.collect())
    }
}

struct Numbers {
    original: [usize; 2],
    crop: [usize; 2],
    target: [usize; 2],
    score: f32,
}
