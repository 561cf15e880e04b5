//! Latents as a file: safetensors with one tensor, `latents`, f32 `[1, channels, height/8,
//! width/8]` as torch has them, multiplied by the scaling factor.
//!
//! In Python: `safetensors.torch.load_file("fox.safetensors")["latents"]` is what diffusers'
//! pipelines take as `latents`, and `vae.decode(latents / vae.config.scaling_factor)` is the
//! picture.

use std::path::Path;

use aquatint_tensor::{Tensor, View};
use half::f16;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Error, Result};
use crate::source::{StoredType, TensorFile};
use crate::whole_file::write_whole;

const NAME: &str = "latents";

/// Writes latents. The file appears under its name only when it is complete; a file of that name is
/// replaced.
///
/// # Errors
/// If the file cannot be written.
pub fn save_latents(path: impl AsRef<Path>, latents: View<'_, f32, 4>) -> Result<()> {
    write_whole(path.as_ref(), &latents_to_bytes(latents)?)
}

/// The latents as the bytes of a file.
///
/// # Errors
/// If they are empty.
pub fn latents_to_bytes(latents: View<'_, f32, 4>) -> Result<Vec<u8>> {
    let bytes: Vec<u8> = latents.iter().flat_map(f32::to_le_bytes).collect();
    let tensor = TensorView::new(Dtype::F32, latents.shape().to_vec(), &bytes).map_err(Error::run)?;
    safetensors::serialize([(NAME, tensor)], None).map_err(Error::run)
}

/// Reads latents in f32 or f16, as [`save_latents`] or a Python program wrote them.
///
/// # Errors
/// `Request` if the file is no safetensors file, or holds no such tensor.
pub fn open_latents(path: impl AsRef<Path>) -> Result<Tensor<f32, 4>> {
    let path = path.as_ref();
    let file = TensorFile::open(path).map_err(Error::request)?;
    let stored = file.tensor(NAME).ok_or_else(|| {
        Error::request(format_args!("`{}` holds no tensor `{NAME}`; expected one", path.display()))
    })?;
    let values: Option<Vec<f32>> = match stored.dtype {
        StoredType::F32 => Some(stored.bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect()),
        StoredType::F16 => {
            Some(stored.bytes.as_chunks().0.iter().map(|&x| f16::from_le_bytes(x).to_f32()).collect())
        }
        _ => None,
    };
    match (<[usize; 4]>::try_from(stored.shape.to_vec()), values) {
        (Ok(shape), Some(values)) => Ok(Tensor::from_vec(shape, values)),
        _ => Err(Error::request(format_args!(
            "`{}`: `{NAME}` is {:?} {:?}; expected [1, channels, height, width] in f32 or f16",
            path.display(),
            stored.dtype,
            stored.shape
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("fox.safetensors");
        let latents = Tensor::from_fn([1, 4, 2, 3], |[_, c, y, x]| (c * 6 + y * 3 + x) as f32 - 7.5);
        save_latents(&path, latents.view()).expect("the folder is writable");
        assert_eq!(open_latents(&path).expect("a valid file").as_slice(), latents.as_slice());
    }

    #[test]
    fn other_files_are_refused() {
        let error = open_latents("/no/such/file").expect_err("it is missing");
        assert_eq!(error.kind(), crate::ErrorKind::Request, "{error}");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("flat.safetensors");
        let tensor = TensorView::new(Dtype::U8, vec![2], &[1, 2]).expect("a valid tensor");
        for (name, expected) in [("latents", "in f32 or f16"), ("other", "holds no tensor `latents`")] {
            let bytes = safetensors::serialize([(name, &tensor)], None).expect("a valid file");
            std::fs::write(&path, bytes).expect("writable");
            let error = open_latents(&path).expect_err("these are no latents").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
