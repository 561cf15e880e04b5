//! How a convolution's window moves, and what size its output has.

/// The output size of a convolution along one axis:
///
/// ```text
/// output = floor((input + padding − dilation·(kernel − 1) − 1) / stride) + 1
/// ```
///
/// where `padding` is the sum of both sides. `None` if the window is larger than the padded input,
/// or the stride or the kernel is 0. The formula of `torch.nn.Conv2d`.
///
/// The window covers `dilation·(kernel − 1) + 1` pixels. It fits at position 0 if the padded input
/// is at least as long; each further `stride` pixels give one more position. A rest that is shorter
/// than a stride gives none, hence the floor: an image cannot have half a pixel.
///
/// ```
/// # use aquatint_kernels::conv2d::output_size;
/// // Kernel 3, stride 2, no padding. (512 − 2 − 1)/2 + 1 is 255.5: the last column has no
/// // neighbour to the right, no window ends there, and 255 is what remains.
/// assert_eq!(output_size(512, 3, 2, 0, 1), Some(255));
/// // With one pixel of padding on each side: (256 + 2 − 2 − 1)/2 + 1 = 128.5 → 128.
/// // Without: 127.5 → 127.
/// assert_eq!(output_size(256, 3, 2, 2, 1), Some(128));
/// assert_eq!(output_size(256, 3, 2, 0, 1), Some(127));
/// // The VAE's encoder must halve 512 exactly. It pads one pixel on the right and bottom only:
/// // (512 + 1 − 2 − 1)/2 + 1 = 256, and the windows start at pixels 0, 2, 4, … as if nothing
/// // had been padded.
/// assert_eq!(output_size(512, 3, 2, 1, 1), Some(256));
/// ```
pub fn output_size(
    input: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> Option<usize> {
    let window = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    let steps = input.checked_add(padding)?.checked_sub(window)?.checked_div(stride)?;
    Some(steps + 1)
}

/// Rows and columns of zeros around an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns before.
    pub left: usize,
    /// Columns behind.
    pub right: usize,
}

impl Padding {
    /// The same on all four sides.
    pub const fn all(pixels: usize) -> Self {
        Self { top: pixels, bottom: pixels, left: pixels, right: pixels }
    }

    /// Below and behind only: what the VAE's encoder uses to halve an image exactly.
    pub const fn bottom_right(pixels: usize) -> Self {
        Self { top: 0, bottom: pixels, left: 0, right: pixels }
    }
}

/// How the window moves over the image. Pairs are (rows, columns).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Height and width of the window.
    pub kernel_size: [usize; 2],
    /// Rows and columns from one position to the next.
    pub stride: [usize; 2],
    /// Zeros around the image.
    pub padding: Padding,
    /// Distance of neighbouring taps; 1 is an ordinary, dense window.
    pub dilation: [usize; 2],
}

impl Geometry {
    /// A square window of odd size with stride 1 that keeps the size of the image.
    pub const fn same(kernel_size: usize) -> Self {
        Self {
            kernel_size: [kernel_size; 2],
            stride: [1; 2],
            padding: Padding::all(kernel_size / 2),
            dilation: [1; 2],
        }
    }

    /// A 3×3 window with stride 2: it halves an image.
    pub const fn halving(padding: Padding) -> Self {
        Self { kernel_size: [3; 2], stride: [2; 2], padding, dilation: [1; 2] }
    }

    /// Height and width of the output for an input of `[h, w]`; see [`output_size`].
    pub fn output(&self, [h, w]: [usize; 2]) -> Option<[usize; 2]> {
        let Padding { top, bottom, left, right } = self.padding;
        Some([
            output_size(h, self.kernel_size[0], self.stride[0], top + bottom, self.dilation[0])?,
            output_size(w, self.kernel_size[1], self.stride[1], left + right, self.dilation[1])?,
        ])
    }

    /// Height and width of the output for an input of `[h, w]`.
    ///
    /// # Panics
    /// If the window is larger than the padded input.
    pub(super) fn output_or_panic(&self, input: [usize; 2]) -> [usize; 2] {
        self.output(input).unwrap_or_else(|| panic!("{self:?} has no position on an image of {input:?}"))
    }

    /// The input pixel along `axis` under tap `tap` of output pixel `position`, unless it lies in
    /// the padding.
    #[inline]
    pub(super) fn source(&self, axis: usize, position: usize, tap: usize, length: usize) -> Option<usize> {
        let before = [self.padding.top, self.padding.left][axis];
        let padded = position * self.stride[axis] + tap * self.dilation[axis];
        padded.checked_sub(before).filter(|&i| i < length)
    }
}
