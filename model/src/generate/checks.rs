//! What can be refused before any work begins.

use super::pipeline::Pipeline;
use super::request::{LARGEST_SIDE, TextToImage, size_multiple};
use crate::error::{Error, Result};
use crate::samplers::{self, Sampler, SamplerKind, Schedule};
use crate::text::prompt::check_clip_skip;

impl TextToImage {
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
        let [width, height] = self.final_size(multiple);
        if width.max(height) > LARGEST_SIDE {
            return Err(Error::request(format_args!(
                "the second pass makes {width}×{height} of it; expected up to {LARGEST_SIDE} pixels"
            )));
        }
        self.approximations.check()?;
        for encoder in &pipeline.text_encoders {
            check_clip_skip(self.clip_skip, &encoder.config)?;
        }
        let refiner = pipeline.refiner.as_ref().and_then(|refiner| refiner.xl);
        self.size_conditions.check(&[pipeline.xl, refiner])?;
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
    /// A picture's sides are multiples of this, in pixels.
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
