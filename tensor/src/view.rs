//! The borrowed tensor under any strides.

use std::ops::Range;

use crate::{Element, Tensor, shape, tensor::check, tensor::indices};

/// A window on somebody else's elements: a shape and strides over a borrowed buffer. Cheap to copy.
///
/// The methods that change a shape take `self` and give a new view of the same buffer:
///
/// ```
/// # use aquatint_tensor::Tensor;
/// let image = Tensor::from_fn([1, 4, 4, 3], |[_, y, x, c]| (100 * y + 10 * x + c) as f32);
/// let corner = image.view().slice(1, 2..4).slice(2, 2..4); // the lower right quarter
/// let planes = corner.permute([0, 3, 1, 2]); // channels first, as PyTorch has it
/// assert_eq!(planes.shape(), [1, 3, 2, 2]);
/// assert_eq!(planes.at([0, 2, 1, 0]), 322.0);
/// ```
#[derive(Clone, Copy)]
pub struct View<'a, T, const N: usize> {
    data: &'a [T],
    shape: [usize; N],
    strides: [usize; N],
}

impl<'a, T: Element, const N: usize> View<'a, T, N> {
    /// A view of `data` in which index `i` is at `Σ i[k]·strides[k]`.
    ///
    /// # Panics
    /// If the last element would lie outside `data`.
    pub fn new(data: &'a [T], shape: [usize; N], strides: [usize; N]) -> Self {
        let extent = shape::extent(shape, strides);
        assert!(
            extent.is_some_and(|extent| extent <= data.len()),
            "shape {shape:?} with strides {strides:?} needs {} elements, the buffer has {}",
            extent.map_or("too many".into(), |extent| extent.to_string()),
            data.len()
        );
        Self { data, shape, strides }
    }

    /// A row-major view of `data`.
    ///
    /// # Panics
    /// If `data` does not have as many elements as `shape`.
    pub fn from_slice(shape: [usize; N], data: &'a [T]) -> Self {
        assert_eq!(shape::count(shape), data.len(), "shape {shape:?} does not fit {} elements", data.len());
        Self { data, shape, strides: shape::row_major(shape) }
    }

    /// The length of each axis.
    pub fn shape(&self) -> [usize; N] {
        self.shape
    }

    /// How far apart in the buffer neighbours along each axis are.
    pub fn strides(&self) -> [usize; N] {
        self.strides
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        shape::count(self.shape)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `index`.
    ///
    /// # Panics
    /// If `index` is outside the shape.
    pub fn at(&self, index: [usize; N]) -> T {
        check(index, self.shape);
        self.data[shape::position(index, self.strides)]
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
        // An empty slice at the very end would start behind the buffer.
        let start = if range.is_empty() { 0 } else { range.start * self.strides[axis] };
        Self { data: &self.data[start.min(self.data.len())..], shape, strides: self.strides }
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]` of this view.
    ///
    /// # Panics
    /// If `order` does not name each axis once.
    pub fn permute(self, order: [usize; N]) -> Self {
        let mut sorted = order;
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..N), "{order:?} is not an order of {N} axes");
        Self {
            data: self.data,
            shape: order.map(|axis| self.shape[axis]),
            strides: order.map(|axis| self.strides[axis]),
        }
    }

    /// The last two axes exchanged: rows become columns.
    ///
    /// # Panics
    /// If there are fewer than two axes.
    pub fn transpose(self) -> Self {
        assert!(N >= 2, "only a tensor of rank 2 or more has a transpose");
        let mut order = std::array::from_fn(|axis| axis);
        order.swap(N - 2, N - 1);
        self.permute(order)
    }

    /// Axes of length 1 repeated to the lengths of `shape`, by a stride of 0.
    ///
    /// # Panics
    /// If an axis is neither of length 1 nor of the wanted length.
    pub fn broadcast_to(self, shape: [usize; N]) -> Self {
        let strides = std::array::from_fn(|axis| match (self.shape[axis], shape[axis]) {
            (from, to) if from == to => self.strides[axis],
            (1, _) => 0,
            _ => panic!("cannot broadcast {:?} to {shape:?}: axis {axis} differs", self.shape),
        });
        Self { data: self.data, shape, strides }
    }

    /// The sub-tensor at `index` along `axis`, without that axis. `M` must be `N − 1`.
    ///
    /// # Panics
    /// If `M` is not `N − 1`, or `index` is outside the axis.
    pub fn select<const M: usize>(self, axis: usize, index: usize) -> View<'a, T, M> {
        assert_eq!(M + 1, N, "select takes away exactly one axis");
        assert!(index < self.shape[axis], "index {index} is outside axis {axis} of shape {:?}", self.shape);
        let keep = |i: usize| if i < axis { i } else { i + 1 };
        View {
            data: &self.data[(index * self.strides[axis]).min(self.data.len())..],
            shape: std::array::from_fn(|i| self.shape[keep(i)]),
            strides: std::array::from_fn(|i| self.strides[keep(i)]),
        }
    }

    /// The same elements in the same order under another shape, or `None` if that takes a copy
    /// (then: `view.to_tensor().reshape(shape)`).
    ///
    /// # Panics
    /// If the two shapes have different numbers of elements.
    pub fn reshape<const M: usize>(self, shape: [usize; M]) -> Option<View<'a, T, M>> {
        let strides = shape::reshape(self.shape, self.strides, shape)?;
        Some(View { data: self.data, shape, strides })
    }

    /// The elements as one slice, if they stand in row-major order without gaps.
    pub fn as_slice(self) -> Option<&'a [T]> {
        shape::is_row_major(self.shape, self.strides).then(|| &self.data[..self.len()])
    }

    /// All elements in row-major order.
    pub fn iter(self) -> impl Iterator<Item = T> + 'a {
        indices(self.shape).map(move |index| self.data[shape::position(index, self.strides)])
    }

    /// The last axis at each index of the others, as slices, in row-major order.
    ///
    /// # Panics
    /// If the elements of the last axis are not neighbours in the buffer.
    pub fn rows(self) -> impl Iterator<Item = &'a [T]> {
        assert!(N >= 1, "a tensor of rank 0 has no rows");
        let columns = self.shape[N - 1];
        assert!(columns <= 1 || self.strides[N - 1] == 1, "the rows of this view are not contiguous");
        let mut outer = self.shape;
        outer[N - 1] = usize::from(columns > 0);
        indices(outer).map(move |index| &self.data[shape::position(index, self.strides)..][..columns])
    }

    /// The sub-tensors along `axis`, first to last. `M` must be `N − 1`.
    pub fn axis_iter<const M: usize>(self, axis: usize) -> impl Iterator<Item = View<'a, T, M>> {
        (0..self.shape[axis]).map(move |index| self.select(axis, index))
    }

    /// An owned, row-major copy.
    pub fn to_tensor(self) -> Tensor<T, N> {
        let contiguous_rows = N > 0 && (self.shape[N - 1] <= 1 || self.strides[N - 1] == 1);
        let data = if let Some(data) = self.as_slice() {
            data.to_vec()
        } else if contiguous_rows {
            let mut data = Vec::with_capacity(self.len());
            self.rows().for_each(|row| data.extend_from_slice(row));
            data
        } else {
            self.iter().collect()
        };
        Tensor::from_vec(self.shape, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting<const N: usize>(shape: [usize; N]) -> Tensor<f32, N> {
        let data = (0..shape::count(shape)).map(|i| i as f32).collect();
        Tensor::from_vec(shape, data)
    }

    #[test]
    fn slices_permutations_and_selections_agree_with_indexing() {
        let x = counting([3, 4, 5, 2]);
        let v = x.view().slice(0, 1..3).permute([2, 0, 3, 1]).slice(3, 1..3);
        assert_eq!(v.shape(), [5, 2, 2, 2]);
        let copy = v.to_tensor();
        for [a, b, c, d] in indices(v.shape()) {
            let expected = x[[b + 1, d + 1, a, c]];
            assert_eq!(v.at([a, b, c, d]), expected);
            assert_eq!(copy[[a, b, c, d]], expected);
            assert_eq!(v.select::<3>(1, b).at([a, c, d]), expected);
        }
        assert!(v.as_slice().is_none());
    }

    #[test]
    fn broadcasting_repeats_without_copying() {
        let x = counting([1, 3]);
        let v = x.view().broadcast_to([2, 3]);
        assert_eq!(v.strides(), [0, 1]);
        assert_eq!(v.to_tensor().as_slice(), [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    }

    #[test]
    fn rows_of_a_slice_are_slices_of_the_buffer() {
        let x = counting([2, 3, 4]);
        let rows: Vec<_> = x.view().slice(1, 1..3).slice(2, 1..3).rows().map(<[f32]>::to_vec).collect();
        assert_eq!(rows, [[5.0, 6.0], [9.0, 10.0], [17.0, 18.0], [21.0, 22.0]]);
        assert_eq!(x.view().axis_iter::<2>(0).count(), 2);
    }

    #[test]
    fn empty_views_are_harmless() {
        let x = counting([2, 3]);
        let v = x.view().slice(0, 2..2);
        assert_eq!((v.len(), v.rows().count(), v.iter().count()), (0, 0, 0));
        assert_eq!(v.to_tensor().shape(), [0, 3]);
        assert_eq!(x.view().slice(1, 3..3).rows().count(), 0);
    }

    #[test]
    fn reshape_copies_only_when_asked() {
        let x = counting([4, 6]);
        assert_eq!(x.view().reshape([2, 2, 6]).map(|v| v.strides()), Some([12, 6, 1]));
        assert!(x.view().slice(1, 0..3).reshape([12]).is_none());
        let copied = x.view().slice(1, 0..3).to_tensor().reshape([12]);
        assert_eq!(copied[[3]], 6.0);
    }

    #[test]
    #[should_panic(expected = "slice 2..5 is outside axis 0")]
    fn a_slice_outside_the_axis_panics() {
        let x = counting([3, 2]);
        let _ = x.view().slice(0, 2..5);
    }

    #[test]
    #[should_panic(expected = "needs 7 elements, the buffer has 6")]
    fn a_view_cannot_look_behind_its_buffer() {
        let _ = View::new(&[0.0f32; 6], [2, 3], [4, 1]);
    }
}
