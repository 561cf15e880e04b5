//! NovelAI: the prompt in one chunk, a JSON object of settings in another, the model in a third.

use super::{Fields, Parameters, note_syntax, sampler_into};

pub(super) fn parameters(mut fields: Fields, prompt: &str, source: &str) -> Parameters {
    let mut parameters = Parameters {
        prompt: prompt.trim().to_owned(),
        negative_prompt: fields.take("uc").unwrap_or_default(),
        settings: Vec::new(),
    };
    fields.move_into(&mut parameters, &[("steps", "Steps")]);
    let schedule = fields.take("noise_schedule");
    if let Some(sampler) = fields.take("sampler") {
        sampler_into(&mut parameters, &sampler, schedule.as_deref());
    }
    fields.move_into(&mut parameters, &[("scale", "CFG scale"), ("seed", "Seed")]);
    fields.size_into(&mut parameters);
    // "Stable Diffusion 1D44365E": a name, and a hash of eight digits.
    let (model, hash) = source.rsplit_once(' ').unwrap_or((source, ""));
    let is_hash = hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let model = if is_hash { model } else { source };
    if !model.is_empty() {
        parameters.push("Model", model);
    }
    fields.move_into(&mut parameters, &[("strength", "Denoising strength")]);
    parameters.push("RNG", "NV");
    parameters.push("Version", "NovelAI");
    note_syntax(&mut parameters, "NovelAI", &['{', '[']);
    let without =
        ["prompt", "signed_hash", "request_type", "n_samples", "version", "hide_debug_overlay", "noise"];
    fields.rest_into(&mut parameters, &without);
    parameters
}
