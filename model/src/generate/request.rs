//! A request: an image from a text, with all its settings.

use super::approximations::Approximations;
use super::hires::Hires;
use super::size_conditions::SizeConditions;
use crate::error::{Error, Result};
use crate::rng::RandomSource;
use crate::samplers::SamplerChoice;
use crate::text::prompt::PromptSyntax;

/// A picture to be made from a text.
#[derive(Clone, Debug, PartialEq)]
pub struct TextToImage {
    /// What the picture should show.
    pub prompt: String,
    /// What it should not show.
    pub negative_prompt: String,
    /// How both are read; plain, as diffusers does, unless asked otherwise.
    pub prompt_syntax: PromptSyntax,
    /// Which layer of the text encoder counts: 1 the last, 2 the one before; diffusers' `clip_skip`
    /// is one less.
    pub clip_skip: usize,
    /// Pixels; a multiple of 8.
    pub width: usize,
    /// Pixels; a multiple of 8.
    pub height: usize,
    /// Steps from noise to picture. 20 are enough for most samplers; diffusers' own default is 50.
    pub steps: usize,
    /// How strongly the text counts. Up to 1 there is no guidance, and the negative prompt has no
    /// effect.
    pub guidance_scale: f32,
    /// The number from which all noise is drawn.
    pub seed: u64,
    /// Which random numbers follow from the seed: those of torch on the CPU or on a GPU.
    pub rng: RandomSource,
    /// The sampler and the spacing of its noise levels; what is not chosen is as the folder says.
    pub sampler: SamplerChoice,
    /// How much fresh noise DDIM and TCD add, 0 to 1; `None` is the sampler's own.
    pub eta: Option<f32>,
    /// Noise levels of one's own, falling, instead of a schedule; as many as there are steps. Empty
    /// for none.
    pub sigmas: Vec<f64>,
    /// What is left out for less work.
    pub approximations: Approximations,
    /// Whether the VAE works on a strip of rows at a time: less memory, more time, and differences
    /// in last digits.
    pub vae_tiling: bool,
    /// Whether the picture is enlarged and denoised a second time; for pictures from a text.
    pub hires: Option<Hires>,
    /// Stable Diffusion XL's inputs for sizes and crops.
    pub size_conditions: SizeConditions,
    /// The share of the training's noise levels, from 0 to 1, that the model removes before its
    /// refiner takes over: diffusers' `denoising_end`. `None` is 0.8 if there is a refiner.
    pub refiner_at: Option<f64>,
}

impl Default for TextToImage {
    /// Stable Diffusion 1.x's size; better to start from
    /// [`Pipeline::defaults`](super::Pipeline::defaults), which knows the
    /// model's own.
    fn default() -> Self {
        Self {
            prompt: String::new(),
            negative_prompt: String::new(),
            prompt_syntax: PromptSyntax::Plain,
            clip_skip: 1,
            width: 512,
            height: 512,
            steps: 20,
            guidance_scale: 7.5,
            seed: 0,
            rng: RandomSource::Cpu,
            sampler: SamplerChoice::default(),
            eta: None,
            sigmas: Vec::new(),
            approximations: Approximations::default(),
            vae_tiling: false,
            hires: None,
            size_conditions: SizeConditions::default(),
            refiner_at: None,
        }
    }
}

/// When a refiner takes over by default.
pub(super) const REFINER_AT: f64 = 0.8;

/// Beyond this a typing error is likelier than intent: self-attention over 4096×4096 pixels
/// compares 7·10¹⁰ pairs.
pub const LARGEST_SIDE: usize = 4096;

/// Of what sides are multiples with a VAE that makes a pixel of `scale_factor`² of them. diffusers
/// asks for multiples of 8 whatever the VAE; a VAE with more levels needs larger ones.
pub(super) fn size_multiple(scale_factor: usize) -> usize {
    scale_factor.max(8)
}

impl TextToImage {
    /// The seed of picture `index`, from 0, of several that are made of one request: A1111's rule.
    pub fn seed_of(&self, index: usize) -> u64 {
        self.seed.wrapping_add(index as u64)
    }

    /// Width and height of the finished picture, which a second pass enlarges, in multiples of
    /// `multiple` there.
    pub fn final_size(&self, multiple: usize) -> [usize; 2] {
        let first = [self.width, self.height];
        self.hires.as_ref().map_or(first, |hires| hires.size(first, multiple))
    }

    /// Whether the guidance scale calls for a prediction without the text as well.
    pub(super) fn guided(&self) -> bool {
        self.guidance_scale > 1.0
    }

    /// The size of a picture that comes with the request must be that of the picture that is made.
    pub(super) fn check_size(&self, what: &str, width: usize, height: usize) -> Result<()> {
        if (width, height) == (self.width, self.height) {
            return Ok(());
        }
        Err(Error::request(format_args!(
            "the {what} is {width}×{height}, the request {}×{}; expected the same size: resize the {what}",
            self.width, self.height
        )))
    }
}
