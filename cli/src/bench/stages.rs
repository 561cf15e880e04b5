//! Whole networks of a model folder: text encoder, UNet step with guidance, VAE decode and encode, a picture from prompt to pixels.
//!
//! Sizes are those for which the model was trained. Each network is loaded when it is due and dropped after it, so that the
//! memory of one is enough. The text encoder's precision is that in a pipeline. Operations are counted for Stable Diffusion 1.5 only.

use std::path::Path;

use aquatint_kernels::Isa;
use aquatint_model::networks::clip::{ClipTextConfig, ClipTextModel};
use aquatint_model::networks::unet::{UNet2DConditionModel, UNetConfig};
use aquatint_model::networks::vae::{Decoder, Encoder, VaeConfig};
use aquatint_model::source::{Checkpoint, TEXT_ENCODER, UNET, VAE};
use aquatint_model::tools::shapes;
use aquatint_model::{Error, LoadOptions, Pipeline, Precisions, TextToImage};
use aquatint_tensor::Tensor;

use super::cases::{matches, name};
use super::report::Row;
use super::timing::{Timing, measure};

/// What all stages share.
pub(super) struct Stages<'a> {
    pub(super) folder: &'a Path,
    pub(super) isa: Isa,
    /// Of the large products in UNet and VAE.
    pub(super) precision: Precisions,
    pub(super) threads: usize,
    /// Seconds for each stage.
    pub(super) budget: f64,
    pub(super) filter: &'a [String],
    /// Steps of the picture.
    pub(super) steps: usize,
}

const TOKENS: usize = 77;

/// Whether a folder can be measured, as far as its configs tell.
///
/// # Errors
/// If one of them is missing, or says what is not supported.
pub(super) fn check(folder: &Path) -> Result<(), Error> {
    ClipTextConfig::open(&TEXT_ENCODER.config_path(folder))?;
    UNetConfig::open(&UNET.config_path(folder))?;
    VaeConfig::open(&VAE.config_path(folder)).map(drop)
}

impl Stages<'_> {
    /// Measures all stages that the filter names; each is handed to `found` when it is done.
    ///
    /// # Errors
    /// If the model cannot be loaded.
    pub(super) fn run(&self, found: &mut dyn FnMut(Row)) -> Result<(), Error> {
        let unet = UNetConfig::open(&UNET.config_path(self.folder))?;
        let vae = VaeConfig::open(&VAE.config_path(self.folder))?;
        let published =
            unet.block_out_channels == [320, 640, 1280, 1280] && unet.cross_attention_dim[0] == 768;
        let gflop = |gflop: f64| if published && unet.sample_size == [64, 64] { gflop } else { 0.0 };
        self.text_encoder(gflop(shapes::TEXT_GFLOP), found)?;
        self.unet(&unet, gflop(shapes::UNET_GFLOP), found)?;
        self.vae(&vae, unet.sample_size, [shapes::DECODE_GFLOP, shapes::ENCODE_GFLOP].map(gflop), found)?;
        self.picture(found)
    }

    fn text_encoder(&self, gflop: f64, found: &mut dyn FnMut(Row)) -> Result<(), Error> {
        let (stage, shape) = (TEXT_ENCODER.title, format!("{TOKENS} tokens"));
        if !self.wanted(stage, &shape) {
            return Ok(());
        }
        let weights = Checkpoint::open(&TEXT_ENCODER.folder(self.folder), &TEXT_ENCODER)?;
        let config = ClipTextConfig::open(&TEXT_ENCODER.config_path(self.folder))?;
        let weights = weights.weights().for_precision(self.precision_of(stage));
        let text_encoder = ClipTextModel::load(&weights, &config)?;
        let tokens = TOKENS.min(config.max_position_embeddings);
        let ids: Vec<u32> = (0..tokens).map(|i| (i * 613 % config.vocab_size) as u32).collect();
        found(self.row(stage, shape, gflop, || drop(text_encoder.forward(self.isa, &[&ids]))));
        Ok(())
    }

    fn unet(&self, config: &UNetConfig, gflop: f64, found: &mut dyn FnMut(Row)) -> Result<(), Error> {
        let [height, width] = config.sample_size;
        let (stage, shape) = ("UNet step", format!("{height}×{width}, guided"));
        if !self.wanted(stage, &shape) {
            return Ok(());
        }
        let weights = Checkpoint::open(&UNET.folder(self.folder), &UNET)?;
        let unet = UNet2DConditionModel::load(&weights.weights().for_precision(self.precision), config)?;
        let text = waves([2, TOKENS, config.cross_attention_dim[0]]);
        let told = unet.prepare(self.isa, text.view(), &[500.0]);
        let latents = waves([1, height, width, config.in_channels]);
        found(self.row(stage, shape, gflop, || drop(unet.forward(self.isa, latents.view(), 0, &told))));
        Ok(())
    }

    fn vae(
        &self,
        config: &VaeConfig,
        [height, width]: [usize; 2],
        [decode_gflop, encode_gflop]: [f64; 2],
        found: &mut dyn FnMut(Row),
    ) -> Result<(), Error> {
        let factor = config.scale_factor();
        let shape = format!("{}×{}", height * factor, width * factor);
        let weights = Checkpoint::open(&VAE.folder(self.folder), &VAE)?;
        if self.wanted("VAE decode", &shape) {
            let decoder = Decoder::load(&weights.weights().for_precision(self.precision), config)?;
            let latents = waves([1, height, width, config.latent_channels]);
            let decode = || drop(decoder.forward(self.isa, latents.view()));
            found(self.row("VAE decode", shape.clone(), decode_gflop, decode));
        }
        if self.wanted("VAE encode", &shape) {
            let encoder = Encoder::load(&weights.weights().for_precision(self.precision), config)?;
            let picture = waves([1, height * factor, width * factor, config.in_channels]);
            let encode = || drop(encoder.forward(self.isa, picture.view()));
            found(self.row("VAE encode", shape, encode_gflop, encode));
        }
        Ok(())
    }

    fn picture(&self, found: &mut dyn FnMut(Row)) -> Result<(), Error> {
        let (stage, shape) = ("picture", format!("{} steps", self.steps));
        if !self.wanted(stage, &shape) {
            return Ok(());
        }
        let options = LoadOptions { isa: self.isa, precision: self.precision, keep: true };
        let pipeline = Pipeline::load(self.folder, &options)?;
        let request =
            TextToImage { prompt: "a fox in the snow".into(), steps: self.steps, ..pipeline.defaults() };
        let mut failed = None;
        let row = self.row(stage, shape, 0.0, || {
            failed = pipeline.text_to_image(&request, &mut |_| ()).err().or(failed.take());
        });
        failed.map_or(Ok(()), Err)?;
        found(row);
        Ok(())
    }

    fn wanted(&self, stage: &str, shape: &str) -> bool {
        let precision = self.precision_of(stage);
        matches(&name("stage", stage, precision, self.isa.name_for(precision.products), shape), self.filter)
    }

    fn precision_of(&self, stage: &str) -> Precisions {
        if stage == TEXT_ENCODER.title { self.precision.for_text(self.isa).into() } else { self.precision }
    }

    fn row(&self, stage: &str, shape: String, gflop: f64, run: impl FnMut()) -> Row {
        let timing: Timing = measure(self.budget, run);
        let precision = self.precision_of(stage);
        Row {
            kernel: "stage".into(),
            rung: stage.into(),
            precision,
            isa: self.isa.name_for(precision.products).into(),
            shape,
            threads: self.threads,
            count: 1,
            flops: 1e9 * gflop,
            bytes: 0.0,
            timing,
        }
    }
}

/// Numbers between −1 and 1 with some variety.
fn waves<const N: usize>(shape: [usize; N]) -> Tensor<f32, N> {
    Tensor::from_fn(shape, |index| {
        let position: usize = index.iter().zip([1, 3, 7, 5]).map(|(i, factor)| i * factor).sum();
        (position % 11) as f32 * 0.2 - 1.0
    })
}
