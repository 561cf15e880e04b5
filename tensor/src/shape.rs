//! From shape to strides, and from strides to "is it contiguous?".

/// The number of elements of `shape`.
///
/// # Panics
/// If the product does not fit into a `usize`.
pub fn count<const N: usize>(shape: [usize; N]) -> usize {
    shape
        .iter()
        .try_fold(1usize, |product, &n| product.checked_mul(n))
        .unwrap_or_else(|| panic!("shape {shape:?} has more elements than can be counted"))
}

/// Strides of a row-major tensor: `strides[i] = shape[i+1] · shape[i+2] · … · shape[N−1]`.
///
/// ```
/// # use aquatint_tensor::shape::row_major;
/// assert_eq!(row_major([2, 3, 4]), [12, 4, 1]);
/// ```
pub fn row_major<const N: usize>(shape: [usize; N]) -> [usize; N] {
    let mut strides = [1usize; N];
    for axis in (1..N).rev() {
        // Only of a tensor without elements can it be too large, and there it does not matter.
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// Whether `strides` walk the buffer in row-major order without gaps. Axes of length 1 may have any
/// stride.
pub fn is_row_major<const N: usize>(shape: [usize; N], strides: [usize; N]) -> bool {
    count(shape) == 0 || (0..N).all(|axis| shape[axis] == 1 || strides[axis] == row_major(shape)[axis])
}

/// The position of `index` in the buffer: `Σ index[i]·strides[i]`.
pub(crate) fn position<const N: usize>(index: [usize; N], strides: [usize; N]) -> usize {
    (0..N).map(|axis| index[axis] * strides[axis]).sum()
}

/// The smallest buffer that a view with this shape and these strides can look into; `None` if no
/// buffer is so large.
pub(crate) fn extent<const N: usize>(shape: [usize; N], strides: [usize; N]) -> Option<usize> {
    if count(shape) == 0 {
        return Some(0);
    }
    let add = |sum: usize, (n, stride): (usize, usize)| sum.checked_add((n - 1).checked_mul(stride)?);
    shape.into_iter().zip(strides).try_fold(1, add)
}

/// Strides for `new` over the same elements in the same order, if no copy is needed.
///
/// Runs of old axes that are contiguous with each other can be cut anew; a new axis must not cross
/// the border between two runs.
pub(crate) fn reshape<const N: usize, const M: usize>(
    shape: [usize; N],
    strides: [usize; N],
    new: [usize; M],
) -> Option<[usize; M]> {
    assert_eq!(count(shape), count(new), "cannot reshape {shape:?} to {new:?}: the element counts differ");
    if count(shape) == 0 {
        return Some(row_major(new));
    }
    // Merge neighbouring axes into runs of (length, stride of the last axis).
    let mut runs: Vec<(usize, usize)> = Vec::with_capacity(N);
    for (&n, &stride) in shape.iter().zip(&strides).filter(|&(&n, _)| n != 1) {
        match runs.last_mut() {
            Some((length, last)) if *last == stride * n => (*length, *last) = (*length * n, stride),
            _ => runs.push((n, stride)),
        }
    }
    // Hand the runs out to the new axes, from the last one.
    let mut out = [1; M];
    let (mut left, mut stride) = runs.pop().unwrap_or((1, 1));
    for axis in (0..M).rev() {
        if left == 1 && new[axis] != 1 {
            (left, stride) = runs.pop()?;
        }
        if left % new[axis] != 0 {
            return None;
        }
        out[axis] = stride;
        left /= new[axis];
        stride *= new[axis];
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reshape_that_crosses_a_gap_needs_a_copy() {
        // Rows of 4, 3 of them seen: rows can be regrouped, rows and columns cannot be merged.
        assert_eq!(reshape([6, 3], [4, 1], [2, 3, 3]), Some([12, 4, 1]));
        assert_eq!(reshape([6, 3], [4, 1], [18]), None);
        assert_eq!(reshape([6, 4], [4, 1], [24]), Some([1]));
        assert_eq!(reshape([2, 3], [1, 2], [6]), None);
        assert_eq!(reshape([1, 6], [99, 1], [6, 1]), Some([1, 1]));
    }

    #[test]
    fn length_one_axes_do_not_matter() {
        assert!(is_row_major([2, 1, 3], [3, 77, 1]));
        assert!(!is_row_major([2, 3], [1, 2]));
        assert!(is_row_major([0, 3], [7, 7]));
    }
}
