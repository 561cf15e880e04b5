//! Inpainting: a part of an image is repainted, the rest is given.
//!
//! ```text
//! mask        1 where the image is repainted; every 8th pixel of every 8th row
//! 4 channels  any model, after each step:
//!             latents = mask·latents + (1 − mask)·add_noise(image's latents, noise, t)
//! 9 channels  inpainting model, at each step:
//!             input = [latents, mask, latents of the image without the masked region]
//! ```
//!
//! The first way puts the known part back, as noisy as the rest; the UNet learns of it only by what
//! surrounds the masked region. The second was trained to look at it. diffusers'
//! `StableDiffusionInpaintPipeline` does both, and draws in this order: the sample of the image's
//! latents (4 channels, or strength below 1), the noise, the sample of the masked image's latents.
//!
//! The decoder still changes every pixel a little, so at last the image is composited around the
//! mask, bit for bit. Source: Lugmayr et al., *RePaint* (2022), without its resampling; Rombach et
//! al. (2022), section 4.5. See [`crate::image::mask`].

use aquatint_tensor::{Tensor, concat};

use super::denoise::{InitialLatents, InpaintMode};
use super::latents::channels_last;
use super::pipeline::Pipeline;
use super::request::TextToImage;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::mask::Region;
use crate::image::metadata::Parameters;
use crate::image::{Mask, ResizeMode};

/// A picture, a part of which is to be made anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Inpaint {
    /// Everything that making a picture from a text needs. Its size is that of `image`, unless
    /// `only_masked` is set.
    pub text: TextToImage,
    /// The picture.
    pub image: Image,
    /// White is repainted; of the size of `image`.
    pub mask: Mask,
    /// How much of the masked part is replaced: more than 0, up to 1 (all of it, diffusers'
    /// default).
    pub strength: f64,
    /// Pixels around the mask: only a region of that extent is worked on, at the request's size.
    /// diffusers' `padding_mask_crop`.
    pub only_masked: Option<usize>,
    /// Whether the picture is laid back around the mask, bit for bit, and the width of the seam
    /// inside the mask. `None` leaves the decoder's picture as it is, which is what diffusers does
    /// without `padding_mask_crop`.
    pub keep_outside: Option<usize>,
}

impl Inpaint {
    pub(super) fn check(&self) -> Result<()> {
        let Self { image, mask, .. } = self;
        let sizes = [(mask.width(), mask.height()), (image.width(), image.height())];
        if sizes[0] != sizes[1] {
            let [mask, image] = sizes.map(|(width, height)| format!("{width}×{height}"));
            return Err(Error::request(format_args!(
                "the mask is {mask} and the picture {image}; expected a mask of the picture's size"
            )));
        }
        if mask.grey().iter().all(|&grey| grey < 128) {
            return Err(Error::request("no pixel of the mask is white: there is nothing to repaint"));
        }
        match self.only_masked {
            None => self.text.check_size("picture", image.width(), image.height()),
            Some(_) => self.region().map(drop),
        }
    }

    /// The part of the picture that is worked on; `None` for all of it.
    ///
    /// # Errors
    /// If nothing in the mask is white.
    fn region(&self) -> Result<Option<Region>> {
        let TextToImage { width, height, .. } = self.text;
        self.only_masked.map(|padding| self.mask.region(padding, width, height)).transpose()
    }

    /// Image and mask at the request's size.
    fn worked_on(&self) -> Result<(Image, Mask)> {
        let TextToImage { width, height, .. } = self.text;
        Ok(match self.region()? {
            None => (self.image.clone(), self.mask.clone()),
            Some(region) => (
                self.image.cropped(region).resized(width, height, ResizeMode::Fit),
                self.mask.cropped(region).resized(width, height, ResizeMode::Fit),
            ),
        })
    }

    /// The decoder's picture, laid into the given one as far as was asked for.
    pub(super) fn composite(&self, painted: Image) -> Result<Image> {
        let Self { image, mask, .. } = self;
        let painted = match self.region()? {
            None => painted,
            Some(region) => {
                let painted = painted.resized(region.width, region.height, ResizeMode::Crop);
                image.with_part(&painted, region)
            }
        };
        Ok(match (self.keep_outside, self.only_masked) {
            (Some(blur), _) => mask.composite(image, &painted, blur),
            (None, Some(_)) => mask.composite(image, &painted, 0), // the region's edge would show
            (None, None) => painted,
        })
    }

    /// Adds what this task has besides the text's settings.
    pub(super) fn describe(&self, parameters: &mut Parameters) {
        let mut last = "Model";
        let mut add = |key: &'static str, value: String| {
            parameters.insert_after(last, key, value);
            last = key;
        };
        add("Denoising strength", self.strength.to_string());
        add("Image hash", self.image.hash());
        add("Mask hash", self.mask.hash());
        if let Some(blur) = self.keep_outside {
            add("Mask blur", blur.to_string());
        }
        if let Some(padding) = self.only_masked {
            add("Inpaint area", "Only masked".into());
            add("Masked area padding", padding.to_string());
        }
    }
}

impl Pipeline {
    /// Noise on the image at the request's size, and what is known of it outside the mask.
    pub(super) fn latents_to_inpaint(&self, task: &Inpaint, first: usize) -> Result<InitialLatents<'_>> {
        let shape = self.latent_shape(&task.text);
        let strength = task.strength;
        let inpainting_model = self.is_inpainting_model();
        let (image, mask) = task.worked_on()?;
        let latent_mask = self.latent_mask(&mask, shape);
        let whole = match inpainting_model && strength == 1.0 {
            true => None, // not needed, and not drawn
            false => Some(self.moments(image.to_signed(), task.text.vae_tiling)?),
        };
        let masked = match inpainting_model {
            true => Some(self.moments(without_masked(&image, &mask), task.text.vae_tiling)?),
            false => None,
        };
        Ok(Box::new(move |sampler, generator| {
            let image_latents = whole.as_ref().map(|whole| self.sample(whole, generator));
            let image_latents = image_latents.unwrap_or_default();
            let noise = generator.randn(shape.iter().product());
            let mut latents;
            if strength == 1.0 {
                latents = noise.iter().map(|x| x * sampler.init_noise_sigma()).collect();
            } else {
                latents = image_latents.clone();
                sampler.add_noise(&mut latents, &noise, first);
            }
            let mask = latent_mask.clone();
            let inpaint = if let Some(masked) = &masked {
                let masked = self.sample(masked, generator);
                let mask = channels_last([1, 1, shape[2], shape[3]], mask);
                InpaintMode::Concat(concat(&[mask.view(), channels_last(shape, masked).view()], 3))
            } else {
                // diffusers encodes the masked image here, too; only the draw is felt.
                if self.vae.draws() {
                    generator.randn(noise.len());
                }
                InpaintMode::Blend { mask, latents: image_latents, noise }
            };
            (latents, inpaint)
        }))
    }

    /// 1 or 0 for each pixel of the latents: what the mask says at the upper left pixel of those
    /// that it stands for.
    fn latent_mask(&self, mask: &Mask, [.., height, width]: [usize; 4]) -> Vec<f32> {
        let factor = self.vae.scale_factor();
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x * factor, y * factor)));
        pixels.map(|(x, y)| f32::from(u8::from(mask.repaints(x, y)))).collect()
    }

    /// Whether the UNet was trained for inpainting: it sees the mask and the picture besides the
    /// noisy latents.
    pub fn is_inpainting_model(&self) -> bool {
        self.unet_config.in_channels != self.vae.latent_channels
    }

    /// Tasks that have no mask to show to an inpainting model.
    pub(super) fn refuse_inpainting_model(&self) -> Result<()> {
        match self.is_inpainting_model() {
            false => Ok(()),
            true => Err(Error::request(
                "this is an inpainting model: it needs a picture and a mask; use `inpaint`, or choose another model",
            )),
        }
    }
}

/// `[1, h, w, 3]` in −1..1, grey where the mask is white.
fn without_masked(image: &Image, mask: &Mask) -> Tensor<f32, 4> {
    let mut signed = image.to_signed();
    for (pixel, &grey) in signed.as_mut_slice().chunks_exact_mut(3).zip(mask.grey()) {
        if grey >= 128 {
            pixel.fill(0.0);
        }
    }
    signed
}
