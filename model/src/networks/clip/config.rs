//! The text encoder's `config.json`.

use std::path::Path;

use serde_json::json;

use crate::error::Result;
use crate::source::config::{COUNT, ConfigFile, SIZE};

/// Sizes and switches of the text encoder, from `text_encoder/config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipTextConfig {
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Channels of a token.
    pub hidden_size: usize,
    /// Channels inside the MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// AttentionConfig of each attention.
    pub num_attention_heads: usize,
    /// Longest sequence: 77.
    pub max_position_embeddings: usize,
    /// Activation of the MLP.
    pub hidden_act: ClipActivation,
    /// The small number under the root of the layer norms.
    pub layer_norm_eps: f32,
    /// The mark whose vector is the text's pooled one, the first of them.
    pub eos_token_id: u32,
    /// Channels of the pooled vector's projection; `None` of an encoder without one.
    pub projection_dim: Option<usize>,
    /// Which vectors a UNet takes.
    pub output: TextOutput,
}

/// Which vectors of a text encoder a UNet takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextOutput {
    /// The last layer's, behind the final norm: Stable Diffusion 1.x and 2.x.
    LastNormed,
    /// Those of the layer before the last, as they are: Stable Diffusion XL.
    Penultimate,
}

/// Activation of CLIP's MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClipActivation {
    /// `x · sigmoid(1.702 x)`: OpenAI's models.
    QuickGelu,
    /// `x · Φ(x)`: OpenCLIP's models.
    Gelu,
}

impl ClipTextConfig {
    /// Layers that the UNet's vectors go through, where none is skipped.
    pub fn used_layers(&self) -> usize {
        match self.output {
            TextOutput::LastNormed => self.num_hidden_layers,
            TextOutput::Penultimate => self.num_hidden_layers - 1,
        }
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// If a value is out of range, or if a setting that is not supported is switched on.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_config(ConfigFile::open(path)?)
    }

    /// The same, from a config that was already read: `CLIPTextModel`, without a projection.
    ///
    /// # Errors
    /// See [`ClipTextConfig::open`].
    pub fn from_config(file: ConfigFile) -> Result<Self> {
        Self::read(file, false)
    }

    /// The same of a `CLIPTextModelWithProjection`.
    ///
    /// # Errors
    /// See [`ClipTextConfig::open`].
    pub fn with_projection(file: ConfigFile) -> Result<Self> {
        Self::read(file, true)
    }

    fn read(file: ConfigFile, projection: bool) -> Result<Self> {
        /// What transformers' first configs have in place of the end mark's number: there the mark
        /// is the last token of the vocabulary.
        const LAST: usize = 2;
        let activations = [("quick_gelu", ClipActivation::QuickGelu), ("gelu", ClipActivation::Gelu)];
        let vocab_size = file.count("vocab_size", 49408, SIZE)?;
        let eos_token_id = match file.count("eos_token_id", 49407, 0..=*SIZE.end())? {
            LAST => vocab_size - 1,
            id => id,
        };
        let projection_dim = file.count("projection_dim", 512, SIZE)?;
        let config = Self {
            vocab_size,
            hidden_size: file.count("hidden_size", 512, SIZE)?,
            intermediate_size: file.count("intermediate_size", 2048, SIZE)?,
            num_hidden_layers: file.count("num_hidden_layers", 12, COUNT)?,
            num_attention_heads: file.count("num_attention_heads", 8, COUNT)?,
            max_position_embeddings: file.count("max_position_embeddings", 77, SIZE)?,
            hidden_act: file.choice("hidden_act", ClipActivation::QuickGelu, &activations)?,
            layer_norm_eps: file.number("layer_norm_eps", 1e-5, 0.0..=1.0)? as f32,
            eos_token_id: eos_token_id as u32,
            projection_dim: projection.then_some(projection_dim),
            output: TextOutput::LastNormed,
        };
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return Err(file.error(format_args!(
                "`hidden_size` {} is not a multiple of `num_attention_heads` {}",
                config.hidden_size, config.num_attention_heads
            )));
        }
        let neutral = json!({
            "model_type": ["clip_text_model"],
            "architectures": [null, "CLIPTextModel", "CLIPTextModelWithProjection"],
            "use_attention_mask": [false, null],
            "add_cross_attention": [false],
            "is_encoder_decoder": [false],
            "quantization_config": [null],
        });
        file.finish(&neutral, IGNORED)?;
        Ok(config)
    }
}

/// Training, text generation and bookkeeping: transformers writes these into every config.
#[rustfmt::skip]
const IGNORED: &[&str] = &[
    "attention_dropout", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
    "chunk_size_feed_forward", "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty",
    "do_sample", "dropout", "dtype", "early_stopping", "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id",
    "id2label", "initializer_factor", "initializer_range", "is_decoder", "label2id", "length_penalty",
    "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores", "pad_token_id",
    "prefix", "problem_type", "pruned_heads", "remove_invalid_values",
    "repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens",
    "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder", "tie_word_embeddings",
    "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript", "transformers_version", "typical_p",
    "use_bfloat16",
];
