//! What an image will cost, by the configs alone: memory before the model is loaded, and how much
//! arithmetic decoding is beside a step.
//!
//! ```text
//! memory      the larger of, each with its weights as stored or, for bf16, as packed
//!                 UNet   latents' pixels · texts · 48 · block_out_channels[0] · 4 bytes
//!                        + 77 · chunks · texts · channels of keys and values · 4 bytes
//!                 VAE    image's pixels · 9 · block_out_channels[0] · 4 bytes; the tiny one's 5 ·
//!                        64; in strips pixels · (block_out_channels[0] + 8) · 4 bytes + 6 strips
//!             with all weights if the networks are kept for the next image
//! arithmetic  2 · weights for each pixel of their level
//!             + 4 · pixels · tokens · channels for each attention of the UNet
//! ```
//!
//! The two factors were measured: Stable Diffusion 1.5 in f16 holds 2.05 GB when it is loaded; a
//! step with guidance adds 0.12 GB at 256×256 and 0.46 GB at 512×512 (44 channels for each first
//! one), decoding 0.26 and 1.12 GB (8.3). Both grow with the area, because attention never writes
//! its matrix, and are rounded up here. The load code lists the weights, see [`Schema`]: 2 bytes
//! each in bf16, 4 in bf16x3, and 16 taps for 9 in an upsampling.

use aquatint_kernels::Precision;

use super::load_options::{Defaults, LoadOptions, scheduler_of};
use super::request::TextToImage;
use crate::error::Result;
use crate::generate::request::size_multiple;
use crate::networks;
use crate::networks::unet::{UNet2DConditionModel, UNetConfig};
use crate::networks::vae::{Decoder, Strips, VaeConfig};
use crate::precisions::Precisions;
use crate::source::{
    Component, ModelSource, ModelSpec, Role, Schema, TensorKind, TensorSource, TensorSpec, UNET, Usage, VAE,
};
use crate::text::prompt;

/// Channels that a step holds for each pixel, text and channel of the first level.
const UNET_CHANNELS: u64 = 48;

/// Strips of maps that are there at the same time, where the VAE works in strips.
const STRIPS: u64 = 6;

/// Tokens of a chunk of a prompt.
const CHUNK: usize = 77;

/// Memory that a model needs.
#[derive(Clone, Debug)]
pub struct Footprint {
    /// Bytes of the weights of the text encoders of each model, the model's and its refiner's, of
    /// their UNets, and of the VAE.
    text_encoders: Vec<u64>,
    unets: Vec<u64>,
    vae: u64,
    /// Whether all of them stay in memory.
    keep: bool,
    unet_per_pixel: u64,
    vae_per_pixel: u64,
    vae_per_pixel_in_strips: u64,
    /// Keys and values of a chunk of a prompt, in all layers.
    unet_per_chunk: u64,
    /// Pixels of a picture in a row of those of one pixel of its latents.
    factor: u64,
    /// What a request asks for unless it says otherwise; see
    /// [`Pipeline::defaults`](crate::Pipeline::defaults).
    pub defaults: TextToImage,
}

impl Footprint {
    /// That of a model, if it is loaded so; its weights are not read.
    ///
    /// # Errors
    /// If it is no model, or a component of it is missing.
    pub fn of(
        model: impl Into<ModelSpec>,
        &LoadOptions { isa, precision, keep }: &LoadOptions,
    ) -> Result<Self> {
        let mut spec = model.into();
        let refiner = spec.refiner.take();
        let mut footprint = Self::of_one(spec, LoadOptions { isa, precision, keep })?;
        if let Some(refiner) = refiner {
            let other = Self::of_one(refiner.into(), LoadOptions { isa, precision, keep })?;
            footprint.text_encoders.extend(other.text_encoders);
            footprint.unets.extend(other.unets);
            footprint.unet_per_pixel = footprint.unet_per_pixel.max(other.unet_per_pixel);
            footprint.unet_per_chunk = footprint.unet_per_chunk.max(other.unet_per_chunk);
        }
        Ok(footprint)
    }

    fn of_one(spec: ModelSpec, LoadOptions { isa, precision, keep }: LoadOptions) -> Result<Self> {
        let source = ModelSource::open(spec)?;
        let unet = UNetConfig::from_config(source.config(&UNET)?)?;
        let vae = VaeConfig::from_config(source.config(&VAE)?)?;
        let mut queries = 0; // channels that attend to the text; as many are keys, and values
        let mut weights = |component: &Component, precisions: Precisions| -> Result<u64> {
            let (checkpoint, schema) = (source.checkpoint(component)?, Schema::new());
            let architecture = networks::architecture(component, source.config(component)?)?;
            architecture.read(&schema.weights().for_precision(precisions))?;
            let tensors = schema.tensors();
            let of_text = tensors.iter().filter(|spec| spec.usage.role == Role::CrossAttention);
            queries += of_text.map(|spec| spec.shape[0]).sum::<usize>();
            let adapters = !source.spec().loras.is_empty() || !source.spec().lora_folders.is_empty();
            let bytes = match adapters && *component != VAE {
                true => 4 * tensors.iter().map(numbers).sum::<u64>(), // what they change is in f32 then
                false => stored(&checkpoint, &tensors),
            };
            Ok(loaded(bytes, &tensors))
        };
        let of_text = |component: &&Component| **component != UNET && **component != VAE;
        let text_precision = Precisions::from(precision.for_text(isa));
        let text_encoders = source.networks().filter(of_text);
        let text_encoders = text_encoders.map(|component| weights(component, text_precision));
        let text_encoders = vec![text_encoders.sum::<Result<u64>>()?];
        let (unets, vae_weights) = (vec![weights(&UNET, precision)?], weights(&VAE, precision)?);
        Ok(Self {
            text_encoders,
            unets,
            vae: vae_weights,
            keep,
            unet_per_chunk: (4 * CHUNK * 2 * queries) as u64,
            unet_per_pixel: 4 * UNET_CHANNELS * unet.block_out_channels[0] as u64,
            vae_per_pixel: 4 * vae.numbers_per_pixel() as u64,
            vae_per_pixel_in_strips: 4 * vae.numbers_per_pixel_in_strips() as u64,
            factor: vae.scale_factor() as u64,
            defaults: Defaults::of(&source, &unet, &vae, &scheduler_of(&source, unet.addition.is_some())?)?
                .request,
        })
    }

    /// A picture's sides are multiples of this, in pixels.
    pub fn size_multiple(&self) -> usize {
        size_multiple(self.factor as usize)
    }

    /// Bytes for `together` images of a request in one batch, weights and all.
    pub fn bytes(&self, request: &TextToImage, together: usize) -> u64 {
        let [width, height] = request.final_size(self.size_multiple());
        let pixels = width as u64 * height as u64;
        let texts = (together * request.texts()) as u64;
        let chunks = |text: &str| prompt::estimated_chunks(text, request.prompt_syntax);
        let chunks = chunks(&request.prompt).max(chunks(&request.negative_prompt)) as u64;
        let unet = texts * (pixels / self.factor.pow(2) * self.unet_per_pixel + chunks * self.unet_per_chunk);
        let vae = self.vae_maps(pixels, request.vae_tiling);
        match self.keep {
            true => self.weights() + unet.max(vae),
            false => most(&self.text_encoders).max(most(&self.unets) + unet).max(self.vae + vae),
        }
    }

    /// Bytes to decode or encode a picture with nothing else in memory, at once or in strips.
    pub fn vae_bytes(&self, [width, height]: [usize; 2], vae_tiling: bool) -> u64 {
        self.vae + self.vae_maps(width as u64 * height as u64, vae_tiling)
    }

    /// Bytes of the VAE's feature maps.
    fn vae_maps(&self, pixels: u64, vae_tiling: bool) -> u64 {
        let whole = pixels * self.vae_per_pixel;
        match vae_tiling {
            false => whole,
            true => {
                whole.min(pixels * self.vae_per_pixel_in_strips + STRIPS * Strips::default().bytes as u64)
            }
        }
    }

    /// Bytes of the weights that are in memory at the same time.
    pub fn weights(&self) -> u64 {
        match self.keep {
            true => self.text_encoders.iter().chain(&self.unets).sum::<u64>() + self.vae,
            false => most(&self.text_encoders).max(most(&self.unets)).max(self.vae),
        }
    }
}

fn most(bytes: &[u64]) -> u64 {
    bytes.iter().copied().max().unwrap_or(0)
}

/// Bytes of a network's weights in the types that kernels pack.
fn stored(source: &dyn TensorSource, tensors: &[TensorSpec]) -> u64 {
    let bytes = |spec: &TensorSpec| {
        // Shapes decide, since some layers' names differ from file to file.
        let numbers = spec.shape.iter().product::<usize>() as u64;
        let found = source.find(&spec.name);
        let size =
            found.map_or(2, |found| if found.is_plain() { found.stored.dtype.packed_size() } else { 4 });
        numbers * size as u64
    };
    tensors.iter().map(bytes).sum()
}

/// Bytes of a network's weights when they are loaded, of `stored` bytes: what is not packed for
/// bf16 keeps its size.
fn loaded(stored: u64, tensors: &[TensorSpec]) -> u64 {
    let all: u64 = tensors.iter().map(numbers).sum();
    let bytes = |tensor: &TensorSpec| match packed(tensor) {
        Some(bytes) => bytes as u64,
        None => numbers(tensor) * stored / all.max(1),
    };
    tensors.iter().map(bytes).sum()
}

/// Bytes of a tensor that is packed for products in bf16; `None` of one that is not.
fn packed(tensor: &TensorSpec) -> Option<usize> {
    let &[out_channels, in_channels, ref window @ ..] = &tensor.shape[..] else { return None };
    let taps: usize = match tensor.kind {
        TensorKind::Vector | TensorKind::Table => return None,
        TensorKind::Matrix => window.iter().product(),
        TensorKind::Upsampling => 16, // four windows of 2×2
    };
    let number = match tensor.precision {
        Precision::F32 => return None,
        Precision::Bf16 => 2,
        Precision::Bf16x3 => 4,
    };
    let [rows, columns] = [out_channels, in_channels].map(|channels| channels.next_multiple_of(32)); // whole tiles
    Some(number * rows * columns * taps)
}

/// Arithmetic of a step of the UNet, for each level of halving, and of the VAE's decoder.
#[derive(Clone, Debug, Default)]
pub(super) struct Arithmetic {
    /// Weights that every pixel of a level meets.
    weights: Vec<f64>,
    /// Channels of all self-attentions, and of all cross-attentions, of a level.
    self_attention: Vec<f64>,
    cross_attention: Vec<f64>,
    /// Weights that a pixel of the picture meets in the decoder, on the mean.
    decoder: f64,
}

impl Arithmetic {
    /// From the lists of tensors.
    pub(super) fn of(unet: &UNetConfig, vae: &VaeConfig) -> Result<Self> {
        let (unet_schema, vae_schema) = (Schema::new(), Schema::new());
        Decoder::load(&vae_schema.weights(), vae)?;
        UNet2DConditionModel::load(&unet_schema.weights(), unet)?;
        let zeros = vec![0.0; unet.block_out_channels.len()];
        let (mut weights, mut self_attention, mut cross_attention) = (zeros.clone(), zeros.clone(), zeros);
        for tensor in unet_schema.tensors().iter().filter(|tensor| is_multiplied(tensor)) {
            let (Usage { halvings, role }, channels) = (tensor.usage, tensor.shape[0] as f64);
            match role {
                Role::Once => continue,
                Role::Each => {}
                Role::SelfAttention => self_attention[halvings] += channels,
                Role::CrossAttention => cross_attention[halvings] += channels,
            }
            weights[halvings] += numbers(tensor) as f64;
        }
        let vae = vae_schema.tensors();
        let a_pixel = |tensor: &TensorSpec| numbers(tensor) as f64 / 4f64.powi(tensor.usage.halvings as i32);
        let decoder = vae.iter().filter(|tensor| is_multiplied(tensor)).map(a_pixel).sum();
        Ok(Self { weights, self_attention, cross_attention, decoder })
    }

    /// Operations of one step for `texts` texts of `tokens` tokens, with latents of `pixels`
    /// pixels.
    pub(super) fn step(&self, pixels: usize, texts: usize, tokens: usize) -> f64 {
        let (texts, tokens) = (texts as f64, tokens as f64);
        let at = |level: usize| {
            let pixels = pixels as f64 / 4f64.powi(level as i32);
            let attention = pixels * self.self_attention[level] + tokens * self.cross_attention[level];
            2.0 * pixels * self.weights[level] + 4.0 * pixels * attention
        };
        texts * (0..self.weights.len()).map(at).sum::<f64>()
    }

    /// How long decoding a picture of `pixels` pixels takes, in per cent of a step of `step`
    /// operations. Its large convolutions run at a higher rate than the small layers of the UNet:
    /// with 0.74 of the arithmetic, the four machines of README.md's table are within a factor of
    /// 1.4.
    pub(super) fn decoding_percent(&self, pixels: usize, step: f64) -> usize {
        const TIME_OF_AN_OPERATION: f64 = 0.74;
        (100.0 * TIME_OF_AN_OPERATION * self.decoding(pixels) / step.max(1.0)) as usize
    }

    /// Operations to decode a picture of `pixels` pixels.
    fn decoding(&self, pixels: usize) -> f64 {
        2.0 * self.decoder * pixels as f64
    }
}

fn numbers(tensor: &TensorSpec) -> u64 {
    tensor.shape.iter().product::<usize>() as u64
}

fn is_multiplied(tensor: &TensorSpec) -> bool {
    matches!(tensor.kind, TensorKind::Matrix | TensorKind::Upsampling)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::config::ConfigFile;
    use crate::source::published::SD15;
    use crate::tools::random_model::Architecture;
    use crate::tools::random_model::{DType, RandomModel};
    use crate::tools::shapes::{DECODE_GFLOP, UNET_ATTENTIONS, UNET_CONVS, UNET_LINEARS};

    /// `shapes.rs` lists the layers of Stable Diffusion 1.5 by hand.
    #[test]
    fn a_step_of_stable_diffusion_has_its_known_size() {
        let config = |component: &Component| {
            ConfigFile::open(&component.config_path(&SD15.root())).expect("a valid config")
        };
        let vae = VaeConfig::from_config(config(&VAE)).expect("valid");
        let unet = UNetConfig::from_config(config(&UNET)).expect("valid");
        let arithmetic = Arithmetic::of(&unet, &vae).expect("a known architecture");
        let step = arithmetic.step(64 * 64, 2, 77);
        let attentions = UNET_ATTENTIONS.iter().map(|layer| layer.count * layer.flops());
        let convs = UNET_CONVS.iter().map(|layer| layer.count * layer.flops());
        let linears = UNET_LINEARS.iter().map(|layer| layer.count * layer.flops());
        let listed = attentions.chain(convs).chain(linears).sum::<usize>() as f64;
        assert!((step / listed - 1.0).abs() < 0.01, "{step:e}, not {listed:e}");
        let quarter = arithmetic.step(32 * 32, 2, 77);
        assert!(quarter < step / 4.0, "attention grows faster than the area: {quarter:e}");
        let decoding = arithmetic.decoding(512 * 512);
        assert!((decoding / 1e9 / DECODE_GFLOP - 1.0).abs() < 0.02, "{decoding:e}");
    }

    #[test]
    fn memory_grows_with_the_area_and_the_number_of_pictures() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tiny");
        let model = RandomModel { architecture: Architecture::TINY, dtype: DType::F16, seed: 0 };
        model.write(&path, &mut |_, _| {}).expect("the folder is writable");
        let footprint = Footprint::of(&path, &LoadOptions::default()).expect("a model");
        let bytes = |side: usize, together: usize| {
            let request = TextToImage { width: side, height: side, ..footprint.defaults.clone() };
            footprint.bytes(&request, together) - footprint.weights()
        };
        assert_eq!(bytes(256, 1), 4 * bytes(128, 1));
        assert!(bytes(128, 64) > bytes(128, 1), "many pictures together need more than decoding one");
        assert!(footprint.weights() > 1_000_000);
    }

    /// Within a per cent of what the published sizes of SD 1.5's parts come to: 859.5 million
    /// weights of the UNet, 83.7 of the VAE.
    #[test]
    fn weights_take_what_their_precision_needs() {
        let config = ConfigFile::open(&UNET.config_path(&SD15.root())).expect("a valid config");
        let unet = UNetConfig::from_config(config).expect("valid");
        let bytes = |precision, stored| {
            let schema = Schema::new();
            UNet2DConditionModel::load(&schema.weights().for_precision(precision), &unet)
                .expect("a schema has everything");
            loaded(stored, &schema.tensors()) as f64
        };
        let [half, single] = [1_719_000_000, 3_438_000_000];
        let close = |found: f64, expected: f64| {
            assert!((found / expected - 1.0).abs() < 0.01, "{found:e}, not {expected:e}");
        };
        close(bytes(Precision::F32, half), 1.719e9);
        close(bytes(Precision::F32, single), 3.438e9);
        // Three upsamplings, of 1280, 1280 and 640 channels, have 16 taps for 9.
        let phases = 7.0 * (2.0 * 1280.0 * 1280.0 + 640.0 * 640.0);
        // The way of the time stays f32: its own two layers, and one in each block that together
        // make 20160 channels of it.
        let in_f32 = 1280.0 * (320.0 + 1280.0 + 20160.0);
        close(bytes(Precision::Bf16, half), 1.719e9 + 2.0 * phases);
        close(bytes(Precision::Bf16x3, half), 3.438e9 + 4.0 * phases - 2.0 * in_f32);
        close(bytes(Precision::Bf16, single), 1.719e9 + 2.0 * phases + 2.0 * in_f32);
    }
}
