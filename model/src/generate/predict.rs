//! The UNet in the loop: which texts it is given at a step, and what it may leave out.

use std::ops::Range;

use aquatint_kernels::Isa;
use aquatint_tensor::{Tensor, View};

use super::approximations::{Approximations, GuidanceInterval};
use super::denoise::DenoisingBatch;
use crate::error::{Error, Result};
use crate::networks::unet::deep_cache::{CacheUse, DeepCache};
use crate::networks::unet::{Addition, Conditioning, Conditions, Residuals, UNet2DConditionModel};
use crate::text::conditioning::TextConditioning;

/// The UNet and what it needs for all steps of a pass.
pub(super) struct NoisePredictor<'a> {
    isa: Isa,
    unet: &'a UNet2DConditionModel,
    approximations: Approximations,
    /// Steps of the pass.
    steps: usize,
    /// Of all texts, and of the prompts alone if there are steps without guidance.
    cond: Conditioning,
    prompts: Option<Conditioning>,
    cache: DeepCache,
}

impl<'a> NoisePredictor<'a> {
    /// # Errors
    /// `Request` if there is guidance in a part of the steps, and a prompt of several parts.
    pub(super) fn new(isa: Isa, unet: &'a UNet2DConditionModel, batch: &DenoisingBatch) -> Result<Self> {
        let approximations = batch.approximations;
        if approximations.guidance_interval != GuidanceInterval::default() && batch.weights().len() > 1 {
            return Err(Error::request(
                "a prompt of several parts has guidance in all steps; expected no guidance interval",
            ));
        }
        let steps = batch.timesteps().len();
        let (cond, prompts) = prepared(isa, unet, batch, batch.calls_before);
        Ok(Self { isa, unet, approximations, steps, cond, prompts, cache: DeepCache::default() })
    }

    /// Takes over the texts of a step, if they are others than before.
    pub(super) fn follow(&mut self, batch: &DenoisingBatch, step: usize) {
        let call = batch.calls_before + step;
        if step > 0 && batch.changes_at(call) {
            (self.cond, self.prompts) = prepared(self.isa, self.unet, batch, call);
        }
    }

    /// The UNet's predictions: for every text, or for the prompts alone outside the guidance
    /// interval. `latents: [n, h, w, in_channels]` → `[texts, h, w, out_channels]`.
    pub(super) fn predict(&mut self, latents: View<'_, f32, 4>, step: usize) -> Tensor<f32, 4> {
        let guided = self.approximations.guidance_interval.contains(step, self.steps);
        let cond = self.prompts.as_ref().filter(|_| !guided).unwrap_or(&self.cond);
        let mut cache = match (self.approximations.deep_cache > 1, self.is_full(step)) {
            (false, _) => CacheUse::None,
            (true, true) => CacheUse::Fill(&mut self.cache),
            (true, false) => CacheUse::Reuse(&self.cache),
        };
        self.unet.forward_cached(self.isa, latents, step, cond, Residuals::default(), &mut cache)
    }

    fn is_full(&self, step: usize) -> bool {
        self.approximations.is_full(step, self.steps)
    }

    /// Whether a step whose output is known must be computed all the same, for what it leaves to
    /// steps that are not known. Those that are known come first.
    pub(super) fn leaves_for_unknown(&self, step: usize, mut is_known: impl FnMut(usize) -> bool) -> bool {
        if self.approximations.deep_cache < 2 || !self.is_full(step) {
            return false;
        }
        let next_full = (step + 1..self.steps).find(|&next| self.is_full(next)).unwrap_or(self.steps);
        next_full > step + 1 && !is_known(next_full - 1)
    }
}

/// What the UNet needs of all texts at a call, and of the prompts alone if there are steps without
/// guidance.
fn prepared(
    isa: Isa,
    unet: &UNet2DConditionModel,
    batch: &DenoisingBatch,
    call: usize,
) -> (Conditioning, Option<Conditioning>) {
    let (images, steps) = (batch.states.len(), batch.timesteps().len());
    let text = TextConditioning::joined(&batch.texts_at(call));
    let [texts, ..] = text.hidden.shape();
    let Approximations { token_merging, guidance_interval, .. } = batch.approximations;
    let prepare = |rows: Range<usize>| {
        let of_rows = |x: &Tensor<f32, 2>| x.view().slice(0, rows.clone()).to_tensor();
        let (pooled, time_ids) = (text.pooled.as_ref().map(of_rows), text.time_ids.as_ref().map(of_rows));
        let addition = pooled.as_ref().zip(time_ids.as_ref());
        let conditions = Conditions {
            text: text.hidden.view().slice(0, rows.clone()),
            timesteps: batch.timesteps(),
            guidance_scale: batch.guidance_scale,
            token_merging,
            addition: addition.map(|(pooled, ids)| Addition { pooled: pooled.view(), time_ids: ids.view() }),
        };
        unet.prepare_with(isa, conditions)
    };
    let unguided = |step| !guidance_interval.contains(step, steps);
    let prompts = (texts > images && (0..steps).any(unguided)).then(|| prepare(texts - images..texts));
    (prepare(0..texts), prompts)
}
