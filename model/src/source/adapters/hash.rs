//! The hashes by which A1111 knows adapters.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::source::files;

/// The first twelve hex digits of a file's SHA-256; of a safetensors file of LoRA without its
/// header, so that metadata may change ("AddNet's hash").
///
/// # Errors
/// If the file cannot be read.
pub fn short_hash(path: &Path, without_header: bool) -> Result<String> {
    const BUFFER: usize = 1 << 20;
    let mut file = files::reader(path)?;
    let mut sha = Sha256::new();
    if without_header && path.extension().is_some_and(|ending| ending == "safetensors") {
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(Error::reading(path))?;
        let header = std::io::copy(&mut (&mut file).take(u64::from_le_bytes(length)), &mut std::io::sink());
        header.map_err(Error::reading(path))?;
    }
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer).map_err(Error::reading(path))? {
            0 => break,
            n => sha.update(&buffer[..n]),
        }
    }
    Ok(sha.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}
