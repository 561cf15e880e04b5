//! Fooocus: a JSON object with its own names. Its sampler is ComfyUI's, its noise torch's on the
//! CPU.

use super::{Fields, Parameters, note_syntax, sampler_into};

pub(super) fn parameters(mut fields: Fields) -> Parameters {
    let mut parameters = Parameters {
        prompt: fields.take("prompt").unwrap_or_default(),
        negative_prompt: fields.take("negative_prompt").unwrap_or_default(),
        settings: Vec::new(),
    };
    fields.move_into(&mut parameters, &[("steps", "Steps")]);
    let scheduler = fields.take("scheduler");
    if let Some(sampler) = fields.take("sampler") {
        sampler_into(&mut parameters, &sampler, scheduler.as_deref());
    }
    fields.move_into(&mut parameters, &[("guidance_scale", "CFG scale"), ("seed", "Seed")]);
    if let Some(size) = fields.take("resolution") {
        let sides: String = size.chars().filter(|c| c.is_ascii_digit() || *c == ',').collect();
        parameters.push("Size", sides.replace(',', "x"));
    }
    let names = [("base_model_hash", "Model hash"), ("base_model", "Model"), ("clip_skip", "Clip skip")];
    fields.move_into(&mut parameters, &names);
    parameters.push("RNG", "CPU");
    parameters.push("Version", fields.take("version").unwrap_or_else(|| "Fooocus".into()));
    note_syntax(&mut parameters, "Fooocus", &['(']);
    fields.rest_into(
        &mut parameters,
        &["metadata_scheme", "created_by", "full_prompt", "full_negative_prompt"],
    );
    parameters
}
