//! Run checkpoints: a run in a file, to resume from, bit for bit.
//!
//! ```text
//! outputs   [steps done, n, channels, height, width]    the UNet's output at each step
//! latents   [n, channels, height, width]                the latents after the last step
//! header    the settings, and a digest of the first latents, and one of the whole content
//! ```
//!
//! To resume, the run is repeated from its beginning, with the stored outputs in place of the UNet.
//! All else is cheap, and exact by construction: latents, the history of multistep samplers, the
//! state of the generator. The stored latents prove that the repetition led to the same values.
//!
//! The file is safetensors, and it always appears whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use super::callbacks::{RunInfo, StepInfo};
use crate::error::{Error, Result};
use crate::image::metadata::Parameters;
use crate::input_file;
use crate::whole_file::write_whole;

/// The value of `format` in the header.
const FORMAT: &str = "aquatint checkpoint 2";

/// A larger file is no checkpoint.
const LARGEST_FILE: u64 = 1 << 33;

/// A run so far.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCheckpoint {
    /// The settings of its first picture, as the finished one has them.
    parameters: String,
    /// SHA-256 of the start; empty before it is known.
    start: String,
    total: usize,
    shape: [usize; 4],
    /// The output of each step, all pictures.
    outputs: Vec<Vec<f32>>,
    /// The latents after the last step, all images.
    latents: Vec<f32>,
    /// From which file, for messages.
    path: PathBuf,
}

impl RunCheckpoint {
    /// A run that has not begun, of images with these settings.
    pub fn new(parameters: &Parameters) -> Self {
        Self {
            parameters: parameters.to_string(),
            start: String::new(),
            total: 0,
            shape: [0; 4],
            outputs: Vec::new(),
            latents: Vec::new(),
            path: PathBuf::new(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// `Request` if it cannot be read or is no checkpoint.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let refused = |reason: &dyn std::fmt::Display| {
            Error::request(format_args!("`{}` is no checkpoint that can be used: {reason}", path.display()))
        };
        let bytes = input_file::read(path, LARGEST_FILE).map_err(|error| refused(&error))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| refused(&error))?;
        let notes = header.metadata().clone().unwrap_or_default();
        let note = |key: &str| notes.get(key).cloned().unwrap_or_default();
        if note("format") != FORMAT {
            return Err(refused(&format_args!("expected `format` \"{FORMAT}\" in its header")));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|error| refused(&error))?;
        let floats = |name: &str| {
            let tensor = file.tensor(name).map_err(|error| refused(&error))?;
            match tensor.dtype() {
                Dtype::F32 => {
                    let values = tensor.data().as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect();
                    Ok((tensor.shape().to_vec(), values))
                }
                other => Err(refused(&format_args!("`{name}` is {other:?}; expected F32"))),
            }
        };
        let (shape, latents): (_, Vec<f32>) = floats("latents")?;
        let (outputs_shape, outputs): (_, Vec<f32>) = floats("outputs")?;
        let done = outputs_shape.first().copied().unwrap_or_default();
        let total = note("total").parse().unwrap_or(0);
        let shape: [usize; 4] =
            shape.try_into().map_err(|_| refused(&"expected `latents` [n, channels, height, width]"))?;
        if outputs_shape.get(1..) != Some(&shape[..]) || !(1..=total).contains(&done) || latents.is_empty() {
            return Err(refused(&format_args!("its tensors do not fit each other: {done} of {total} steps")));
        }
        let outputs = outputs.chunks_exact(latents.len()).map(<[f32]>::to_vec).collect();
        let (parameters, start) = (note("parameters"), note("start"));
        let path = path.to_owned();
        let found = Self { parameters, start, total, shape, outputs, latents, path };
        if note("digest") != found.digest() {
            return Err(refused(&"its content is not what was written: the file is damaged"));
        }
        Ok(found)
    }

    /// Writes the run so far. The file appears under its name only when it is complete.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let (outputs, latents) = (bytes(&self.outputs.concat()), bytes(&self.latents));
        let shape = [&[self.outputs.len()][..], &self.shape].concat();
        let tensors = [
            ("outputs", TensorView::new(Dtype::F32, shape, &outputs).map_err(Error::run)?),
            ("latents", TensorView::new(Dtype::F32, self.shape.to_vec(), &latents).map_err(Error::run)?),
        ];
        let total = self.total.to_string();
        let notes = [
            ("format", FORMAT),
            ("parameters", &self.parameters),
            ("start", &self.start),
            ("total", &total),
            ("digest", &self.digest()),
        ];
        let notes: HashMap<_, _> = notes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        write_whole(path.as_ref(), &safetensors::serialize(tensors, Some(notes)).map_err(Error::run)?)
    }

    /// SHA-256, in hex, of everything that the file holds: a changed bit may lead to an equal
    /// picture all the same, and would not be found by the latents.
    fn digest(&self) -> String {
        let mut sha = Sha256::new();
        for text in [&self.parameters, &self.start] {
            sha.update((text.len() as u64).to_le_bytes());
            sha.update(text);
        }
        for number in self.shape.into_iter().chain([self.total, self.outputs.len()]) {
            sha.update((number as u64).to_le_bytes());
        }
        for values in self.outputs.iter().chain([&self.latents]) {
            values.iter().for_each(|value| sha.update(value.to_le_bytes()));
        }
        sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The settings of the first picture.
    pub fn parameters(&self) -> Parameters {
        Parameters::parse(&self.parameters)
    }

    /// Images of the run.
    pub fn pictures(&self) -> usize {
        self.shape[0]
    }

    /// Steps done, and steps in all.
    pub fn steps(&self) -> (usize, usize) {
        (self.outputs.len(), self.total)
    }

    /// For [`Callbacks::on_run_start`](super::Callbacks::on_run_start): takes note of the start, or
    /// compares it with that of the run so far.
    ///
    /// # Errors
    /// `Request` if the two are not the same run.
    pub fn begin(&mut self, run: &RunInfo) -> Result<()> {
        if self.outputs.is_empty() {
            (self.start, self.total, self.shape) = (run.digest.clone(), run.total, run.shape);
        }
        if (self.shape, self.total) != (run.shape, run.total) {
            return Err(self.mismatch(format_args!(
                "it has latents {:?} and {} steps, the request {:?} and {}",
                self.shape, self.total, run.shape, run.total
            )));
        }
        if self.start != run.digest {
            return Err(self.mismatch(
                "the batch begins differently: another prompt, sampler, seed, strength, picture or mask, another text \
                 encoder or VAE, another precision or instruction set",
            ));
        }
        Ok(())
    }

    /// `Request` unless `parameters` are those of this run; names the settings that are not.
    ///
    /// # Errors
    /// See above.
    pub fn check(&self, parameters: &Parameters) -> Result<()> {
        // Both as a reader of the text finds them, who sees no white space at the ends of lines.
        let (ours, theirs) = (self.parameters(), Parameters::parse(&parameters.to_string()));
        let mut different = ours.differences(&theirs);
        match different.next() {
            None => Ok(()),
            Some(first) => {
                let all = different.fold(first, |all, next| format!("{all}; {next}"));
                Err(self.mismatch(format_args!("it has {all}")))
            }
        }
    }

    fn mismatch(&self, reason: impl std::fmt::Display) -> Error {
        Error::request(format_args!(
            "the checkpoint `{}` is not of this request: {reason}",
            self.path.display()
        ))
    }

    /// For [`Callbacks::known_output`](super::Callbacks::known_output): the UNet's output at this
    /// step.
    pub fn output(&self, step: usize) -> Option<Vec<f32>> {
        self.outputs.get(step).cloned()
    }

    /// For [`Callbacks::on_step_end`](super::Callbacks::on_step_end): takes note of a step; of one
    /// that is known, makes sure that it led to the same place. True if there is something new to
    /// save.
    ///
    /// # Errors
    /// `Request` if a known step led elsewhere.
    pub fn record(&mut self, info: &StepInfo<'_>) -> Result<bool> {
        let latents = || (0..info.pictures()).flat_map(|i| info.latents(i)).copied().collect::<Vec<_>>();
        if info.done > self.outputs.len() {
            self.outputs.push(info.outputs().to_vec());
            self.latents = latents();
            return Ok(true);
        }
        if info.done == self.outputs.len() {
            let equal = latents().iter().zip(&self.latents).all(|(a, b)| a.to_bits() == b.to_bits());
            if !equal {
                return Err(self.mismatch("its outputs do not lead to its latents: another version made it"));
            }
        }
        Ok(false)
    }
}
