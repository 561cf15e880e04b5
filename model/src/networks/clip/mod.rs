//! CLIP's text encoder: 77 token numbers become 77 vectors that the UNet attends to.
//!
//! ```text
//! x = token_embedding[ids] + position_embedding[0..77]
//! for each layer:   x += self_attn(layer_norm1(x))   causal: to itself and those before
//!                   x += mlp(layer_norm2(x))         fc2(activation(fc1(x)))
//! final_layer_norm(x)                                transformers' `last_hidden_state`
//! pooled = text_projection(final_layer_norm(x)[end])  of an encoder with a projection
//! ```
//!
//! Stable Diffusion 1.x uses OpenAI's ViT-L/14 (12 layers of 768 channels, quick-GELU). 2.x uses
//! OpenCLIP's ViT-H/14 (1024 channels, GELU) up to its penultimate layer: its folders simply hold
//! 23 of the 24 layers. XL uses ViT-L/14 and OpenCLIP's ViT-bigG/14 (32 layers of 1280 channels),
//! both up to the penultimate layer and without the final norm, and the latter's pooled vector.
//!
//! Source: Radford et al., *Learning Transferable Visual Models From Natural Language Supervision*
//! (2021), and transformers' `CLIPTextModel`. Read next: [`crate::networks::unet`], which takes the
//! result.

mod config;

use std::sync::Arc;

use aquatint_kernels::{Isa, activation};
use aquatint_tensor::{Tensor, View};

pub use config::{ClipActivation, ClipTextConfig, TextOutput};

use crate::error::Result;
use crate::networks::layers::{
    Activations, AttentionConfig, Embedding, Epilogue, LayerNorm, Linear, Mask, multi_head_attention,
};
use crate::source::Weights;

/// The text encoder.
pub struct ClipTextModel {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<EncoderLayer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
    config: ClipTextConfig,
    /// Vectors of further tokens, numbered behind the vocabulary's: `[n, hidden_size]`.
    learned: Arc<[f32]>,
}

impl ClipTextModel {
    /// Reads the encoder's weights.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than `config` says.
    pub fn load(w: &Weights<'_>, config: &ClipTextConfig) -> Result<Self> {
        // Published files put everything under `text_model`; transformers 5 writes the names
        // without it, and reads both.
        let text_projection = config.projection_dim.map(|channels| {
            let shape = [channels, config.hidden_size];
            Linear::load_without_bias(&w.at("text_projection").in_f32(), shape)
        });
        let published = w.at("text_model");
        let w = if w.has("embeddings.token_embedding.weight") { w } else { &published };
        let channels = config.hidden_size;
        let embeddings = w.at("embeddings");
        let layers = w.at("encoder.layers");
        Ok(Self {
            token_embedding: Embedding::load(
                &embeddings.at("token_embedding"),
                [config.vocab_size, channels],
            )?,
            position_embedding: Embedding::load(
                &embeddings.at("position_embedding"),
                [config.max_position_embeddings, channels],
            )?,
            layers: (0..config.num_hidden_layers)
                .map(|i| EncoderLayer::load(&layers.at(i), config))
                .collect::<Result<_>>()?,
            final_layer_norm: LayerNorm::load(
                &w.at("final_layer_norm").in_f32(),
                channels,
                config.layer_norm_eps,
            )?,
            text_projection: text_projection.transpose()?,
            config: config.clone(),
            learned: Arc::default(),
        })
    }

    /// The same with vectors for tokens behind the vocabulary's, `[n, hidden_size]`: textual
    /// inversion.
    #[must_use]
    pub fn with_learned(self, learned: Arc<[f32]>) -> Self {
        Self { learned, ..self }
    }

    /// Sizes and switches.
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// `ids: n` prompts of equally many tokens → `[n, tokens, hidden_size]`.
    ///
    /// # Panics
    /// If a prompt is longer than `max_position_embeddings`, if their lengths differ, or if a token
    /// is not in the vocabulary.
    pub fn forward(&self, isa: Isa, ids: &[&[u32]]) -> Tensor<f32, 3> {
        self.forward_to(isa, ids, self.layers.len())
    }

    /// The same with the first `layers` layers only, and the final norm: "CLIP skip". Earlier
    /// layers know less of what the text means as a whole, and some models were trained on them.
    ///
    /// # Panics
    /// See [`ClipTextModel::forward`]; also if there are fewer layers.
    pub fn forward_to(&self, isa: Isa, ids: &[&[u32]], layers: usize) -> Tensor<f32, 3> {
        let x = self.run(isa, self.embed(ids), 0..layers);
        self.final_layer_norm.forward(isa, x.view()).into_tensor()
    }

    /// The vectors behind the first `layers` layers as they are, `[n, tokens, hidden_size]`, and of
    /// an encoder with a projection the pooled vectors, `[n, projection_dim]`: the last layer's at
    /// the first end mark, normed and projected.
    ///
    /// # Panics
    /// See [`ClipTextModel::forward_to`].
    pub fn forward_pooled(
        &self,
        isa: Isa,
        ids: &[&[u32]],
        layers: usize,
    ) -> (Tensor<f32, 3>, Option<Tensor<f32, 2>>) {
        let hidden = self.run(isa, self.embed(ids), 0..layers);
        let pooled = self.text_projection.as_ref().map(|projection| {
            let last = self.run(isa, hidden.clone(), layers..self.layers.len());
            let normed = self.final_layer_norm.forward(isa, last.view()).into_tensor();
            let rows = ids.iter().enumerate().flat_map(|(i, ids)| {
                // As in transformers, the first token where there is no mark.
                let end = ids.iter().position(|&id| id == self.config.eos_token_id).unwrap_or(0);
                let start = (i * ids.len() + end) * self.config.hidden_size;
                &normed.as_slice()[start..][..self.config.hidden_size]
            });
            let rows: Vec<f32> = rows.copied().collect();
            projection.forward(isa, View::from_slice([ids.len(), self.config.hidden_size], &rows))
        });
        (hidden, pooled)
    }

    fn run(&self, isa: Isa, x: Tensor<f32, 3>, layers: std::ops::Range<usize>) -> Tensor<f32, 3> {
        self.layers[layers].iter().fold(x, |x, layer| layer.forward(isa, x))
    }

    fn embed(&self, ids: &[&[u32]]) -> Tensor<f32, 3> {
        let tokens = ids.first().map_or(0, |ids| ids.len());
        assert!(
            ids.iter().all(|ids| ids.len() == tokens),
            "prompts of one batch must be padded to one length"
        );
        let mut x = Tensor::zeros([ids.len(), tokens, self.config.hidden_size]);
        let rows = x.as_mut_slice().chunks_exact_mut(self.config.hidden_size);
        let numbered = ids.iter().flat_map(|ids| ids.iter().enumerate());
        for (row, (position, &id)) in rows.zip(numbered) {
            match (id as usize).checked_sub(self.config.vocab_size) {
                None => self.token_embedding.add_to(id as usize, row),
                Some(i) => row.copy_from_slice(&self.learned[i * row.len()..][..row.len()]),
            }
            self.position_embedding.add_to(position, row);
        }
        x
    }
}

struct EncoderLayer {
    layer_norm1: LayerNorm,
    self_attn: SelfAttention,
    layer_norm2: LayerNorm,
    mlp: Mlp,
}

impl EncoderLayer {
    fn load(w: &Weights<'_>, config: &ClipTextConfig) -> Result<Self> {
        let norm = |name| LayerNorm::load(&w.at(name), config.hidden_size, config.layer_norm_eps);
        Ok(Self {
            layer_norm1: norm("layer_norm1")?,
            self_attn: SelfAttention::load(&w.at("self_attn"), config)?,
            layer_norm2: norm("layer_norm2")?,
            mlp: Mlp::load(&w.at("mlp"), config)?,
        })
    }

    fn forward(&self, isa: Isa, x: Tensor<f32, 3>) -> Tensor<f32, 3> {
        let x = self.self_attn.add_to(isa, &self.layer_norm1.forward(isa, x.view()), &x);
        self.mlp.add_to(isa, &self.layer_norm2.forward(isa, x.view()), &x)
    }
}

struct SelfAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: AttentionConfig,
}

impl SelfAttention {
    fn load(w: &Weights<'_>, config: &ClipTextConfig) -> Result<Self> {
        let square = [config.hidden_size; 2];
        Ok(Self {
            q_proj: Linear::load(&w.at("q_proj"), square)?,
            k_proj: Linear::load(&w.at("k_proj"), square)?,
            v_proj: Linear::load(&w.at("v_proj"), square)?,
            out_proj: Linear::load(&w.at("out_proj"), square)?,
            heads: AttentionConfig {
                count: config.num_attention_heads,
                mask: Mask::Causal,
                precision: w.precision(),
            },
        })
    }

    /// `residual + out_proj(attention(x))`.
    fn add_to(&self, isa: Isa, x: &Activations<3>, residual: &Tensor<f32, 3>) -> Tensor<f32, 3> {
        let qkv = [&self.q_proj, &self.k_proj, &self.v_proj].map(|layer| self.heads.project(isa, layer, x));
        let attended = multi_head_attention(isa, qkv.each_ref(), self.heads);
        let epilogue = Epilogue { residual: Some(residual.as_slice()), ..Epilogue::default() };
        self.out_proj.forward_with(isa, &attended, epilogue)
    }
}

struct Mlp {
    fc1: Linear,
    fc2: Linear,
    activation: ClipActivation,
}

impl Mlp {
    fn load(w: &Weights<'_>, config: &ClipTextConfig) -> Result<Self> {
        let (channels, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            fc1: Linear::load(&w.at("fc1"), [inner, channels])?,
            fc2: Linear::load(&w.at("fc2"), [channels, inner])?,
            activation: config.hidden_act,
        })
    }

    /// `residual + fc2(activation(fc1(x)))`.
    fn add_to(&self, isa: Isa, x: &Activations<3>, residual: &Tensor<f32, 3>) -> Tensor<f32, 3> {
        let mut hidden = self.fc1.forward(isa, x);
        match self.activation {
            ClipActivation::QuickGelu => activation::quick_gelu(isa, hidden.as_mut_slice()),
            ClipActivation::Gelu => activation::gelu(isa, hidden.as_mut_slice()),
        }
        let epilogue = Epilogue { residual: Some(residual.as_slice()), ..Epilogue::default() };
        self.fc2.forward_with(isa, hidden.view(), epilogue)
    }
}

#[cfg(test)]
mod tests;
