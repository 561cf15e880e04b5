//! The second pass of the hires fix: from the latents of the first to larger, noisy ones.
//!
//! ```text
//! latents = interpolate(latents)                           or encode(enlarge(decode(latents)))
//! first   = whole − made                                   whole = ⌊made / strength⌋
//! latents = add_noise(latents, noise, timesteps[first])    noise from the seed anew
//! …then the loop, from `first` on
//! ```
//!
//! As in A1111 the generator begins again with the seed and is asked for the noise first. What the
//! encoder makes of enlarged pixels is taken at its mean: A1111 draws it from another generator,
//! and the noise of the second pass buries the difference.

use super::denoise::{DenoisingBatch, InpaintMode, SampleState};
use super::hires::{Hires, Upscaler};
use super::latents::channels_first;
use super::pipeline::Pipeline;
use super::request::TextToImage;
use super::task::Task;
use crate::error::{Error, Result};
use crate::image::{Image, ResizeMode};
use crate::networks::upscaler::{Tiles, UpscaleModel};
use crate::rng::Generator;
use crate::samplers::Sampler;

/// Where the second pass begins, and how many calls of the UNet it needs.
pub(super) struct SecondPass {
    sampler: Box<dyn Sampler>,
    first: usize,
}

impl SecondPass {
    /// Calls of the UNet.
    pub(super) fn calls(&self) -> usize {
        self.sampler.timesteps().len() - self.first
    }
}

impl Pipeline {
    /// The second pass of a request, if it has one.
    ///
    /// # Errors
    /// `Request` if it cannot be made.
    pub(super) fn second_pass(&self, request: &TextToImage) -> Result<Option<SecondPass>> {
        let Some(hires) = &request.hires else { return Ok(None) };
        hires.check()?;
        if !request.sigmas.is_empty() {
            return Err(Error::request(
                "noise levels of one's own are those of the first pass; expected a schedule if there is a second",
            ));
        }
        let [made, whole] = hires.schedule(request.steps);
        let sampler = self.sampler(&TextToImage { steps: whole, ..request.clone() })?;
        let first = (whole - made) * sampler.calls_per_step();
        Ok(Some(SecondPass { sampler, first }))
    }

    /// Puts the enlarged latents, with noise on them, in the place of those of the first pass. The
    /// tasks are alike.
    pub(super) fn begin_second_pass(
        &self,
        tasks: &[(&Task, usize)],
        batch: &mut DenoisingBatch,
    ) -> Result<()> {
        let request = tasks[0].0.text();
        let Some(hires) = &request.hires else { return Ok(()) };
        let shape = self.latent_shape_of(request.final_size(self.size_multiple()));
        let enlarged = self.enlarged(hires, batch, shape, request.vae_tiling)?;
        let calls_before = batch.calls_before + batch.timesteps().len();
        let seeds = tasks.iter().flat_map(|(task, count)| (0..*count).map(|nth| task.text().seed_of(nth)));
        for ((state, mut latents), seed) in batch.states.iter_mut().zip(enlarged).zip(seeds) {
            let pass = self.second_pass(request)?.ok_or_else(|| Error::run("there is no second pass"))?;
            let mut generator = Generator::of(request.rng, seed);
            let noise = generator.randn(latents.len());
            pass.sampler.add_noise(&mut latents, &noise, pass.first);
            let digest = std::mem::take(&mut state.digest);
            batch.first = pass.first;
            *state =
                SampleState { sampler: pass.sampler, generator, latents, inpaint: InpaintMode::None, digest };
        }
        batch.calls = batch.states[0].sampler.timesteps().len() - batch.first;
        (batch.shape, batch.calls_before, batch.calls_after) = (shape, calls_before, 0);
        Ok(())
    }

    /// The latents of each image at the size of the second pass.
    fn enlarged(
        &self,
        hires: &Hires,
        batch: &DenoisingBatch,
        shape: [usize; 4],
        vae_tiling: bool,
    ) -> Result<Vec<Vec<f32>>> {
        let [.., height, width] = shape;
        let latents = batch.states.iter().map(|state| &state.latents);
        if let Upscaler::Latent(mode) = hires.upscaler {
            let [.., old_height, old_width] = batch.shape;
            let resize = |x: &Vec<f32>| mode.resize(x, [old_height, old_width], [height, width]);
            return Ok(latents.map(resize).collect());
        }
        self.unet.release(); // the VAE needs the memory; it is loaded again for the second pass
        let factor = self.vae.scale_factor();
        let (width, height) = (width * factor, height * factor);
        let pictures = latents.map(|latents| self.decode(batch.shape, latents.clone(), vae_tiling));
        let pictures = pictures.collect::<Result<Vec<_>>>()?;
        self.vae_decoder.release();
        let model = match &hires.upscaler {
            Upscaler::Model(path) => Some(UpscaleModel::open(path, self.precision)?),
            _ => None,
        };
        let encode = |picture: &Image| {
            let larger = match &hires.upscaler {
                Upscaler::Nearest => picture.nearest(width, height),
                _ => self.enlarged_to(model.as_ref(), picture, [width, height])?,
            };
            let mean = channels_first(self.moments(larger.to_signed(), vae_tiling)?.mean);
            Ok(mean.into_iter().map(|x| self.vae.scaling_factor * x).collect())
        };
        pictures.iter().map(encode).collect()
    }

    /// As A1111: up to three times through the network, if there is one, until the picture is as
    /// large as wanted, then Lanczos' filter to the size.
    fn enlarged_to(
        &self,
        model: Option<&UpscaleModel>,
        picture: &Image,
        [width, height]: [usize; 2],
    ) -> Result<Image> {
        let mut larger = picture.clone();
        for pass in 0..3 {
            let Some(model) = model else { break };
            if pass > 0 && (model.scale() == 1 || larger.width() >= width && larger.height() >= height) {
                break;
            }
            larger = model.upscale(self.isa, &larger, Tiles::default())?;
        }
        Ok(larger.resized(width, height, ResizeMode::Stretch))
    }
}
