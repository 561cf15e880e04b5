//! Configs that must load, configs that must not, and the tensors that the published models consist
//! of.

use std::path::Path;

use aquatint_tensor::{Tensor, concat};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use super::*;
use crate::source::config::ConfigFile;
use crate::source::{Checkpoint, Schema};

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
    // The innermost down block has no attention, but the middle block has, with the same number of
    // heads.
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
    refused(r#"{"addition_embed_type": "text"}"#, "`addition_embed_type` is \"text\"");
    refused(r#"{"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}"#, "`mid_block_type`");
    refused(r#"{"transformer_layers_per_block": [1, 2, 10]}"#, "`transformer_layers_per_block`");
    refused(r#"{"time_cond_proj_dim": 1}"#, "`time_cond_proj_dim` is 1");
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

/// A UNet with weights that differ from each other, small enough to keep numbers in range.
fn random(text: &str) -> UNet2DConditionModel {
    let tensors = schema(text).tensors();
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|spec| {
            waves(spec.shape.iter().product(), spec.name.len()).iter().flat_map(|x| x.to_le_bytes()).collect()
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|(spec, bytes)| {
        (spec.name.as_str(), TensorView::new(Dtype::F32, spec.shape.clone(), bytes).expect("as many bytes"))
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("unet.safetensors");
    serialize_to_file(views, None, &path).expect("writable");
    let weights = Checkpoint::from_files(&[path]).expect("just written");
    UNet2DConditionModel::load(&weights.weights(), &config(text).expect("a supported config"))
        .expect("all tensors")
}

fn waves(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * (2 * seed + 7919)) as f32).sin() * 0.2).collect()
}

/// Small networks: attention in the outer block, in the inner one only (so that skips of both
/// lengths are shared), in none but the middle one.
const SMALL: [(&str, &str); 3] = [
    (
        "outer",
        r#""down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]"#,
    ),
    (
        "inner",
        r#""down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]"#,
    ),
    (
        "middle",
        r#""down_block_types": ["DownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"]"#,
    ),
];

fn small(blocks: &str) -> UNet2DConditionModel {
    random(&format!(
        r#"{{"block_out_channels": [32, 64], "norm_num_groups": 8, "attention_head_dim": 4, "cross_attention_dim": 24, {blocks}}}"#
    ))
}

#[test]
fn one_latent_for_two_texts_is_the_same_as_two_equal_latents() {
    let latent = Tensor::from_vec([1, 7, 6, 4], waves(7 * 6 * 4, 1));
    let text = Tensor::from_vec([2, 5, 24], waves(2 * 5 * 24, 2));
    for (name, blocks) in SMALL {
        let unet = small(blocks);
        for isa in Isa::available() {
            let cond = unet.prepare(isa, text.view(), &[500.0]);
            let both = latent.view().broadcast_to([2, 7, 6, 4]).to_tensor();
            let expected = unet.forward(isa, both.view(), 0, &cond);
            let found = unet.forward(isa, latent.view(), 0, &cond);
            assert!(found == expected, "attention in the {name} block, {isa}");
            let pair = concat(&[latent.view(), latent.map(|x| -x).view()], 0);
            let four = concat(&[text.view(), text.view()], 0);
            let cond = unet.prepare(isa, four.view(), &[500.0]);
            let batch = unet.forward(isa, pair.view(), 0, &cond);
            let alone = unet.forward(isa, concat(&[pair.view(), pair.view()], 0).view(), 0, &cond);
            assert!(batch == alone, "two latents for four texts: attention in the {name} block, {isa}");
            let halves = found.as_slice().split_at(found.len() / 2);
            assert!(halves.0 != halves.1, "the text matters: attention in the {name} block, {isa}");
        }
    }
}

#[test]
fn steps_prepared_together_are_those_prepared_alone() {
    let unet = small(SMALL[0].1);
    let latent = Tensor::from_vec([1, 4, 4, 4], waves(64, 1));
    let text = Tensor::from_vec([1, 5, 24], waves(5 * 24, 2));
    let timesteps = [981.0, 500.5, 1.0];
    for isa in Isa::available() {
        let together = unet.prepare(isa, text.view(), &timesteps);
        let results: Vec<_> = (0..3).map(|step| unet.forward(isa, latent.view(), step, &together)).collect();
        for (step, &timestep) in timesteps.iter().enumerate() {
            let alone = unet.prepare(isa, text.view(), &[timestep]);
            assert!(results[step] == unet.forward(isa, latent.view(), 0, &alone), "step {step}, {isa}");
        }
        assert!(results[0] != results[1] && results[1] != results[2], "the time matters, {isa}");
    }
}

#[test]
fn a_transformer_is_as_deep_as_the_config_says() {
    let text = r#"{"transformer_layers_per_block": [1, 2, 3, 1], "cross_attention_dim": 768}"#;
    let tensors = schema(text).tensors();
    let deepest = |prefix: &str| {
        let blocks = tensors.iter().filter(|tensor| tensor.name.starts_with(prefix));
        blocks
            .filter(|tensor| tensor.name.ends_with("norm1.weight") && tensor.name.contains("former_b"))
            .count()
    };
    let depths = ["down_blocks.1.attentions.0.", "up_blocks.1.attentions.0.", "mid_block."].map(deepest);
    assert_eq!(depths, [2, 3, 1]);
}

/// As SSD-1B has them: the lists are those of each block, and of each of its layers.
#[test]
fn transformers_of_a_block_may_differ() {
    let lists = r#""transformer_layers_per_block": [1, [2, 2], [4, 4]], "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1]"#;
    let depths = config(&format!("{{{SDXL}, {lists}}}")).expect("supported").transformer_depths;
    let up = vec![vec![4, 4, 10], vec![2, 1, 1], vec![1, 1, 1]];
    let down = vec![vec![1, 1], vec![2, 2], vec![4, 4]];
    assert_eq!(depths, TransformerDepths { down, mid: 4, up });
    let xl =
        config(&format!(r#"{{{SDXL}, "transformer_layers_per_block": [1, 2, 10]}}"#)).expect("supported");
    assert_eq!((xl.transformer_depths.mid, &xl.transformer_depths.up[0][..]), (10, &[10, 10, 10][..]));
    let refused_lists = |lists: &str, expected: &str| refused(&format!("{{{SDXL}, {lists}}}"), expected);
    refused_lists(
        r#""transformer_layers_per_block": [1, [2, 2], [4, 4]]"#,
        "differs within a block and `reverse_transformer_layers_per_block` is absent",
    );
    refused_lists(r#""transformer_layers_per_block": [1, [2], 4]"#, "a list of 1 entries; expected 2");
    refused_lists(
        r#""transformer_layers_per_block": [1, 2, 0]"#,
        "contains 0; expected whole numbers from 1 to 1024",
    );
}

const SDXL: &str = r#""block_out_channels": [320, 640, 1280], "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "use_linear_projection": true,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816"#;

#[test]
fn pooled_texts_and_sizes_count_for_their_text_alone() {
    let addition = r#", "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 60"#;
    let latent = Tensor::from_vec([1, 6, 6, 4], waves(144, 1));
    let text = Tensor::from_vec([1, 5, 24], waves(5 * 24, 2));
    let two = concat(&[text.view(), text.view()], 0);
    let pooled = Tensor::from_vec([3, 12], waves(36, 3));
    let sizes = Tensor::from_vec(
        [3, 6],
        [[64.0, 64.0, 0.0, 0.0, 64.0, 64.0], [64.0, 64.0, 8.0, 0.0, 64.0, 64.0], [9.0; 6]].concat(),
    );
    for (name, blocks) in SMALL {
        let unet = small(&format!("{blocks}{addition}"));
        for isa in Isa::available() {
            let forward = |text: &Tensor<f32, 3>, rows: &[usize]| {
                let pick = |x: &Tensor<f32, 2>| {
                    concat(&rows.iter().map(|&row| x.view().slice(0, row..row + 1)).collect::<Vec<_>>(), 0)
                };
                let (pooled, time_ids) = (pick(&pooled), pick(&sizes));
                let addition = Some(Addition { pooled: pooled.view(), time_ids: time_ids.view() });
                let timesteps = &[900.0, 500.0];
                let (guidance_scale, token_merging) = (1.0, 0.0);
                let conditions =
                    Conditions { text: text.view(), timesteps, guidance_scale, token_merging, addition };
                unet.forward(isa, latent.view(), 1, &unet.prepare_with(isa, conditions))
            };
            let alone = [0, 1, 2].map(|row| forward(&text, &[row]));
            assert!(alone[0] != alone[1] && alone[0] != alone[2], "{name}, {isa}");
            let both = forward(&two, &[2, 1]);
            assert!(both.view().slice(0, 0..1).to_tensor() == alone[2], "{name}, {isa}");
            assert!(both.view().slice(0, 1..2).to_tensor() == alone[1], "{name}, {isa}");
        }
    }
}

#[test]
fn residuals_are_added_to_skips_and_middle() {
    let latent = Tensor::from_vec([1, 4, 4, 4], waves(64, 1));
    let text = Tensor::from_vec([2, 5, 24], waves(2 * 5 * 24, 2));
    let isa = Isa::best();
    for (name, blocks) in SMALL {
        let unet = small(blocks);
        let cond = unet.prepare(isa, text.view(), &[500.0]);
        let plain = unet.forward(isa, latent.view(), 0, &cond);
        // conv_in, two layers, the halving, two layers
        let shapes = [[4, 32], [4, 32], [4, 32], [2, 32], [2, 64], [2, 64]];
        let residual = |scale: f32| {
            move |[size, c]: [usize; 2]| {
                Tensor::from_vec([2, size, size, c], waves(2 * size * size * c, 3)).map(|x| scale * x)
            }
        };
        let with = |scale, mid: Option<&Tensor<f32, 4>>| {
            let down_blocks = shapes.map(residual(scale));
            let residuals = Residuals { down_blocks: &down_blocks, mid_block: mid };
            unet.forward_with(isa, latent.view(), 0, &cond, residuals)
        };
        let close = |a: &Tensor<f32, 4>, b: &Tensor<f32, 4>| {
            a.as_slice().iter().zip(b.as_slice()).all(|(a, b)| (a - b).abs() < 1e-4)
        };
        assert!(close(&with(0.0, None), &plain), "{name}: zeros change nothing");
        assert!(!close(&with(1.0, None), &plain), "{name}: skips count");
        assert!(!close(&with(0.0, Some(&residual(1.0)([2, 64]))), &plain), "{name}: the middle counts");
    }
}

#[test]
fn without_a_middle_block_the_up_blocks_follow() {
    let unet = small(&format!(r#"{}, "mid_block_type": null"#, SMALL[0].1));
    let latent = Tensor::from_vec([1, 4, 4, 4], waves(64, 1));
    let text = Tensor::from_vec([2, 5, 24], waves(2 * 5 * 24, 2));
    let cond = unet.prepare(Isa::best(), text.view(), &[500.0]);
    assert_eq!(unet.forward(Isa::best(), latent.view(), 0, &cond).shape(), [2, 4, 4, 4]);
    assert_eq!(unet.config().mid_block, None);
    assert_eq!(config("{}").expect("defaults").mid_block, Some(MidBlockKind::CrossAttention));
}

#[test]
fn a_guidance_scale_counts_where_it_is_an_input() {
    let latent = Tensor::from_vec([1, 4, 4, 4], waves(64, 1));
    let text = Tensor::from_vec([1, 5, 24], waves(5 * 24, 2));
    let results = |extra: &str| {
        let unet = small(&format!("{}{extra}", SMALL[0].1));
        [1.0, 7.5].map(|guidance_scale| {
            let conditions = Conditions {
                text: text.view(),
                timesteps: &[500.0],
                guidance_scale,
                token_merging: 0.0,
                addition: None,
            };
            let cond = unet.prepare_with(Isa::best(), conditions);
            unet.forward(Isa::best(), latent.view(), 0, &cond)
        })
    };
    let [low, high] = results("");
    assert!(low == high);
    let [low, high] = results(r#", "time_cond_proj_dim": 16"#);
    assert!(low != high);
}

#[test]
#[should_panic(expected = "3 latents cannot be shared among 2 texts")]
fn latents_must_fit_the_texts() {
    let unet = small(SMALL[2].1);
    let cond = unet.prepare(Isa::best(), Tensor::zeros([2, 5, 24]).view(), &[1.0]);
    unet.forward(Isa::best(), Tensor::zeros([3, 4, 4, 4]).view(), 0, &cond);
}

/// 1800 tokens are more than go through the feed-forward network at once, 900 are not; the border
/// lies inside of the second image.
#[test]
fn images_are_the_same_alone_and_where_their_tokens_are_cut_into_chunks() {
    let unet = small(SMALL[0].1);
    let pair = Tensor::from_vec([2, 30, 30, 4], waves(2 * 30 * 30 * 4, 1));
    let text = Tensor::from_vec([2, 5, 24], waves(2 * 5 * 24, 2));
    for isa in Isa::available() {
        let both = unet.forward(isa, pair.view(), 0, &unet.prepare(isa, text.view(), &[500.0]));
        for i in 0..2 {
            let cond = unet.prepare(isa, text.view().slice(0, i..i + 1), &[500.0]);
            let alone = unet.forward(isa, pair.view().slice(0, i..i + 1), 0, &cond);
            assert!(both.view().slice(0, i..i + 1).to_tensor() == alone, "image {i}, {isa}");
        }
    }
}
