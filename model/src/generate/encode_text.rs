//! The prompts of a request, and what is reported of them.

use super::callbacks::{Callbacks, Progress};
use super::pipeline::Pipeline;
use super::request::TextToImage;
use crate::error::{Result, printable};
use crate::text::encode::{Encoded, Reading, TextConditioning, encode};
use crate::text::prompt::extra_networks::without_tags;
use crate::text::prompt::{PromptSyntax, tags};

impl Pipeline {
    /// The negative prompt first, if there is guidance by a second text; then the prompt.
    pub(super) fn encode_text(
        &self,
        request: &TextToImage,
        callbacks: &mut dyn Callbacks,
    ) -> Result<TextConditioning> {
        let names = ["negative prompt", "prompt"];
        // As in A1111, adapters are asked for in the prompt alone.
        let prompt = match request.prompt_syntax {
            PromptSyntax::A1111 => without_tags(&request.prompt),
            PromptSyntax::Plain => request.prompt.clone(),
        };
        let prompts = [request.negative_prompt.as_str(), prompt.as_str()];
        let unused = if self.classifier_free_guidance(request) { 0 } else { 1 };
        let reading = Reading { syntax: request.prompt_syntax, clip_skip: request.clip_skip };
        for (&text, prompt) in names[unused..].iter().zip(&prompts[unused..]) {
            let tags: Vec<_> = tags::find(prompt, request.prompt_syntax).into_iter().map(printable).collect();
            if !tags.is_empty() {
                callbacks.progress(Progress::ReadAsWords { text, tags });
            }
        }
        let Encoded { text, cut, time } = encode(self.isa, &self.text_encoders, &prompts[unused..], reading)?;
        for (&text, cut) in names[unused..].iter().zip(cut) {
            if let Some(cut) = cut {
                callbacks.progress(Progress::Truncated { text, cut });
            }
        }
        let [texts, tokens, _] = text.hidden.shape();
        let [.., height, width] = self.latent_shape(request);
        let step = self.arithmetic.step(height * width, texts, tokens);
        if let Some(step) = self.arithmetic.expected(step, texts * tokens, time) {
            callbacks.progress(Progress::Expected { step });
        }
        self.check_finite(&text.hidden, || "the text encoder".into())?;
        Ok(text)
    }

    /// Whether the UNet is called with and without the text; some models take the guidance scale
    /// as an input instead.
    pub(super) fn classifier_free_guidance(&self, request: &TextToImage) -> bool {
        request.guided() && self.unet_config.time_cond_proj_dim.is_none()
    }
}
