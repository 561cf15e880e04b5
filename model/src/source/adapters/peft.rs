//! What PEFT and diffusers write about an adapter beside its numbers: above all alpha.
//!
//! ```text
//! adapter_config.json beside adapter_model.safetensors     "lora_alpha": 16, "use_rslora": false      PEFT
//! lora_adapter_metadata in the file's own metadata         "unet.lora_alpha": 16                      diffusers
//!
//! scale = alpha / rank, or alpha / √rank with use_rslora
//! ```
//!
//! `alpha_pattern` has expressions for the names of layers with another alpha, as in
//! `peft.utils.get_pattern_key`. Kalajdzievski, *A Rank Stabilization Scaling Factor for
//! Fine-Tuning with LoRA* (2023).

use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::source::{Component, TensorFile, files};

/// How PEFT names the file of weights, without ending.
const WEIGHTS: &str = "adapter_model";
const CONFIG: &str = "adapter_config.json";
/// Files of weights in an adapter's folder, by PEFT and by diffusers, the better form first.
const FILES: [&str; 4] = [
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
    "adapter_model.bin",
    "pytorch_lora_weights.bin",
];

/// The file of weights of an adapter that is given as a file or as a folder.
pub fn weights_of(path: &Path) -> PathBuf {
    let inside = FILES.iter().map(|name| path.join(name)).find(|file| file.is_file());
    inside.unwrap_or_else(|| path.to_owned())
}

/// The settings of an adapter.
pub(super) struct PeftConfig {
    /// Where they are, for messages.
    path: PathBuf,
    settings: Value,
}

impl PeftConfig {
    /// Those of a file of weights, if there are any.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn of(file: &TensorFile) -> Result<Option<Self>> {
        let beside = file.path().with_file_name(CONFIG);
        let (path, text) = match file.metadata().get("lora_adapter_metadata") {
            Some(text) => (file.path().to_owned(), text.clone()),
            None if is_peft(file.path()) && beside.is_file() => {
                let text = files::read_to_string(&beside)?;
                (beside, text)
            }
            None => return Ok(None),
        };
        match serde_json::from_str::<Value>(&text) {
            Ok(settings) if settings.is_object() => Ok(Some(Self { path, settings })),
            _ => Err(Error::in_file(path, "the adapter's settings are no JSON object")),
        }
    }

    /// The factor of an adapter of this rank for a layer; `None` if the settings do not say it.
    ///
    /// # Errors
    /// If they cannot be understood.
    pub(super) fn scale(&self, component: &Component, module: &str, rank: usize) -> Result<Option<f32>> {
        let own = self.pattern(component, module)?.or_else(|| self.get(component, "lora_alpha"));
        let alpha = own.or_else(|| self.get(component, "alpha")); // LoHa and LoKr
        let Some(alpha) = alpha.and_then(Value::as_f64) else { return Ok(None) };
        let stabilised = self.get(component, "use_rslora").is_some_and(|value| value == &Value::Bool(true));
        let divisor = if stabilised { (rank as f64).sqrt() } else { rank as f64 };
        Ok(Some((alpha / divisor) as f32))
    }

    /// The alpha of the first expression that means this layer.
    fn pattern(&self, component: &Component, module: &str) -> Result<Option<&Value>> {
        let patterns = self.get(component, "alpha_pattern").and_then(Value::as_object);
        for (pattern, alpha) in patterns.into_iter().flatten() {
            let expression = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")).map_err(|error| {
                Error::in_file(
                    &self.path,
                    format_args!("`alpha_pattern`: `{pattern}` is no expression: {error}"),
                )
            })?;
            if expression.is_match(module) {
                return Ok(Some(alpha));
            }
        }
        Ok(None)
    }

    /// A setting, which diffusers calls by the network as well.
    fn get(&self, component: &Component, key: &str) -> Option<&Value> {
        let own = self.settings.get(format!("{}.{key}", component.name));
        own.or_else(|| self.settings.get(key)).filter(|value| !value.is_null())
    }
}

/// Whether a file is PEFT's, whose alpha is elsewhere.
pub(super) fn is_peft(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == WEIGHTS)
}
