//! Prompts to what the UNet attends to.

use std::time::Instant;

use aquatint_tensor::Tensor;

use super::{Callbacks, Pipeline, Progress, TextToImage};
use crate::error::Result;
use crate::networks::clip::ClipTextModel;
use crate::text::prompt::PromptEncoder;

impl Pipeline {
    /// The embeddings that the UNet attends to: `[2, tokens, c]`, the negative prompt first; without guidance `[1, tokens, c]`.
    /// There are 77 tokens; of long prompts in A1111's syntax a multiple of 77.
    pub(super) fn encode_text(
        &self,
        request: &TextToImage,
        callbacks: &mut dyn Callbacks,
    ) -> Result<Tensor<f32, 3>> {
        let texts = [("negative prompt", &request.negative_prompt), ("prompt", &request.prompt)];
        let needed = if request.guided() { &texts[..] } else { &texts[1..] };
        let text_encoder = self.text_encoder.get()?;
        let prompt_encoder = self.prompt_encoder(request, &text_encoder);
        let mut prompts = Vec::new();
        for &(name, text) in needed {
            let (chunks, cut) = prompt_encoder.chunks(text)?;
            if let Some(cut) = cut {
                callbacks.progress(Progress::Truncated { text: name, cut });
            }
            prompts.push(chunks);
        }
        let start = Instant::now();
        let embeddings = prompt_encoder.embed(self.isa, &prompts);
        let taken = start.elapsed();
        drop(text_encoder);
        self.text_encoder.release();
        let [texts, tokens, _] = embeddings.shape();
        let [.., height, width] = self.latent_shape(request);
        let step = self.arithmetic.step(height * width, texts, tokens);
        if let Some(step) = self.arithmetic.expected(step, texts * tokens, taken) {
            callbacks.progress(Progress::Expected { step });
        }
        self.check_finite(&embeddings, || "the text encoder".into())?;
        Ok(embeddings)
    }

    /// How the request wants its texts to be read.
    fn prompt_encoder<'a>(
        &'a self,
        request: &TextToImage,
        text_encoder: &'a ClipTextModel,
    ) -> PromptEncoder<'a> {
        PromptEncoder {
            tokenizer: &self.tokenizer,
            text_encoder,
            syntax: request.prompt_syntax,
            clip_skip: request.clip_skip,
        }
    }
}
