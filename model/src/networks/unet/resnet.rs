//! The residual block, the convolutional half of every network here.
//!
//! ```text
//! h = conv1(silu(norm1(x))) + time_emb_proj(silu(temb))   the time, added to each pixel alike
//! h = conv2(silu(norm2(h)))
//! (shortcut(x) + h) / output_scale_factor                 shortcut: 1×1, if the channels change
//! ```
//!
//! The VAE uses it without a time. The two additions happen in the convolutions' epilogues, before
//! the results are stored.
//!
//! Source: He et al., *Deep Residual Learning for Image Recognition* (2015), in the form of
//! diffusers' `ResnetBlock2D`.

use aquatint_kernels::Isa;
use aquatint_kernels::conv2d::Geometry;
use aquatint_tensor::{Tensor, View};

use crate::error::Result;
use crate::networks::layers::{Conv2d, Epilogue, FeatureMap, GroupNorm, Linear, Stored};
use crate::source::{Role, Weights};

/// What a residual block looks like.
#[derive(Clone, Copy, Debug)]
pub struct ResnetConfig {
    /// Channels of the input.
    pub in_channels: usize,
    /// A divisor of the channels of each image that the input is joined of; usually all of them,
    /// since there is only one.
    pub segment_len: usize,
    /// Channels of the result.
    pub out_channels: usize,
    /// Channels of the time embedding; `None` in the VAE.
    pub temb_channels: Option<usize>,
    /// Groups of both norms.
    pub num_groups: usize,
    /// The small number under the root of both norms.
    pub eps: f32,
    /// The sum is divided by this.
    pub output_scale_factor: f32,
}

/// A residual block.
pub struct ResnetBlock2D {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Linear>,
    output_scale_factor: f32,
}

impl ResnetBlock2D {
    /// Reads the weights.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(w: &Weights<'_>, config: ResnetConfig) -> Result<Self> {
        let ResnetConfig { in_channels, out_channels, num_groups, eps, .. } = config;
        let conv = |name, channels| Conv2d::load(&w.at(name), channels, Geometry::same(3));
        Ok(Self {
            norm1: GroupNorm::load(&w.at("norm1"), in_channels, num_groups, eps)?,
            conv1: conv("conv1", [out_channels, in_channels])?,
            time_emb_proj: config
                .temb_channels
                .map(|channels| {
                    Linear::load(&w.at("time_emb_proj").role(Role::Once).in_f32(), [out_channels, channels])
                })
                .transpose()?,
            norm2: GroupNorm::load(&w.at("norm2"), out_channels, num_groups, eps)?,
            conv2: conv("conv2", [out_channels, out_channels])?,
            conv_shortcut: (in_channels != out_channels)
                .then(|| {
                    let shape = [out_channels, in_channels];
                    Linear::load_pointwise_concat(&w.at("conv_shortcut"), shape, config.segment_len)
                })
                .transpose()?,
            output_scale_factor: config.output_scale_factor,
        })
    }

    /// `time_emb_proj(silu_temb)`: what the block adds to each pixel. `silu_temb: [steps,
    /// temb_channels]` → `[steps, out_channels]`.
    ///
    /// The embedding comes with its SiLU applied: it is the same for all blocks, so the UNet does
    /// it once.
    ///
    /// # Panics
    /// If this is a block of the VAE, which has no time.
    pub fn project_time(&self, isa: Isa, silu_temb: View<'_, f32, 2>) -> Tensor<f32, 2> {
        self.time_emb_proj.as_ref().expect("a residual block of the UNet").forward(isa, silu_temb)
    }

    /// `x: [n, h, w, in_channels]` → `[n, h, w, out_channels]`. `time` is
    /// of [`project_time`](Self::project_time): a row for all images, `[1, out_channels]`, or one
    /// for each, `[n, out_channels]`.
    pub fn forward<T: Stored>(
        &self,
        isa: Isa,
        x: &FeatureMap<T>,
        time: Option<View<'_, f32, 2>>,
    ) -> FeatureMap<T> {
        self.forward_concat(isa, &[x], time)
    }

    /// The same of images that are joined channel by channel, without joining them: norm and
    /// shortcut read each in its place.
    ///
    /// # Panics
    /// If there are several and the channels do not change.
    pub fn forward_concat<T: Stored>(
        &self,
        isa: Isa,
        x: &[&FeatureMap<T>],
        time: Option<View<'_, f32, 2>>,
    ) -> FeatureMap<T> {
        self.finish(isa, x, self.hidden(isa, x, time))
    }

    /// Channels of the result.
    pub(crate) fn out_channels(&self) -> usize {
        self.norm2.channels()
    }

    /// `h`, in front of the second norm.
    pub(crate) fn hidden<T: Stored>(
        &self,
        isa: Isa,
        x: &[&FeatureMap<T>],
        per_image: Option<View<'_, f32, 2>>,
    ) -> FeatureMap<T> {
        assert_eq!(
            per_image.is_some(),
            self.time_emb_proj.is_some(),
            "blocks of the UNet, and only they, need the time"
        );
        let epilogue = Epilogue { per_image, ..Epilogue::none() };
        self.conv1.forward_with(isa, &self.norm1.forward_silu_concat(isa, x), epilogue)
    }

    /// What is behind `h`. Each image is freed as soon as the next is there: at 512×512 one of them
    /// takes up to 270 MB.
    pub(crate) fn finish<T: Stored>(
        &self,
        isa: Isa,
        x: &[&FeatureMap<T>],
        h: FeatureMap<T>,
    ) -> FeatureMap<T> {
        let normed = self.norm2.forward_silu(isa, &h);
        drop(h);
        let views: Vec<_> = x.iter().map(|x| x.view()).collect();
        let shortcut = self.conv_shortcut.as_ref().map(|conv| conv.forward_concat(isa, &views));
        let x = match (&shortcut, x) {
            (Some(shortcut), _) => shortcut.as_slice(),
            (None, &[x]) => x.pixels().as_slice(),
            (None, _) => panic!("joined images need a shortcut"),
        };
        let residual = Some(x);
        let scale = 1.0 / self.output_scale_factor;
        self.conv2.forward_with(isa, &normed, Epilogue { residual, scale, ..Epilogue::none() })
    }
}
