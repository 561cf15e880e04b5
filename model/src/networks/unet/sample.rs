//! Halving and doubling an image: the steps between the levels of a network.
//!
//! ```text
//! Downsample2D   3×3 convolution that takes every second pixel
//! Upsample2D     each pixel repeated in a square, then a 3×3 convolution: one kernel
//! ```

use aquatint_kernels::Isa;
use aquatint_kernels::conv2d::{Geometry, Padding};
use aquatint_tensor::View;

use crate::error::Result;
use crate::networks::layers::{Conv2d, FeatureMap, Stored, UpsampleConv2d};
use crate::source::Weights;

/// Halves height and width.
pub struct Downsample2D {
    conv: Conv2d,
}

impl Downsample2D {
    /// `padding` 1: one row and column of zeros on every side (the UNet; 5 pixels become 3).
    /// `padding` 0: one row below and one column to the right (the VAE's encoder, which gets 256
    /// from 512; 5 pixels become 2).
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(w: &Weights<'_>, channels: usize, padding: usize) -> Result<Self> {
        let padding = Padding { top: padding, left: padding, bottom: 1, right: 1 };
        let geometry = Geometry { stride: [2, 2], padding, ..Geometry::same(3) };
        Ok(Self { conv: Conv2d::load(&w.at("conv"), [channels; 2], geometry)? })
    }

    /// `x: [n, h, w, c]` → `[n, h/2, w/2, c]`.
    pub fn forward<T: Stored>(&self, isa: Isa, x: View<'_, T, 4>) -> FeatureMap<T> {
        self.conv.forward(isa, T::view(x))
    }
}

/// Doubles height and width.
pub struct Upsample2D {
    conv: UpsampleConv2d,
}

impl Upsample2D {
    /// Reads the weights.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(w: &Weights<'_>, channels: usize) -> Result<Self> {
        Ok(Self { conv: UpsampleConv2d::load(&w.at("conv"), channels)? })
    }

    /// `x: [n, h, w, c]` → `[n, 2h, 2w, c]`.
    pub fn forward<T: Stored>(&self, isa: Isa, x: View<'_, T, 4>) -> FeatureMap<T> {
        self.conv.forward(isa, x)
    }

    /// `x: [n, h, w, c]` → `[n, size[0], size[1], c]`.
    ///
    /// On the way down an odd height of 5 became 3; on the way up 3 must become 5 again, not 6.
    pub fn forward_to<T: Stored>(&self, isa: Isa, x: View<'_, T, 4>, size: [usize; 2]) -> FeatureMap<T> {
        let [_, height, width, _] = x.shape();
        if size == [2 * height, 2 * width] {
            return self.forward(isa, x);
        }
        self.conv.forward_to(isa, x, size)
    }
}
