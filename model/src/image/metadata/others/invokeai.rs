//! InvokeAI: a JSON object since version 3, another before, and a command line at first.
//!
//! Noise is drawn on the CPU unless `rand_device` says another; before version 3 on the GPU.

use super::{Fields, Parameters, note_syntax, sampler_into};

/// `invokeai_metadata`.
pub(super) fn parameters(mut fields: Fields) -> Parameters {
    let mut parameters = Parameters {
        prompt: fields.take("positive_prompt").unwrap_or_default(),
        negative_prompt: fields.take("negative_prompt").unwrap_or_default(),
        settings: Vec::new(),
    };
    fields.move_into(&mut parameters, &[("steps", "Steps")]);
    if let Some(scheduler) = fields.take("scheduler") {
        sampler_into(&mut parameters, &scheduler, None);
    }
    fields.move_into(&mut parameters, &[("cfg_scale", "CFG scale"), ("seed", "Seed")]);
    fields.size_into(&mut parameters);
    if let Some(mut model) = fields.object("model") {
        let name = model.take("name").or_else(|| model.take("model_name"));
        parameters.settings.extend(name.map(|name| ("Model".to_owned(), name)));
    }
    fields.move_into(&mut parameters, &[("strength", "Denoising strength")]);
    if let Some(skipped) = fields.take("clip_skip").and_then(|skipped| skipped.parse::<usize>().ok()) {
        parameters.push("Clip skip", skipped + 1); // 0 skips none
    }
    let on_gpu = fields.take("rand_device").is_some_and(|device| device != "cpu");
    parameters.push("RNG", if on_gpu { "NV" } else { "CPU" });
    let version = fields.take("app_version").unwrap_or_default();
    parameters.push("Version", format_args!("InvokeAI {version}").to_string().trim_end());
    note_syntax(&mut parameters, "InvokeAI", &['(', '+']);
    fields.rest_into(
        &mut parameters,
        &["generation_mode", "cfg_rescale_multiplier", "positive_style_prompt", "negative_style_prompt"],
    );
    parameters
}

/// `sd-metadata`.
pub(super) fn older(mut fields: Fields) -> Parameters {
    let mut image = fields.object("image").unwrap_or_else(|| Fields(serde_json::Map::new()));
    let prompts = image.0.shift_remove("prompt").unwrap_or_default();
    let first = prompts.get(0).and_then(|prompt| prompt.get("prompt")).or(Some(&prompts));
    let mut parameters = with_prompt(first.and_then(|prompt| prompt.as_str()).unwrap_or_default());
    image.move_into(&mut parameters, &[("steps", "Steps")]);
    if let Some(sampler) = image.take("sampler") {
        sampler_into(&mut parameters, &sampler, None);
    }
    image.move_into(&mut parameters, &[("cfg_scale", "CFG scale"), ("seed", "Seed")]);
    image.size_into(&mut parameters);
    fields.move_into(&mut parameters, &[("model_weights", "Model")]);
    image.move_into(&mut parameters, &[("strength", "Denoising strength")]);
    finish(&mut parameters);
    image.rest_into(&mut parameters, &["type", "postprocessing", "perlin", "threshold", "variations"]);
    parameters
}

/// `Dream`: `"a fox [dark]" -s 20 -S 7 -W 512 -H 512 -C 7.5 -A k_lms`.
pub(super) fn dream(text: &str) -> Parameters {
    let (prompt, flags) = text.strip_prefix('"').and_then(|text| text.rsplit_once('"')).unwrap_or((text, ""));
    let mut parameters = with_prompt(prompt);
    let (mut width, mut height) = (None, None);
    let mut words = flags.split_whitespace();
    while let Some(flag) = words.next() {
        let name = flag.trim_start_matches('-');
        // A value may stand right behind its letter: `-s20`.
        let (name, value) = match name.char_indices().nth(1) {
            Some((at, _)) if !flag.starts_with("--") => (&name[..at], Some(&name[at..])),
            _ => (name, words.next()),
        };
        let Some(value) = value else { break };
        match name {
            "s" => parameters.push("Steps", value),
            "S" => parameters.push("Seed", value),
            "C" => parameters.push("CFG scale", value),
            "A" => sampler_into(&mut parameters, value, None),
            "f" => parameters.push("Denoising strength", value),
            "W" => width = Some(value),
            "H" => height = Some(value),
            other => parameters.push(other, value),
        }
    }
    if let (Some(width), Some(height)) = (width, height) {
        parameters.push("Size", format_args!("{width}x{height}"));
    }
    finish(&mut parameters);
    parameters
}

/// A prompt with the negative one in square brackets.
fn with_prompt(text: &str) -> Parameters {
    let (mut prompt, mut negative, mut rest) = (String::new(), Vec::new(), text);
    while let Some((before, after)) = rest.split_once('[') {
        let Some((inside, behind)) = after.split_once(']') else { break };
        prompt.push_str(before);
        negative.push(inside.trim_matches([' ', ',']));
        rest = behind;
    }
    prompt.push_str(rest);
    let prompt = prompt.trim_matches([' ', ',']).to_owned();
    Parameters { prompt, negative_prompt: negative.join(", "), settings: Vec::new() }
}

fn finish(parameters: &mut Parameters) {
    parameters.push("RNG", "NV");
    parameters.push("Version", "InvokeAI");
    note_syntax(parameters, "InvokeAI", &['(', '+']);
}
