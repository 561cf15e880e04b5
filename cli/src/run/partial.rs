//! What a picture shall be like, as far as somebody said so: flags, a line of a manifest, a picture's own text.
//!
//! What one of them leaves open, the next may fill, in this order: the line, the flags, the text, the model's defaults.

use std::path::PathBuf;

use aquatint_model::image::mask::Margins;
use aquatint_model::image::metadata::Parameters;
use aquatint_model::{
    Error, Image, ImageFile, ImageToImage, Inpaint, Mask, Pipeline, PromptSyntax, RandomSource, ResizeMode,
    SamplerChoice, Task, TextToImage,
};

use crate::flags::generate::{GenerateFlags, Seed};

/// What is made from what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    #[default]
    TextToImage,
    ImageToImage,
    Inpaint,
}

/// What a picture shall be like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) kind: Kind,
    pub(crate) prompt: Option<String>,
    pub(crate) negative_prompt: Option<String>,
    pub(crate) prompt_syntax: Option<PromptSyntax>,
    pub(crate) clip_skip: Option<usize>,
    pub(crate) width: Option<usize>,
    pub(crate) height: Option<usize>,
    pub(crate) steps: Option<usize>,
    pub(crate) cfg_scale: Option<f32>,
    pub(crate) seed: Option<Seed>,
    pub(crate) rng: Option<RandomSource>,
    pub(crate) sampler: Option<String>,
    pub(crate) schedule: Option<String>,
    pub(crate) eta: Option<f32>,
    pub(crate) sigmas: Option<Vec<f64>>,
    pub(crate) image: Option<PathBuf>,
    pub(crate) resize: Option<ResizeMode>,
    pub(crate) strength: Option<f64>,
    pub(crate) mask: Option<PathBuf>,
    pub(crate) invert_mask: Option<bool>,
    pub(crate) expand: Option<Margins>,
    /// Whether only the mask is worked on, and the padding around it.
    pub(crate) only_masked: Option<Option<usize>>,
    pub(crate) mask_blur: Option<usize>,
    /// Whether the picture is laid back around the mask.
    pub(crate) composite: Option<bool>,
}

impl From<&GenerateFlags> for Wish {
    fn from(args: &GenerateFlags) -> Self {
        Self {
            prompt: args.prompt.clone().or_else(|| args.positional_prompt.clone()),
            negative_prompt: args.negative_prompt.clone(),
            prompt_syntax: args.prompt_syntax.map(Into::into),
            clip_skip: args.clip_skip,
            width: args.width,
            height: args.height,
            steps: args.steps,
            cfg_scale: args.cfg_scale,
            seed: args.seed,
            rng: args.rng.map(Into::into),
            sampler: args.sampler.clone(),
            schedule: args.schedule.clone(),
            eta: args.eta,
            sigmas: args.sigmas.clone(),
            ..Self::default()
        }
    }
}

/// Every field but `kind`, for code that treats them alike.
macro_rules! first_of {
    ($a:expr, $b:expr; $($field:ident)*) => { Wish { kind: $a.kind.max($b.kind), $($field: $a.$field.or($b.$field)),* } };
}

/// The pictures that a task needs.
pub(crate) enum Inputs {
    Nothing,
    Picture(Image),
    Hole(Image, Mask),
}

/// Strengths where nobody says one: A1111's for pictures, diffusers' for holes.
const STRENGTHS: [f64; 2] = [0.75, 1.0];

/// Pixels of the seam where nobody says how many.
const MASK_BLUR: usize = 4;

/// Pixels around the mask that are worked on with it where nobody says how many.
pub(crate) const PADDING: usize = 32;

impl Wish {
    /// This wish, and where it is silent the other.
    pub(crate) fn or(self, other: Self) -> Self {
        first_of!(self, other;
            prompt negative_prompt prompt_syntax clip_skip width height steps cfg_scale seed rng sampler schedule eta sigmas
            image resize strength mask invert_mask expand only_masked mask_blur composite)
    }

    /// What a picture's text says about pictures; [`Parameters::apply`] reads the rest.
    pub(crate) fn stored(parameters: &Parameters) -> Result<Self, Error> {
        let pixels = |key| -> Result<Option<usize>, Error> {
            let found: Option<u16> = parameters.parsed(key, "a number of pixels up to 65535")?;
            Ok(found.map(usize::from))
        };
        let mask_blur = pixels("Mask blur")?;
        let padding = pixels("Masked area padding")?.unwrap_or(PADDING);
        let only_masked = |area: &str| (area == "Only masked").then_some(padding);
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
            only_masked: parameters.get("Inpaint area").map(only_masked),
            mask_blur,
            // A mask of ours without a seam was not laid back.
            composite: mask_blur.map(|_| true).or(parameters.get("Mask hash").map(|_| false)),
            ..Self::default()
        })
    }

    /// From what a picture was made, as its text says. A1111 writes no hash of a mask, and a strength for its second pass over an
    /// enlarged picture (`Hires …`) as well, which is still made from text.
    pub(crate) fn stored_kind(parameters: &Parameters) -> Kind {
        let has = |key: &str| parameters.get(key).is_some();
        let enlarged = parameters.settings.iter().any(|(key, _)| key.starts_with("Hires "));
        if ["Mask hash", "Mask blur", "Mask mode", "Inpaint area"].into_iter().any(has) {
            Kind::Inpaint
        } else if has("Denoising strength") && !enlarged {
            Kind::ImageToImage
        } else {
            Kind::TextToImage
        }
    }

    /// The settings that all tasks share: this wish, before it `stored`, before that `defaults`.
    pub(crate) fn request(
        &self,
        stored: Option<&Parameters>,
        defaults: TextToImage,
    ) -> Result<TextToImage, Error> {
        let mut request = defaults;
        if let Some(stored) = stored {
            self.left_of(stored).apply(&mut request)?;
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
        set(&mut request.width, &self.width);
        set(&mut request.height, &self.height);
        set(&mut request.guidance_scale, &self.cfg_scale);
        set(&mut request.rng, &self.rng);
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
        Ok(request)
    }

    /// The settings of a picture that this wish does not replace; the others need not have a meaning.
    fn left_of(&self, stored: &Parameters) -> Parameters {
        let (sampler, steps) = (self.sampler.is_some(), self.steps.is_some());
        let levels = self.schedule.is_some() || self.sigmas.is_some();
        let replaced = |key: &str| match key {
            "Steps" => steps || self.sigmas.is_some(),
            "Sampler" => sampler,
            "Schedule type" => sampler || levels,
            "Sigmas" => sampler || levels || steps,
            "Eta" | "Eta DDIM" => sampler || self.eta.is_some(),
            "CFG scale" => self.cfg_scale.is_some(),
            "Seed" => self.seed.is_some(),
            "Size" => self.width.is_some() && self.height.is_some(),
            "Clip skip" => self.clip_skip.is_some(),
            "RNG" => self.rng.is_some(),
            "Emphasis" => self.prompt_syntax.is_some(),
            _ => false,
        };
        let mut left = stored.clone();
        left.settings.retain(|(key, _)| !replaced(key));
        left
    }

    /// Reads the pictures.
    pub(crate) fn inputs(&self) -> Result<Inputs, Error> {
        if self.kind == Kind::TextToImage {
            return Ok(Inputs::Nothing);
        }
        let path =
            self.image.as_deref().ok_or_else(|| Error::request("expected a picture: give it with -i"))?;
        let ImageFile { image: picture, transparent } = ImageFile::open(path)?;
        let transparent = transparent.filter(|mask| mask.grey().iter().any(|&grey| grey > 0));
        if self.kind == Kind::ImageToImage {
            return Ok(Inputs::Picture(picture));
        }
        let given = match &self.mask {
            Some(path) => Some(Mask::open(path)?),
            None => transparent,
        };
        let hole = match given {
            Some(mask) if self.invert_mask == Some(true) => mask.inverted(),
            Some(mask) => mask,
            None if self.expand.is_some() => {
                let (width, height) = (picture.width(), picture.height());
                Mask::from_grey(width, height, vec![0; width * height])
            }
            None => {
                return Err(Error::request(format_args!(
                    "`{}` has no transparent parts; expected --mask or --expand",
                    path.display()
                )));
            }
        };
        let sizes = [(hole.width(), hole.height()), (picture.width(), picture.height())];
        if sizes[0] != sizes[1] {
            let [mask, picture] = sizes.map(|(width, height)| format!("{width}×{height}"));
            return Err(Error::request(format_args!(
                "the mask is {mask} and the picture {picture}; expected a mask of the picture's size"
            )));
        }
        Ok(match self.expand {
            Some(margins) => Inputs::Hole(picture.expanded(margins), hole.expanded(margins)),
            None => Inputs::Hole(picture, hole),
        })
    }

    /// The task, checked.
    pub(crate) fn task(
        &self,
        inputs: Inputs,
        stored: Option<&Parameters>,
        pipeline: &Pipeline,
    ) -> Result<Task, Error> {
        let only_masked = self.only_masked.flatten();
        let text = self.request(stored, self.sized(&inputs, pipeline.defaults()))?;
        pipeline.check(&text)?;
        let (width, height, mode) = (text.width, text.height, self.resize.unwrap_or_default());
        Ok(match inputs {
            Inputs::Nothing => Task::TextToImage(text),
            Inputs::Picture(picture) => Task::ImageToImage(ImageToImage {
                text,
                image: picture.resized(width, height, mode),
                strength: self.strength.unwrap_or(STRENGTHS[0]),
            }),
            Inputs::Hole(mut image, mut mask) => {
                if only_masked.is_none() {
                    (image, mask) = (image.resized(width, height, mode), mask.resized(width, height, mode));
                }
                let blur = self.mask_blur.unwrap_or(MASK_BLUR);
                Task::Inpaint(Inpaint {
                    text,
                    image,
                    mask,
                    strength: self.strength.unwrap_or(STRENGTHS[1]),
                    only_masked,
                    keep_outside: self.composite.unwrap_or(true).then_some(blur),
                })
            }
        })
    }

    /// The defaults with the size that the inputs suggest.
    pub(crate) fn sized(&self, inputs: &Inputs, mut defaults: TextToImage) -> TextToImage {
        if let Inputs::Picture(picture) | Inputs::Hole(picture, _) = inputs
            && self.only_masked.flatten().is_none()
        {
            [defaults.width, defaults.height] = self.size(picture);
        }
        defaults
    }

    /// The size at which to work on a picture, `[width, height]`: its own, or that of its proportions with the given side.
    pub(crate) fn size(&self, picture: &Image) -> [usize; 2] {
        let (width, height) = (picture.width(), picture.height());
        let nearest = |side: f64| ((side / 8.0).round() as usize).max(1) * 8;
        let proportional =
            |given: usize, this: usize, other: usize| nearest(given as f64 * other as f64 / this as f64);
        match (self.width, self.height) {
            (Some(given), None) => [given, proportional(given, width, height)],
            (None, Some(given)) => [proportional(given, height, width), given],
            _ => [width, height].map(|side| (side / 8 * 8).max(8)),
        }
    }

    /// Adds to a picture's text what was done with its inputs before the library saw them.
    pub(crate) fn describe(&self, parameters: &mut Parameters) {
        if self.kind == Kind::TextToImage {
            return;
        }
        let mode = self.resize.unwrap_or_default();
        let label = RESIZE_MODES.iter().find(|(known, _)| *known == mode).map_or("Crop", |(_, label)| label);
        parameters.insert_after("Image hash", "Resize mode", label);
        if let Some(Margins { left, right, top, bottom }) = self.expand {
            parameters.insert_after("Resize mode", "Expand", format_args!("{left},{right},{top},{bottom}"));
        }
        if self.kind == Kind::Inpaint && self.invert_mask == Some(true) {
            parameters.insert_after("Mask hash", "Mask mode", NOT_MASKED);
        }
    }
}

/// A1111's words for an inverted mask.
const NOT_MASKED: &str = "Inpaint not masked";

const RESIZE_MODES: [(ResizeMode, &str); 3] =
    [(ResizeMode::Crop, "Crop"), (ResizeMode::Fit, "Fit"), (ResizeMode::Stretch, "Stretch")];

/// Beyond this a typing error is likelier than a wish.
const LARGEST_MARGIN: usize = 4096;

/// `left,right,top,bottom`.
pub(crate) fn margins(text: &str) -> Result<Margins, String> {
    let numbers: Option<Vec<usize>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[left, right, top, bottom]) if left.max(right).max(top).max(bottom) <= LARGEST_MARGIN => {
            Ok(Margins { left, right, top, bottom })
        }
        _ => Err(format!("expected four numbers of pixels up to {LARGEST_MARGIN}, as in 64,64,0,0")),
    }
}

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
            let wish = Wish { width, height, ..Wish::default() };
            assert_eq!(wish.size(&picture), expected, "{width:?} {height:?}");
        }
    }

    #[test]
    fn what_a_wish_replaces_need_not_have_a_meaning() {
        let request = |wish: Wish, text: &str| {
            let stored = Parameters::parse(&format!("Steps: 3, CFG scale: 2, {text}"));
            wish.request(Some(&stored), TextToImage::default())
        };
        let [name, other] = ["ddim", "karras"].map(|name| Some(name.to_owned()));
        let sampler = Wish { sampler: name, ..Wish::default() };
        let schedule = Wish { schedule: other, ..Wish::default() };
        let steps = Wish { steps: Some(5), ..Wish::default() };
        let levels = Wish { sigmas: Some(vec![9.0, 1.0]), ..Wish::default() };
        let seed = Wish { seed: Some(Seed::Random), ..Wish::default() };
        let own = "Sampler: Euler, Schedule type: Given, Sigmas: \"3, 2, 1\"";
        for (wish, text, steps, sigmas) in [
            (&sampler, "Sampler: DPM adaptive, Schedule type: Polyexponential", 3, &[][..]),
            (&schedule, "Sampler: Euler, Schedule type: Polyexponential", 3, &[]),
            (&levels, "Sampler: Euler, Schedule type: Polyexponential", 2, &[9.0, 1.0]),
            (&seed, "Sampler: Euler, Seed: -3", 3, &[]),
            (&sampler, own, 3, &[]),
            (&schedule, own, 3, &[]),
            (&steps, own, 5, &[]),
            (&levels, own, 2, &[9.0, 1.0]),
            (&Wish::default(), own, 3, &[3.0, 2.0, 1.0]),
        ] {
            let found = request(wish.clone(), text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((found.steps, &found.sigmas[..]), (steps, sigmas), "{text}");
        }
        assert!(request(steps, "Sampler: DPM adaptive").is_err(), "what is not replaced must have one");
    }

    #[test]
    fn what_was_done_with_the_inputs_survives_in_the_text() {
        let wish = Wish {
            kind: Kind::Inpaint,
            resize: Some(ResizeMode::Stretch),
            expand: Some(Margins { left: 8, right: 0, top: 16, bottom: 0 }),
            invert_mask: Some(true),
            ..Wish::default()
        };
        let mut parameters = Parameters::parse("p\nSteps: 1, Image hash: 1a, Mask hash: 2b, Mask blur: 7");
        wish.describe(&mut parameters);
        let found =
            Wish::stored(&Parameters::parse(&parameters.to_string())).expect("all of it has a meaning");
        assert_eq!(found.resize, wish.resize);
        assert_eq!(found.expand, wish.expand);
        assert_eq!((found.invert_mask, found.mask_blur, found.composite), (Some(true), Some(7), Some(true)));
        assert_eq!(found.only_masked, None);
    }

    #[test]
    fn settings_of_a_mask_count_without_its_hash() {
        let text = "p\nSteps: 20, Sampler: Euler, Denoising strength: 0.6, Mask blur: 6, Mask mode: Inpaint not masked, \
                    Inpaint area: Only masked, Masked area padding: 8, Version: v1.10.1";
        let parameters = Parameters::parse(text);
        let found = Wish::stored(&parameters).expect("all of it has a meaning");
        assert_eq!((found.invert_mask, found.only_masked), (Some(true), Some(Some(8))));
        assert_eq!((found.mask_blur, found.composite, found.strength), (Some(6), Some(true), Some(0.6)));
    }

    #[test]
    fn a_text_says_from_what_the_picture_was_made() {
        for (settings, kind) in [
            ("Image hash: 1a", Kind::TextToImage),
            ("Denoising strength: 0.5", Kind::ImageToImage),
            ("Denoising strength: 0.5, Hires upscale: 2", Kind::TextToImage),
            ("Denoising strength: 0.5, Mask hash: 2b", Kind::Inpaint),
            ("Denoising strength: 0.5, Mask blur: 4", Kind::Inpaint),
            ("Denoising strength: 0.5, Inpaint area: Whole picture", Kind::Inpaint),
        ] {
            let parameters = Parameters::parse(&format!("Steps: 20, Sampler: Euler, {settings}"));
            assert_eq!(Wish::stored_kind(&parameters), kind, "{settings}");
        }
    }

    #[test]
    fn numbers_of_a_text_are_bounded_like_those_of_flags() {
        for key in ["Mask blur", "Masked area padding"] {
            for (value, good) in
                [("65535", true), ("65536", false), ("18446744073709551615", false), ("-1", false)]
            {
                let parameters = Parameters::parse(&format!("Steps: 20, Sampler: Euler, {key}: {value}"));
                assert_eq!(Wish::stored(&parameters).is_ok(), good, "{key}: {value}");
            }
        }
    }
}
