//! A convolution's weights, packed as the right operand of a matrix product.

use aquatint_tensor::View;

use crate::Precision;
use crate::gemm;
use crate::gemm::Packable;

/// ConvWeights of a convolution: one segment of depth for each tap of the window, in row-major
/// order of the taps, each as long as the input has channels.
pub struct ConvWeights {
    pub(crate) packed: gemm::PackedWeights,
    kernel_size: [usize; 2],
}

impl ConvWeights {
    /// Packs `w: [out_channels, in_channels, kernel_height, kernel_width]`, the order of PyTorch,
    /// for products in f32.
    pub fn pack<T: Packable>(w: View<'_, T, 4>) -> Self {
        Self::pack_for(Precision::F32, w)
    }

    /// Packs `w: [out_channels, in_channels, kernel_height, kernel_width]` for products in any
    /// precision.
    pub fn pack_for<T: Packable>(precision: Precision, w: View<'_, T, 4>) -> Self {
        let [.., height, width] = w.shape();
        let packed = with_taps(w, |w| gemm::PackedWeights::pack_segments(precision, w));
        Self { packed, kernel_size: [height, width] }
    }

    /// A window of `kernel_size` whose tap i is the sum of the taps `taps[i]` of `w`, rounded; taps
    /// are counted row by row.
    pub(crate) fn pack_sums<T: Packable>(
        precision: Precision,
        w: View<'_, T, 4>,
        kernel_size: [usize; 2],
        taps: &[Vec<usize>],
    ) -> Self {
        assert_eq!(taps.len(), kernel_size[0] * kernel_size[1], "a sum for each tap");
        let packed = with_taps(w, |w| gemm::PackedWeights::pack_sums(precision, w, taps));
        Self { packed, kernel_size }
    }

    /// ConvWeights that were packed tap by tap.
    pub(crate) fn of_packed(packed: gemm::PackedWeights, kernel_size: [usize; 2]) -> Self {
        assert_eq!(packed.segments(), kernel_size[0] * kernel_size[1], "a segment for each tap");
        Self { packed, kernel_size }
    }

    /// ConvWeights without an output channel: a stand-in where only shapes are asked for.
    pub fn empty() -> Self {
        Self { packed: gemm::PackedWeights::empty(), kernel_size: [0, 0] }
    }

    /// Panics unless these are the weights for an image of `channels`, under a window of this
    /// size.
    pub(super) fn check(&self, channels: usize, kernel_size: [usize; 2]) {
        let (found, expected) = (channels, self.in_channels());
        assert_eq!(found, expected, "the input has {found} channels, not {expected}");
        assert_eq!(kernel_size, self.kernel_size, "the weights have another kernel size");
    }

    /// The precision of convolutions with these weights.
    pub fn precision(&self) -> Precision {
        self.packed.precision()
    }

    /// The memory that they take.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// Channels of the output.
    pub fn out_channels(&self) -> usize {
        self.packed.out_features()
    }

    /// Channels of the input.
    pub fn in_channels(&self) -> usize {
        self.packed.segment_len()
    }

    /// Height and width of the window.
    pub fn kernel_size(&self) -> [usize; 2] {
        self.kernel_size
    }
}

/// Hands on `w: [out_channels, in_channels, height, width]` as `[out_channels, taps, in_channels]`.
fn with_taps<T: Packable, R>(w: View<'_, T, 4>, f: impl FnOnce(View<'_, T, 3>) -> R) -> R {
    let [out_channels, in_channels, height, width] = w.shape();
    let (taps, shape) = (w.permute([0, 2, 3, 1]), [out_channels, height * width, in_channels]);
    match taps.reshape(shape) {
        Some(w) => f(w),
        None => f(taps.to_tensor().reshape(shape).view()),
    }
}
