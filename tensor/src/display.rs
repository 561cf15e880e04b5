//! Printing for people: the shape, then the numbers, long axes shortened in the middle.

use std::fmt;

use crate::{Element, Tensor, View};

/// An axis that is longer than this is shown as its first and last `EDGE` entries.
const LONGEST: usize = 8;
const EDGE: usize = 3;

impl<T: Element, const N: usize> fmt::Display for Tensor<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl<T: Element, const N: usize> fmt::Debug for Tensor<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.view(), f)
    }
}

impl<T: Element, const N: usize> fmt::Debug for View<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// ```
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([2, 2], vec![1.0f32, 2.5, -3.0, 4.0]);
/// assert_eq!(format!("{x:.1}"), "f32 [2, 2]\n[[1.0, 2.5],\n [-3.0, 4.0]]");
/// ```
impl<T: Element, const N: usize> fmt::Display for View<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {:?}", T::DTYPE, self.shape())?;
        axis(f, self, &mut [0; N], 0)
    }
}

/// Prints all entries of axis `depth` below the outer indices in `index`.
fn axis<T: Element, const N: usize>(
    f: &mut fmt::Formatter<'_>,
    view: &View<'_, T, N>,
    index: &mut [usize; N],
    depth: usize,
) -> fmt::Result {
    if depth == N {
        return match f.precision() {
            Some(digits) => write!(f, "{:.digits$}", view.at(*index).to_f32()),
            None => write!(f, "{}", view.at(*index)),
        };
    }
    let length = view.shape()[depth];
    let innermost = depth + 1 == N;
    f.write_str("[")?;
    for i in 0..length {
        if length > LONGEST && i == EDGE {
            f.write_str(if innermost { ", …" } else { ",\n …" })?;
        }
        if length > LONGEST && (EDGE..length - EDGE).contains(&i) {
            continue;
        }
        match (i, innermost) {
            (0, _) => {}
            (_, true) => f.write_str(", ")?,
            (_, false) => write!(f, ",\n{}", " ".repeat(depth + 1))?,
        }
        index[depth] = i;
        axis(f, view, index, depth + 1)?;
    }
    f.write_str("]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_axes_are_shortened_in_the_middle() {
        let x = Tensor::from_fn([10], |[i]| i as f32);
        assert_eq!(x.to_string(), "f32 [10]\n[0, 1, 2, …, 7, 8, 9]");
        assert_eq!(Tensor::<f32, 2>::zeros([0, 3]).to_string(), "f32 [0, 3]\n[]");
        assert_eq!(Tensor::from_vec([], vec![2.0f32]).to_string(), "f32 []\n2");
    }
}
