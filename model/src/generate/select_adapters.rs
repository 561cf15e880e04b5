//! From picture to picture, other adapters or other weights of them.
//!
//! Of a model that stays in memory, only the layers are packed anew that an adapter changes in
//! another way than before; see `source/packed.rs`.

use super::pipeline::Pipeline;
use super::request::TextToImage;
use crate::error::Result;
use crate::source::UNET;
use crate::source::adapters::LoraSpec;
use crate::text::prompt::PromptSyntax;

impl Pipeline {
    /// Replaces the adapters that the model was loaded with. They are applied by the next picture,
    /// or by [`Pipeline::select_adapters`]. Words for which an adapter holds vectors remain those
    /// of the adapters that the model was loaded with.
    ///
    /// # Errors
    /// If one is not for this model; then those of before stay.
    pub fn set_adapters(&self, loras: Vec<LoraSpec>) -> Result<()> {
        loras.iter().try_for_each(|lora| self.adapters.adapter(lora).map(drop))?;
        self.adapters.give(loras);
        Ok(())
    }

    /// Loads what the next picture needs, so that it need not wait; only with
    /// [`LoadOptions::keep`](crate::LoadOptions::keep) does it stay in memory.
    ///
    /// # Errors
    /// If the weights cannot be read.
    pub fn preload(&self) -> Result<()> {
        for text_encoder in &self.text_encoders {
            text_encoder.network.get()?;
        }
        self.unet.get()?;
        self.vae_decoder.get().map(drop)
    }

    /// Applies the adapters for which the request's prompt asks, beside those that were given; the
    /// networks are loaded anew if these are others than before. Returns a line about each that was
    /// not applied before. Making a picture does this by itself.
    ///
    /// # Errors
    /// If there is no adapter of a name, or if one is not for this model; what was applied before
    /// then stays.
    pub fn select_adapters(&self, request: &TextToImage) -> Result<Vec<String>> {
        let set = &self.adapters;
        let wanted = set.wanted(request)?;
        if set.applied() == wanted {
            return Ok(Vec::new());
        }
        let opened = wanted.iter().map(|lora| set.adapter(lora)).collect::<Result<Vec<_>>>()?;
        let known = set.applied();
        let new = opened.iter().filter(|adapter| !known.contains(adapter.spec()));
        let mut notes: Vec<_> =
            new.map(|adapter| adapter.warning().unwrap_or_else(|| adapter.describe())).collect();
        notes.extend(set.preset_of_tags(request)?.map(|preset| preset.describe()));
        set.apply(opened);
        for text_encoder in &self.text_encoders {
            text_encoder.network.set_source(set.source(text_encoder.component));
        }
        self.unet.set_source(set.source(&UNET));
        Ok(notes)
    }

    /// What a request for this prompt asks for unless it says otherwise: [`Pipeline::defaults`], or
    /// the preset that suits an adapter for which the prompt asks.
    ///
    /// # Errors
    /// As [`Pipeline::select_adapters`].
    pub fn defaults_for(&self, prompt: &str, prompt_syntax: PromptSyntax) -> Result<TextToImage> {
        let mut defaults = self.defaults();
        let request = TextToImage { prompt: prompt.to_owned(), prompt_syntax, ..defaults.clone() };
        if let Some(preset) = self.adapters.preset_of_tags(&request)? {
            preset.apply(&mut defaults);
        }
        Ok(defaults)
    }

    /// A line about each adapter and embedding that the model was loaded with: "detail.safetensors:
    /// 264 of 264 tensors, weight 0.8".
    pub fn notes(&self) -> Vec<String> {
        self.adapters.notes()
    }
}
