//! Configs that must load, configs that must not, and the tensors of the published VAE.

use std::path::Path;

use super::*;
use crate::Result;
use crate::source::Schema;
use crate::source::config::ConfigFile;

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
