//! The names of tensors in Stable Diffusion's original files, from those of diffusers and
//! transformers.
//!
//! ```text
//! diffusers                                   CompVis, Stability AI ("LDM")
//! down_blocks.0.resnets.1.conv1.weight        input_blocks.2.0.in_layers.2.weight
//! decoder.up_blocks.0.resnets.0.conv1.bias    decoder.up.3.block.0.conv1.bias
//! encoder.layers.4.self_attn.k_proj.weight    transformer.resblocks.4.attn.in_proj_weight, the second third of its rows
//! ```
//!
//! Both name the same modules; LDM numbers the UNet's blocks through, and counts the VAE's decoder
//! from the picture. So a name is translated when it is asked for, and no table of all names is
//! needed. OpenCLIP's text tower, of SD 2.x and XL, keeps the projections to queries, keys and
//! values in one matrix, and that of the pooled text transposed.

/// A name in the file, and which third of the tensor's rows is meant, if not all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredName {
    /// The tensor's name.
    pub name: String,
    /// 0 for queries, 1 for keys, 2 for values.
    pub third: Option<usize>,
    /// Whether the matrix is stored the other way round.
    pub transposed: bool,
}

impl StoredName {
    /// All of a tensor.
    pub(super) fn whole(name: impl Into<String>) -> Self {
        Self { name: name.into(), third: None, transposed: false }
    }
}

/// Numbers that LDM's names of a UNet depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UNetNames {
    /// Residual blocks of a level on the way down.
    pub layers_per_block: usize,
    /// Whether each level on the way up has transformers.
    pub up_attention: Vec<bool>,
}

impl UNetNames {
    /// LDM's name of a tensor of the UNet; `None` if it has none.
    pub fn translate(&self, name: &str) -> Option<String> {
        let period = self.layers_per_block + 1;
        let (module, rest) = split(name);
        Some(match module {
            "conv_in" => format!("input_blocks.0.0.{rest}"),
            "conv_norm_out" => format!("out.0.{rest}"),
            "conv_out" => format!("out.2.{rest}"),
            "time_embedding" => match split(rest) {
                ("linear_1", rest) => format!("time_embed.0.{rest}"),
                ("linear_2", rest) => format!("time_embed.2.{rest}"),
                _ => return None,
            },
            "add_embedding" => match split(rest) {
                ("linear_1", rest) => format!("label_emb.0.0.{rest}"),
                ("linear_2", rest) => format!("label_emb.0.2.{rest}"),
                _ => return None,
            },
            "down_blocks" => {
                let (level, kind, layer, rest) = block(rest)?;
                let place = 1 + level * period + layer;
                match kind {
                    "resnets" => format!("input_blocks.{place}.0.{}", resnet(rest)?),
                    "attentions" => format!("input_blocks.{place}.1.{rest}"),
                    "downsamplers" => {
                        format!("input_blocks.{}.0.op.{}", (level + 1) * period, rest.strip_prefix("conv.")?)
                    }
                    _ => return None,
                }
            }
            "mid_block" => {
                let (kind, rest) = split(rest);
                let (layer, rest) = number(rest)?;
                match kind {
                    "resnets" => format!("middle_block.{}.{}", 2 * layer, resnet(rest)?),
                    "attentions" => format!("middle_block.{}.{rest}", 2 * layer + 1),
                    _ => return None,
                }
            }
            "up_blocks" => {
                let (level, kind, layer, rest) = block(rest)?;
                let place = level * period + layer;
                match kind {
                    "resnets" => format!("output_blocks.{place}.0.{}", resnet(rest)?),
                    "attentions" => format!("output_blocks.{place}.1.{rest}"),
                    "upsamplers" => {
                        let behind = 1 + usize::from(*self.up_attention.get(level)?);
                        format!("output_blocks.{}.{behind}.{rest}", level * period + self.layers_per_block)
                    }
                    _ => return None,
                }
            }
            _ => return None,
        })
    }
}

/// The first name of a tensor of the tiny VAE, by diffusers': its decoder counts the clamp, too.
/// `None` if it has none.
pub fn taesd(name: &str) -> Option<String> {
    let (side, rest) = split(name);
    let (layer, rest) = number(rest.strip_prefix("layers.")?)?;
    match side {
        "encoder" => Some(format!("taesd_encoder.{layer}.{rest}")),
        "decoder" => Some(format!("taesd_decoder.{}.{rest}", layer + 1)),
        _ => None,
    }
}

/// LDM's name of a tensor of a VAE of `levels` levels; `None` if it has none.
pub fn vae(name: &str, levels: usize) -> Option<String> {
    let (side, rest) = split(name);
    if matches!(side, "quant_conv" | "post_quant_conv") {
        return Some(name.to_owned());
    }
    let (module, rest) = split(rest);
    let inner = match module {
        "conv_in" | "conv_out" => format!("{module}.{rest}"),
        "conv_norm_out" => format!("norm_out.{rest}"),
        "mid_block" => {
            let (kind, rest) = split(rest);
            let (layer, rest) = number(rest)?;
            match kind {
                "resnets" => format!("mid.block_{}.{rest}", layer + 1),
                "attentions" => {
                    let (projection, ending) = rest.rsplit_once('.')?;
                    let projection = match projection {
                        "group_norm" => "norm",
                        "to_q" => "q",
                        "to_k" => "k",
                        "to_v" => "v",
                        "to_out.0" => "proj_out",
                        _ => return None,
                    };
                    format!("mid.attn_{}.{projection}.{ending}", layer + 1)
                }
                _ => return None,
            }
        }
        "down_blocks" | "up_blocks" => {
            let (level, kind, layer, rest) = block(rest)?;
            let place = match module {
                "down_blocks" => format!("down.{level}"),
                _ => format!("up.{}", levels.checked_sub(level + 1)?),
            };
            match kind {
                "resnets" => {
                    format!("{place}.block.{layer}.{}", rest.replace("conv_shortcut", "nin_shortcut"))
                }
                "downsamplers" => format!("{place}.downsample.{rest}"),
                "upsamplers" => format!("{place}.upsample.{rest}"),
                _ => return None,
            }
        }
        _ => return None,
    };
    matches!(side, "encoder" | "decoder").then(|| format!("{side}.{inner}"))
}

/// OpenCLIP's name of a tensor of transformers' text encoder; `None` if it has none.
pub fn open_clip(name: &str) -> Option<StoredName> {
    let name = name.strip_prefix("text_model.").unwrap_or(name);
    let (module, rest) = split(name);
    Some(match module {
        "embeddings" => StoredName::whole(match rest {
            "token_embedding.weight" => "token_embedding.weight",
            "position_embedding.weight" => "positional_embedding",
            _ => return None,
        }),
        "final_layer_norm" => StoredName::whole(format!("ln_final.{rest}")),
        "encoder" => {
            let (layer, rest) = number(rest.strip_prefix("layers.")?)?;
            let (module, ending) = rest.rsplit_once('.')?;
            let (inner, third) = match module {
                "layer_norm1" => (format!("ln_1.{ending}"), None),
                "layer_norm2" => (format!("ln_2.{ending}"), None),
                "mlp.fc1" => (format!("mlp.c_fc.{ending}"), None),
                "mlp.fc2" => (format!("mlp.c_proj.{ending}"), None),
                "self_attn.out_proj" => (format!("attn.out_proj.{ending}"), None),
                "self_attn.q_proj" => (format!("attn.in_proj_{ending}"), Some(0)),
                "self_attn.k_proj" => (format!("attn.in_proj_{ending}"), Some(1)),
                "self_attn.v_proj" => (format!("attn.in_proj_{ending}"), Some(2)),
                _ => return None,
            };
            let name = format!("transformer.resblocks.{layer}.{inner}");
            StoredName { name, third, transposed: false }
        }
        "text_projection" => StoredName { transposed: true, ..StoredName::whole("text_projection") },
        _ => return None,
    })
}

/// The parts of a residual block of the UNet.
fn resnet(name: &str) -> Option<String> {
    let (module, rest) = split(name);
    let module = match module {
        "norm1" => "in_layers.0",
        "conv1" => "in_layers.2",
        "time_emb_proj" => "emb_layers.1",
        "norm2" => "out_layers.0",
        "conv2" => "out_layers.3",
        "conv_shortcut" => "skip_connection",
        _ => return None,
    };
    Some(format!("{module}.{rest}"))
}

/// `2.resnets.1.conv1.weight` → level 2, resnets, layer 1, `conv1.weight`.
fn block(name: &str) -> Option<(usize, &str, usize, &str)> {
    let (level, rest) = number(name)?;
    let (kind, rest) = split(rest);
    let (layer, rest) = number(rest)?;
    Some((level, kind, layer, rest))
}

fn number(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = split(name);
    Some((number.parse().ok().filter(|&number| number < 1000)?, rest))
}

/// What is in front of the first dot, and behind it.
fn split(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of Stable Diffusion 1.5's files, as both are published.
    #[test]
    fn published_names() {
        let sd = UNetNames { layers_per_block: 2, up_attention: vec![false, true, true, true] };
        for (name, expected) in [
            ("conv_in.weight", "input_blocks.0.0.weight"),
            ("time_embedding.linear_2.bias", "time_embed.2.bias"),
            ("down_blocks.0.resnets.0.norm1.weight", "input_blocks.1.0.in_layers.0.weight"),
            ("down_blocks.0.downsamplers.0.conv.bias", "input_blocks.3.0.op.bias"),
            (
                "down_blocks.2.attentions.1.transformer_blocks.0.ff.net.0.proj.weight",
                "input_blocks.8.1.transformer_blocks.0.ff.net.0.proj.weight",
            ),
            ("down_blocks.3.resnets.1.time_emb_proj.bias", "input_blocks.11.0.emb_layers.1.bias"),
            ("mid_block.attentions.0.proj_in.weight", "middle_block.1.proj_in.weight"),
            ("mid_block.resnets.1.conv2.weight", "middle_block.2.out_layers.3.weight"),
            ("up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.1.conv.weight"),
            ("up_blocks.1.upsamplers.0.conv.weight", "output_blocks.5.2.conv.weight"),
            ("up_blocks.3.resnets.2.conv_shortcut.weight", "output_blocks.11.0.skip_connection.weight"),
            ("up_blocks.3.attentions.2.norm.bias", "output_blocks.11.1.norm.bias"),
            ("conv_norm_out.weight", "out.0.weight"),
            ("add_embedding.linear_2.bias", "label_emb.0.2.bias"),
        ] {
            assert_eq!(sd.translate(name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(sd.translate("class_embedding.linear_1.weight"), None);
        assert_eq!(sd.translate("up_blocks.9.upsamplers.0.conv.weight"), None);
    }

    #[test]
    fn published_names_of_the_vae() {
        for (name, expected) in [
            ("quant_conv.weight", "quant_conv.weight"),
            ("encoder.conv_norm_out.bias", "encoder.norm_out.bias"),
            (
                "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
                "encoder.down.1.block.0.nin_shortcut.weight",
            ),
            ("encoder.down_blocks.2.downsamplers.0.conv.bias", "encoder.down.2.downsample.conv.bias"),
            ("encoder.mid_block.attentions.0.to_q.weight", "encoder.mid.attn_1.q.weight"),
            ("decoder.mid_block.attentions.0.group_norm.weight", "decoder.mid.attn_1.norm.weight"),
            ("decoder.mid_block.attentions.0.to_out.0.bias", "decoder.mid.attn_1.proj_out.bias"),
            ("decoder.mid_block.resnets.1.conv1.weight", "decoder.mid.block_2.conv1.weight"),
            ("decoder.up_blocks.0.resnets.2.norm2.weight", "decoder.up.3.block.2.norm2.weight"),
            ("decoder.up_blocks.2.upsamplers.0.conv.weight", "decoder.up.1.upsample.conv.weight"),
        ] {
            assert_eq!(vae(name, 4).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(vae("decoder.mid_block.attentions.0.query.weight", 4), None, "diffusers' old name");
        assert_eq!(vae("decoder.up_blocks.7.resnets.0.norm1.weight", 4), None);
    }

    #[test]
    fn published_names_of_the_tiny_vae() {
        for (name, expected) in [
            ("encoder.layers.0.bias", Some("taesd_encoder.0.bias")),
            ("encoder.layers.14.weight", Some("taesd_encoder.14.weight")),
            ("decoder.layers.0.weight", Some("taesd_decoder.1.weight")),
            ("decoder.layers.2.conv.4.bias", Some("taesd_decoder.3.conv.4.bias")),
            ("decoder.layers.18.weight", Some("taesd_decoder.19.weight")),
            ("quant_conv.weight", None),
        ] {
            assert_eq!(taesd(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn published_names_of_open_clip() {
        let key = open_clip("text_model.encoder.layers.22.self_attn.k_proj.bias").expect("a name");
        assert_eq!(
            key,
            StoredName { third: Some(1), ..StoredName::whole("transformer.resblocks.22.attn.in_proj_bias") }
        );
        for (name, expected) in [
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("encoder.layers.0.mlp.fc2.weight", "transformer.resblocks.0.mlp.c_proj.weight"),
            ("final_layer_norm.bias", "ln_final.bias"),
        ] {
            assert_eq!(open_clip(name), Some(StoredName::whole(expected)), "{name}");
        }
        assert_eq!(
            open_clip("text_projection.weight"),
            Some(StoredName { transposed: true, ..StoredName::whole("text_projection") })
        );
        assert_eq!(open_clip("visual_projection.weight"), None);
    }
}
