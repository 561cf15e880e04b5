//! Every upsampling of UNet and VAE: an image doubled, which never exists, convolved 3×3. All four
//! pixels of its squares are equal, so a 3×3 window sees at most 2×2 different ones. In one row
//! pixel y becomes 2y and 2y + 1:
//!
//! ```text
//! the doubled row                  … y−1  y−1 │ y   y │ y+1  y+1 …
//! output 2y      taps 0, 1, 2 on        y−1     y   y             w₀·x[y−1] + (w₁ + w₂)·x[y]
//! output 2y + 1  taps 0, 1, 2 on                y   y   y+1       (w₀ + w₁)·x[y] + w₂·x[y+1]
//! ```
//!
//! With columns that makes four *phases*, each a 2×2 convolution with sums of the weights, in 4/9
//! of the multiplications. Minimal filtering (f32 only) needs 1/4.
//!
//! | step | idea | f32 | bf16 |
//! |---|---|---|---|
//! | [`mod@reference`] | the two definitions, one after the other | | |
//! | [`two_steps`] | the fast forms of both, one after the other | 273 | |
//! | [`filtered`] | minimal filtering whose tiles read each pixel of the small image for four | 284 | |
//! | [`phases`] | four 2×2 convolutions of the small image, with weights that were summed before they were rounded | | 65 |
//!
//! Milliseconds for 640 channels from 32×32 on two cores, `aquatint bench upsample_conv`: f32 on an
//! AMD EPYC (Zen 1, AVX2), bf16 on Zen 4.

pub mod filtered;
pub mod nearest;
pub mod phases;
pub mod reference;
pub mod two_steps;

use std::sync::OnceLock;

use aquatint_tensor::{Tensor, View};

use crate::conv2d::{self, Geometry};
use crate::cpu::partition::row_major;
use crate::cpu::stored::Stored;
use crate::gemm::{ChannelStats, Epilogue, Packable};
use crate::{Isa, Precision};
pub use nearest::{nearest, nearest_2x};
use phases::PHASES;

/// The weights of a 3×3 convolution that follows a doubling.
///
/// For products in f32 they are kept as published. Otherwise only the sums of the phases are kept,
/// 16/9 as large: both would take 80 MB more in Stable Diffusion 1.5.
pub struct UpsampleWeights {
    plain: OnceLock<conv2d::ConvWeights>,
    /// None if the weights are for f32.
    phases: Option<[conv2d::ConvWeights; 4]>,
}

impl UpsampleWeights {
    /// Packs `w: [out_channels, in_channels, 3, 3]` for products in f32.
    ///
    /// # Panics
    /// If the window is not 3×3.
    pub fn pack<T: Packable>(w: View<'_, T, 4>) -> Self {
        Self::pack_for(Precision::F32, w)
    }

    /// Packs `w: [out_channels, in_channels, 3, 3]` for products in any precision.
    ///
    /// # Panics
    /// If the window is not 3×3.
    pub fn pack_for<T: Packable>(precision: Precision, w: View<'_, T, 4>) -> Self {
        let [.., height, width] = w.shape();
        assert_eq!([height, width], [3, 3], "the weights have another kernel size");
        match precision {
            Precision::F32 => Self { plain: conv2d::ConvWeights::pack(w).into(), phases: None },
            Precision::Bf16 | Precision::Bf16x3 => {
                let phase =
                    |phase| conv2d::ConvWeights::pack_sums(precision, w, [2, 2], &phases::taps(phase));
                Self { plain: OnceLock::new(), phases: Some(PHASES.map(phase)) }
            }
        }
    }

    /// UpsampleWeights without an output channel: a stand-in where only shapes are asked for.
    pub fn empty() -> Self {
        Self { plain: conv2d::ConvWeights::empty().into(), phases: None }
    }

    /// For an image that is enlarged to another size than the double. If they are not there they
    /// are made of the phases when they are first asked for, and then stay.
    pub fn plain(&self) -> &conv2d::ConvWeights {
        // Not `get_or_init`: the thread that makes them would hold a lock while it waits for
        // others in the thread pool, and could in the meantime be given a task that asks for the
        // same lock. Two threads may make the same weights; the first to be done keeps its own.
        if self.plain.get().is_none() {
            let _ = self.plain.set(phases::plain(self.phases()));
        }
        self.plain.get().expect("set above")
    }

    /// # Panics
    /// If the weights are for f32.
    fn phases(&self) -> &[conv2d::ConvWeights; 4] {
        self.phases.as_ref().expect("weights for f32 have no phases")
    }

    /// The memory that they take.
    pub fn bytes(&self) -> usize {
        let phases = self.phases.iter().flatten().map(conv2d::ConvWeights::bytes).sum::<usize>();
        phases + self.plain.get().map_or(0, conv2d::ConvWeights::bytes)
    }

    /// Channels of the input, and of the output.
    pub fn in_channels(&self) -> usize {
        self.phases.as_ref().map_or_else(|| self.plain(), |phases| &phases[0]).in_channels()
    }
}

/// `out = epilogue(conv2d(nearest_2x(x)))` with a 3×3 window and one pixel of padding.
///
/// `x: [n, h, w, in_channels]` → `[n, 2h, 2w, out_channels]`. The epilogue has no residual.
///
/// ```
/// # use aquatint_kernels::conv2d::upsample::{UpsampleWeights, upsample_conv};
/// # use aquatint_kernels::{Isa, gemm::Epilogue};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([1, 1, 2, 1], vec![1.0, 10.0]); // doubled: 1 1 10 10, twice
/// // A window of ones sums its neighbourhood.
/// let ones = UpsampleWeights::pack(Tensor::full([1, 1, 3, 3], 1.0f32).view());
/// let y = upsample_conv(Isa::best(), x.view(), &ones, Epilogue::default());
/// assert_eq!(y.as_slice(), [4.0, 24.0, 42.0, 40.0, 4.0, 24.0, 42.0, 40.0]);
/// ```
///
/// # Panics
/// If the channels of input and weights differ, or a term of the epilogue does not fit.
pub fn upsample_conv<X: Stored, T: Stored>(
    isa: Isa,
    x: View<'_, X, 4>,
    w: &UpsampleWeights,
    epilogue: Epilogue<'_, T>,
) -> Tensor<T, 4> {
    fastest_form(isa, x, w, (epilogue, None))
}

/// [`upsample_conv()`], with the statistics of the channels of each image; see
/// [`conv2d_with_stats`](conv2d::conv2d_with_stats).
///
/// # Panics
/// As [`upsample_conv()`].
pub fn upsample_conv_with_stats<X: Stored, T: Stored>(
    isa: Isa,
    x: View<'_, X, 4>,
    w: &UpsampleWeights,
    epilogue: Epilogue<'_, T>,
) -> (Tensor<T, 4>, Option<ChannelStats>) {
    let mut stats = ChannelStats::new(x.shape()[0]);
    let y = fastest_form(isa, x, w, (epilogue, Some(&mut stats)));
    (y, stats.if_any())
}

fn fastest_form<X: Stored, T: Stored>(
    isa: Isa,
    x: View<'_, X, 4>,
    w: &UpsampleWeights,
    (epilogue, stats): (Epilogue<'_, T>, Option<&mut ChannelStats>),
) -> Tensor<T, 4> {
    let [images, height, width, channels] = x.shape();
    let doubled = [images, 2 * height, 2 * width, channels];
    if w.phases.is_some() {
        return phases::upsample_conv_to(isa, x, w, (epilogue, stats));
    }
    let wide = X::widen_all(isa, row_major(x));
    let x = View::from_slice(x.shape(), &wide);
    match conv2d::wants_winograd(doubled, Precision::F32, Geometry::same(3)) {
        true => filtered::upsample_conv(isa, x, w, epilogue),
        false => two_steps::upsample_conv(isa, x, w, epilogue),
    }
}

fn check<X: Stored, T: Stored>(x: View<'_, X, 4>, w: &UpsampleWeights, epilogue: &Epilogue<'_, T>) {
    let ([.., channels], expected) = (x.shape(), w.in_channels());
    assert_eq!(channels, expected, "the input has {channels} channels, not {expected}");
    assert!(epilogue.residual.is_none(), "nothing of the output's size is added to an upsampled image");
}

#[cfg(test)]
mod tests;
