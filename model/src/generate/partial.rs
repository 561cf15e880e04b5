//! From what somebody has said to a task: merging, defaults, the pictures that belong to it.
//!
//! ```text
//! PartialRequest            from flags, a line of JSON (`api_request.rs`), or both, merged by `or`
//!   + text of a picture     `request`: what the request does not say
//!   + the model's defaults  what none of them says
//!   + pictures              `open_images`, brought to the size by `task`
//! = Task                    what a `Pipeline` makes
//! ```

use super::aspect::Aspect;
use super::hires::Hires;
use super::presets::{NO_PRESET, Preset, without_preset};
use super::settings::{PartialRequest, SETTINGS};
use super::values::{Seed, TaskKind, margins};
use super::{ImageToImage, Inpaint, Pipeline, Task, TextToImage};
use crate::error::{Error, Result};
use crate::image::mask::Margins;
use crate::image::metadata::Parameters;
use crate::image::{Image, ImageFile, Mask, ResizeMode};
use crate::samplers::SamplerChoice;

/// The pictures of a task.
pub enum TaskImages {
    /// None: a picture from a text.
    None,
    /// The one to start from.
    Image(Image),
    /// The one to start from, and where it is repainted.
    Masked(Image, Mask),
}

/// Strengths where none is given: A1111's for pictures, diffusers' for pictures with masks.
const STRENGTH: f64 = 0.75;
const MASKED_STRENGTH: f64 = 1.0;

/// Pixels of the seam where none are given.
const MASK_BLUR: usize = 4;

/// Pixels around the mask that are worked on with it where none are given.
pub const PADDING: usize = 32;

impl PartialRequest {
    /// What a picture's text says about pictures; [`Parameters::apply`] reads the rest.
    ///
    /// # Errors
    /// `Request` if a value has no meaning.
    pub fn from_parameters(parameters: &Parameters) -> Result<Self> {
        let pixels = |key| -> Result<Option<usize>> {
            let found: Option<u16> = parameters.parsed(key, "a number of pixels up to 65535")?;
            Ok(found.map(usize::from))
        };
        let mask_blur = pixels("Mask blur")?;
        let expand = parameters.get("Expand").map(margins).transpose().map_err(Error::request)?;
        let resize = match parameters.get("Resize mode") {
            None => None,
            Some(name) => {
                let found = RESIZE_MODES.iter().find(|(_, label)| *label == name);
                Some(found.map(|&(mode, _)| mode).ok_or_else(|| {
                    Error::request(format_args!(
                        "the picture says `Resize mode: {name}`; expected Crop, Fit or Stretch"
                    ))
                })?)
            }
        };
        Ok(Self {
            strength: parameters.parsed("Denoising strength", "a number")?,
            resize,
            invert_mask: parameters.get("Mask mode").map(|mode| mode == NOT_MASKED),
            expand,
            only_masked: parameters.get("Inpaint area").map(|area| area == "Only masked"),
            padding: pixels("Masked area padding")?,
            mask_blur,
            // A mask of ours without a seam was not laid back.
            composite: mask_blur.map(|_| true).or(parameters.get("Mask hash").map(|_| false)),
            ..Self::default()
        })
    }

    /// The settings that all tasks share: what this request says, else its preset, else `stored`,
    /// the text of a picture, else `defaults`.
    ///
    /// # Errors
    /// `Request` if a name or a stored value has no meaning.
    pub fn request(&self, stored: Option<&Parameters>, defaults: TextToImage) -> Result<TextToImage> {
        let mut request = defaults;
        if let Some(stored) = stored {
            self.left_of(stored).apply(&mut request)?;
        }
        match self.preset.as_deref() {
            None => {}
            Some(NO_PRESET) => without_preset(&mut request),
            Some(name) => Preset::named(name)?.apply(&mut request),
        }
        fn set<T: Clone>(field: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                field.clone_from(value);
            }
        }
        set(&mut request.prompt, &self.prompt);
        set(&mut request.negative_prompt, &self.negative_prompt);
        set(&mut request.prompt_syntax, &self.prompt_syntax);
        set(&mut request.clip_skip, &self.clip_skip);
        if let Some(aspect) = self.aspect {
            [request.width, request.height] = self.size_of(aspect, [request.width, request.height])?;
        }
        set(&mut request.width, &self.width);
        set(&mut request.height, &self.height);
        set(&mut request.guidance_scale, &self.cfg_scale);
        set(&mut request.rng, &self.rng);
        set(&mut request.vae_tiling, &self.vae_tiling);
        set(&mut request.approximations.token_merging, &self.token_merging);
        set(&mut request.approximations.deep_cache, &self.deep_cache);
        if let Some(text) = &self.guidance_interval {
            request.approximations.guidance_interval = text.parse()?;
        }
        if let Some(sigmas) = &self.sigmas {
            request.sigmas.clone_from(sigmas);
            request.steps = sigmas.iter().filter(|&&sigma| sigma != 0.0).count();
        }
        set(&mut request.steps, &self.steps);
        if let Some(Seed::Given(seed)) = self.seed {
            request.seed = seed;
        }
        let SamplerChoice { kind, schedule } =
            SamplerChoice::parse(self.sampler.as_deref(), self.schedule.as_deref())?;
        if kind.is_some() {
            // Another sampler may not have the stored schedule, nor an eta.
            request.sampler = SamplerChoice { kind, schedule };
            request.eta = None;
        } else if schedule.is_some() {
            request.sampler.schedule = schedule;
        }
        if self.eta.is_some() {
            request.eta = self.eta;
        }
        let conditions = &mut request.size_conditions;
        conditions.original = self.original_size.or(conditions.original);
        conditions.crop = self.crop.or(conditions.crop);
        conditions.target = self.target_size.or(conditions.target);
        conditions.negative_original = self.negative_original_size.or(conditions.negative_original);
        conditions.negative_crop = self.negative_crop.or(conditions.negative_crop);
        conditions.negative_target = self.negative_target_size.or(conditions.negative_target);
        conditions.aesthetic_score = self.aesthetic_score.or(conditions.aesthetic_score);
        conditions.negative_aesthetic_score =
            self.negative_aesthetic_score.or(conditions.negative_aesthetic_score);
        request.refiner_at = self.refiner_at.or(request.refiner_at);
        request.hires = self.hires(request.hires)?;
        Ok(request)
    }

    /// The second pass: that of a picture's text, with what this request says instead. A scale of 0
    /// is none. Pictures from pictures have none, unless this request asks for it and is refused.
    fn hires(&self, stored: Option<Hires>) -> Result<Option<Hires>> {
        let said = SETTINGS.iter().any(|row| row.field.starts_with("hires_") && self.says(row.field));
        if self.hires_scale == Some(0.0) || !said && self.kind != TaskKind::TextToImage {
            return Ok(None);
        }
        if !said {
            return Ok(stored);
        }
        let mut hires = stored.unwrap_or_default();
        hires.scale = self.hires_scale.unwrap_or(hires.scale);
        hires.steps = self.hires_steps.unwrap_or(hires.steps);
        hires.strength = self.hires_strength.unwrap_or(hires.strength);
        if let Some(name) = &self.hires_upscaler {
            hires.upscaler = name.parse()?;
        }
        Ok(Some(hires))
    }

    /// The size of the proportions that are asked for, of a model of this size.
    fn size_of(&self, aspect: Aspect, model: [usize; 2]) -> Result<[usize; 2]> {
        match (self.width, self.height, self.kind) {
            (None, None, TaskKind::TextToImage) => Ok(aspect.size(model)),
            (None, None, _) => Err(Error::request(
                "the proportions of a picture that is made from another one are that one's; give a width or a height",
            )),
            _ => Err(Error::request("both a size and proportions are given; expected one of them")),
        }
    }

    /// The settings of a picture that this request does not replace; the others need not have a
    /// meaning.
    fn left_of(&self, stored: &Parameters) -> Parameters {
        let mut left = stored.clone();
        left.settings.retain(|(key, _)| !self.replaces(key));
        left
    }

    /// Reads the pictures.
    ///
    /// # Errors
    /// `Request` if one is lacking or cannot be used.
    pub fn open_images(&self) -> Result<TaskImages> {
        if self.kind == TaskKind::TextToImage {
            return Ok(TaskImages::None);
        }
        let input = self.image.as_ref().ok_or_else(|| Error::request("expected a picture to start from"))?;
        let ImageFile { image: picture, transparent } = input.open()?;
        let transparent = transparent.filter(|mask| mask.grey().iter().any(|&grey| grey > 0));
        if self.kind == TaskKind::ImageToImage {
            return Ok(TaskImages::Image(picture));
        }
        let given = match &self.mask {
            Some(mask) => Some(mask.open(picture.width(), picture.height())?),
            None => transparent,
        };
        let mask = match given {
            Some(mask) if self.invert_mask == Some(true) => mask.inverted(),
            Some(mask) => mask,
            None if self.expand.is_some() => {
                let (width, height) = (picture.width(), picture.height());
                Mask::from_grey(width, height, vec![0; width * height])
            }
            None => {
                return Err(Error::request(format_args!(
                    "{input} has no transparent parts; expected a mask, or margins to expand it by"
                )));
            }
        };
        let sizes = [(mask.width(), mask.height()), (picture.width(), picture.height())];
        if sizes[0] != sizes[1] {
            let [mask, picture] = sizes.map(|(width, height)| format!("{width}×{height}"));
            return Err(Error::request(format_args!(
                "the mask is {mask} and the picture {picture}; expected a mask of the picture's size"
            )));
        }
        Ok(match self.expand {
            Some(margins) => TaskImages::Masked(picture.expanded(margins), mask.expanded(margins)),
            None => TaskImages::Masked(picture, mask),
        })
    }

    /// The task, checked.
    ///
    /// # Errors
    /// `Request` if the model cannot do it.
    pub fn task(&self, images: TaskImages, stored: Option<&Parameters>, pipeline: &Pipeline) -> Result<Task> {
        let only_masked = self.only_masked();
        let defaults = match (stored, &self.prompt) {
            (None, Some(prompt)) => pipeline.defaults_for(prompt, self.prompt_syntax.unwrap_or_default())?,
            _ => pipeline.defaults(),
        };
        let mut text = self.request(stored, self.sized(&images, defaults, pipeline.size_multiple()))?;
        let (kind, _) = pipeline.scheduler().resolve(text.sampler)?;
        if text.eta == Some(0.0) && !kind.has_eta() && !kind.adds_noise() {
            text.eta = None; // no noise is asked for, and none is added
        }
        pipeline.check(&text)?;
        let (width, height, mode) = (text.width, text.height, self.resize.unwrap_or_default());
        Ok(match images {
            TaskImages::None => Task::TextToImage(text),
            TaskImages::Image(picture) => Task::ImageToImage(ImageToImage {
                text,
                image: picture.resized(width, height, mode),
                strength: self.strength.unwrap_or(STRENGTH),
            }),
            TaskImages::Masked(mut image, mut mask) => {
                if only_masked.is_none() {
                    (image, mask) = (image.resized(width, height, mode), mask.resized(width, height, mode));
                }
                let blur = self.mask_blur.unwrap_or(MASK_BLUR);
                Task::Inpaint(Inpaint {
                    text,
                    image,
                    mask,
                    strength: self.strength.unwrap_or(MASKED_STRENGTH),
                    only_masked,
                    keep_outside: self.composite.unwrap_or(true).then_some(blur),
                })
            }
        })
    }

    /// The padding, if only the surroundings of the mask are worked on.
    fn only_masked(&self) -> Option<usize> {
        (self.only_masked == Some(true)).then(|| self.padding.unwrap_or(PADDING))
    }

    /// The defaults with the size that the pictures suggest, in multiples of `multiple`, the
    /// model's.
    #[must_use]
    pub fn sized(&self, images: &TaskImages, mut defaults: TextToImage, multiple: usize) -> TextToImage {
        if let TaskImages::Image(picture) | TaskImages::Masked(picture, _) = images
            && self.only_masked().is_none()
        {
            [defaults.width, defaults.height] = self.size(picture, multiple);
        }
        defaults
    }

    /// The size at which to work on a picture, `[width, height]`: its own, or that of its
    /// proportions with the given side.
    fn size(&self, picture: &Image, multiple: usize) -> [usize; 2] {
        let (width, height) = (picture.width(), picture.height());
        let nearest = |side: f64| ((side / multiple as f64).round() as usize).max(1) * multiple;
        let proportional =
            |given: usize, this: usize, other: usize| nearest(given as f64 * other as f64 / this as f64);
        match (self.width, self.height) {
            (Some(given), None) => [given, proportional(given, width, height)],
            (None, Some(given)) => [proportional(given, height, width), given],
            _ => [width, height].map(|side| (side / multiple * multiple).max(multiple)),
        }
    }

    /// Adds to a picture's text what was done with its inputs before the library saw them.
    pub fn describe(&self, parameters: &mut Parameters) {
        if self.kind == TaskKind::TextToImage {
            return;
        }
        let mode = self.resize.unwrap_or_default();
        let label = RESIZE_MODES.iter().find(|(known, _)| *known == mode).map_or("Crop", |(_, label)| label);
        parameters.insert_after("Image hash", "Resize mode", label);
        if let Some(Margins { left, right, top, bottom }) = self.expand {
            parameters.insert_after("Resize mode", "Expand", format_args!("{left},{right},{top},{bottom}"));
        }
        if self.kind == TaskKind::Inpaint && self.invert_mask == Some(true) {
            parameters.insert_after("Mask hash", "Mask mode", NOT_MASKED);
        }
    }
}

/// A1111's words for an inverted mask.
const NOT_MASKED: &str = "Inpaint not masked";

const RESIZE_MODES: [(ResizeMode, &str); 3] =
    [(ResizeMode::Crop, "Crop"), (ResizeMode::Fit, "Fit"), (ResizeMode::Stretch, "Stretch")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_the_picture() {
        let picture = Image::from_rgb(101, 75, vec![0; 3 * 101 * 75]);
        for (width, height, expected) in [
            (None, None, [96, 72]),
            (Some(200), None, [200, 152]),
            (None, Some(64), [88, 64]),
            (Some(64), Some(64), [96, 72]), // two are `request`'s to apply
        ] {
            let partial = PartialRequest { width, height, ..PartialRequest::default() };
            assert_eq!(partial.size(&picture, 8), expected, "{width:?} {height:?}");
        }
    }

    #[test]
    fn what_a_partial_replaces_need_not_have_a_meaning() {
        let request = |partial: PartialRequest, text: &str| {
            let stored = Parameters::parse(&format!("Steps: 3, CFG scale: 2, {text}"));
            partial.request(Some(&stored), TextToImage::default())
        };
        let [name, other] = ["ddim", "karras"].map(|name| Some(name.to_owned()));
        let sampler = PartialRequest { sampler: name, ..PartialRequest::default() };
        let schedule = PartialRequest { schedule: other, ..PartialRequest::default() };
        let steps = PartialRequest { steps: Some(5), ..PartialRequest::default() };
        let levels = PartialRequest { sigmas: Some(vec![9.0, 1.0]), ..PartialRequest::default() };
        let seed = PartialRequest { seed: Some(Seed::Random), ..PartialRequest::default() };
        let own = "Sampler: Euler, Schedule type: Given, Sigmas: \"3, 2, 1\"";
        for (partial, text, steps, sigmas) in [
            (&sampler, "Sampler: DPM adaptive, Schedule type: Polyexponential", 3, &[][..]),
            (&schedule, "Sampler: Euler, Schedule type: Polyexponential", 3, &[]),
            (&levels, "Sampler: Euler, Schedule type: Polyexponential", 2, &[9.0, 1.0]),
            (&seed, "Sampler: Euler, Seed: -3", 3, &[]),
            (&sampler, own, 3, &[]),
            (&schedule, own, 3, &[]),
            (&steps, own, 5, &[]),
            (&levels, own, 2, &[9.0, 1.0]),
            (&PartialRequest::default(), own, 3, &[3.0, 2.0, 1.0]),
        ] {
            let found = request(partial.clone(), text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((found.steps, &found.sigmas[..]), (steps, sigmas), "{text}");
        }
        assert!(request(steps, "Sampler: DPM adaptive").is_err(), "what is not replaced must have one");
    }

    #[test]
    fn what_was_done_with_the_inputs_survives_in_the_text() {
        let partial = PartialRequest {
            kind: TaskKind::Inpaint,
            resize: Some(ResizeMode::Stretch),
            expand: Some(Margins { left: 8, right: 0, top: 16, bottom: 0 }),
            invert_mask: Some(true),
            ..PartialRequest::default()
        };
        let mut parameters = Parameters::parse("p\nSteps: 1, Image hash: 1a, Mask hash: 2b, Mask blur: 7");
        partial.describe(&mut parameters);
        let found = PartialRequest::from_parameters(&Parameters::parse(&parameters.to_string()))
            .expect("all of it has a meaning");
        assert_eq!(found.resize, partial.resize);
        assert_eq!(found.expand, partial.expand);
        assert_eq!((found.invert_mask, found.mask_blur, found.composite), (Some(true), Some(7), Some(true)));
        assert_eq!(found.only_masked, None);
    }

    #[test]
    fn settings_of_a_mask_count_without_its_hash() {
        let text = "p\nSteps: 20, Sampler: Euler, Denoising strength: 0.6, Mask blur: 6, Mask mode: Inpaint not masked, \
                    Inpaint area: Only masked, Masked area padding: 8, Version: v1.10.1";
        let parameters = Parameters::parse(text);
        let found = PartialRequest::from_parameters(&parameters).expect("all of it has a meaning");
        assert_eq!((found.invert_mask, found.only_masked, found.padding), (Some(true), Some(true), Some(8)));
        assert_eq!((found.mask_blur, found.composite, found.strength), (Some(6), Some(true), Some(0.6)));
    }

    #[test]
    fn a_text_says_from_what_the_picture_was_made() {
        for (settings, kind) in [
            ("Image hash: 1a", TaskKind::TextToImage),
            ("Denoising strength: 0.5", TaskKind::ImageToImage),
            ("Denoising strength: 0.5, Hires upscale: 2", TaskKind::TextToImage),
            ("Denoising strength: 0.5, Mask hash: 2b", TaskKind::Inpaint),
            ("Denoising strength: 0.5, Mask blur: 4", TaskKind::Inpaint),
            ("Denoising strength: 0.5, Inpaint area: Whole picture", TaskKind::Inpaint),
        ] {
            let parameters = Parameters::parse(&format!("Steps: 20, Sampler: Euler, {settings}"));
            assert_eq!(TaskKind::of(&parameters), kind, "{settings}");
        }
    }

    #[test]
    fn numbers_of_a_text_are_bounded_like_those_of_flags() {
        for key in ["Mask blur", "Masked area padding"] {
            for (value, good) in
                [("65535", true), ("65536", false), ("18446744073709551615", false), ("-1", false)]
            {
                let parameters = Parameters::parse(&format!("Steps: 20, Sampler: Euler, {key}: {value}"));
                assert_eq!(PartialRequest::from_parameters(&parameters).is_ok(), good, "{key}: {value}");
            }
        }
    }
}
