//! Arrays of Python: numbers in f32 in the order of C, and a shape.

use aquatint_tensor::Tensor;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyTuple};

use crate::error::expect;

/// What comes in: the bytes of the numbers, and their shape.
pub(crate) type ArrayIn = (PyBackedBytes, Vec<usize>);

/// What goes out: the same, to be wrapped without a copy.
pub(crate) type ArrayOut<'py> = (Bound<'py, PyByteArray>, Bound<'py, PyTuple>);

/// An array as a tensor of `N` axes; `name` is for messages.
///
/// # Errors
/// If it has another number of axes.
pub(crate) fn tensor<const N: usize>(name: &str, (bytes, shape): &ArrayIn) -> PyResult<Tensor<f32, N>> {
    let sizes = <[usize; N]>::try_from(shape.as_slice()).ok();
    let sizes = sizes.filter(|sizes| sizes.iter().product::<usize>() * 4 == bytes.len());
    expect(sizes.is_some(), || format!("{name} has the shape {shape:?}; expected {N} axes of f32"))?;
    Ok(Tensor::from_vec(sizes.unwrap_or([0; N]), bytemuck::pod_collect_to_vec(bytes)))
}

/// A list of `len` numbers, if there is one.
///
/// # Errors
/// If it has another length.
pub(crate) fn vector(name: &str, array: Option<&ArrayIn>, len: usize) -> PyResult<Option<Vec<f32>>> {
    let Some(array) = array else { return Ok(None) };
    let found = tensor::<1>(name, array)?;
    expect(found.len() == len, || format!("{name} has {} numbers; expected {len}", found.len()))?;
    Ok(Some(found.into_vec()))
}

/// Numbers for Python: one copy.
pub(crate) fn array<'py>(py: Python<'py>, shape: &[usize], numbers: &[f32]) -> PyResult<ArrayOut<'py>> {
    Ok((PyByteArray::new(py, bytemuck::cast_slice(numbers)), PyTuple::new(py, shape)?))
}

/// A tensor for Python.
pub(crate) fn returned<'py, const N: usize>(py: Python<'py>, x: &Tensor<f32, N>) -> PyResult<ArrayOut<'py>> {
    array(py, &x.shape(), x.as_slice())
}
