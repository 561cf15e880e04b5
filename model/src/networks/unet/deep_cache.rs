//! DeepCache: the inner levels of the UNet at every Nth step only. An approximation, off by
//! default.
//!
//! ```text
//! full step      everything; what enters the last layer of the last up block is kept
//! other steps    conv_in(latent), and the last layer with it and with what was kept
//! ```
//!
//! From step to step the inner features change little, while the outermost layer sees the new
//! latent and the new time. Source: Ma et al., *DeepCache: Accelerating Diffusion Models for Free*
//! (2023); the outermost of its branches.

use aquatint_kernels::Isa;
use aquatint_tensor::Tensor;

use crate::networks::layers::{FeatureMap, Stored};

/// What a full step left: `[texts, h, w, c]`.
#[derive(Default)]
pub struct DeepCache {
    kept: Option<Tensor<f32, 4>>,
}

impl DeepCache {
    /// Whether there is something for as many texts.
    pub fn is_for(&self, texts: usize) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.shape()[0] == texts)
    }

    pub(super) fn keep<T: Stored>(&mut self, isa: Isa, x: &FeatureMap<T>) {
        let numbers = T::widen_all(isa, x.pixels().as_slice().into());
        self.kept = Some(Tensor::from_vec(x.shape(), numbers.into_owned()));
    }

    /// # Panics
    /// If nothing was kept.
    pub(super) fn kept<T: Stored>(&self) -> FeatureMap<T> {
        let kept = self.kept.as_ref().expect("a full step comes first");
        let mut pixels = Tensor::recycled(kept.shape());
        T::narrow(kept.as_slice(), pixels.as_mut_slice());
        FeatureMap::of_pixels(pixels)
    }
}

/// What a step does with the cache.
pub enum CacheUse<'a> {
    /// There is none.
    None,
    /// A full step, which fills it.
    Fill(&'a mut DeepCache),
    /// Only the outermost layer is computed.
    Reuse(&'a DeepCache),
}
