//! The borrowed tensor that may be changed.

use std::ops::Range;

use crate::{Element, View, shape, tensor::check, tensor::indices};

/// A window on somebody else's elements through which they can be changed.
///
/// ```
/// # use aquatint_tensor::Tensor;
/// let mut board = Tensor::zeros([2, 4]);
/// let patch = Tensor::full([2, 2], 7.0f32);
/// board.view_mut().slice(1, 1..3).assign(patch.view());
/// assert_eq!(board.as_slice(), [0.0, 7.0, 7.0, 0.0, 0.0, 7.0, 7.0, 0.0]);
/// ```
pub struct ViewMut<'a, T, const N: usize> {
    data: &'a mut [T],
    shape: [usize; N],
    strides: [usize; N],
}

impl<'a, T: Element, const N: usize> ViewMut<'a, T, N> {
    pub(crate) fn new(data: &'a mut [T], shape: [usize; N], strides: [usize; N]) -> Self {
        Self { data, shape, strides }
    }

    /// The length of each axis.
    pub fn shape(&self) -> [usize; N] {
        self.shape
    }

    /// The same window, to read only.
    pub fn view(&self) -> View<'_, T, N> {
        View::new(self.data, self.shape, self.strides)
    }

    /// The part of the tensor whose index along `axis` is in `range`.
    ///
    /// # Panics
    /// If the range is not inside the axis.
    pub fn slice(self, axis: usize, range: Range<usize>) -> Self {
        let mut shape = self.shape;
        assert!(
            range.start <= range.end && range.end <= shape[axis],
            "slice {range:?} is outside axis {axis} of shape {shape:?}"
        );
        shape[axis] = range.len();
        let start = if range.is_empty() { 0 } else { range.start * self.strides[axis] };
        Self { data: &mut self.data[start..], shape, strides: self.strides }
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]` of this view.
    ///
    /// # Panics
    /// If `order` does not name each axis once.
    pub fn permute(self, order: [usize; N]) -> Self {
        let permuted = self.view().permute(order);
        let (shape, strides) = (permuted.shape(), permuted.strides());
        Self { data: self.data, shape, strides }
    }

    /// The element at `index`.
    ///
    /// # Panics
    /// If `index` is outside the shape.
    pub fn at(&mut self, index: [usize; N]) -> &mut T {
        check(index, self.shape);
        &mut self.data[shape::position(index, self.strides)]
    }

    /// Copies `source` into this window.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn assign(&mut self, source: View<'_, T, N>) {
        assert_eq!(self.shape, source.shape(), "cannot assign a tensor of another shape");
        for (index, x) in indices(self.shape).zip(source.iter()) {
            self.data[shape::position(index, self.strides)] = x;
        }
    }
}
