//! Flags of adapters and embeddings, which change a model or teach it words, and of wildcards.

use std::path::PathBuf;

use aquatint_model::source::adapters::{LoraSpec, find_adapter};
use aquatint_model::source::library::Library;
use aquatint_model::{Error, ModelSpec};
use clap::Args;

#[derive(Args)]
#[command(next_help_heading = "Adapters, embeddings, wildcards")]
pub(crate) struct AdapterFlags {
    /// Adapter (LoRA, LoHa, LoKr, (IA)³, DoRA or a difference) with its weight in the UNet and, if
    /// it is another, in the text encoder: detail.safetensors:0.8, or detail:0.8 of a folder of
    /// adapters. May be given several times.
    #[arg(long, value_name = "FILE[:UNET[:TEXT]]", value_parser = lora)]
    lora: Vec<LoraSpec>,

    /// Folder in which <lora:name:0.8> in a prompt finds its file, beside those of --models-dir;
    /// for --prompt-syntax a1111.
    #[arg(long, alias = "lora-model-dir", value_name = "FOLDER")]
    lora_dir: Option<PathBuf>,

    /// Embedding (textual inversion); the file's name, or the word in it, then works in prompts.
    /// May be given several times.
    #[arg(long, value_name = "FILE")]
    embedding: Vec<PathBuf>,

    /// Folder of embeddings; those that are for another model are left out.
    #[arg(long, alias = "embd-dir", value_name = "FOLDER")]
    embedding_dir: Option<PathBuf>,

    /// Folder of wildcards: __colour__ in a prompt becomes a line of colour.txt, drawn by the seed.
    #[arg(long, value_name = "FOLDER")]
    wildcards: Option<PathBuf>,

    /// Refuse an adapter with a part that is not in the model, instead of a warning.
    #[arg(long)]
    strict: bool,
}

impl AdapterFlags {
    /// The model with what the flags say, and with what a library has for prompts.
    ///
    /// # Errors
    /// `Request` if there is no adapter of a name.
    pub(crate) fn add_to(&self, spec: ModelSpec, library: &Library) -> Result<ModelSpec, Error> {
        let lora_folders: Vec<_> = self.lora_dir.iter().cloned().chain(library.adapter_folders()).collect();
        let named = |lora: &LoraSpec| {
            let name = lora.path.to_string_lossy();
            let is_name = !lora.path.exists() && !name.contains(['/', '\\', '.']);
            let path = if is_name { find_adapter(&lora_folders, &name)? } else { lora.path.clone() };
            Ok(LoraSpec { path, ..lora.clone() })
        };
        let loras = self.lora.iter().map(named).collect::<Result<_, Error>>()?;
        let given = self.embedding.iter().chain(&self.embedding_dir).cloned();
        let embeddings = given.chain(library.embedding_folders()).collect();
        let wildcards = self.wildcards.clone();
        Ok(ModelSpec { loras, lora_folders, embeddings, wildcards, strict: self.strict, ..spec })
    }

    /// The same with the adapters with which a picture was made, `stored` in it, unless the flags
    /// name some.
    ///
    /// # Errors
    /// `Request` if they cannot be found.
    pub(crate) fn add_stored(&self, mut spec: ModelSpec, stored: Option<&str>) -> Result<ModelSpec, Error> {
        let Some(stored) = stored.filter(|_| self.lora.is_empty()) else { return Ok(spec) };
        for text in stored.split(", ") {
            let LoraSpec { path: name, unet, text_encoder } = lora(text).map_err(Error::request)?;
            let name = name.to_string_lossy();
            if spec.lora_folders.is_empty() {
                return Err(Error::request(format_args!(
                    "the picture was made with the adapter `{name}`; expected its file with --lora, or its folder with --lora-dir"
                )));
            }
            let path = find_adapter(&spec.lora_folders, &name)?;
            spec.loras.push(LoraSpec { path, unet, text_encoder });
        }
        Ok(spec)
    }
}

/// `file:0.8:0.5`; a file's name may have colons in it.
fn lora(text: &str) -> Result<LoraSpec, String> {
    let number = |text: &str| text.parse().ok().filter(|weight: &f32| weight.is_finite());
    let last = text.rsplit_once(':').and_then(|(rest, end)| Some((rest, number(end)?)));
    let (path, unet, text_encoder) = match last {
        None => (text, 1.0, 1.0),
        Some((rest, last)) => {
            match rest.rsplit_once(':').and_then(|(path, end)| Some((path, number(end)?))) {
                Some((path, unet)) => (path, unet, last),
                None => (rest, last, last),
            }
        }
    };
    match path.is_empty() || path.ends_with(':') {
        true => Err("expected a file, and perhaps weights, as in detail.safetensors:0.8".into()),
        false => Ok(LoraSpec { path: path.into(), unet, text_encoder }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_stand_behind_the_file() {
        let read = |text: &str| {
            let lora = lora(text).expect("a file");
            (lora.path.to_string_lossy().into_owned(), lora.unet, lora.text_encoder)
        };
        assert_eq!(read("a.safetensors"), ("a.safetensors".into(), 1.0, 1.0));
        assert_eq!(read("a.safetensors:0.8"), ("a.safetensors".into(), 0.8, 0.8));
        assert_eq!(read("C:/x/a.safetensors:-1:0.5"), ("C:/x/a.safetensors".into(), -1.0, 0.5));
        assert_eq!(read("C:/a.safetensors"), ("C:/a.safetensors".into(), 1.0, 1.0));
        assert!(lora(":0.8").is_err() && lora("").is_err());
    }
}
