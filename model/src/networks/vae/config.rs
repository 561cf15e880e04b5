//! The VAE's `config.json`.

use std::path::Path;

use serde_json::json;

use crate::error::Result;
use crate::source::config::{COUNT, ConfigFile, SIZE};

/// Sizes and switches of the VAE, from `vae/config.json`; names and defaults are those of
/// diffusers' `AutoencoderKL`.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels of the picture that is encoded.
    pub in_channels: usize,
    /// Channels of the picture that is decoded.
    pub out_channels: usize,
    /// Channels of each level, from the picture in; each level but the last halves the size.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each level of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Groups of each group norm.
    pub norm_num_groups: usize,
    /// Latents are multiplied by this before the UNet sees them, so that they have unit variance.
    pub scaling_factor: f32,
    /// Whether a 1×1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1×1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// Whether the middle blocks have attention.
    pub mid_block_add_attention: bool,
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
        let block_out_channels = file.counts("block_out_channels", &[64], SIZE)?;
        let config = Self {
            in_channels: file.count("in_channels", 3, SIZE)?,
            out_channels: file.count("out_channels", 3, SIZE)?,
            layers_per_block: file.count("layers_per_block", 1, COUNT)?,
            latent_channels: file.count("latent_channels", 4, SIZE)?,
            norm_num_groups: file.count("norm_num_groups", 32, COUNT)?,
            scaling_factor: file.number("scaling_factor", 0.18215, 1e-6..=1e6)? as f32,
            use_quant_conv: file.flag("use_quant_conv", true)?,
            use_post_quant_conv: file.flag("use_post_quant_conv", true)?,
            mid_block_add_attention: file.flag("mid_block_add_attention", true)?,
            block_out_channels,
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
        file.finish(&json!({ "latents_mean": [null], "latents_std": [null] }), IGNORED)?;
        Ok(config)
    }

    /// By how much a latent is smaller than its picture: 8 for Stable Diffusion.
    pub fn scale_factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

/// `sample_size` is the training size and concerns tiling only; `force_upcast` asks for f32, which
/// we always use; diffusers' Stable Diffusion pipeline does not look at `shift_factor`.
const IGNORED: &[&str] = &["sample_size", "force_upcast", "shift_factor"];
