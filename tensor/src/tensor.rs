//! The owned, row-major tensor.

use std::ops::{Index, IndexMut};

use crate::recycle::{self, Recycled};
use crate::{Element, View, shape};

/// An owned tensor of rank `N`, always row-major: the last index runs fastest.
///
/// ```
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// assert_eq!(x[[1, 0]], 4.0);
/// assert_eq!(x.view().transpose().to_tensor().as_slice(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
/// ```
#[derive(Clone, PartialEq)]
pub struct Tensor<T: Element, const N: usize> {
    shape: [usize; N],
    data: Vec<T>,
}

impl<T: Element, const N: usize> Tensor<T, N> {
    /// The tensor of `shape` whose elements in row-major order are `data`.
    ///
    /// # Panics
    /// If `data` does not have as many elements as `shape`.
    pub fn from_vec(shape: [usize; N], data: Vec<T>) -> Self {
        assert_eq!(shape::count(shape), data.len(), "shape {shape:?} does not fit {} elements", data.len());
        Self { shape, data }
    }

    /// All elements zero.
    pub fn zeros(shape: [usize; N]) -> Self {
        Self::full(shape, T::default())
    }

    /// All elements `value`.
    pub fn full(shape: [usize; N], value: T) -> Self {
        Self { shape, data: vec![value; shape::count(shape)] }
    }

    /// The element at each index is `f(index)`; indices come in row-major order.
    pub fn from_fn(shape: [usize; N], mut f: impl FnMut([usize; N]) -> T) -> Self {
        let data = indices(shape).map(&mut f).collect();
        Self { shape, data }
    }

    /// The length of each axis.
    pub fn shape(&self) -> [usize; N] {
        self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements in row-major order.
    pub fn as_slice(&self) -> &[T] {
        &self.data
    }

    /// The elements in row-major order, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The elements in row-major order, without the shape.
    pub fn into_vec(mut self) -> Vec<T> {
        self.take_data()
    }

    /// A view of the whole tensor.
    pub fn view(&self) -> View<'_, T, N> {
        View::new(&self.data, self.shape, shape::row_major(self.shape))
    }

    /// The same elements in the same order under another shape; nothing is copied.
    ///
    /// # Panics
    /// If the two shapes have different numbers of elements.
    pub fn reshape<const M: usize>(mut self, shape: [usize; M]) -> Tensor<T, M> {
        assert_eq!(
            self.len(),
            shape::count(shape),
            "cannot reshape {:?} to {shape:?}: the element counts differ",
            self.shape
        );
        Tensor { shape, data: self.take_data() }
    }

    /// The tensor of `f(x)` for each element x.
    pub fn map<U: Element>(&self, f: impl FnMut(T) -> U) -> Tensor<U, N> {
        Tensor { shape: self.shape, data: self.data.iter().copied().map(f).collect() }
    }

    /// Each element in another type, rounded to the nearest value.
    pub fn convert<U: Element>(&self) -> Tensor<U, N> {
        self.map(|x| U::from_f32(x.to_f32()))
    }
}

impl<T: Element, const N: usize> Tensor<T, N> {
    /// The elements; what remains holds none and is only there to be dropped.
    fn take_data(&mut self) -> Vec<T> {
        std::mem::take(&mut self.data)
    }
}

impl<T: Recycled, const N: usize> Tensor<T, N> {
    /// Elements of any value, to be overwritten: the memory of an earlier tensor, if somebody holds
    /// a [`Recycling`](crate::Recycling).
    pub fn recycled(shape: [usize; N]) -> Self {
        Self { shape, data: recycle::take(shape::count(shape)) }
    }
}

impl<T: Element, const N: usize> Drop for Tensor<T, N> {
    fn drop(&mut self) {
        T::give_back(self.take_data());
    }
}

impl<T: Element, const N: usize> Index<[usize; N]> for Tensor<T, N> {
    type Output = T;
    fn index(&self, index: [usize; N]) -> &T {
        check(index, self.shape);
        &self.data[shape::position(index, shape::row_major(self.shape))]
    }
}

impl<T: Element, const N: usize> IndexMut<[usize; N]> for Tensor<T, N> {
    fn index_mut(&mut self, index: [usize; N]) -> &mut T {
        check(index, self.shape);
        &mut self.data[shape::position(index, shape::row_major(self.shape))]
    }
}

/// Panics unless `index` lies inside `shape`.
pub(crate) fn check<const N: usize>(index: [usize; N], shape: [usize; N]) {
    assert!((0..N).all(|axis| index[axis] < shape[axis]), "index {index:?} is outside shape {shape:?}");
}

/// All indices of `shape` in row-major order.
pub(crate) fn indices<const N: usize>(shape: [usize; N]) -> impl Iterator<Item = [usize; N]> {
    let mut next = [0; N];
    (0..shape::count(shape)).map(move |_| {
        let index = next;
        for axis in (0..N).rev() {
            next[axis] += 1;
            if next[axis] < shape[axis] {
                break;
            }
            next[axis] = 0;
        }
        index
    })
}
