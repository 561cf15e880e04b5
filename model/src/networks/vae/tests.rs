//! Configs that must load, configs that must not, and the tensors of the published VAE.

use std::path::Path;

use aquatint_kernels::Isa;
use aquatint_tensor::Tensor;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use super::*;
use crate::Result;
use crate::precisions::Precisions;
use crate::source::config::ConfigFile;
use crate::source::{Checkpoint, Schema};

fn config(text: &str) -> Result<VaeConfig> {
    VaeConfig::from_config(ConfigFile::parse(Path::new("vae/config.json"), text)?)
}

const PUBLISHED: &str = r#"{
    "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
    "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]
}"#;

#[test]
fn the_published_vae_has_so_many_tensors_and_parameters() {
    let config = config(PUBLISHED).expect("a supported config");
    assert_eq!(config.scale_factor(), 8);
    let schema = Schema::new();
    Encoder::load(&schema.weights(), &config).expect("a schema has every tensor");
    Decoder::load(&schema.weights(), &config).expect("a schema has every tensor");
    let tensors = schema.tensors();
    let parameters: usize = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    assert_eq!((tensors.len(), parameters), (248, 83_653_863)); // counted by diffusers
}

#[test]
fn what_is_not_supported_is_named() {
    for (text, expected) in [
        (r#"{"latents_mean": [0.1]}"#, "`latents_mean` is [0.1], which is not supported"),
        (r#"{"block_out_channels": [128, 256]}"#, "`down_block_types` has 1 entries; expected 2"),
        (r#"{"norm_num_groups": 7}"#, "`block_out_channels` contains 64"),
        (r#"{"scaling_factor": 0}"#, "`scaling_factor` is 0; expected"),
        (r#"{"latent_channels": 0}"#, "`latent_channels` is 0"),
    ] {
        let error = config(text).expect_err("an unsupported config").to_string();
        assert!(error.contains("`vae/config.json`") && error.contains(expected), "{error}");
    }
}

/// SDXL's VAE has numbers between its layers that f16 cannot hold (`force_upcast`): pictures by
/// programs that compute in f16 are black.
#[test]
fn numbers_beyond_f16_make_no_black_picture_in_any_precision() {
    let text = r#"{"block_out_channels": [32, 64], "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"], "norm_num_groups": 8, "force_upcast": true}"#;
    let config = config(text).expect("a supported config");
    let schema = Schema::new();
    Encoder::load(&schema.weights(), &config).expect("a schema has every tensor");
    Decoder::load(&schema.weights(), &config).expect("a schema has every tensor");
    let waves = |len: usize, seed: usize| (0..len).map(move |i| ((i * (2 * seed + 7919)) as f32).sin() * 0.2);
    let tensors = schema.tensors();
    let bytes: Vec<Vec<u8>> = (tensors.iter())
        .map(|spec| {
            let scale = if spec.name.contains("conv_in") { 3e6 } else { 1.0 };
            let numbers = waves(spec.shape.iter().product(), spec.name.len());
            numbers.flat_map(|x| (scale * x).to_le_bytes()).collect()
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|(spec, bytes)| {
        (spec.name.as_str(), TensorView::new(Dtype::F32, spec.shape.clone(), bytes).expect("as many bytes"))
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("vae.safetensors");
    serialize_to_file(views, None, &path).expect("writable");
    let checkpoint = Checkpoint::from_files(&[path]).expect("just written");
    let latents = Tensor::from_vec([1, 8, 8, 4], waves(256, 1).collect());
    let picture = Tensor::from_vec([1, 16, 16, 3], waves(768, 2).collect());
    let run = |isa, precisions: Precisions| {
        let w = checkpoint.weights().for_precision(precisions);
        let decoded = Decoder::load(&w, &config).expect("all tensors").forward(isa, latents.view());
        let encoded = Encoder::load(&w, &config).expect("all tensors").forward(isa, picture.view());
        [decoded.into_vec(), encoded.mean.into_vec()]
    };
    for isa in Isa::available() {
        let expected = run(isa, Precisions::default());
        for precisions in Precisions::ALL {
            for (found, expected) in run(isa, precisions).iter().zip(&expected) {
                assert!(found.iter().all(|x| x.is_finite()), "{isa}, {precisions}");
                let norm = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                let difference: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
                let error = norm(&difference) / norm(expected);
                assert!(error < 0.05, "{isa}, {precisions}: {error}");
            }
        }
    }
}
