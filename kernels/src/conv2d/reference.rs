//! The definition of a two-dimensional convolution, with sums in `f64`.

use aquatint_tensor::{Element, Tensor, View};

use super::Geometry;

/// `out[n, y, x, o] = Σ_{i, j, c} x[n, y·s + i·d − p, x·s + j·d − p, g·C + c] · w[o, c, i, j]`,
/// where pixels outside the image are 0.
///
/// With `groups` > 1 the channels fall into as many equal groups: output channel o belongs to group
/// g = o / (out_channels / groups) and sees only that group's C = in_channels / groups input
/// channels.
///
/// `x: [n, h, w, in_channels]`, `w: [out_channels, in_channels / groups, kernel_h, kernel_w]`
/// → `[n, h', w', out_channels]`. As `torch.nn.functional.conv2d`, but channels-last.
///
/// ```
/// # use aquatint_kernels::conv2d::{Geometry, reference::conv2d};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([1, 1, 3, 1], vec![1.0, 2.0, 3.0]);
/// let w = Tensor::full([1, 1, 3, 3], 1.0f32); // sums its neighbourhood
/// assert_eq!(conv2d(x.view(), w.view(), Geometry::same(3), 1).as_slice(), [3.0, 6.0, 5.0]);
/// ```
///
/// # Panics
/// If the channels do not fit the weights and the groups, or the window is larger than the padded
/// input.
pub fn conv2d<T: Element>(
    x: View<'_, f32, 4>,
    w: View<'_, T, 4>,
    geometry: Geometry,
    groups: usize,
) -> Tensor<f32, 4> {
    let [images, h, width, in_channels] = x.shape();
    let [out_channels, channels, kernel_h, kernel_w] = w.shape();
    assert_eq!([kernel_h, kernel_w], geometry.kernel_size, "the weights have another kernel size");
    assert!(
        in_channels == channels * groups && out_channels % groups == 0,
        "{in_channels} → {out_channels} channels in {groups} groups do not fit weights {:?}",
        w.shape()
    );
    let [out_h, out_w] = geometry.output_or_panic([h, width]);
    Tensor::from_fn([images, out_h, out_w, out_channels], |[n, oy, ox, o]| {
        let group = o / (out_channels / groups);
        let mut sum = 0.0f64;
        for i in 0..kernel_h {
            for j in 0..kernel_w {
                let source = (geometry.source(0, oy, i, h), geometry.source(1, ox, j, width));
                let (Some(iy), Some(ix)) = source else { continue };
                for c in 0..channels {
                    let pixel = x.at([n, iy, ix, group * channels + c]);
                    sum += f64::from(pixel) * f64::from(w.at([o, c, i, j]).to_f32());
                }
            }
        }
        sum as f32
    })
}
