//! The request that the text of a picture describes.

use super::TextToImage;
use super::settings::PartialRequest;
use super::values::{Seed, TaskKind};
use crate::error::Result;
use crate::image::metadata::Parameters;

impl PartialRequest {
    /// All that a picture's text says, and nothing else. Its `kind` is that of the picture; the
    /// pictures from which that one was made are not in its text.
    ///
    /// # Errors
    /// `Request` if a value has no meaning.
    pub fn described(parameters: &Parameters) -> Result<Self> {
        let mut text = TextToImage::default();
        parameters.apply(&mut text)?;
        let has = |key: &str| parameters.get(key).is_some();
        let sampler = text.sampler;
        Ok(Self {
            kind: TaskKind::of(parameters),
            prompt: Some(text.prompt),
            negative_prompt: Some(text.negative_prompt),
            prompt_syntax: Some(text.prompt_syntax),
            clip_skip: has("Clip skip").then_some(text.clip_skip),
            width: has("Size").then_some(text.width),
            height: has("Size").then_some(text.height),
            steps: has("Steps").then_some(text.steps),
            cfg_scale: has("CFG scale").then_some(text.guidance_scale),
            seed: has("Seed").then_some(Seed::Given(text.seed)),
            rng: Some(text.rng),
            sampler: sampler.kind.map(|kind| kind.label().to_owned()),
            schedule: sampler.schedule.map(|schedule| schedule.label().to_owned()),
            eta: text.eta,
            sigmas: (!text.sigmas.is_empty()).then_some(text.sigmas),
            ..Self::from_parameters(parameters)?
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::generate::ApiRequest;

    #[test]
    fn a_text_becomes_the_fields_that_make_the_picture_again() {
        let text = "a (fox:1.2)\nNegative prompt: dark\nSteps: 12, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.1, \
                    Seed: 18446744073709551615, Size: 64x96, Clip skip: 2, RNG: NV, Denoising strength: 0.6, Mask blur: 6, \
                    Resize mode: Fit, Version: aquatint 0.1.0";
        let partial = PartialRequest::described(&Parameters::parse(text)).expect("all of it has a meaning");
        let fields = partial.to_fields();
        let expected = json!({
            "prompt": "a (fox:1.2)", "negative_prompt": "dark", "prompt_syntax": "a1111", "clip_skip": 2, "width": 64,
            "height": 96, "steps": 12, "cfg_scale": 7.1, "seed": u64::MAX, "rng": "NV", "sampler_name": "DPM++ 2M",
            "scheduler": "karras", "resize_mode": 2, "denoising_strength": 0.6, "mask_blur": 6, "composite": true,
        });
        assert_eq!(serde_json::Value::from(fields.clone()), expected);
        let read = ApiRequest::from_fields(&fields).expect("our own fields").settings;
        assert_eq!(PartialRequest { kind: TaskKind::TextToImage, ..partial }, read);
    }
}
