//! Texts of other programs, as A1111's keys and values.
//!
//! | program | where the text is | file |
//! |---|---|---|
//! | ComfyUI | PNG chunk `prompt`: the graph that was executed | [`comfyui`] |
//! | InvokeAI | PNG chunks `invokeai_metadata`, `sd-metadata`, `Dream` | [`invokeai`] |
//! | NovelAI | PNG chunks `Comment` and `Description` | [`novelai`] |
//! | Fooocus | `parameters` or EXIF, as JSON | [`fooocus`] |
//!
//! stable-diffusion.cpp, Forge and SD.Next write A1111's own form. What has no key of A1111 keeps
//! its name, so that [`Parameters::ignored`] lists it. Sources: files of these programs, and what
//! PyPI's sd-parsers reads in them.

mod comfyui;
mod fooocus;
mod invokeai;
mod novelai;

use serde_json::{Map, Value};

use super::Parameters;
use crate::error::Result;

/// The texts of a file by their keywords.
pub(super) type Texts = [(String, String)];

/// The settings in a file's texts, if one of these programs wrote them; of A1111's there is none.
///
/// # Errors
/// `Request` if a graph of ComfyUI is not that of one picture.
pub(super) fn read(texts: &Texts) -> Result<Option<Parameters>> {
    let text = |keyword: &str| texts.iter().find(|(name, _)| name == keyword).map(|(_, text)| text.as_str());
    let json = |keyword: &str| text(keyword).and_then(object);
    if let Some(fields) = json("parameters").filter(|fields| fields.has("base_model")) {
        return Ok(Some(fooocus::parameters(fields)));
    }
    if text("parameters").is_some() {
        return Ok(None);
    }
    if let Some(fields) = json("invokeai_metadata") {
        return Ok(Some(invokeai::parameters(fields)));
    }
    if let Some(fields) = json("sd-metadata") {
        return Ok(Some(invokeai::older(fields)));
    }
    if let Some(dream) = text("Dream") {
        return Ok(Some(invokeai::dream(dream)));
    }
    if let (Some(fields), Some(prompt)) = (json("Comment"), text("Description")) {
        return Ok(Some(novelai::parameters(fields, prompt, text("Source").unwrap_or_default())));
    }
    json("prompt").map(|graph| comfyui::parameters(&graph.0)).transpose()
}

/// A text that is a JSON object. Python writes NaN, which JSON does not know.
fn object(text: &str) -> Option<Fields> {
    let read = |text: &str| serde_json::from_str(text).ok().map(Fields);
    read(text).or_else(|| read(&text.replace("NaN", "null")))
}

/// An object of settings, from which what is understood is taken out.
struct Fields(Map<String, Value>);

impl Fields {
    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A text or a number as a text.
    fn take(&mut self, key: &str) -> Option<String> {
        let value = self.0.shift_remove(key)?;
        said(&value)
    }

    fn object(&mut self, key: &str) -> Option<Self> {
        match self.0.shift_remove(key)? {
            Value::Object(fields) => Some(Self(fields)),
            _ => None,
        }
    }

    /// Moves fields into `parameters`: their names here, and A1111's.
    fn move_into(&mut self, parameters: &mut Parameters, names: &[(&str, &str)]) {
        for (name, key) in names {
            if let Some(value) = self.take(name) {
                parameters.push(key, value);
            }
        }
    }

    /// Moves the size.
    fn size_into(&mut self, parameters: &mut Parameters) {
        if let (Some(width), Some(height)) = (self.take("width"), self.take("height")) {
            parameters.push("Size", format_args!("{width}x{height}"));
        }
    }

    /// Moves all that is left and says something, under its own names, but for `without`, which
    /// changes nothing.
    fn rest_into(self, parameters: &mut Parameters, without: &[&str]) {
        for (key, value) in self.0 {
            if !without.contains(&key.as_str())
                && let Some(value) = said(&value)
            {
                parameters.push(&key, value);
            }
        }
    }
}

/// A value as a text; `None` if it says "off": null, false, an empty text or list.
fn said(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Array(list) if list.is_empty() => None,
        Value::Object(fields) if fields.is_empty() => None,
        other => Some(other.to_string()),
    }
}

/// A name of a sampler and, where it is a part of it, its schedule.
fn sampler_into(parameters: &mut Parameters, name: &str, schedule: Option<&str>) {
    let (name, karras) = match name.strip_suffix("_k") {
        Some(name) => (name, Some("karras")),
        None => (name, None),
    };
    let name = name.trim_start_matches("k_").trim_end_matches("_gpu");
    let name = match name {
        "kdpm_2" => "dpm_2",
        "kdpm_2_a" => "dpm_2_ancestral",
        "dpmpp_2s" => "DPMSolverSinglestepScheduler",
        "ddim_v3" => "ddim",
        "unipc" => "uni_pc",
        name => name,
    };
    parameters.push("Sampler", name);
    if let Some(schedule) = karras.or(schedule).filter(|schedule| *schedule != "native") {
        parameters.push("Schedule type", schedule);
    }
}

/// Says that weights are written in another way than A1111's, if there are brackets that may be
/// weights.
fn note_syntax(parameters: &mut Parameters, program: &str, marks: &[char]) {
    if parameters.prompt.contains(marks) || parameters.negative_prompt.contains(marks) {
        parameters.push("Prompt weights", format_args!("{program}'s"));
    }
}

#[cfg(test)]
mod tests;
