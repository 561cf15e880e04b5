//! Configs that must load, configs that must not, and the tensors that the published models consist of.

use std::path::Path;

use super::*;
use crate::checkpoint::Schema;
use crate::config::ConfigFile;

fn config(text: &str) -> Result<UNetConfig> {
    UNetConfig::from_config(ConfigFile::parse(Path::new("unet/config.json"), text)?)
}

fn schema(text: &str) -> Schema<'static> {
    let schema = Schema::new();
    let config = config(text).expect("a supported config");
    UNet2DConditionModel::load(&schema.weights(), &config).expect("a schema has every tensor");
    schema
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = config(text).expect_err("an unsupported config").to_string();
    assert!(error.contains("`unet/config.json`") && error.contains(expected), "{error}");
}

#[test]
fn the_published_models_have_so_many_tensors_and_parameters() {
    let sd21 = r#"{"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": true}"#;
    // Counted by diffusers.
    for (name, text, parameters) in
        [("1.5", r#"{"cross_attention_dim": 768}"#, 859_520_964), ("2.1", sd21, 865_910_724usize)]
    {
        let tensors = schema(text).tensors();
        let found: usize = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        assert_eq!((tensors.len(), found), (686, parameters), "Stable Diffusion {name}");
    }
}

#[test]
fn the_first_up_block_of_stable_diffusion_takes_1280_channels_from_below_and_1280_from_a_skip() {
    let tensors = schema(r#"{"cross_attention_dim": 768}"#).tensors();
    let shape = |name: &str| {
        tensors.iter().find(|tensor| tensor.name == name).map_or(&[][..], |tensor| &tensor.shape)
    };
    assert_eq!(shape("up_blocks.0.resnets.0.conv1.weight"), [1280, 2560, 3, 3]);
    assert_eq!(shape("up_blocks.3.resnets.0.conv1.weight"), [320, 960, 3, 3]);
    assert_eq!(shape("up_blocks.3.resnets.2.conv_shortcut.weight"), [320, 640, 1, 1]);
    assert_eq!(shape("down_blocks.0.attentions.0.proj_in.weight"), [320, 320, 1, 1]);
    assert_eq!(shape("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"), [1280, 768]);
}

#[test]
fn numbers_must_fit_each_other() {
    refused(r#"{"block_out_channels": [320, 640]}"#, "`down_block_types` has 4 entries; expected 2");
    refused(r#"{"norm_num_groups": 33}"#, "`block_out_channels` is 320 in entry 0; expected a multiple");
    refused(
        r#"{"attention_head_dim": 7}"#,
        "means 7 heads in entry 0; expected a divisor of the block's 320",
    );
    refused(r#"{"attention_head_dim": [5, 10]}"#, "`attention_head_dim` has 2 entries; expected 4");
    refused(r#"{"freq_shift": 160}"#, "`freq_shift` is 160");
    // The innermost down block has no attention, but the middle block has, with the same number of heads.
    refused(r#"{"attention_head_dim": [8, 8, 8, 7]}"#, "means 7 heads in entry 3");
}

#[test]
fn absurd_numbers_are_refused() {
    refused(r#"{"block_out_channels": [320, 640, 1000000000, 1280]}"#, "is 1000000000 in entry 2");
    refused(r#"{"in_channels": -4}"#, "`in_channels` is -4");
    refused(r#"{"layers_per_block": 0}"#, "`layers_per_block` is 0");
    refused(r#"{"norm_eps": -1}"#, "`norm_eps` is -1");
}

#[test]
fn settings_that_are_not_supported_are_named() {
    refused(
        r#"{"class_embed_type": "timestep"}"#,
        "`class_embed_type` is \"timestep\", which is not supported",
    );
    refused(r#"{"addition_embed_type": "text_time"}"#, "`addition_embed_type`");
    refused(r#"{"mid_block_type": null}"#, "`mid_block_type` is null");
    refused(r#"{"transformer_layers_per_block": [1, 2, 10]}"#, "`transformer_layers_per_block`");
    refused(r#"{"down_block_types": ["AttnDownBlock2D"]}"#, "\"AttnDownBlock2D\" in entry 0");
    refused(r#"{"act_fn": "gelu"}"#, "`act_fn` is \"gelu\"");
}

#[test]
fn old_files_that_claim_a_small_size_mean_64() {
    let size = |text| config(text).expect("supported").sample_size;
    assert_eq!(size(r#"{"sample_size": 32, "_diffusers_version": "0.6.0"}"#), [64, 64]);
    assert_eq!(size(r#"{"sample_size": 32, "_diffusers_version": "0.10.2"}"#), [32, 32]);
    assert_eq!(size(r#"{"sample_size": [32, 48], "_diffusers_version": "0.6.0"}"#), [32, 48]);
}
