//! Images of several tasks in one batch: one call of the UNet serves all of them.
//!
//! ```text
//! each its own       prompts, seed, first latents, generator, sampler, digest
//! all alike          latents' size, timesteps, guidance scale, tokens, adapters: what one call of
//!                    the UNet has in common
//! ```
//!
//! The UNet treats the images of a batch one by one, so each is the image that it would be alone,
//! bit for bit.

use super::approximations::Approximations;
use super::hires::Hires;
use super::pipeline::Pipeline;
use super::task::Task;
use crate::error::{Error, Result};
use crate::samplers::SamplerChoice;
use crate::source::adapters::LoraSpec;
use crate::text::prompt;

/// What tasks have in common whose images can be made together.
#[derive(Clone, Debug, PartialEq)]
pub struct Likeness {
    shape: [usize; 4],
    sampler: SamplerChoice,
    steps: usize,
    sigmas: Vec<f64>,
    eta: Option<f32>,
    guidance_scale: f32,
    /// The sampler's call to begin with.
    first: usize,
    /// Of each call, the chunks of its longest text.
    chunks: Vec<usize>,
    /// Weights of the prompt's parts.
    weights: Vec<f32>,
    adapters: Vec<LoraSpec>,
    approximations: Approximations,
    vae_tiling: bool,
    hires: Option<Hires>,
    refiner_at: Option<f64>,
}

impl Pipeline {
    /// What the images of a task need to have in common with others to be made together with them;
    /// see [`Pipeline::generate_together`].
    ///
    /// # Errors
    /// If the task cannot be done.
    pub fn likeness(&self, task: &Task) -> Result<Likeness> {
        let first = task.check(self)?;
        let request = task.text();
        let sampler = self.sampler(request)?;
        let prompts = self.prompts(request, request.steps * sampler.calls_per_step())?;
        let (sets, of_call) = prompts.sets(sampler.timesteps().len() - first);
        let chunks_of = |texts: &Vec<&str>| -> Result<usize> {
            let mut chunks = 1;
            for text in texts {
                for encoder in &self.text_encoders {
                    let (split, _) = prompt::tokens(text, request.prompt_syntax, &encoder.tokenizer)?;
                    chunks = chunks.max(split.len());
                }
            }
            Ok(chunks)
        };
        let chunks = sets.iter().map(chunks_of).collect::<Result<Vec<_>>>()?;
        Ok(Likeness {
            shape: self.latent_shape(request),
            sampler: request.sampler,
            steps: request.steps,
            sigmas: request.sigmas.clone(),
            eta: request.eta,
            guidance_scale: request.guidance_scale,
            first,
            chunks: of_call.into_iter().map(|set| chunks[set]).collect(),
            weights: prompts.weights.clone(),
            adapters: self.adapters.wanted(request)?,
            approximations: request.approximations,
            vae_tiling: request.vae_tiling,
            hires: request.hires.clone(),
            refiner_at: request.refiner_at,
        })
    }

    /// Refuses what can be refused before the first multiplication. Returns the sampler's call to
    /// begin with.
    pub(super) fn check_together(&self, tasks: &[(&Task, usize)]) -> Result<usize> {
        if tasks.iter().any(|&(_, count)| count == 0) {
            return Err(Error::request("of a task no image is to be made; expected at least one"));
        }
        match tasks {
            [] => Err(Error::request("there is no task; expected at least one")),
            [(task, _)] => task.check(self),
            [(task, _), others @ ..] => {
                let likeness = self.likeness(task)?;
                for (other, _) in others {
                    if self.likeness(other)? != likeness {
                        return Err(Error::request(
                            "the tasks are not alike; expected the same size, steps, sampler, guidance and adapters, \
                             and prompts of as many chunks",
                        ));
                    }
                }
                Ok(likeness.first)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{LoadOptions, TextToImage};
    use crate::source::embedded::EMBEDDED;

    #[test]
    fn an_image_is_the_same_alone_and_among_others() {
        let pipeline = Pipeline::load(EMBEDDED, &LoadOptions::default()).expect("the embedded model");
        let task = |prompt: &str, negative: &str, seed| {
            Task::TextToImage(TextToImage {
                prompt: prompt.into(),
                negative_prompt: negative.into(),
                seed,
                width: 64,
                height: 64,
                steps: 3,
                sampler: SamplerChoice::parse(Some("euler_a"), None).expect("a known sampler"),
                ..pipeline.defaults()
            })
        };
        let tasks = [task("a fox", "", 7), task("two green apples", "snow", 3), task("", "", 7)];
        let counts = [1, 2, 1];
        let alone = tasks
            .iter()
            .zip(counts)
            .flat_map(|(task, count)| pipeline.generate(task, count, &mut |_| {}).expect("a picture"));
        let together: Vec<_> = tasks.iter().zip(counts).collect();
        let together = pipeline.generate_together(&together, &mut |_| {}).expect("they are alike");
        let bytes = |image: crate::Image| image.to_png().expect("a picture");
        let (alone, together): (Vec<_>, Vec<_>) =
            (alone.map(bytes).collect(), together.into_iter().map(bytes).collect());
        assert_eq!(together.len(), 4);
        assert!(alone == together, "the images differ, or what is written into them");
    }

    #[test]
    fn tasks_that_are_not_alike_are_refused() {
        let pipeline = Pipeline::load(EMBEDDED, &LoadOptions::default()).expect("the embedded model");
        let plain = TextToImage { width: 64, height: 64, steps: 3, ..pipeline.defaults() };
        let one = Task::TextToImage(plain.clone());
        for other in [
            TextToImage { width: 72, ..plain.clone() },
            TextToImage { steps: 4, ..plain.clone() },
            TextToImage { guidance_scale: 1.5, ..plain.clone() },
            TextToImage { sigmas: vec![9.0, 3.0, 1.0], ..plain.clone() },
        ] {
            let other = Task::TextToImage(other);
            let refused = pipeline.generate_together(&[(&one, 1), (&other, 1)], &mut |_| {});
            assert!(refused.is_err_and(|error| error.to_string().contains("not alike")), "{other:?}");
        }
        assert!(pipeline.generate_together(&[], &mut |_| {}).is_err());
    }
}
