//! What a product takes on its left: f32, or what was rounded for it where it was made.
//!
//! A tile unit multiplies faster than the rest of a network can read and write f32. So what a norm
//! or an activation makes for the layer behind it is rounded at once, in the form in which that
//! layer reads it: half the memory, and no work is left to be done before the products. In f32
//! nothing is rounded, and an operand is a tensor.
//!
//! ```text
//! let x = norm(x);         Activations: f32 or rounded, as the precision says
//! let x = conv(&x);        Tensor: the sums, stored in f32 or f16
//! ```
//!
//! The numbers are those that the product would have rounded itself, so the result has the same
//! bits.

use aquatint_tensor::{Tensor, View, f16};
use rayon::prelude::*;

use crate::cpu::partition::rows_per_task;
use crate::cpu::simd::{Op, Simd};
use crate::cpu::stored::StoredView;
use crate::cpu::tile::TileRow;
use crate::gemm::{PackedA, RowSource};
use crate::{Isa, Precision};

/// For what an operand is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ALayout {
    /// The precision of the product.
    pub precision: Precision,
    /// Pixels of zeros around each image: 1 before a 3×3 window, 0 before a linear layer.
    pub border: usize,
}

impl ALayout {
    /// For a linear layer.
    pub fn rows(precision: Precision) -> Self {
        Self { precision, border: 0 }
    }

    /// For a convolution with a 3×3 window.
    pub fn image(precision: Precision) -> Self {
        Self { precision, border: 1 }
    }
}

/// The left operand of a product, of this shape.
pub struct Activations<const N: usize> {
    shape: [usize; N],
    storage: Storage,
}

/// Some rows of rounded activations.
pub struct PackedRowsMut<'a> {
    /// A line of each for every row, those of low terms behind those of high ones.
    pub(crate) planes: Vec<&'a mut [TileRow]>,
}

enum Storage {
    F32(Tensor<f32, 1>),
    Packed(PackedA),
}

impl<const N: usize> Activations<N> {
    /// Of rows that a source has or computes. `shape`: the last axis is that of the channels; an
    /// image with a border is `[n, h, w, c]`.
    pub(crate) fn from_rows(isa: Isa, layout: ALayout, shape: [usize; N], source: &impl RowSource) -> Self {
        let ALayout { precision, border } = layout;
        if precision == Precision::F32 {
            return tensor_of_rows(isa, shape, source).into();
        }
        let (channels, rows) = (shape[N - 1], shape[..N - 1].iter().product());
        let grid = match (border, &shape[..]) {
            (0, _) => [1, 1, rows],
            (_, &[n, h, w, _]) => [n, h, w],
            _ => panic!("only images have a border, not {shape:?}"),
        };
        let packed = PackedA::new(isa, (precision, border), grid, channels, source);
        Self { shape, storage: Storage::Packed(packed) }
    }

    /// Rounded rows of any numbers, to be overwritten by way of [`row_chunks`](Self::row_chunks).
    ///
    /// # Panics
    /// If the precision is f32.
    pub fn recycled(precision: Precision, shape: [usize; N]) -> Self {
        let rows = shape[..N - 1].iter().product();
        Self::packed(shape, PackedA::rows(precision, rows, shape[N - 1]))
    }

    /// Chunks of `rows` rounded rows, for different threads to write.
    ///
    /// # Panics
    /// If the numbers are in f32.
    pub fn row_chunks(&mut self, rows: usize) -> Vec<PackedRowsMut<'_>> {
        let Storage::Packed(packed) = &mut self.storage else { panic!("only what is rounded is in planes") };
        packed.pieces(rows).into_iter().map(|planes| PackedRowsMut { planes }).collect()
    }

    /// A matrix that was rounded, under any shape with as many rows and columns.
    pub(crate) fn packed(shape: [usize; N], packed: PackedA) -> Self {
        Self { shape, storage: Storage::Packed(packed) }
    }

    /// The length of each axis.
    pub fn shape(&self) -> [usize; N] {
        self.shape
    }

    /// The memory that the numbers take.
    pub fn bytes(&self) -> usize {
        Input::from(self).bytes()
    }

    /// The same numbers under another shape with as many channels: the pixels of an image as
    /// tokens.
    ///
    /// # Panics
    /// If the channels or the number of elements differ.
    pub fn reshape<const M: usize>(self, shape: [usize; M]) -> Activations<M> {
        let same = self.shape[N - 1] == shape[M - 1]
            && self.shape.iter().product::<usize>() == shape.iter().product::<usize>();
        assert!(same, "cannot reshape {:?} to {shape:?}", self.shape);
        Activations { shape, storage: self.storage }
    }

    /// The numbers.
    ///
    /// # Panics
    /// If they were rounded.
    pub fn into_tensor(self) -> Tensor<f32, N> {
        match self.storage {
            Storage::F32(storage) => storage.reshape(self.shape),
            Storage::Packed(_) => panic!("this operand was rounded and is good for a product only"),
        }
    }
}

impl<const N: usize> From<Tensor<f32, N>> for Activations<N> {
    fn from(x: Tensor<f32, N>) -> Self {
        let (shape, len) = (x.shape(), x.len());
        Self { shape, storage: Storage::F32(x.reshape([len])) }
    }
}

/// What a product can be given: a view of f32, or an operand.
#[derive(Clone, Copy)]
pub enum Input<'a, const N: usize> {
    /// To be rounded, if the product wants it.
    F32(View<'a, f32, N>),
    /// The same in f16.
    F16(View<'a, f16, N>),
    /// Of this shape.
    Packed([usize; N], &'a PackedA),
}

impl<'a, const N: usize> From<View<'a, f32, N>> for Input<'a, N> {
    fn from(x: View<'a, f32, N>) -> Self {
        Self::F32(x)
    }
}

impl<'a, const N: usize> From<StoredView<'a, N>> for Input<'a, N> {
    fn from(x: StoredView<'a, N>) -> Self {
        match x {
            StoredView::F32(x) => Self::F32(x),
            StoredView::F16(x) => Self::F16(x),
        }
    }
}

impl<'a, const N: usize> From<&'a Activations<N>> for Input<'a, N> {
    fn from(x: &'a Activations<N>) -> Self {
        match &x.storage {
            Storage::F32(storage) => Self::F32(View::from_slice(x.shape, storage.as_slice())),
            Storage::Packed(packed) => Self::Packed(x.shape, packed),
        }
    }
}

impl<const N: usize> Input<'_, N> {
    /// The length of each axis.
    pub fn shape(&self) -> [usize; N] {
        match *self {
            Self::F32(x) => x.shape(),
            Self::F16(x) => x.shape(),
            Self::Packed(shape, _) => shape,
        }
    }

    /// The memory that the numbers take.
    pub fn bytes(&self) -> usize {
        match *self {
            Self::F32(x) => size_of::<f32>() * x.shape().iter().product::<usize>(),
            Self::F16(x) => size_of::<f16>() * x.shape().iter().product::<usize>(),
            Self::Packed(_, x) => x.bytes(),
        }
    }
}

/// A tensor of rows that a source computes.
pub(crate) fn tensor_of_rows<const N: usize>(
    isa: Isa,
    shape: [usize; N],
    source: &impl RowSource,
) -> Tensor<f32, N> {
    let mut out = Tensor::recycled(shape);
    if out.is_empty() {
        return out;
    }
    let (channels, rows) = (shape[N - 1], rows_per_task(shape[N - 1]));
    out.as_mut_slice().par_chunks_mut(rows * channels).enumerate().for_each(|(i, out)| {
        isa.run(Compute { source, first: i * rows, channels, out });
    });
    out
}

/// Some rows, one behind the other.
struct Compute<'a, R> {
    source: &'a R,
    first: usize,
    channels: usize,
    out: &'a mut [f32],
}

impl<R: RowSource> Op for Compute<'_, R> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        for (m, buffer) in (self.first..).zip(self.out.chunks_exact_mut(self.channels)) {
            self.source.row(s, m, buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv2d::{self, Geometry, Padding, conv2d};
    use crate::gemm::{Epilogue, PackedWeights};
    use crate::linear::linear;
    use crate::norm::group::{Activation, GroupNorm, group_norm_concat, group_norm_packed};
    use crate::norm::layer::{layer_norm, layer_norm_packed};
    use crate::testing::random;

    /// Each precision on each unit.
    fn everywhere(mut f: impl FnMut(Isa, Precision)) {
        for isa in Isa::all_and_emulated() {
            Precision::ALL.into_iter().for_each(|precision| f(isa, precision));
        }
    }

    #[test]
    fn a_convolution_of_an_operand_has_the_bits_of_one_of_its_tensor() {
        let whole = Geometry { padding: Padding::all(0), ..Geometry::same(3) };
        for (size, geometry) in [
            ([3, 32], Geometry::same(3)), // tiles where they stand
            ([4, 16], whole),             // the last two columns are not seen
            ([3, 21], Geometry::same(3)), // rows end within tiles
            ([8, 8], Geometry::halving(Padding::all(1))),
            ([6, 5], Geometry::same(1)),
            ([7, 6], Geometry::same(5)), // further than the border reaches
            ([7, 32], Geometry::same(5)),
        ] {
            let [a, b] = [random([2, size[0], size[1], 40], 1), random([1, size[0], size[1], 24], 2)];
            let (weight, bias) = (random([64], 3), random([64], 4));
            let (weight, bias, activation) = (weight.as_slice(), bias.as_slice(), Activation::Silu);
            let norm = GroupNorm { num_groups: 4, eps: 1e-5, weight, bias, activation };
            let [kernel_h, kernel_w] = geometry.kernel_size;
            let w = random([35, 64, kernel_h, kernel_w], 5);
            everywhere(|isa, precision| {
                let w = conv2d::ConvWeights::pack_for(precision, w.view());
                let pieces = [a.view(), b.view()];
                let tensor = group_norm_concat(isa, &pieces, norm);
                let expected = conv2d(isa, tensor.view(), &w, geometry, Epilogue::default());
                let operand =
                    group_norm_packed(isa, &pieces.map(Into::into), norm, ALayout::image(precision));
                assert_eq!(operand.shape(), tensor.shape());
                let found = conv2d(isa, &operand, &w, geometry, Epilogue::default());
                assert!(found == expected, "{size:?}, {precision}, {isa}");
            });
        }
    }

    #[test]
    fn a_linear_layer_of_an_operand_has_the_bits_of_one_of_its_tensor() {
        let x = random([2, 37, 90], 1);
        let (weight, bias) = (random([90], 2), random([90], 3));
        let (weight, bias) = (weight.as_slice(), bias.as_slice());
        everywhere(|isa, precision| {
            let w = PackedWeights::pack_for(precision, random([70, 90], 4).view());
            let tensor = layer_norm(isa, x.view(), weight, bias, 1e-5);
            let expected = linear(isa, tensor.view(), &w, Epilogue::default());
            let operand = layer_norm_packed(isa, x.view(), weight, bias, 1e-5, precision).reshape([74, 90]);
            let found = linear(isa, &operand, &w, Epilogue::default()).reshape([2, 37, 70]);
            assert!(found == expected, "layer norm, {precision}, {isa}");
        });
    }

    #[test]
    #[should_panic(expected = "rounded for bf16 meets weights for bf16x3")]
    fn an_operand_is_for_one_precision() {
        let w = PackedWeights::pack_for(Precision::Bf16x3, random([5, 6], 1).view());
        let x = layer_norm_packed(
            Isa::best(),
            random([4, 6], 2).view(),
            &[1.0; 6],
            &[0.0; 6],
            1e-5,
            Precision::Bf16,
        );
        linear(Isa::best(), &x, &w, Epilogue::default());
    }

    #[test]
    #[should_panic(expected = "rounded for a window, not for a linear layer")]
    fn an_image_with_a_border_is_no_list_of_rows() {
        let (weight, bias, activation) = (&[1.0; 4], &[0.0; 4], Activation::None);
        let norm = GroupNorm { num_groups: 2, eps: 1e-5, weight, bias, activation };
        let x = random([1, 4, 4, 4], 1);
        let x = group_norm_packed(Isa::best(), &[x.view().into()], norm, ALayout::image(Precision::Bf16));
        let w = PackedWeights::pack_for(Precision::Bf16, random([5, 4], 2).view());
        linear(Isa::best(), &x, &w, Epilogue::default());
    }
}
