//! The cheap look at a picture that is being made: its predicted latents as a small picture.
//!
//! ```text
//! first     the VAE decodes the predicted latents once, at a few pixels, and the colours are fitted to
//!           that (see `vae/projection.rs`)
//! later     the fit to the last finished picture, which is better
//! ```

use std::sync::{Mutex, PoisonError};

use aquatint_model::networks::vae::Projection;
use aquatint_model::{Format, Image, Pipeline};
use aquatint_tensor::View;

/// The largest side of latents that are decoded for a fit.
const LARGEST_SIDE: usize = 24;

/// Quality of a preview's JPEG.
const QUALITY: u8 = 80;

/// From latents to colours, for one model.
#[derive(Default)]
pub(crate) struct Preview(Mutex<Option<Projection>>);

impl Preview {
    /// A JPEG of latents of `shape` `[channels, height, width]`, a pixel each; nothing where there
    /// are no colours to be had.
    pub(crate) fn jpeg(&self, pipeline: &Pipeline, shape: [usize; 3], latents: &[f32]) -> Option<Vec<u8>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = fit(pipeline, shape, latents);
        }
        let picture = known.as_ref()?.for_shape(shape).picture(latents);
        picture.to_bytes(Format::Jpeg(QUALITY)).ok()
    }

    /// Fits the colours to a finished picture.
    pub(crate) fn learn(&self, shape: [usize; 3], latents: &[f32], picture: &Image) {
        let [_, height, width] = shape;
        if picture.width().is_multiple_of(width) && picture.width() / width * height == picture.height() {
            let fitted = Projection::fit(shape, latents, picture);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fitted);
        }
    }
}

/// The fit to latents that the VAE decodes at a few pixels.
fn fit(pipeline: &Pipeline, shape: [usize; 3], latents: &[f32]) -> Option<Projection> {
    let [channels, height, width] = shape;
    let factor = height.max(width).div_ceil(LARGEST_SIDE);
    let [small_height, small_width] = [height, width].map(|side| (side / factor).max(1));
    let mut small = Vec::with_capacity(channels * small_height * small_width);
    for channel in latents.chunks_exact(height * width) {
        for y in 0..small_height {
            small.extend((0..small_width).map(|x| channel[y * factor * width + x * factor]));
        }
    }
    let shape = [channels, small_height, small_width];
    let view = View::from_slice([1, channels, small_height, small_width], &small);
    let picture = pipeline.decode_latents(view).ok()?;
    Some(Projection::fit(shape, &small, &picture))
}
