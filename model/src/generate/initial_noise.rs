//! Noise that the caller gives in place of what a seed draws: diffusers' `latents`.
//!
//! ```text
//! latents = noise · init_noise_sigma     the generator is untouched: its first draw is a sampler's
//! ```

use super::callbacks::Callbacks;
use super::denoise::DenoisingBatch;
use super::task::Task;
use crate::error::{Error, Result};
use crate::rng::Generator;

/// Puts the caller's noise, if there is any, in place of what was drawn for a text.
pub(super) fn set(
    callbacks: &mut dyn Callbacks,
    tasks: &[(&Task, usize)],
    batch: &mut DenoisingBatch,
) -> Result<()> {
    let [_, channels, height, width] = batch.shape;
    let images = tasks.iter().flat_map(|&(task, count)| (0..count).map(move |i| (task, i)));
    for (index, (state, (task, i))) in batch.states.iter_mut().zip(images).enumerate() {
        let Some(noise) = callbacks.initial_noise(index, [channels, height, width])? else { continue };
        let Task::TextToImage(request) = task else {
            return Err(Error::request(
                "first latents are given, and a picture to start from; expected one of both",
            ));
        };
        if noise.len() != state.latents.len() {
            return Err(Error::request(format_args!(
                "{} numbers of noise are given; expected {}",
                noise.len(),
                state.latents.len()
            )));
        }
        let scale = state.sampler.init_noise_sigma();
        state.latents = noise.iter().map(|x| x * scale).collect();
        state.generator = Generator::of(request.rng, request.seed_of(i)); // nothing was drawn
    }
    Ok(())
}
