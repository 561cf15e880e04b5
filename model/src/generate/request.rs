//! What may be asked of a pipeline, and the checks before any work begins.

use super::Pipeline;
use crate::error::{Error, Result};
use crate::rng::RandomSource;
use crate::samplers::{self, Sampler, SamplerChoice, SamplerKind, Schedule};
use crate::text::prompt::{PromptSyntax, check_clip_skip};

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
}

impl Default for TextToImage {
    /// Stable Diffusion 1.x's size; better to start from [`Pipeline::defaults`], which knows the
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
        }
    }
}

/// Beyond this a typing error is likelier than a wish: self-attention over 4096×4096 pixels
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

    /// Whether the UNet is asked twice, with and without the text.
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

    /// Everything that can be refused before the first multiplication; the number of steps is the
    /// sampler's to judge.
    pub(super) fn check(&self, pipeline: &Pipeline) -> Result<()> {
        let unet = &pipeline.unet_config;
        let factor = pipeline.vae.scale_factor();
        let multiple = size_multiple(factor);
        // Where the convolutions that halve are not padded, the innermost level must keep a pixel.
        let levels = unet.block_out_channels.len() as u32 - 1;
        let smallest = match unet.downsample_padding {
            0 => (factor << levels).next_multiple_of(multiple),
            _ => multiple,
        };
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if side < smallest || side > LARGEST_SIDE {
                return Err(Error::request(format_args!(
                    "{name} is {side}; expected {smallest} to {LARGEST_SIDE} pixels"
                )));
            }
            if side % multiple != 0 {
                let below = side / multiple * multiple;
                let above = below + multiple;
                return Err(Error::request(format_args!(
                    "{name} is {side}; expected a multiple of {multiple}: the nearest are {below} and {above}"
                )));
            }
        }
        for encoder in &pipeline.text_encoders {
            check_clip_skip(self.clip_skip, encoder.config.num_hidden_layers)?;
        }
        if !self.guidance_scale.is_finite() {
            return Err(Error::request(format_args!(
                "guidance scale is {}; expected a finite number, 7.5 is usual",
                self.guidance_scale
            )));
        }
        Ok(())
    }
}

impl Pipeline {
    /// Pixels of which a picture's sides are multiples.
    pub fn size_multiple(&self) -> usize {
        size_multiple(self.vae.scale_factor())
    }

    /// The sampler that a request asks for, set up for its steps.
    pub(super) fn sampler(&self, request: &TextToImage) -> Result<Box<dyn Sampler>> {
        let (kind, _) = self.scheduler.resolve(request.sampler)?;
        let mut config = self.scheduler.clone();
        if let Some(eta) = request.eta {
            if !kind.has_eta() {
                let able = SamplerKind::all().filter(|kind| kind.has_eta()).map(SamplerKind::label);
                let able = able.collect::<Vec<_>>().join(", ");
                return Err(Error::request(format_args!(
                    "the sampler `{}` has no eta; the samplers that have: {able}",
                    kind.label()
                )));
            }
            config = config.with_eta(eta)?;
        }
        let mut choice = request.sampler;
        if !request.sigmas.is_empty() {
            choice.schedule = Some(Schedule::Given);
            config = config.with("sigmas", request.sigmas.clone());
        }
        samplers::build(&config, choice, request.steps)
    }

    /// Whether a request fits the model: sizes and guidance. Every task checks this itself; it is
    /// for callers that do something with the size before, as resizing a picture to it.
    ///
    /// # Errors
    /// [`Error::Request`] if it does not.
    pub fn check(&self, request: &TextToImage) -> Result<()> {
        request.check(self)
    }
}
