//! A LoRA with random numbers for the attentions of a model: to test and to time with.
//!
//! ```text
//! lora_unet_….lora_down.weight    [rank, in]     normal, 1 / √in
//! lora_unet_….lora_up.weight      [out, rank]    normal, 0.02 / √rank
//! ```
//!
//! The names are kohya's, the numbers f16, as most published files have them.

use std::collections::BTreeMap;
use std::path::Path;

use aquatint_tensor::f16;
use safetensors::tensor::{Dtype, TensorView, serialize};

use crate::error::{Error, Result};
use crate::networks;
use crate::rng::Generator;
use crate::source::{ModelSource, ModelSpec, Schema, UNET};
use crate::whole_file::write_whole;

/// A LoRA to be made.
#[derive(Clone, Copy, Debug)]
pub struct RandomAdapter {
    /// Rows of the first factor, columns of the second.
    pub rank: usize,
    /// The number from which all others are drawn.
    pub seed: u64,
}

impl RandomAdapter {
    /// Writes one for the attentions of `model`'s UNet; replaces a file of this name.
    ///
    /// # Errors
    /// If the model cannot be read, or the file cannot be written.
    pub fn write(&self, model: impl Into<ModelSpec>, path: &Path) -> Result<()> {
        let source = ModelSource::open(model)?;
        let schema = Schema::new();
        networks::architecture(&UNET, source.config(&UNET)?)?.read(&schema.weights())?;
        let mut rng = Generator::new(self.seed);
        let mut tensors = BTreeMap::new();
        for spec in schema.tensors() {
            let layer = spec.name.strip_suffix(".weight").filter(|name| name.contains(".attn"));
            let (Some(layer), &[out, width]) = (layer, &spec.shape[..]) else { continue };
            let name = format!("lora_unet_{}", layer.replace('.', "_"));
            let mut factor = |role: &str, shape: [usize; 2], deviation: f32| {
                let numbers = rng.randn(shape[0] * shape[1]);
                let bytes = numbers.iter().flat_map(|x| f16::from_f32(x * deviation).to_le_bytes());
                tensors.insert(format!("{name}.{role}.weight"), (shape, bytes.collect::<Vec<u8>>()));
            };
            factor("lora_down", [self.rank, width], 1.0 / (width as f32).sqrt());
            factor("lora_up", [out, self.rank], 0.02 / (self.rank as f32).sqrt());
        }
        let failed = |error| Error::run(format_args!("cannot write `{}`: {error}", path.display()));
        let views = tensors.iter().map(|(name, (shape, bytes))| {
            Ok((name, TensorView::new(Dtype::F16, shape.to_vec(), bytes).map_err(failed)?))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        write_whole(path, &serialize(views, None).map_err(failed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::adapters::LoraSpec;
    use crate::tools::random_model::{Architecture, DType, RandomModel};
    use crate::{LoadOptions, Pipeline};

    #[test]
    fn it_changes_the_attentions_of_its_model() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [model, path] = ["tiny", "lora.safetensors"].map(|name| folder.path().join(name));
        let tiny = RandomModel { architecture: Architecture::TINY, dtype: DType::F16, seed: 0 };
        tiny.write(&model, &mut |_, _| {}).expect("writable");
        RandomAdapter { rank: 2, seed: 1 }.write(&model, &path).expect("writable");
        let loras = vec![LoraSpec { path, unet: 1.0, text_encoder: 1.0 }];
        let spec = ModelSpec { loras, strict: true, ..ModelSpec::from(&model) };
        let pipeline = Pipeline::load(spec, &LoadOptions::default()).expect("it fits");
        let [note] = &pipeline.notes()[..] else { panic!("one note") };
        assert!(note.starts_with("lora.safetensors: "), "{note}");
    }
}
