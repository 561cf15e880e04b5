//! Each network on its own against diffusers: text embeddings, one UNet call, VAE encode and
//! decode, relative error ≤ 1e-4.
//!
//! `goldens/stages.py` made the numbers from the two small pipelines in `goldens/pipelines`: `sd1`
//! (f32, old attention names in the VAE), `sd2` (f16 on disk, shards, an fp16 variant, list of
//! heads, linear projections). The latents of the UNet call are 9×12: three levels down neither is
//! even.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use aquatint_kernels::{Isa, Precision};
use aquatint_model::Precisions;
use aquatint_model::networks::attention_maps;
use aquatint_model::networks::clip::{ClipTextConfig, ClipTextModel};
use aquatint_model::networks::unet::{Conditions, UNet2DConditionModel, UNetConfig};
use aquatint_model::networks::vae::{Decoder, Encoder, VaeConfig};
use aquatint_model::source::{Checkpoint, TEXT_ENCODER, UNET, VAE, accounts};
use aquatint_tensor::{Tensor, View, concat};
use aquatint_tests::{Golden, path, relative_distance, relative_error};
use safetensors::SafeTensors;

const PIPELINES: [&str; 2] = ["sd1", "sd2"];
const TOLERANCE: f64 = 1e-4;

fn part(pipeline: &str, part: &str) -> PathBuf {
    path(&format!("pipelines/{pipeline}/{part}"))
}

fn stages(pipeline: &str) -> Golden {
    Golden::open(&format!("stages/{pipeline}.safetensors"))
}

fn unet(pipeline: &str) -> UNet2DConditionModel {
    unet_for(pipeline, Precisions::default())
}

fn unet_for(pipeline: &str, precision: Precisions) -> UNet2DConditionModel {
    let folder = part(pipeline, "unet");
    let config = UNetConfig::open(&folder.join("config.json")).expect("a valid config");
    let weights = Checkpoint::open(&folder, &UNET).expect("valid weights");
    let w = weights.weights().for_precision(precision);
    let unet = UNet2DConditionModel::load(&w, &config).expect("weights that fit the config");
    assert_every_tensor_used(pipeline, &weights);
    unet
}

#[track_caller]
fn check<const N: usize>(what: &str, isa: Isa, found: View<'_, f32, N>, expected: View<'_, f32, N>) {
    let error = relative_error(found, expected);
    println!("{what}, {}: relative error {error:.1e}", isa.name());
    assert!(error <= TOLERANCE, "{what}, {}: relative error {error:.1e} > {TOLERANCE:.0e}", isa.name());
}

#[test]
fn text_encoder() {
    for pipeline in PIPELINES {
        let golden = stages(pipeline);
        let folder = part(pipeline, "text_encoder");
        let config = ClipTextConfig::open(&folder.join("config.json")).expect("a valid config");
        let weights = Checkpoint::open(&folder, &TEXT_ENCODER).expect("valid weights");
        let ids = golden.integers("text.ids");
        for (precision, isas) in [(Precision::F32, Isa::available()), (Precision::Bf16x3, Isa::all())] {
            let w = weights.weights().for_precision(precision);
            let model = ClipTextModel::load(&w, &config).expect("weights that fit the config");
            assert_every_tensor_used(pipeline, &weights);
            for isa in isas {
                // Two prompts at once must give what each gives alone.
                let found = model.forward(isa, &[&ids, &ids]);
                let expected = golden.tensor("text.embeddings");
                for prompt in 0..2 {
                    let found = found.view().slice(0, prompt..prompt + 1);
                    check(&format!("{pipeline} text encoder, {precision}"), isa, found, expected.view());
                }
            }
        }
    }
}

#[test]
fn unet_call() {
    for pipeline in PIPELINES {
        let golden = stages(pipeline);
        let unet = unet(pipeline);
        let sample = golden.image("unet.sample");
        let timesteps: Tensor<f32, 1> = golden.tensor("unet.timestep");
        let text: Tensor<f32, 3> = golden.tensor("unet.encoder_hidden_states");
        let expected = golden.image("unet.out");
        for isa in Isa::available() {
            for (i, &timestep) in timesteps.as_slice().iter().enumerate() {
                let one = i..i + 1;
                let cond = unet.prepare(isa, text.view().slice(0, one.clone()), &[timestep]);
                let found = unet.forward(isa, sample.view().slice(0, one.clone()), 0, &cond);
                check(
                    &format!("{pipeline} UNet at {timestep}"),
                    isa,
                    found.view(),
                    expected.view().slice(0, one),
                );
            }
        }
    }
}

/// The weights of each pixel for each token are those of diffusers' attention processors.
#[test]
fn attention_maps_of_a_unet_call() {
    let expected = Golden::open("stages/attention_maps.safetensors");
    for pipeline in PIPELINES {
        let golden = stages(pipeline);
        let unet = unet(pipeline);
        let sample = golden.image("unet.sample");
        let timesteps: Tensor<f32, 1> = golden.tensor("unet.timestep");
        let text: Tensor<f32, 3> = golden.tensor("unet.encoder_hidden_states");
        let isa = Isa::best();
        let cond = unet.prepare(isa, text.view().slice(0, 0..1), &timesteps.as_slice()[..1]);
        let maps = attention_maps::record(|| {
            unet.forward(isa, sample.view().slice(0, 0..1), 0, &cond);
            attention_maps::take()
        });
        assert!(maps.len() >= 3, "{pipeline}: {} maps", maps.len());
        for (i, map) in maps.iter().enumerate() {
            let expected: Tensor<f32, 2> = expected.tensor(&format!("{pipeline}.{i}"));
            assert_eq!(map.shape()[1..], expected.shape(), "{pipeline}, attention {i}");
            let off = map.as_slice().iter().zip(expected.as_slice()).map(|(a, b)| (a - b).abs());
            let worst = off.fold(0.0, f32::max);
            assert!(worst < 1e-5, "{pipeline}, attention {i}: a weight is off by {worst:.1e}");
        }
    }
}

/// Operands rounded or split: what that does to one call of the UNet, measured as the length of the
/// difference.
#[test]
fn unet_call_in_every_precision() {
    let [bf16, split] = [Precision::Bf16, Precision::Bf16x3].map(Precisions::all);
    for (precision, tolerance) in [(bf16, 1e-2), (Precisions::MIXED, 1e-2), (split, 1e-4)] {
        for pipeline in PIPELINES {
            let golden = stages(pipeline);
            let unet = unet_for(pipeline, precision);
            let sample = golden.image("unet.sample");
            let timesteps: Tensor<f32, 1> = golden.tensor("unet.timestep");
            let text: Tensor<f32, 3> = golden.tensor("unet.encoder_hidden_states");
            let expected = golden.image("unet.out");
            for isa in Isa::all() {
                for (i, &timestep) in timesteps.as_slice().iter().enumerate() {
                    let one = i..i + 1;
                    let sample = sample.view().slice(0, one.clone());
                    let cond = unet.prepare(isa, text.view().slice(0, one.clone()), &[timestep]);
                    let found = unet.forward(isa, sample, 0, &cond);
                    let expected = expected.view().slice(0, one);
                    let what = format!("{pipeline} UNet at {timestep}, {precision}, {}", isa.name());
                    let error = relative_distance(found.view(), expected);
                    println!("{what}: relative distance {error:.1e}");
                    assert!(error <= tolerance, "{what}: relative distance {error:.1e} > {tolerance:.0e}");
                    assert!(error > 1e-7, "{what}: the precision had no effect");
                }
            }
        }
    }
}

/// No middle block; the guidance scale as an input; transformers of 1, 2 and 3 blocks; blocks that
/// attend to the text alone.
#[test]
fn unet_call_of_other_configs() {
    for name in ["no_middle", "guided", "deep", "only_cross"] {
        let golden = Golden::open(&format!("unets/{name}.safetensors"));
        let folder = path(&format!("unets/{name}"));
        let config = UNetConfig::open(&folder.join("config.json")).expect("a valid config");
        let weights = Checkpoint::open(&folder, &UNET).expect("valid weights");
        let unet = UNet2DConditionModel::load(&weights.weights(), &config).expect("weights that fit");
        assert_every_tensor_used(name, &weights);
        let text: Tensor<f32, 3> = golden.tensor("encoder_hidden_states");
        let timesteps: Tensor<f32, 1> = golden.tensor("timestep");
        for guidance_scale in [1.0, 8.0] {
            let expected = golden.image(&format!("out_{guidance_scale}"));
            for isa in Isa::available() {
                let conditions = Conditions {
                    text: text.view(),
                    timesteps: timesteps.as_slice(),
                    guidance_scale,
                    token_merging: 0.0,
                    addition: None,
                };
                let cond = unet.prepare_with(isa, conditions);
                let found = unet.forward(isa, golden.image("sample").view(), 0, &cond);
                check(&format!("UNet {name} at scale {guidance_scale}"), isa, found.view(), expected.view());
            }
        }
    }
}

/// Two texts that see one image make what each makes alone, also where attention to the text comes
/// first.
#[test]
fn two_texts_are_as_each_alone() {
    let golden = Golden::open("unets/only_cross.safetensors");
    let folder = path("unets/only_cross");
    let config = UNetConfig::open(&folder.join("config.json")).expect("a valid config");
    let weights = Checkpoint::open(&folder, &UNET).expect("valid weights");
    let text: Tensor<f32, 3> = golden.tensor("encoder_hidden_states");
    let other = text.clone().map(|x| 0.5 - x);
    let both = concat(&[text.view(), other.view()], 0);
    for precision in [Precision::F32, Precision::Bf16] {
        let w = weights.weights().for_precision(precision);
        let unet = UNet2DConditionModel::load(&w, &config).expect("weights that fit");
        let isa = Isa::best();
        let forward = |text: &Tensor<f32, 3>| {
            let cond = unet.prepare(isa, text.view(), &[601.0]);
            unet.forward(isa, golden.image("sample").view(), 0, &cond)
        };
        let found = forward(&both);
        for (i, text) in [&text, &other].into_iter().enumerate() {
            let alone = forward(text);
            let error = relative_error(found.view().slice(0, i..i + 1), alone.view());
            assert!(error < 1e-5, "text {i}, {precision}: {error:.1e}");
        }
    }
}

/// 4096 tokens for each of two texts that see one image: enough for transformers to go depth first
/// if their operands are rounded.
#[test]
fn transformers_that_go_depth_first_agree_with_f32_on_any_number_of_threads() {
    let isa = Isa::best();
    let text: Tensor<f32, 3> = stages("sd1").tensor("unet.encoder_hidden_states");
    let sample =
        Tensor::from_fn([1, 64, 64, 4], |[_, y, x, c]| ((7 * y + 11 * x + 5 * c) % 13) as f32 / 6.0 - 1.0);
    let call = |precision, threads| {
        let unet = unet_for("sd1", precision);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(|| unet.forward(isa, sample.view(), 0, &unet.prepare(isa, text.view(), &[601.0])))
    };
    let expected = call(Precisions::default(), 2);
    let [one, three] = [1, 3].map(|threads| call(Precisions::all(Precision::Bf16x3), threads));
    check("a large UNet", isa, one.view(), expected.view());
    assert!(one == three, "{}: three threads have other bits than one", isa.name());
}

/// In bf16 a network stores f16 between its layers. A bias lifts all that the first one makes
/// beyond what f16 can hold.
#[test]
fn what_f16_cannot_hold_is_computed_again_and_only_for_its_image() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("diffusion_pytorch_model.safetensors");
    let mut bytes =
        fs::read(part("sd1", "unet").join("diffusion_pytorch_model.safetensors")).expect("readable");
    let (header, tensors) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let range = tensors.info("conv_in.bias").expect("a bias").data_offsets;
    for number in bytes[8 + header..][range.0..range.1].chunks_exact_mut(4) {
        number.copy_from_slice(&1e5f32.to_le_bytes());
    }
    fs::write(&file, bytes).expect("writable");
    let config = UNetConfig::open(&part("sd1", "unet").join("config.json")).expect("a valid config");
    let weights = Checkpoint::open(folder.path(), &UNET).expect("valid weights");
    let golden = stages("sd1");
    let sample = golden.image("unet.sample");
    let text: Tensor<f32, 3> = golden.tensor("unet.encoder_hidden_states");
    let loaded = |precision: Precisions| {
        let w = weights.weights().for_precision(precision);
        UNet2DConditionModel::load(&w, &config).expect("weights that fit the config")
    };
    let exact = loaded(Precisions::default());
    for precision in [Precisions::all(Precision::Bf16), Precisions::MIXED] {
        let unet = loaded(precision);
        for isa in Isa::all() {
            let call = |unet: &UNet2DConditionModel, images: Range<usize>| {
                let cond = unet.prepare(isa, text.view().slice(0, images.clone()), &[601.0]);
                unet.forward(isa, sample.view().slice(0, images), 0, &cond)
            };
            let (found, expected) = (call(&unet, 0..2), call(&exact, 0..2));
            let error = relative_distance(found.view(), expected.view());
            println!("{precision}, {}: relative distance {error:.1e}", isa.name());
            assert!(error <= 0.1, "{precision}, {}: relative distance {error:.1e}", isa.name());
            let alone = call(&unet, 1..2);
            assert!(alone == found.view().slice(0, 1..2).to_tensor(), "{precision}, {}", isa.name());
        }
    }
}

#[test]
fn images_of_a_batch_do_not_influence_each_other() {
    let golden = stages("sd1");
    let unet = unet("sd1");
    let sample = golden.image("unet.sample");
    let text: Tensor<f32, 3> = golden.tensor("unet.encoder_hidden_states");
    for isa in Isa::available() {
        let both = unet.forward(isa, sample.view(), 0, &unet.prepare(isa, text.view(), &[601.0]));
        for i in 0..2 {
            let cond = unet.prepare(isa, text.view().slice(0, i..i + 1), &[601.0]);
            let alone = unet.forward(isa, sample.view().slice(0, i..i + 1), 0, &cond);
            let together = both.view().slice(0, i..i + 1).to_tensor();
            assert!(alone.as_slice() == together.as_slice(), "{}: image {i} differs", isa.name());
        }
    }
}

#[test]
fn vae() {
    for pipeline in PIPELINES {
        let golden = stages(pipeline);
        let folder = part(pipeline, "vae");
        let config = VaeConfig::open(&folder.join("config.json")).expect("a valid config");
        let weights = Checkpoint::open(&folder, &VAE).expect("valid weights");
        let encoder = Encoder::load(&weights.weights(), &config).expect("weights that fit the config");
        let decoder = Decoder::load(&weights.weights(), &config).expect("weights that fit the config");
        assert_every_tensor_used(pipeline, &weights);
        for isa in Isa::available() {
            let decoded = decoder.forward(isa, golden.image("vae.decode.latents").view());
            check(
                &format!("{pipeline} decoder"),
                isa,
                decoded.view(),
                golden.image("vae.decode.image").view(),
            );

            let encoded = encoder.forward(isa, golden.image("vae.encode.image").view());
            let moments = golden.image("vae.encode.moments");
            let channels = config.latent_channels;
            check(
                &format!("{pipeline} encoder, mean"),
                isa,
                encoded.mean.view(),
                moments.view().slice(3, 0..channels),
            );
            let logvar =
                moments.view().slice(3, channels..2 * channels).to_tensor().map(|x| x.clamp(-30.0, 20.0));
            let found = encoded.logvar.expect("the VAE gives a distribution");
            check(&format!("{pipeline} encoder, log-variance"), isa, found.view(), logvar.view());
        }
    }
}

/// The same with operands rounded or split, measured as the length of the difference.
#[test]
fn vae_in_every_precision() {
    let [bf16, split] = [Precision::Bf16, Precision::Bf16x3].map(Precisions::all);
    for (precision, tolerance) in [(bf16, 2e-2), (Precisions::MIXED, 2e-2), (split, 1e-4)] {
        for pipeline in PIPELINES {
            let golden = stages(pipeline);
            let folder = part(pipeline, "vae");
            let config = VaeConfig::open(&folder.join("config.json")).expect("a valid config");
            let weights = Checkpoint::open(&folder, &VAE).expect("valid weights");
            let w = weights.weights().for_precision(precision);
            let encoder = Encoder::load(&w, &config).expect("weights that fit the config");
            let decoder = Decoder::load(&w, &config).expect("weights that fit the config");
            let moments = golden.image("vae.encode.moments");
            let mean = moments.view().slice(3, 0..config.latent_channels);
            let image = golden.image("vae.decode.image");
            for isa in Isa::all() {
                let decoded = decoder.forward(isa, golden.image("vae.decode.latents").view());
                let encoded = encoder.forward(isa, golden.image("vae.encode.image").view());
                for (what, error) in [
                    ("decoder", relative_distance(decoded.view(), image.view())),
                    ("encoder", relative_distance(encoded.mean.view(), mean)),
                ] {
                    let what = format!("{pipeline} {what}, {precision}, {}", isa.name());
                    println!("{what}: relative distance {error:.1e}");
                    assert!(error <= tolerance, "{what}: relative distance {error:.1e} > {tolerance:.0e}");
                    assert!(error > 1e-7, "{what}: the precision had no effect");
                }
            }
        }
    }
}

/// Every tensor was read, but for the buffer that old versions of transformers saved.
fn assert_every_tensor_used(pipeline: &str, weights: &Checkpoint) {
    for account in accounts(&[weights]) {
        let ignored = account.ignored.values().flatten().filter(|name| !name.ends_with(".position_ids"));
        let left: Vec<_> = ignored.chain(&account.unknown).collect();
        assert!(left.is_empty(), "{pipeline}: {left:?}");
    }
}
