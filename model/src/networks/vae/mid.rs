//! The middle of encoder and decoder: residual block, self-attention with a single head, residual
//! block.
//!
//! ```text
//! x = resnets[0](x)
//! x = x + to_out(attention(to_q(h), to_k(h), to_v(h)))   h = group_norm(x)
//! x = resnets[1](x)
//! ```
//!
//! diffusers' `UNetMidBlock2D`.

use aquatint_kernels::Isa;

use super::{KlConfig, NORM_EPS};
use crate::error::Result;
use crate::networks::layers::{
    AttentionConfig, Epilogue, FeatureMap, GroupNorm, Linear, Mask, Stored, multi_head_attention,
};
use crate::networks::unet::resnet::ResnetBlock2D;
use crate::source::Weights;

/// `UNetMidBlock2D`.
pub(super) struct MidBlock {
    resnets: [ResnetBlock2D; 2],
    attention: Option<Attention>,
}

impl MidBlock {
    pub(super) fn load(w: &Weights<'_>, config: &KlConfig) -> Result<Self> {
        let channels = config.block_out_channels[config.block_out_channels.len() - 1];
        let resnet = super::resnet(config, channels, channels);
        Ok(Self {
            resnets: [
                ResnetBlock2D::load(&w.at("resnets.0"), resnet)?,
                ResnetBlock2D::load(&w.at("resnets.1"), resnet)?,
            ],
            attention: config
                .mid_block_add_attention
                .then(|| Attention::load(&w.at("attentions.0"), channels, config.norm_num_groups))
                .transpose()?,
        })
    }

    /// `x: [n, h, w, c]` → the same shape.
    pub(super) fn forward<T: Stored>(&self, isa: Isa, x: &FeatureMap<T>) -> FeatureMap<T> {
        let mut x = self.resnets[0].forward(isa, x, None);
        if let Some(attention) = &self.attention {
            x = attention.forward(isa, &x);
        }
        self.resnets[1].forward(isa, &x, None)
    }
}

struct Attention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    head: AttentionConfig,
}

impl Attention {
    fn load(w: &Weights<'_>, channels: usize, num_groups: usize) -> Result<Self> {
        // Until 2023 diffusers called these layers query, key, value and proj_attn; Stable
        // Diffusion's files still do.
        let projection = |name, old_name| {
            let old = w.at(old_name);
            let w = if old.has("weight") { old } else { w.at(name) };
            Linear::load(&w, [channels; 2])
        };
        Ok(Self {
            group_norm: GroupNorm::load(&w.at("group_norm"), channels, num_groups, NORM_EPS)?,
            to_q: projection("to_q", "query")?,
            to_k: projection("to_k", "key")?,
            to_v: projection("to_v", "value")?,
            to_out: projection("to_out.0", "proj_attn")?,
            head: AttentionConfig { count: 1, mask: Mask::None, precision: w.precision() },
        })
    }

    fn forward<T: Stored>(&self, isa: Isa, x: &FeatureMap<T>) -> FeatureMap<T> {
        let [n, height, width, channels] = x.shape();
        let h = self.group_norm.forward(isa, x).reshape([n, height * width, channels]);
        let qkv = [&self.to_q, &self.to_k, &self.to_v].map(|layer| self.head.project(isa, layer, &h));
        let attended = multi_head_attention(isa, qkv.each_ref(), self.head);
        let epilogue = Epilogue { residual: Some(x.pixels().as_slice()), ..Epilogue::none() };
        self.to_out.forward_to_image(isa, &attended, [height, width], epilogue)
    }
}
