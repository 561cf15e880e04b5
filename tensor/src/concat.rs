//! Tensors joined along an axis.

use std::borrow::Cow;

use crate::{Element, Tensor, View, shape};

/// The tensors one behind the other along `axis`: `[2, 3]` and `[2, 5]` along axis 1 give `[2, 8]`.
///
/// ```
/// # use aquatint_tensor::{Tensor, concat};
/// let a = Tensor::from_vec([2, 1], vec![1.0f32, 2.0]);
/// let b = Tensor::from_vec([2, 2], vec![3.0f32, 4.0, 5.0, 6.0]);
/// assert_eq!(concat(&[a.view(), b.view()], 1).as_slice(), [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);
/// ```
///
/// # Panics
/// If there is no tensor, or if they differ in another axis.
pub fn concat<T: Element, const N: usize>(views: &[View<'_, T, N>], axis: usize) -> Tensor<T, N> {
    let mut shape = views.first().expect("concat needs at least one tensor").shape();
    for view in &views[1..] {
        let other = view.shape();
        assert!(
            (0..N).all(|i| i == axis || shape[i] == other[i]),
            "cannot join {shape:?} and {other:?} along axis {axis}"
        );
        shape[axis] += other[axis];
    }
    // Each tensor is a sequence of blocks, one for each index of the axes before `axis`.
    let sources: Vec<(Cow<'_, [T]>, usize)> = views
        .iter()
        .map(|view| {
            let block = view.shape()[axis..].iter().product();
            (view.as_slice().map_or_else(|| view.to_tensor().into_vec().into(), Cow::from), block)
        })
        .collect();
    let blocks: usize = shape[..axis].iter().product();
    let mut data = Vec::with_capacity(shape::count(shape));
    for i in 0..blocks {
        for (source, block) in &sources {
            data.extend_from_slice(&source[i * block..][..*block]);
        }
    }
    Tensor::from_vec(shape, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_any_strides_join_along_any_axis() {
        let a = Tensor::from_fn([2, 3, 4], |[i, j, k]| (100 * i + 10 * j + k) as f32);
        let b = a.view().permute([1, 0, 2]).slice(0, 0..2);
        let joined = concat(&[a.view(), b.slice(1, 0..1), a.view().slice(1, 2..3)], 1);
        assert_eq!(joined.shape(), [2, 5, 4]);
        assert_eq!(joined[[1, 2, 3]], 123.0);
        assert_eq!(joined[[1, 3, 3]], b.at([1, 0, 3]));
        assert_eq!(joined[[1, 4, 0]], 120.0);
    }

    #[test]
    #[should_panic(expected = "cannot join [2, 3] and [4, 3] along axis 1")]
    fn other_axes_must_agree() {
        concat(&[Tensor::<f32, 2>::zeros([2, 3]).view(), Tensor::zeros([4, 3]).view()], 1);
    }
}
