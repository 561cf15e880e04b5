//! Between pictures and latents: the two ends of every task.
//!
//! ```text
//! encode   mean, logvar = vae.encode(image)
//!          latents = scaling_factor · (mean + exp(logvar / 2) · noise)
//! decode   image = vae.decode(latents / scaling_factor)
//! ```
//!
//! Latents are `[1, channels, h/8, w/8]` in torch's order, because noise is drawn in that order.
//! diffusers' `_encode_vae_image` and `VaeImageProcessor`.

use aquatint_tensor::{Recycling, Tensor, View};

use super::pipeline::Pipeline;
use super::request::TextToImage;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::networks::vae::{Decoder, Moments, Strips, VaeClass, VaeConfig};
use crate::rng::Generator;
use crate::source::lazy::LazyNetwork;
use crate::text::conditioning::TextConditioning;

impl Pipeline {
    /// The latents of a picture: the most likely ones, multiplied by the scaling factor as the UNet
    /// knows them.
    ///
    /// → `[1, channels, height/8, width/8]`, torch's order.
    ///
    /// # Errors
    /// `Request` if a side of the picture is no multiple of 8, `Model` if the folder's VAE cannot
    /// encode.
    pub fn encode(&self, picture: &Image) -> Result<Tensor<f32, 4>> {
        self.encode_with(picture, false)
    }

    /// The same a strip of rows at a time, in less memory and more time; see
    /// [`Strips`](crate::networks::vae::Strips).
    ///
    /// # Errors
    /// As [`Pipeline::encode`].
    pub fn encode_in_strips(&self, picture: &Image) -> Result<Tensor<f32, 4>> {
        self.encode_with(picture, true)
    }

    fn encode_with(&self, picture: &Image, vae_tiling: bool) -> Result<Tensor<f32, 4>> {
        let factor = self.vae.scale_factor();
        let (width, height) = (picture.width(), picture.height());
        if width == 0 || height == 0 || width % factor != 0 || height % factor != 0 {
            return Err(Error::request(format_args!(
                "the picture is {width}×{height}; expected multiples of {factor}"
            )));
        }
        let moments = self.moments(picture.to_signed(), vae_tiling)?;
        let shape = self.latent_shape_of([width, height]);
        Ok(Tensor::from_vec(shape, channels_first(moments.mean)).map(|x| self.vae.scaling_factor * x))
    }

    /// The picture of latents, which are as [`Pipeline::encode`] gives them.
    ///
    /// # Errors
    /// `Request` if the latents do not have the VAE's channels, or hold no pixel.
    pub fn decode_latents(&self, latents: View<'_, f32, 4>) -> Result<Image> {
        self.check_latents(latents)?;
        self.decode(latents.shape(), latents.to_tensor().into_vec(), false)
    }

    /// The same a strip of rows at a time, in less memory and more time; see
    /// [`Strips`](crate::networks::vae::Strips).
    ///
    /// # Errors
    /// As [`Pipeline::decode_latents`].
    pub fn decode_latents_in_strips(&self, latents: View<'_, f32, 4>) -> Result<Image> {
        self.check_latents(latents)?;
        self.decode(latents.shape(), latents.to_tensor().into_vec(), true)
    }

    /// The picture of latents by the tiny VAE, for a look while a picture is made: that for
    /// previews, or the model's own if it is one.
    ///
    /// # Errors
    /// `Request` if there is no tiny VAE; see also [`Pipeline::decode_latents`].
    pub fn decode_preview(&self, latents: View<'_, f32, 4>) -> Result<Image> {
        self.check_latents(latents)?;
        let (shape, latents) = (latents.shape(), latents.to_tensor().into_vec());
        match &self.preview {
            Some((decoder, vae)) => self.decode_by(decoder, vae, channels_last(shape, latents), false),
            None if self.has_tiny_vae() => self.decode(shape, latents, false),
            None => Err(Error::request("the model has no tiny VAE (TAESD) to make previews with")),
        }
    }

    /// Whether [`Pipeline::decode_preview`] has a tiny VAE.
    pub fn has_tiny_vae(&self) -> bool {
        self.preview.is_some() || matches!(self.vae.class, VaeClass::Tiny(_))
    }

    fn check_latents(&self, latents: View<'_, f32, 4>) -> Result<()> {
        let [n, channels, height, width] = latents.shape();
        let most = super::request::LARGEST_SIDE / self.vae.scale_factor();
        let sides = 1..=most;
        if n != 1
            || channels != self.vae.latent_channels
            || !sides.contains(&height)
            || !sides.contains(&width)
        {
            return Err(Error::request(format_args!(
                "the latents are {:?}; expected [1, {}, height, width] with sides of 1 to {most}",
                latents.shape(),
                self.vae.latent_channels
            )));
        }
        Ok(())
    }

    /// The picture of latents in torch's order, decoded at once or in strips.
    pub(crate) fn decode(&self, shape: [usize; 4], latents: Vec<f32>, vae_tiling: bool) -> Result<Image> {
        self.decode_by(&self.vae_decoder, &self.vae, channels_last(shape, latents), vae_tiling)
    }

    /// `latents: [1, h, w, c]`, as the UNet knows them.
    fn decode_by(
        &self,
        decoder: &LazyNetwork<Decoder>,
        vae: &VaeConfig,
        mut latents: Tensor<f32, 4>,
        vae_tiling: bool,
    ) -> Result<Image> {
        for x in latents.as_mut_slice() {
            *x /= vae.scaling_factor;
        }
        let decoder = decoder.get()?;
        let decoded = if vae_tiling {
            decoder.forward_in_strips(self.isa, latents.view(), Strips::default())
        } else {
            let _recycling = Recycling::start();
            decoder.forward(self.isa, latents.view())
        };
        self.check_finite(&decoded, || "the VAE decoder".into())?;
        Ok(Image::from_signed(decoded.view().select(0, 0)))
    }

    /// Latents drawn from the distribution that the encoder gives for a picture, or those that it
    /// knows.
    pub(super) fn sample(&self, moments: &Moments, generator: &mut Generator) -> Vec<f32> {
        let mean = channels_first(moments.mean.clone());
        let Some(logvar) = &moments.logvar else {
            return mean.into_iter().map(|x| self.vae.scaling_factor * x).collect();
        };
        let logvar = channels_first(logvar.clone());
        let noise = generator.randn(mean.len());
        let sample = |((mean, logvar), noise): ((f32, f32), f32)| {
            self.vae.scaling_factor * (mean + (0.5 * logvar).exp() * noise)
        };
        mean.into_iter().zip(logvar).zip(noise).map(sample).collect()
    }

    /// That distribution, for `picture: [1, h, w, 3]` in −1..1.
    pub(super) fn moments(&self, picture: Tensor<f32, 4>, vae_tiling: bool) -> Result<Moments> {
        let vae_encoder = self.vae_encoder.get()?;
        let moments = match vae_tiling {
            true => vae_encoder.forward_in_strips(self.isa, picture.view(), Strips::default()),
            false => vae_encoder.forward(self.isa, picture.view()),
        };
        drop(vae_encoder);
        self.vae_encoder.release();
        self.check_finite(&moments.mean, || "the VAE encoder".into())?;
        Ok(moments)
    }

    /// About how long decoding an image takes, in per cent of a step with these texts.
    pub(super) fn decoding_percent(&self, shape: [usize; 4], text: &TextConditioning) -> usize {
        let ([texts, tokens, _], [.., height, width]) = (text.hidden.shape(), shape);
        let step = self.arithmetic.step(height * width, texts, tokens);
        self.arithmetic.decoding_percent(height * width * self.vae.scale_factor().pow(2), step)
    }

    /// `[1, channels, height, width]` of the latents that a request works on.
    pub(super) fn latent_shape(&self, request: &TextToImage) -> [usize; 4] {
        self.latent_shape_of([request.width, request.height])
    }

    /// The same for a picture of `[width, height]`.
    pub(super) fn latent_shape_of(&self, [width, height]: [usize; 2]) -> [usize; 4] {
        let factor = self.vae.scale_factor();
        [1, self.vae.latent_channels, height / factor, width / factor]
    }
}

/// From torch's order `[n, c, h, w]`, in which noise is drawn, to `[n, h, w, c]`, in which we
/// compute.
pub(super) fn channels_last(shape: [usize; 4], data: Vec<f32>) -> Tensor<f32, 4> {
    View::from_slice(shape, &data).permute([0, 2, 3, 1]).to_tensor()
}

/// The way back.
pub(super) fn channels_first(x: Tensor<f32, 4>) -> Vec<f32> {
    x.view().permute([0, 3, 1, 2]).to_tensor().into_vec()
}
