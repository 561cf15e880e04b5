//! The layers of Stable Diffusion 1.5, as shapes to measure kernels on.
//!
//! One step of the UNet at 512×512 with guidance is a batch of two 64×64 latents. Each row of the
//! tables below is a kind of layer and how often a step runs it; the sums are checked against the
//! 1.6 TFLOP of the whole.
//!
//! The networks are counted as they are published. What
//! [`UNet2DConditionModel`](crate::networks::unet::UNet2DConditionModel) saves of that (keys of the
//! text once per picture, one half until the texts matter, doubled images that never exist, 3×3
//! windows by Winograd) shows as speed: *effective* GFLOP/s, which may exceed the peak.

/// Images in a batch: with guidance, one without and one with the text.
pub const IMAGES: usize = 2;

/// Multiplications and additions of a UNet step with guidance, of all its layers as published, in
/// GFLOP.
pub const UNET_GFLOP: f64 = 1606.6;
/// The same of the decoder, for one 512×512 picture.
pub const DECODE_GFLOP: f64 = 2514.5;
/// The same of the encoder.
pub const ENCODE_GFLOP: f64 = 1116.7;
/// The same of the text encoder, for one text of 77 tokens.
pub const TEXT_GFLOP: f64 = 13.3;

/// A convolution with a square window.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    /// Images in the batch.
    pub images: usize,
    /// Height and width of the input.
    pub size: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// 3, or 1 for a shortcut.
    pub kernel_size: usize,
    /// 1, or 2 where the image is halved.
    pub stride: usize,
    /// Layers of this shape in a step.
    pub count: usize,
}

impl Conv {
    /// Multiplications and additions of one layer by the definition; a form that needs fewer is so
    /// much faster.
    pub const fn flops(&self) -> usize {
        let pixels = self.images * (self.size / self.stride).pow(2);
        2 * pixels * self.kernel_size.pow(2) * self.in_channels * self.out_channels
    }
}

/// Shorthand for the tables: size, in → out channels, kernel size, stride, count.
const fn conv(
    size: usize,
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    stride: usize,
    count: usize,
) -> Conv {
    Conv { images: IMAGES, size, in_channels, out_channels, kernel_size, stride, count }
}

/// The same for one image, 3×3, stride 1.
const fn vae_conv(size: usize, in_channels: usize, out_channels: usize, count: usize) -> Conv {
    Conv { images: 1, ..conv(size, in_channels, out_channels, 3, 1, count) }
}

/// The convolutions of a UNet step.
pub const UNET_CONVS: [Conv; 35] = [
    conv(64, 4, 320, 3, 1, 1),
    conv(64, 320, 320, 3, 1, 7),
    conv(64, 640, 320, 3, 1, 2),
    conv(64, 960, 320, 3, 1, 1),
    conv(64, 640, 640, 3, 1, 1),
    conv(64, 320, 4, 3, 1, 1),
    conv(64, 320, 320, 3, 2, 1),
    conv(32, 320, 640, 3, 1, 1),
    conv(32, 640, 640, 3, 1, 6),
    conv(32, 960, 640, 3, 1, 1),
    conv(32, 1280, 640, 3, 1, 1),
    conv(32, 1920, 640, 3, 1, 1),
    conv(32, 1280, 1280, 3, 1, 1),
    conv(32, 640, 640, 3, 2, 1),
    conv(16, 640, 1280, 3, 1, 1),
    conv(16, 1280, 1280, 3, 1, 7),
    conv(16, 1920, 1280, 3, 1, 1),
    conv(16, 2560, 1280, 3, 1, 2),
    conv(16, 1280, 1280, 3, 2, 1),
    conv(8, 1280, 1280, 3, 1, 11),
    conv(8, 2560, 1280, 3, 1, 3),
    // Shortcuts, and the projections into and out of the transformers.
    conv(64, 640, 320, 1, 1, 2),
    conv(64, 960, 320, 1, 1, 1),
    conv(64, 320, 320, 1, 1, 10),
    conv(32, 320, 640, 1, 1, 1),
    conv(32, 960, 640, 1, 1, 1),
    conv(32, 1280, 640, 1, 1, 1),
    conv(32, 1920, 640, 1, 1, 1),
    conv(32, 640, 640, 1, 1, 10),
    conv(16, 640, 1280, 1, 1, 1),
    conv(16, 1920, 1280, 1, 1, 1),
    conv(16, 2560, 1280, 1, 1, 2),
    conv(16, 1280, 1280, 1, 1, 10),
    conv(8, 2560, 1280, 1, 1, 3),
    conv(8, 1280, 1280, 1, 1, 2),
];

/// The convolutions of the VAE's decoder that take its time, for one 512×512 picture.
pub const VAE_CONVS: [Conv; 8] = [
    vae_conv(64, 512, 512, 10),
    vae_conv(128, 512, 512, 7),
    vae_conv(256, 512, 512, 1),
    vae_conv(256, 512, 256, 1),
    vae_conv(256, 256, 256, 5),
    vae_conv(512, 256, 256, 1),
    vae_conv(512, 256, 128, 1),
    vae_conv(512, 128, 128, 5),
];

/// A doubling of the image, with the 3×3 convolution after it, which the tables above contain as
/// well.
#[derive(Clone, Copy, Debug)]
pub struct Upsample {
    /// Images in the batch.
    pub images: usize,
    /// Height and width of the input.
    pub size: usize,
    /// Channels of input and output.
    pub channels: usize,
    /// Layers of this shape in a step or a picture.
    pub count: usize,
}

impl Upsample {
    /// Multiplications and additions of the convolution on the doubled image.
    pub const fn flops(&self) -> usize {
        Conv { images: self.images, ..conv(2 * self.size, self.channels, self.channels, 3, 1, 1) }.flops()
    }
}

const fn upsample(images: usize, size: usize, channels: usize) -> Upsample {
    Upsample { images, size, channels, count: 1 }
}

/// The upsamplings of a UNet step, then those of the decoder.
pub const UPSAMPLES: [Upsample; 6] = [
    upsample(IMAGES, 8, 1280),
    upsample(IMAGES, 16, 1280),
    upsample(IMAGES, 32, 640),
    upsample(1, 64, 512),
    upsample(1, 128, 512),
    upsample(1, 256, 256),
];

/// A linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// Tokens of the whole batch.
    pub rows: usize,
    /// Channels of the input.
    pub in_features: usize,
    /// Channels of the output.
    pub out_features: usize,
    /// Layers of this shape in a step.
    pub count: usize,
}

impl Linear {
    /// Multiplications and additions of one layer.
    pub const fn flops(&self) -> usize {
        2 * self.rows * self.in_features * self.out_features
    }
}

const fn linear(rows: usize, in_features: usize, out_features: usize, count: usize) -> Linear {
    Linear { rows, in_features, out_features, count }
}

/// The linear layers of a UNet step: six square ones per transformer, keys and values of the text,
/// the feed-forward pair.
pub const UNET_LINEARS: [Linear; 19] = [
    linear(8192, 320, 320, 30),
    linear(154, 768, 320, 10),
    linear(8192, 320, 2560, 5),
    linear(8192, 1280, 320, 5),
    linear(2048, 640, 640, 30),
    linear(154, 768, 640, 10),
    linear(2048, 640, 5120, 5),
    linear(2048, 2560, 640, 5),
    linear(512, 1280, 1280, 30),
    linear(154, 768, 1280, 12),
    linear(512, 1280, 10240, 5),
    linear(512, 5120, 1280, 5),
    linear(128, 1280, 1280, 6),
    linear(128, 1280, 10240, 1),
    linear(128, 5120, 1280, 1),
    // Time embeddings.
    linear(2, 320, 1280, 1),
    linear(2, 1280, 1280, 13),
    linear(2, 1280, 640, 5),
    linear(2, 1280, 320, 5),
];

/// An attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Images in the batch.
    pub images: usize,
    /// Query tokens of an image.
    pub queries: usize,
    /// Key tokens: as many, or the text's 77.
    pub keys: usize,
    /// Heads.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Layers of this shape in a step.
    pub count: usize,
}

impl Attention {
    /// Multiplications and additions of the two products of one layer.
    pub const fn flops(&self) -> usize {
        4 * self.images * self.heads * self.queries * self.keys * self.head_dim
    }
}

const fn attention(queries: usize, keys: usize, head_dim: usize, count: usize) -> Attention {
    Attention { images: IMAGES, queries, keys, heads: 8, head_dim, count }
}

/// The attention layers of a UNet step: to itself and to the text, at four sizes.
pub const UNET_ATTENTIONS: [Attention; 8] = [
    attention(4096, 4096, 40, 5),
    attention(1024, 1024, 80, 5),
    attention(256, 256, 160, 5),
    attention(64, 64, 160, 1),
    attention(4096, 77, 40, 5),
    attention(1024, 77, 80, 5),
    attention(256, 77, 160, 5),
    attention(64, 77, 160, 1),
];

/// The self-attention of the VAE's middle block, for one 512×512 picture.
pub const VAE_ATTENTION: Attention =
    Attention { images: 1, queries: 4096, keys: 4096, heads: 1, head_dim: 512, count: 1 };

/// An image that is normalised, activated or enlarged; or its pixels as tokens.
#[derive(Clone, Copy, Debug)]
pub struct FeatureMap {
    /// Images in the batch.
    pub images: usize,
    /// Height and width.
    pub size: usize,
    /// Channels.
    pub channels: usize,
}

impl FeatureMap {
    /// Numbers in all images.
    pub const fn len(&self) -> usize {
        self.images * self.size * self.size * self.channels
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[images, height, width, channels]`
    pub const fn shape(&self) -> [usize; 4] {
        [self.images, self.size, self.size, self.channels]
    }
}

const fn image(images: usize, size: usize, channels: usize) -> FeatureMap {
    FeatureMap { images, size, channels }
}

/// Images on the four levels of the UNet, and on two of the decoder.
pub const SD_IMAGES: [FeatureMap; 6] = [
    image(IMAGES, 64, 320),
    image(IMAGES, 32, 640),
    image(IMAGES, 16, 1280),
    image(IMAGES, 8, 1280),
    image(1, 128, 512),
    image(1, 512, 128),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_add_up_to_a_step() {
        let convs = |kernel_size| -> usize {
            let convs = UNET_CONVS.iter().filter(|conv| conv.kernel_size == kernel_size);
            convs.map(|conv| conv.count * conv.flops()).sum()
        };
        let linears: usize = UNET_LINEARS.iter().map(|linear| linear.count * linear.flops()).sum();
        let attentions: usize = UNET_ATTENTIONS.iter().map(|a| a.count * a.flops()).sum();
        let gflop = |flops: usize| (flops as f64 / 1e9).round();
        // Counted over the modules of diffusers' UNet2DConditionModel: 801, 87 and 467; with
        // attention 1607.
        assert_eq!(gflop(convs(3)), 801.0);
        assert_eq!(gflop(convs(1)), 87.0);
        assert_eq!(gflop(linears), 467.0);
        assert_eq!(gflop(attentions), 252.0);
    }
}
