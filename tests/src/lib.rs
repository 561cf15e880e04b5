//! Goldens: what outside oracles (diffusers, torch, ONNX) made, and how it is read and compared.
//!
//! The files live in `tests/goldens`, beside the seeded scripts that made them. Tensors are stored
//! as torch has them, images as `[n, c, h, w]`; [`Golden::image`] turns them to the `[n, h, w, c]`
//! of this project.

mod book;
pub mod fuzz;
pub mod hub_server;
pub mod single_files;

use std::path::{Path, PathBuf};

use aquatint_model::source::{StoredTensor, StoredType, TensorFile};
use aquatint_tensor::{Tensor, View};

/// The path of a golden file or folder: `path("stages/sd1.safetensors")`.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(name)
}

/// A JSON golden. Python writes infinities bare, which JSON does not know; they become strings, as
/// our scheduler configs have them.
///
/// # Panics
/// If it is missing or no JSON: goldens are part of the repository.
pub fn json(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = text.replace(": -Infinity", ": \"-Infinity\"").replace(": Infinity", ": \"Infinity\"");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// ᾱ_t of Stable Diffusion's training: betas evenly spaced in their square roots.
pub fn alphas_cumprod() -> Vec<f64> {
    let [first, last] = [0.00085f64, 0.012].map(f64::sqrt);
    let beta = |t: u32| (first + (last - first) * f64::from(t) / 999.0).powi(2);
    let product = |alpha: &mut f64, t| {
        *alpha *= 1.0 - beta(t);
        Some(*alpha)
    };
    (0..1000).scan(1.0, product).collect()
}

/// A safetensors golden.
pub struct Golden {
    file: TensorFile,
}

impl Golden {
    /// Opens a golden.
    ///
    /// # Panics
    /// If it is missing or damaged.
    pub fn open(name: &str) -> Self {
        Self { file: TensorFile::open(&path(name)).unwrap_or_else(|error| panic!("{error}")) }
    }

    /// A tensor of numbers.
    ///
    /// # Panics
    /// If there is none of this name, rank and type.
    pub fn tensor<const N: usize>(&self, name: &str) -> Tensor<f32, N> {
        let stored = self.stored(name, StoredType::F32);
        let shape = stored.shape.try_into().unwrap_or_else(|_| panic!("`{name}` is {:?}", stored.shape));
        Tensor::from_vec(
            shape,
            stored.bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        )
    }

    /// An image `[n, c, h, w]` as `[n, h, w, c]`.
    ///
    /// # Panics
    /// See [`Golden::tensor`].
    pub fn image(&self, name: &str) -> Tensor<f32, 4> {
        self.tensor(name).view().permute([0, 2, 3, 1]).to_tensor()
    }

    /// Whole numbers, flat.
    ///
    /// # Panics
    /// See [`Golden::tensor`].
    pub fn integers(&self, name: &str) -> Vec<u32> {
        let stored = self.stored(name, StoredType::I32);
        stored.bytes.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()
    }

    fn stored(&self, name: &str, expected: StoredType) -> StoredTensor<'_> {
        let stored = self.file.tensor(name).unwrap_or_else(|| panic!("no tensor `{name}`"));
        assert_eq!(stored.dtype, expected, "type of `{name}`");
        stored
    }
}

/// `max |found − expected| / √mean(expected²)`: the worst element, measured against the typical
/// size of all.
///
/// # Panics
/// If the shapes differ.
pub fn relative_error<const N: usize>(found: View<'_, f32, N>, expected: View<'_, f32, N>) -> f64 {
    assert_eq!(found.shape(), expected.shape(), "shapes differ");
    let square: f64 = expected.iter().map(|x| f64::from(x).powi(2)).sum();
    let typical = (square / expected.len() as f64).sqrt();
    let worst = found.iter().zip(expected.iter()).map(|(a, b)| (f64::from(a) - f64::from(b)).abs());
    // A NaN must not pass as small.
    worst.fold(0.0, |worst: f64, x| if x.is_nan() { f64::NAN } else { worst.max(x) }) / typical
}

/// `‖found − expected‖ / ‖expected‖`, the lengths being roots of sums of squares.
///
/// # Panics
/// If the shapes differ.
pub fn relative_distance<const N: usize>(found: View<'_, f32, N>, expected: View<'_, f32, N>) -> f64 {
    assert_eq!(found.shape(), expected.shape(), "shapes differ");
    let squares: f64 = expected.iter().map(|x| f64::from(x).powi(2)).sum();
    let differences = found.iter().zip(expected.iter()).map(|(a, b)| (f64::from(a) - f64::from(b)).powi(2));
    (differences.sum::<f64>() / squares).sqrt()
}
