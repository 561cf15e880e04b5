//! Whole networks at Stable Diffusion 1.5's sizes: a UNet step with guidance, VAE decode and encode
//! at 512×512, 77 tokens of text.
//!
//! Needs a model folder, which `aquatint random-model --arch sd15 --dtype f32 sd15` makes:
//!
//! ```text
//! AQUATINT_MODEL=$PWD/sd15 cargo bench -p aquatint-benches --bench stages
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use aquatint_benches as _; // its allocator
use aquatint_kernels::Isa;
use aquatint_model::networks::clip::{ClipTextConfig, ClipTextModel};
use aquatint_model::networks::unet::{UNet2DConditionModel, UNetConfig};
use aquatint_model::networks::vae::{Decoder, Encoder, VaeConfig};
use aquatint_model::source::{Checkpoint, TEXT_ENCODER, UNET, VAE};
use aquatint_model::tools::shapes;
use aquatint_tensor::{Recycling, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn bench(c: &mut Criterion) {
    let _recycling = Recycling::start(); // as the pipeline does
    let Some(folder) = std::env::var_os("AQUATINT_MODEL").map(PathBuf::from) else {
        eprintln!("AQUATINT_MODEL names no model folder; nothing is measured");
        return;
    };
    if let Err(error) = stages(c, &folder) {
        eprintln!("{error}");
    }
}

fn stages(c: &mut Criterion, folder: &Path) -> Result<(), Box<dyn Error>> {
    let isa = Isa::from_env()?;
    let mut group = c.benchmark_group(format!("stages/{isa}"));
    group.sample_size(10);
    let flop = |gflop: f64| Throughput::Elements((gflop * 1e9) as u64);

    let weights = Checkpoint::open(&TEXT_ENCODER.folder(folder), &TEXT_ENCODER)?;
    let config = ClipTextConfig::open(&TEXT_ENCODER.config_path(folder))?;
    let text_encoder = ClipTextModel::load(&weights.weights(), &config)?;
    let ids: Vec<u32> = (0..77).map(|i| i * 613 % 49_000).collect();
    group.throughput(flop(shapes::TEXT_GFLOP));
    assert_finite("text encoder", text_encoder.forward(isa, &[&ids]).as_slice());
    group.bench_function("text encoder", |b| b.iter(|| text_encoder.forward(isa, &[&ids])));

    let weights = Checkpoint::open(&VAE.folder(folder), &VAE)?;
    let config = VaeConfig::open(&VAE.config_path(folder))?;
    let (encoder, decoder) =
        (Encoder::load(&weights.weights(), &config)?, Decoder::load(&weights.weights(), &config)?);
    let (picture, latents) = (waves([1, 512, 512, 3]), waves([1, 64, 64, 4]));
    group.throughput(flop(shapes::DECODE_GFLOP));
    assert_finite("VAE decode", decoder.forward(isa, latents.view()).as_slice());
    group.bench_function("VAE decode", |b| b.iter(|| decoder.forward(isa, latents.view())));
    group.throughput(flop(shapes::ENCODE_GFLOP));
    group.bench_function("VAE encode", |b| b.iter(|| encoder.forward(isa, picture.view())));

    let weights = Checkpoint::open(&UNET.folder(folder), &UNET)?;
    let config = UNetConfig::open(&UNET.config_path(folder))?;
    let unet = UNet2DConditionModel::load(&weights.weights(), &config)?;
    let (latents, text) = (waves([1, 64, 64, 4]), waves([2, 77, 768, 1]).reshape([2, 77, 768]));
    let cond = unet.prepare(isa, text.view(), &[500.0]);
    group.throughput(flop(shapes::UNET_GFLOP));
    assert_finite("UNet step", unet.forward(isa, latents.view(), 0, &cond).as_slice());
    group.bench_function("UNet step", |b| b.iter(|| unet.forward(isa, latents.view(), 0, &cond)));
    Ok(())
}

/// Random weights have no known result; it must at least be numbers, and not all the same.
fn assert_finite(what: &str, found: &[f32]) {
    assert!(found.iter().all(|x| x.is_finite()), "{what}: not a number");
    assert!(found.iter().any(|&x| x != found[0]), "{what}: all numbers are {}", found[0]);
}

/// Numbers between −1 and 1 with some variety.
fn waves(shape: [usize; 4]) -> Tensor<f32, 4> {
    Tensor::from_fn(shape, |[n, y, x, c]| ((n + 3 * y + 7 * x + 5 * c) % 11) as f32 * 0.2 - 1.0)
}

criterion_group!(benches, bench);
criterion_main!(benches);
