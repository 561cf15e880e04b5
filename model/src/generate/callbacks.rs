//! Callbacks: progress, previews, early stop.
//!
//! ```text
//! on_run_start(run)       before the first step of a pass; a stored run can be compared here
//! initial_noise(i)        the first noise of an image, if it is not to be drawn
//! known_output(step)      the model's output at this step, if a stored run has it
//! on_predictions(…)       the UNet's answers, before guidance
//! on_step_end(info)       after each evaluation of the UNet; may end the run
//! replaced_latents()      what the next step begins with, if it is not what this one left
//! on_image(…)             once for each image, when its latents are decoded
//! ```
//!
//! A closure that takes a [`Progress`] is a callback that only listens. [`super::RunCheckpoint`]
//! is the memory of one that saves runs.

use std::ops::ControlFlow;

use aquatint_tensor::View;

use super::approximations::{Approximations, GuidanceInterval};
use super::denoise::{DenoisingBatch, InpaintMode, RefinerPass, SampleState, sha256};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::samplers::{self, NoiseLevel};
use crate::text::conditioning::TextConditioning;
use crate::text::prompt::PromptSyntax;

/// What a run reports to its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A text is longer than the model can read; the end of it is ignored.
    Truncated {
        /// "prompt" or "negative prompt".
        text: &'static str,
        /// What was cut off.
        cut: String,
    },
    /// What other programs read as syntax, and this one as words: `<lora:…>`, `[a:b:0.5]`, `AND`.
    ReadAsWords {
        /// "prompt" or "negative prompt".
        text: &'static str,
        /// The first of each kind, as it is written.
        tags: Vec<String>,
        /// How the text is read.
        syntax: PromptSyntax,
    },
    /// The prompt ends in what is read as its weight: "ratio 16:9" as "ratio 16", nine times as
    /// strong.
    ReadAsWeight {
        /// ":9"
        weight: String,
    },
    /// A network is being loaded.
    Loading {
        /// "text encoder", "UNet" or "VAE".
        network: &'static str,
        /// The share of its weights that was read.
        percent: usize,
    },
    /// The steps are about to begin.
    Denoising {
        /// About how long decoding will take, in per cent of a step, by the arithmetic of both.
        decoding_percent: usize,
    },
    /// Evaluations of the UNet that are done; the first report is 0.
    Step {
        /// Calls done.
        done: usize,
        /// Calls in all. PNDM needs one more than the steps that were asked for.
        total: usize,
    },
    /// The first pass is done; its result is enlarged for the second.
    Enlarging,
    /// The latents are finished and become a picture.
    Decoding,
}

/// How a run ends before its last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// With [`Error::Interrupted`](crate::Error::Interrupted).
    Discard,
    /// With an image all the same: the prediction of x_0 at this step, decoded.
    Decode,
}

/// What a run calls back. All methods but the first have an empty default.
pub trait Callbacks {
    /// Something happened.
    fn progress(&mut self, event: Progress);

    /// The run is about to begin.
    ///
    /// # Errors
    /// What is returned here and below ends the run.
    fn on_run_start(&mut self, _run: &RunInfo) -> Result<()> {
        Ok(())
    }

    /// The first noise of image `index` of a text, `shape` is `[channels, height, width]`, in place
    /// of what its seed gives; diffusers' `latents`. Later draws are then the seed's first.
    ///
    /// # Errors
    /// See [`Callbacks::on_run_start`].
    fn initial_noise(&mut self, _index: usize, _shape: [usize; 3]) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    /// The outputs of the UNet at this step, counted through all passes, if an earlier run has
    /// them: `[n, channels, height, width]` for `n` pictures.
    fn known_output(&mut self, _step: usize) -> Option<Vec<f32>> {
        None
    }

    /// What the UNet answered at this step, before guidance: `[texts, height, width, channels]`.
    /// With guidance the answers without the prompt come first.
    fn on_predictions(&mut self, _predictions: View<'_, f32, 4>) {}

    /// A step was taken. `Break` ends the run.
    ///
    /// # Errors
    /// See [`Callbacks::on_run_start`].
    fn on_step_end(&mut self, _info: &StepInfo<'_>) -> Result<ControlFlow<Interrupt>> {
        Ok(ControlFlow::Continue(()))
    }

    /// Latents of all images, `[n, channels, height, width]` on the sampler's own scale, in place
    /// of those that the step left: what diffusers' `callback_on_step_end` returns.
    fn replaced_latents(&mut self) -> Option<Vec<f32>> {
        None
    }

    /// Image `index` of the run is decoded from `latents`, `[channels, height, width]`, and not
    /// yet laid into another one.
    fn on_image(&mut self, _index: usize, _latents: &[f32], _picture: &Image) {}
}

impl<F: FnMut(Progress)> Callbacks for F {
    fn progress(&mut self, event: Progress) {
        self(event);
    }
}

/// What identifies a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// SHA-256, in hex, of everything that the steps depend on but the UNet: embeddings, first
    /// latents, timesteps, known parts.
    pub digest: String,
    /// `[n, channels, height, width]` of the latents of all images of the run.
    pub shape: [usize; 4],
    /// Calls of the UNet.
    pub total: usize,
}

impl RunInfo {
    /// Everything that the steps depend on but the UNet.
    pub(super) fn of(batch: &DenoisingBatch, refining: Option<&RefinerPass>) -> Self {
        let [_, channels, height, width] = batch.shape;
        let shape = [batch.states.len(), channels, height, width];
        let sizes = shape.map(|side| side as f32);
        let Approximations { token_merging, deep_cache, guidance_interval } = batch.approximations;
        let GuidanceInterval { start, end } = guidance_interval;
        let mut scale = vec![batch.guidance_scale, batch.first as f32];
        if batch.approximations != Approximations::default() {
            scale.extend([token_merging as f32, deep_cache as f32, start as f32, end as f32]);
        }
        let texts = || batch.texts.iter().map(|(text, _)| text);
        let orders: Vec<f32> = texts().flat_map(|text| &text.of_call).map(|&which| which as f32).collect();
        let mut parts = vec![&sizes[..], &scale, batch.timesteps(), batch.weights(), &orders];
        parts.extend(texts().flat_map(|text| &text.conditionings).flat_map(TextConditioning::parts));
        if let Some(RefinerPass { texts, timesteps, .. }) = refining {
            parts.push(timesteps);
            let texts = texts.iter().flat_map(|(text, _)| &text.conditionings);
            parts.extend(texts.flat_map(TextConditioning::parts));
        }
        for state in &batch.states {
            parts.push(&state.latents);
            match &state.inpaint {
                InpaintMode::None => {}
                InpaintMode::Blend { mask, latents, noise } => parts.extend([&mask[..], latents, noise]),
                InpaintMode::Concat(more) => parts.push(more.as_slice()),
            }
        }
        let calls_after = refining.map_or(0, |pass| pass.timesteps.len());
        Self { digest: sha256(parts), shape, total: batch.timesteps().len() + calls_after }
    }
}

/// A run after a step.
pub struct StepInfo<'a> {
    pub(super) batch: &'a DenoisingBatch,
    /// The latents before the step.
    pub(super) before: &'a [Vec<f32>],
    /// The UNet's outputs for all images.
    pub(super) outputs: &'a [f32],
    /// The call of the sampler that was made.
    pub(super) call: usize,
    /// Steps done, those of an earlier pass included.
    pub done: usize,
    /// Steps in all, of all passes.
    pub total: usize,
}

impl StepInfo<'_> {
    /// How many images are made together.
    pub fn pictures(&self) -> usize {
        self.batch.states.len()
    }

    /// The timestep at which the model was evaluated.
    pub fn timestep(&self) -> f32 {
        self.batch.states[0].sampler.timesteps()[self.call]
    }

    /// Noise over signal before the step: σ, on whatever scale the sampler works.
    pub fn sigma(&self) -> f32 {
        let NoiseLevel { signal, noise } = self.batch.states[0].sampler.noise_level(self.call);
        noise / signal
    }

    /// `[channels, height, width]` of the latents of one picture.
    pub fn shape(&self) -> [usize; 3] {
        let [_, channels, height, width] = self.batch.shape;
        [channels, height, width]
    }

    /// The UNet's outputs at this step, guidance included: `[n, channels, height, width]`.
    pub fn outputs(&self) -> &[f32] {
        self.outputs
    }

    /// The latents of picture `index` after the step, on the sampler's own scale.
    pub fn latents(&self, index: usize) -> &[f32] {
        &self.batch.states[index].latents
    }

    /// x_t before the step, with variance 1: the UNet's input for image `index`.
    pub fn model_input(&self, index: usize) -> Vec<f32> {
        let mut input = self.before[index].clone();
        self.batch.states[index].sampler.scale_model_input(&mut input, self.call);
        input
    }

    /// x_0 as the UNet's output at this step has it, for picture `index`.
    pub fn pred_original_sample(&self, index: usize) -> Vec<f32> {
        let count = self.before[index].len();
        self.pred_original_sample_of(index, &self.outputs[index * count..][..count])
    }

    /// x_0 as `output`, `[channels, height, width]`, has it instead, for picture `index`.
    pub fn pred_original_sample_of(&self, index: usize, output: &[f32]) -> Vec<f32> {
        let SampleState { sampler, inpaint, .. } = &self.batch.states[index];
        let level = sampler.noise_level(self.call);
        let mut x0 =
            samplers::pred_original_sample(self.batch.prediction, level, &self.before[index], output);
        inpaint.blend(&mut x0, sampler.as_ref(), sampler.timesteps().len());
        x0
    }
}

/// Reports a step and, if the caller ends the run here, puts the predictions of x_0 in place of the
/// latents. `before` are the latents before the step.
pub(super) fn end_of_step(
    callbacks: &mut dyn Callbacks,
    batch: &mut DenoisingBatch,
    before: &[Vec<f32>],
    outputs: &[f32],
    step: usize,
) -> Result<ControlFlow<()>> {
    let (done, total) = (batch.calls_before + step + 1, batch.total());
    let info = StepInfo { batch, before, outputs, call: batch.first + step, done, total };
    match callbacks.on_step_end(&info)? {
        ControlFlow::Break(Interrupt::Discard) => Err(Error::Interrupted),
        ControlFlow::Break(Interrupt::Decode) if done < total => {
            let x0s: Vec<_> = (0..before.len()).map(|i| info.pred_original_sample(i)).collect();
            for (state, x0) in batch.states.iter_mut().zip(x0s) {
                state.latents = x0;
            }
            batch.stopped = Some(done);
            Ok(ControlFlow::Break(()))
        }
        ControlFlow::Break(Interrupt::Decode) | ControlFlow::Continue(()) => {
            if let Some(latents) = callbacks.replaced_latents() {
                replace_latents(batch, &latents)?;
            }
            callbacks.progress(Progress::Step { done, total });
            Ok(ControlFlow::Continue(()))
        }
    }
}

fn replace_latents(batch: &mut DenoisingBatch, latents: &[f32]) -> Result<()> {
    let (count, images) = (batch.shape.iter().product::<usize>(), batch.states.len());
    if latents.len() != images * count {
        return Err(Error::request(format_args!(
            "a callback gave {} numbers in place of the latents; expected {}",
            latents.len(),
            images * count
        )));
    }
    for (state, latents) in batch.states.iter_mut().zip(latents.chunks_exact(count)) {
        state.latents.copy_from_slice(latents);
    }
    Ok(())
}
