//! The UNet's `config.json`, and the table of channels that follows from it.
//!
//! For Stable Diffusion 1.5 (`block_out_channels` 320, 640, 1280, 1280; a latent of 64×64):
//!
//! | | down 0 | down 1 | down 2 | down 3 | mid | up 0 | up 1 | up 2 | up 3 |
//! |---|---|---|---|---|---|---|---|---|---|
//! | size | 64² | 32² | 16² | 8² | 8² | 8² | 16² | 32² | 64² |
//! | channels in → out | 320 → 320 | 320 → 640 | 640 → 1280 | 1280 → 1280 | 1280 | 1280 → 1280 | 1280 → 1280 | 1280 → 640 | 640 → 320 |
//! | attention | yes | yes | yes | no | yes | no | yes | yes | yes |
//!
//! Each up block also takes the results of its down block (the *skips*), joined to its input
//! channel by channel.

use std::path::Path;

use serde_json::{Value, json};

use super::depths::TransformerDepths;
use crate::error::Result;
use crate::source::config::{COUNT, ConfigFile, SIZE};

/// Sizes and switches of the UNet, from `unet/config.json`; names and defaults are those of
/// diffusers' `UNet2DConditionModel`.
#[derive(Clone, Debug, PartialEq)]
pub struct UNetConfig {
    /// Height and width of the latents for which the model was trained.
    pub sample_size: [usize; 2],
    /// Channels of the latents that go in.
    pub in_channels: usize,
    /// Channels of the prediction that comes out.
    pub out_channels: usize,
    /// Whether the input is stretched from 0..1 to −1..1 first.
    pub center_input_sample: bool,
    /// Whether the time embedding has its cosines before its sines.
    pub flip_sin_to_cos: bool,
    /// Shift in the frequencies of the time embedding.
    pub freq_shift: f32,
    /// The blocks, from the outermost in.
    pub down_blocks: Vec<BlockKind>,
    /// The blocks, from the innermost out.
    pub up_blocks: Vec<BlockKind>,
    /// Channels of each down block; the up blocks have the same in reverse.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks in each down block; an up block has one more than its down block.
    pub layers_per_block: Vec<usize>,
    /// Padding of the downsampling convolutions: 1 on every side, or (0) one row and column at the
    /// end only.
    pub downsample_padding: usize,
    /// The middle block's residual sums are divided by this.
    pub mid_block_scale_factor: f32,
    /// Groups of each group norm.
    pub norm_num_groups: usize,
    /// The small number under the root of the residual blocks' norms.
    pub norm_eps: f32,
    /// Channels of the text embeddings, for each down block.
    pub cross_attention_dim: Vec<usize>,
    /// Number of heads in each down block. The file calls it `attention_head_dim`: an old misnomer
    /// that diffusers keeps.
    pub heads: Vec<usize>,
    /// How deep the transformers are.
    pub transformer_depths: TransformerDepths,
    /// Whether the first attention of each transformer block is to the text as well, for each down
    /// block; the up blocks have the same in reverse.
    pub only_cross_attention: Vec<bool>,
    /// The middle block, if there is one.
    pub mid_block: Option<MidBlockKind>,
    /// What is added to the time embedding; `None` for Stable Diffusion 1.x and 2.x.
    pub addition: Option<AdditionConfig>,
    /// Channels of the embedding of the guidance scale, which such a model takes in place of a
    /// second call without the text; `None` for others.
    pub time_cond_proj_dim: Option<usize>,
    /// Whether the projections around a transformer are stored as matrices instead of 1×1 kernels.
    pub use_linear_projection: bool,
}

/// What a down or up block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Residual blocks only: `DownBlock2D`, `UpBlock2D`.
    Residual,
    /// A transformer after each residual block: `CrossAttnDownBlock2D`, `CrossAttnUpBlock2D`.
    CrossAttention,
}

/// What the middle block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MidBlockKind {
    /// One residual block: `UNetMidBlock2D`, which SSD-1B and Segmind-Vega have.
    Residual,
    /// A transformer between two residual blocks: `UNetMidBlock2DCrossAttn`.
    CrossAttention,
}

/// Stable Diffusion XL's `text_time` embedding: a pooled text and six numbers, see
/// `time_embedding.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdditionConfig {
    /// Channels of the sines and cosines of each number.
    pub time_embed_dim: usize,
    /// Channels of all that goes in: those of the pooled text, and of the numbers.
    pub in_channels: usize,
}

impl UNetConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// If a value is out of range, if lists do not fit each other, or if a setting that is not
    /// supported is switched on.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_config(ConfigFile::open(path)?)
    }

    /// The same, from a config that was already read.
    ///
    /// # Errors
    /// See [`UNetConfig::open`].
    pub fn from_config(file: ConfigFile) -> Result<Self> {
        use BlockKind::{CrossAttention, Residual};
        let down_names = [("DownBlock2D", Residual), ("CrossAttnDownBlock2D", CrossAttention)];
        let up_names = [("UpBlock2D", Residual), ("CrossAttnUpBlock2D", CrossAttention)];
        let three_and_one = [CrossAttention, CrossAttention, CrossAttention, Residual];
        let one_and_three = [Residual, CrossAttention, CrossAttention, CrossAttention];

        let block_out_channels = file.counts("block_out_channels", &[320, 640, 1280, 1280], SIZE)?;
        let blocks = block_out_channels.len();
        let layers_per_block = file.per_block("layers_per_block", blocks, 2, COUNT)?;
        let config = Self {
            sample_size: sample_size(&file)?,
            in_channels: file.count("in_channels", 4, SIZE)?,
            out_channels: file.count("out_channels", 4, SIZE)?,
            center_input_sample: file.flag("center_input_sample", false)?,
            flip_sin_to_cos: file.flag("flip_sin_to_cos", true)?,
            freq_shift: file.number("freq_shift", 0.0, 0.0..=1e6)? as f32,
            down_blocks: file.choices("down_block_types", &three_and_one, &down_names)?,
            up_blocks: file.choices("up_block_types", &one_and_three, &up_names)?,
            layers_per_block: layers_per_block.clone(),
            downsample_padding: file.count("downsample_padding", 1, 0..=1)?,
            mid_block_scale_factor: file.number("mid_block_scale_factor", 1.0, 1e-6..=1e6)? as f32,
            norm_num_groups: file.count("norm_num_groups", 32, COUNT)?,
            norm_eps: file.number("norm_eps", 1e-5, 0.0..=1.0)? as f32,
            cross_attention_dim: file.per_block("cross_attention_dim", blocks, 1280, SIZE)?,
            heads: file.per_block("attention_head_dim", blocks, 8, COUNT)?,
            transformer_depths: TransformerDepths::read(&file, &layers_per_block)?,
            only_cross_attention: only_cross_attention(&file, blocks)?,
            mid_block: mid_block(&file)?,
            addition: addition(&file)?,
            time_cond_proj_dim: time_cond_proj_dim(&file)?,
            use_linear_projection: file.flag("use_linear_projection", false)?,
            block_out_channels,
        };
        file.choice("act_fn", (), &[("silu", ()), ("swish", ())])?;
        config.check(&file)?;
        file.finish(&neutral(), IGNORED)?;
        Ok(config)
    }

    /// Numbers that must fit each other.
    fn check(&self, file: &ConfigFile) -> Result<()> {
        let blocks = self.block_out_channels.len();
        for (key, found) in
            [("down_block_types", self.down_blocks.len()), ("up_block_types", self.up_blocks.len())]
        {
            if found != blocks {
                return Err(file.error(format_args!(
                    "`{key}` has {found} entries; expected {blocks}, as many as `block_out_channels`"
                )));
            }
        }
        for (level, (&channels, &heads)) in self.block_out_channels.iter().zip(&self.heads).enumerate() {
            if channels % self.norm_num_groups != 0 {
                return Err(file.error(format_args!(
                    "`block_out_channels` is {channels} in entry {level}; expected a multiple of `norm_num_groups` {}",
                    self.norm_num_groups
                )));
            }
            let in_middle = self.mid_block == Some(MidBlockKind::CrossAttention);
            let attention = (in_middle && level + 1 == blocks)
                || self.down_blocks[level] == BlockKind::CrossAttention
                || self.up_blocks[blocks - 1 - level] == BlockKind::CrossAttention;
            if attention && channels % heads != 0 {
                return Err(file.error(format_args!(
                    "`attention_head_dim` means {heads} heads in entry {level}; expected a divisor of the block's {channels} channels"
                )));
            }
        }
        let half = self.block_out_channels[0] / 2;
        if half as f32 <= self.freq_shift {
            return Err(file.error(format_args!(
                "`freq_shift` is {}; expected less than half of the first block's {} channels",
                self.freq_shift, self.block_out_channels[0]
            )));
        }
        Ok(())
    }

    /// Channels of the time embedding as every block receives it.
    pub fn time_embed_dim(&self) -> usize {
        4 * self.block_out_channels[0]
    }
}

/// The middle block; `mid_block_type` may be null.
fn mid_block(file: &ConfigFile) -> Result<Option<MidBlockKind>> {
    use MidBlockKind::{CrossAttention, Residual};
    if file.is_null("mid_block_type") {
        return Ok(None);
    }
    let kinds = [("UNetMidBlock2DCrossAttn", CrossAttention), ("UNetMidBlock2D", Residual)];
    file.choice("mid_block_type", CrossAttention, &kinds).map(Some)
}

/// The `text_time` embedding, if there is one.
fn addition(file: &ConfigFile) -> Result<Option<AdditionConfig>> {
    if !file.choice("addition_embed_type", false, &[("text_time", true)])? {
        return Ok(None);
    }
    let addition = AdditionConfig {
        time_embed_dim: file.count("addition_time_embed_dim", 256, 2..=1 << 16)?,
        in_channels: file.count("projection_class_embeddings_input_dim", 2816, SIZE)?,
    };
    Ok(Some(addition))
}

/// One flag for all blocks, or a list of one for each.
fn only_cross_attention(file: &ConfigFile, blocks: usize) -> Result<Vec<bool>> {
    const KEY: &str = "only_cross_attention";
    let Some(Value::Array(list)) = file.get(KEY) else { return Ok(vec![file.flag(KEY, false)?; blocks]) };
    let flags: Option<Vec<bool>> = list.iter().map(Value::as_bool).collect();
    flags.filter(|flags| flags.len() == blocks).ok_or_else(|| {
        let found = Value::Array(list.clone());
        file.error(format_args!("`{KEY}` is {found}; expected true or false, or a list of {blocks} of them"))
    })
}

/// Channels of the embedding of the guidance scale, if there is one.
fn time_cond_proj_dim(file: &ConfigFile) -> Result<Option<usize>> {
    match file.get("time_cond_proj_dim") {
        None | Some(Value::Null) => Ok(None),
        Some(_) => file.count("time_cond_proj_dim", 0, 4..=1 << 16).map(Some),
    }
}

/// Height and width in the config: one number for both, or a list of the two.
fn sample_size(file: &ConfigFile) -> Result<[usize; 2]> {
    const PUBLISHED: usize = 64; // Stable Diffusion 1.x
    let size = file.per_block("sample_size", 2, PUBLISHED, 1..=4096)?;
    // diffusers distrusts smaller numbers in files older than its version 0.9: they were wrong in
    // the first published models.
    let old = file.get("_diffusers_version").and_then(Value::as_str).is_some_and(|version| {
        let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
        numbers.next() == Some(0) && numbers.next().is_some_and(|minor| minor < 9)
    });
    let listed = file.get("sample_size").is_some_and(Value::is_array);
    Ok(if old && !listed && size[0] < PUBLISHED { [PUBLISHED; 2] } else { [size[0], size[1]] })
}

/// diffusers hands `mid_block_only_cross_attention` to another kind of middle block only.
const IGNORED: &[&str] = &["dropout", "upcast_attention", "mid_block_only_cross_attention"];

/// Switches of `UNet2DConditionModel` that no published Stable Diffusion turns on.
fn neutral() -> Value {
    json!({
        "num_attention_heads": [null],
        "dual_cross_attention": [false],
        "cross_attention_norm": [null],
        "attention_type": ["default"],
        "encoder_hid_dim": [null],
        "encoder_hid_dim_type": [null],
        "class_embed_type": [null],
        "num_class_embeds": [null],
        "class_embeddings_concat": [false],
        "projection_class_embeddings_input_dim": [null],
        "addition_embed_type_num_heads": [64],
        "addition_time_embed_dim": [null],
        "time_embedding_type": ["positional"],
        "time_embedding_dim": [null],
        "time_embedding_act_fn": [null],
        "timestep_post_act": [null],
        "resnet_time_scale_shift": ["default"],
        "resnet_skip_time_act": [false],
        "resnet_out_scale_factor": [1.0],
        "conv_in_kernel": [3],
        "conv_out_kernel": [3],
    })
}
