//! The VAE's `config.json`, of either class.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::Result;
use crate::source::config::{COUNT, ConfigFile, SIZE};

/// Sizes and switches of the VAE, from `vae/config.json`; names and defaults are those of
/// diffusers' `AutoencoderKL` and `AutoencoderTiny`.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels of the picture that is encoded.
    pub in_channels: usize,
    /// Channels of the picture that is decoded.
    pub out_channels: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Latents are multiplied by this before the UNet sees them, so that they have unit variance.
    pub scaling_factor: f32,
    /// What belongs to its class alone.
    pub class: VaeClass,
}

/// The classes of VAE.
#[derive(Clone, Debug, PartialEq)]
pub enum VaeClass {
    /// `AutoencoderKL`, with which Stable Diffusion was trained.
    Kl(KlConfig),
    /// `AutoencoderTiny`, which was trained to do the same with a fraction of the work.
    Tiny(TinyConfig),
}

/// The settings of `AutoencoderKL`.
#[derive(Clone, Debug, PartialEq)]
pub struct KlConfig {
    /// Channels of each level, from the picture in; each level but the last halves the size.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each level of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Groups of each group norm.
    pub norm_num_groups: usize,
    /// Whether a 1×1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1×1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// Whether the middle blocks have attention.
    pub mid_block_add_attention: bool,
}

/// The settings of `AutoencoderTiny`.
#[derive(Clone, Debug, PartialEq)]
pub struct TinyConfig {
    /// Channels of the encoder's levels.
    pub encoder_channels: usize,
    /// Channels of the decoder's levels.
    pub decoder_channels: usize,
    /// Blocks of each of the encoder's levels, from the picture in.
    pub num_encoder_blocks: Vec<usize>,
    /// Blocks of each of the decoder's levels, from the latents out.
    pub num_decoder_blocks: Vec<usize>,
}

impl VaeConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// If a value is out of range, or if a setting that is not supported is switched on.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_config(ConfigFile::open(path)?)
    }

    /// The same, from a config that was already read.
    ///
    /// # Errors
    /// See [`VaeConfig::open`].
    pub fn from_config(file: ConfigFile) -> Result<Self> {
        let tiny = file.get("_class_name").and_then(Value::as_str) == Some(TINY_CLASS);
        let scaling_factor = if tiny { 1.0 } else { 0.18215 };
        let config = Self {
            in_channels: file.count("in_channels", 3, SIZE)?,
            out_channels: file.count("out_channels", 3, SIZE)?,
            latent_channels: file.count("latent_channels", 4, SIZE)?,
            scaling_factor: file.number("scaling_factor", scaling_factor, 1e-6..=1e6)? as f32,
            class: match tiny {
                true => VaeClass::Tiny(TinyConfig::read(&file)?),
                false => VaeClass::Kl(KlConfig::read(&file)?),
            },
        };
        file.finish(&json!({ "latents_mean": [null], "latents_std": [null] }), IGNORED)?;
        Ok(config)
    }

    /// By how much a latent is smaller than its picture: 8 for Stable Diffusion.
    pub fn scale_factor(&self) -> usize {
        1 << match &self.class {
            VaeClass::Kl(config) => config.block_out_channels.len() - 1,
            VaeClass::Tiny(config) => config.num_decoder_blocks.len() - 1,
        }
    }

    /// Whether its encoder gives a distribution, from which latents are drawn.
    pub fn draws(&self) -> bool {
        matches!(self.class, VaeClass::Kl(_))
    }

    /// Numbers that the decoder holds in f32 for each pixel of the picture, at most.
    pub fn numbers_per_pixel(&self) -> usize {
        // Images of the first level's channels. Measured: 8.3, see `generate/estimate`; and 4.1 in
        // f32, 4.7 in bf16, from what a decode of 512×512 needs more than one of 256×256.
        const KL_MAPS: usize = 9;
        const TINY_MAPS: usize = 5;
        match &self.class {
            VaeClass::Kl(config) => KL_MAPS * config.block_out_channels[0],
            VaeClass::Tiny(config) => TINY_MAPS * config.decoder_channels,
        }
    }

    /// The same in strips: a map of the first level and a picture or two, but for the strips.
    pub fn numbers_per_pixel_in_strips(&self) -> usize {
        match &self.class {
            VaeClass::Kl(config) => config.block_out_channels[0] + 8,
            VaeClass::Tiny(_) => self.numbers_per_pixel(),
        }
    }

    /// How diffusers calls the class.
    pub fn class_name(&self) -> &'static str {
        match self.class {
            VaeClass::Kl(_) => "AutoencoderKL",
            VaeClass::Tiny(_) => TINY_CLASS,
        }
    }
}

const TINY_CLASS: &str = "AutoencoderTiny";

impl KlConfig {
    /// The keys that `AutoencoderKL` has for itself.
    fn read(file: &ConfigFile) -> Result<Self> {
        let config = Self {
            block_out_channels: file.counts("block_out_channels", &[64], SIZE)?,
            layers_per_block: file.count("layers_per_block", 1, COUNT)?,
            norm_num_groups: file.count("norm_num_groups", 32, COUNT)?,
            use_quant_conv: file.flag("use_quant_conv", true)?,
            use_post_quant_conv: file.flag("use_post_quant_conv", true)?,
            mid_block_add_attention: file.flag("mid_block_add_attention", true)?,
        };
        file.choice("act_fn", (), &[("silu", ()), ("swish", ())])?;
        for (key, name) in
            [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")]
        {
            let (found, expected) =
                (file.choices(key, &[()], &[(name, ())])?.len(), config.block_out_channels.len());
            if found != expected {
                return Err(file.error(format_args!(
                    "`{key}` has {found} entries; expected {expected}, as many as `block_out_channels`"
                )));
            }
        }
        if let Some(channels) = config.block_out_channels.iter().find(|&c| c % config.norm_num_groups != 0) {
            return Err(file.error(format_args!(
                "`block_out_channels` contains {channels}; expected multiples of `norm_num_groups` {}",
                config.norm_num_groups
            )));
        }
        Ok(config)
    }
}

impl TinyConfig {
    /// The keys that `AutoencoderTiny` has for itself.
    fn read(file: &ConfigFile) -> Result<Self> {
        // How latents are stored as bytes, which is not done; a copy of another list.
        for key in ["latent_magnitude", "latent_shift", "block_out_channels"] {
            file.get(key);
        }
        file.choice("act_fn", (), &[("relu", ())])?;
        file.choice("upsample_fn", (), &[("nearest", ())])?;
        file.count("upsampling_scaling_factor", 2, 2..=2)?;
        let config = Self {
            encoder_channels: channels(file, "encoder_block_out_channels")?,
            decoder_channels: channels(file, "decoder_block_out_channels")?,
            num_encoder_blocks: file.counts("num_encoder_blocks", &[1, 3, 3, 3], COUNT)?,
            num_decoder_blocks: file.counts("num_decoder_blocks", &[3, 3, 3, 1], COUNT)?,
        };
        let levels = config.num_encoder_blocks.len();
        for (key, default, found) in [
            ("encoder_block_out_channels", [64; 4], None),
            ("decoder_block_out_channels", [64; 4], None),
            ("num_decoder_blocks", [3, 3, 3, 1], Some(config.num_decoder_blocks.len())),
        ] {
            let found = match found {
                Some(found) => found,
                None => file.counts(key, &default, SIZE)?.len(),
            };
            if found != levels {
                return Err(file.error(format_args!(
                    "`{key}` has {found} entries; expected {levels}, as many as `num_encoder_blocks`"
                )));
            }
        }
        Ok(config)
    }
}

/// The channels of all levels, which no layer changes.
fn channels(file: &ConfigFile, key: &'static str) -> Result<usize> {
    let levels = file.counts(key, &[64; 4], SIZE)?;
    match levels.iter().find(|&&channels| channels != levels[0]) {
        None => Ok(levels[0]),
        Some(other) => Err(file.error(format_args!(
            "`{key}` contains {} and {other}; expected the same number of channels in all levels",
            levels[0]
        ))),
    }
}

/// `sample_size` is the training size and concerns tiling only; `force_upcast` asks for f32, which
/// we always use; diffusers' Stable Diffusion pipeline does not look at `shift_factor`.
const IGNORED: &[&str] = &["sample_size", "force_upcast", "shift_factor"];
