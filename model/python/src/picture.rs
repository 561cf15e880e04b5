//! A finished picture for Python.

use std::path::{Path, PathBuf};

use aquatint_model::image::metadata;
use aquatint_model::{Format, Image};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes};

use crate::error::{expect, raised, refused};

/// Red, green and blue in 8 bits, and how they were made.
#[pyclass(frozen, module = "aquatint")]
pub(crate) struct Picture {
    image: Image,
    /// The number from which its noise was drawn; `None` if it was not drawn for.
    #[pyo3(get)]
    seed: Option<u64>,
}

impl Picture {
    pub(crate) fn new(image: Image, seed: Option<u64>) -> Self {
        Self { image, seed }
    }
}

#[pymethods]
impl Picture {
    /// Pixels in a row.
    #[getter]
    fn width(&self) -> usize {
        self.image.width()
    }

    /// Number of rows.
    #[getter]
    fn height(&self) -> usize {
        self.image.height()
    }

    /// How it was made, as A1111 writes it; empty if that is not known.
    #[getter]
    fn parameters(&self) -> String {
        self.image.parameters().map(ToString::to_string).unwrap_or_default()
    }

    /// Rows from top to bottom, three bytes a pixel: a copy, the only one on the way to Python.
    fn pixels<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        PyByteArray::new(py, self.image.pixels())
    }

    /// The bytes of a file with the parameters in it: "png", "jpeg" or "webp".
    #[pyo3(signature = (format="png", quality=Format::QUALITY))]
    fn encode<'py>(&self, py: Python<'py>, format: &str, quality: u8) -> PyResult<Bound<'py, PyBytes>> {
        let name = PathBuf::from(format!("x.{format}"));
        let format = Format::of(&name, checked(quality)?).ok_or_else(|| {
            refused(format_args!("there is no format `{format}`; expected png, jpeg or webp"))
        })?;
        let bytes = py.detach(|| self.image.to_bytes(format)).map_err(raised)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Writes a PNG, JPEG or WebP by its ending, with the parameters in it. It appears whole or not
    /// at all; a file that is there is kept unless `force` is set.
    #[pyo3(signature = (path, *, quality=Format::QUALITY, force=false))]
    fn save(&self, py: Python<'_>, path: PathBuf, quality: u8, force: bool) -> PyResult<()> {
        expect(force || !path.exists(), || {
            format!("`{}` exists; expected a new name, or force=True", path.display())
        })?;
        let format = Format::of(Path::new(&path), checked(quality)?).ok_or_else(|| {
            refused(format_args!("`{}`: expected a name that ends in .png, .jpg or .webp", path.display()))
        })?;
        py.detach(|| self.image.save_as(&path, format)).map_err(raised)
    }

    fn __repr__(&self) -> String {
        let seed = self.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
        format!("<aquatint.Picture {}×{}{seed}>", self.image.width(), self.image.height())
    }
}

fn checked(quality: u8) -> PyResult<u8> {
    expect((1..=100).contains(&quality), || format!("quality is {quality}; expected 1 to 100"))?;
    Ok(quality)
}

/// A PNG of `[height, width, 3]` bytes, for pictures that come from arrays.
#[pyfunction]
pub(crate) fn png<'py>(
    py: Python<'py>,
    pixels: PyBackedBytes,
    width: usize,
    height: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    expect(width.checked_mul(height).and_then(|area| area.checked_mul(3)) == Some(pixels.len()), || {
        format!("{} bytes for {width}×{height}; expected three for each pixel", pixels.len())
    })?;
    let png = py.detach(|| Image::from_rgb(width, height, pixels.to_vec()).to_png()).map_err(raised)?;
    Ok(PyBytes::new(py, &png))
}

/// The text in a PNG, JPEG or WebP that says how it was made; empty if there is none.
#[pyfunction]
pub(crate) fn read_parameters(path: PathBuf) -> PyResult<String> {
    Ok(metadata::read(&path).map_err(raised)?.unwrap_or_default())
}
