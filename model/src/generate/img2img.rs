//! Image to image: the loop begins in the middle, with noise on a given image.
//!
//! ```text
//! first   = steps − ⌊steps · strength⌋                             the steps that are skipped
//! latents = add_noise(vae.sample(picture), noise, timesteps[first])
//! …then the loop of text to image, from `first` on
//! ```
//!
//! Noise destroys details before it destroys shapes, so the strength says how coarse the changes
//! may be. diffusers' `StableDiffusionImg2ImgPipeline`: the generator is asked for the sample of
//! the VAE first, then for the noise. Source: Meng et al., *SDEdit: Guided Image Synthesis and
//! Editing with Stochastic Differential Equations* (2021).

use super::denoise::{InitialLatents, InpaintMode};
use super::pipeline::Pipeline;
use super::request::TextToImage;
use crate::error::Result;
use crate::image::Image;
use crate::image::metadata::Parameters;

/// A picture to be made from a text and another picture.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageToImage {
    /// Everything that making a picture from a text needs; its size is that of `image`.
    pub text: TextToImage,
    /// The picture to start from; see [`Image::resized`].
    pub image: Image,
    /// How much of it is replaced: more than 0, up to 1. Where none is given, the settings in
    /// `partial.rs` take A1111's 0.75; diffusers' default is 0.8.
    pub strength: f64,
}

impl ImageToImage {
    /// Adds what this task has besides the text's settings.
    pub(super) fn describe(&self, parameters: &mut Parameters) {
        parameters.insert_after("Model", "Denoising strength", self.strength);
        parameters.insert_after("Denoising strength", "Image hash", self.image.hash());
    }
}

impl Pipeline {
    /// Noise on the image, as much as the sampler expects at call `first`.
    pub(super) fn latents_from_image(&self, task: &ImageToImage, first: usize) -> Result<InitialLatents<'_>> {
        let moments = self.moments(task.image.to_signed(), task.text.vae_tiling)?;
        Ok(Box::new(move |sampler, generator| {
            let mut latents = self.sample(&moments, generator);
            let noise = generator.randn(latents.len());
            sampler.add_noise(&mut latents, &noise, first);
            (latents, InpaintMode::None)
        }))
    }
}
