//! The prompts of a request, and what is reported of them.

use aquatint_tensor::Tensor;

use super::callbacks::{Callbacks, Progress};
use super::pipeline::Pipeline;
use super::request::TextToImage;
use super::text_schedule::{Prompts, TextSchedule};
use crate::error::{Result, printable};
use crate::text::encode::{Encoded, Reading, encode};
use crate::text::prompt::tags;

impl Pipeline {
    /// What the UNet attends to, from the sampler's call `first` on.
    pub(super) fn encode_text(
        &self,
        request: &TextToImage,
        first: usize,
        callbacks: &mut dyn Callbacks,
    ) -> Result<TextSchedule> {
        let sampler = self.sampler(request)?;
        let prompts = self.prompts(request, request.steps * sampler.calls_per_step())?;
        report(&prompts, request, callbacks);
        let (sets, of_call) = prompts.sets(sampler.timesteps().len() - first);
        let reading = Reading { syntax: request.prompt_syntax, clip_skip: request.clip_skip };
        let _held = self.hold_text_encoders(callbacks)?;
        let mut conditionings = Vec::new();
        for texts in &sets {
            let Encoded { mut text, cut } = encode(self.isa, &self.text_encoders, texts, reading)?;
            for (i, cut) in cut.into_iter().enumerate() {
                let text = if i + 1 < texts.len() { "negative prompt" } else { "prompt" };
                if let Some(cut) = cut {
                    callbacks.progress(Progress::Truncated { text, cut });
                }
            }
            self.check_finite(&text.hidden, || "the text encoder".into())?;
            let has_negative = texts.len() > prompts.weights.len();
            if let (Some(xl), true, Some(&"")) = (self.xl, has_negative, texts.first())
                && xl.force_zeros_for_empty_prompt
            {
                text.clear_first();
            }
            text.time_ids = self.time_ids(request, texts.len(), has_negative);
            conditionings.push(text);
        }
        Ok(TextSchedule { conditionings, of_call, weights: prompts.weights.clone() })
    }

    /// Sizes for each of the texts, of models that take them.
    fn time_ids(&self, request: &TextToImage, texts: usize, has_negative: bool) -> Option<Tensor<f32, 2>> {
        let size = [request.width, request.height];
        self.xl.map(|xl| xl.time_ids(size, &request.size_conditions, texts, has_negative))
    }

    /// Whether the UNet is called with and without the text; some models take the guidance scale
    /// as an input instead.
    pub(super) fn classifier_free_guidance(&self, request: &TextToImage) -> bool {
        request.guided() && self.unet_config.time_cond_proj_dim.is_none()
    }
}

/// Reports what may not be read as it was meant.
fn report(prompts: &Prompts, request: &TextToImage, callbacks: &mut dyn Callbacks) {
    for name in ["negative prompt", "prompt"] {
        let mut found: Vec<String> = Vec::new();
        for (_, text) in prompts.named().filter(|(its_name, _)| *its_name == name) {
            for tag in tags::find(text, request.prompt_syntax).into_iter().map(printable) {
                if !found.contains(&tag) {
                    found.push(tag);
                }
            }
        }
        if !found.is_empty() {
            let syntax = request.prompt_syntax;
            callbacks.progress(Progress::ReadAsWords { text: name, tags: found, syntax });
        }
    }
    if let Some(weight) = prompts.single_weight() {
        callbacks.progress(Progress::ReadAsWeight { weight: format!(":{weight}") });
    }
}
