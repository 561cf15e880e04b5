//! Picture to picture: the walk begins in the middle, from a picture with noise on it.
//!
//! ```text
//! first   = steps − ⌊steps · strength⌋                             the steps that are skipped
//! latents = add_noise(vae.sample(picture), noise, timesteps[first])
//! …then the loop of text to image, from `first` on
//! ```
//!
//! Noise destroys details before it destroys shapes, so the strength says how coarse the changes may be. diffusers'
//! `StableDiffusionImg2ImgPipeline`: the generator is asked for the sample of the VAE first, then for the noise. Source: Meng et al.,
//! *SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations* (2021).

use super::inpaint::Known;
use super::{Pipeline, Progress, TextToImage, Walk};
use crate::error::{Error, Result};
use crate::picture::Picture;
use crate::rng::Generator;
use crate::samplers::{self, Sampler};

/// A picture to be made from a text and another picture.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageToImage {
    /// Everything that making a picture from a text needs; its size is that of `image`.
    pub text: TextToImage,
    /// The picture to start from; see [`Picture::resized`].
    pub image: Picture,
    /// How much of it is replaced: more than 0, up to 1. diffusers' default is 0.8.
    pub strength: f64,
}

impl Pipeline {
    /// Makes a picture from a picture. `progress` is called between the steps, on this thread.
    ///
    /// # Errors
    /// See [`Pipeline::text_to_image`]; also if the picture does not have the request's size, or if the strength leaves no step.
    pub fn image_to_image(
        &self,
        request: &ImageToImage,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Picture> {
        let ImageToImage { text: ref asked, ref image, strength } = *request;
        asked.check(self)?;
        asked.check_size("picture", image.width(), image.height())?;
        self.refuse_inpainting_model()?;
        let sampler = samplers::build(&self.scheduler, asked.sampler, asked.steps)?;
        let first = first_call(sampler.as_ref(), asked.steps, strength)?;
        self.vae_encoder()?;
        let text = self.encode_text(asked, progress)?;

        let mut generator = Generator::of(asked.rng, asked.seed);
        let mut latents = self.sample_latents(image.to_signed(), &mut generator)?;
        let noise = generator.randn(latents.len());
        sampler.add_noise(&mut latents, &noise, first);

        let shape = self.latent_shape(asked);
        let walk = Walk { shape, text, guidance_scale: asked.guidance_scale, first, known: Known::Nothing };
        latents = self.denoise(&walk, sampler, latents, &mut generator, progress)?;
        progress(Progress::Decoding);
        Ok(self.decode(shape, latents)?.with_parameters(self.parameters_with_strength(asked, strength)?))
    }

    /// What is written into a picture that was made from another one.
    pub(super) fn parameters_with_strength(&self, asked: &TextToImage, strength: f64) -> Result<String> {
        let mut parameters = self.parameters(asked)?;
        let model = parameters.settings.iter().position(|(key, _)| key == "Model");
        let after_model = model.map_or(parameters.settings.len(), |index| index + 1);
        parameters.settings.insert(after_model, ("Denoising strength".into(), strength.to_string()));
        Ok(parameters.to_string())
    }
}

/// The call with which a walk begins that takes ⌊steps · strength⌋ of all steps. In f64, as Python computes it: 0.29 of 100
/// steps are 28.
pub(super) fn first_call(sampler: &dyn Sampler, steps: usize, strength: f64) -> Result<usize> {
    if !(0.0..=1.0).contains(&strength) {
        return Err(Error::request(format_args!(
            "the strength is {strength}; expected a number from 0 to 1"
        )));
    }
    let taken = ((steps as f64 * strength) as usize).min(steps);
    if taken == 0 {
        return Err(Error::request(format_args!(
            "a strength of {strength} leaves none of {steps} steps; expected at least {:.3}, or more steps",
            1.0 / steps as f64
        )));
    }
    Ok((steps - taken) * sampler.calls_per_step())
}
