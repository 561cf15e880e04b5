//! What a run calls back: Python's function after each step, and Python's signals.
//!
//! ```text
//! each step      signals are handled (Ctrl-C raises here), then the function is called with the
//!                step, the timestep and a mapping of arrays; what it returns under "latents" is
//!                taken over
//! last step      if only latents are asked for, they are kept and the run ends before decoding
//! ```
//!
//! Without a function Python's lock is taken for the signals alone.

use std::ops::ControlFlow;

use aquatint_model::{Callbacks, Error, Interrupt, Progress, StepInfo};
use aquatint_tensor::{Tensor, concat};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{ArrayIn, array, tensor};
use crate::error::{expect, refused};

/// Which arrays are made for the function.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wanted {
    latents: bool,
    pred_original_sample: bool,
    noise_pred: bool,
    /// Whether the last latents are kept and nothing is decoded.
    only_latents: bool,
}

impl Wanted {
    /// Reads diffusers' `callback_on_step_end_tensor_inputs`.
    ///
    /// # Errors
    /// If a name is not known.
    pub(crate) fn new(names: &[String], only_latents: bool) -> PyResult<Self> {
        let mut wanted = Self { only_latents, ..Self::default() };
        for name in names {
            match name.as_str() {
                "latents" => wanted.latents = true,
                "pred_original_sample" => wanted.pred_original_sample = true,
                "noise_pred" => wanted.noise_pred = true,
                _ => {
                    return Err(refused(format_args!(
                        "a callback cannot have `{name}`; expected latents, pred_original_sample or noise_pred"
                    )));
                }
            }
        }
        Ok(wanted)
    }
}

/// The callbacks of one call.
pub(crate) struct PythonCallbacks {
    function: Option<Py<PyAny>>,
    wanted: Wanted,
    /// First noise, `[n, channels, height, width]`.
    noise: Option<Tensor<f32, 4>>,
    /// What the function put in place of the latents.
    replaced: Option<Tensor<f32, 4>>,
    /// The latents after the last step, `[pictures, channels, height, width]`, if they are all that
    /// is asked for.
    pub(crate) latents: Option<Tensor<f32, 4>>,
    /// The first picture of this run and how many it makes; a call may have several runs.
    first: usize,
    count: usize,
    /// Whether the function asked for an early end.
    pub(crate) stopped: bool,
    /// What the function or a signal raised.
    pub(crate) raised: Option<PyErr>,
    pub(crate) seeds: Vec<u64>,
    /// What Python warns of.
    pub(crate) warnings: Vec<String>,
}

impl PythonCallbacks {
    pub(crate) fn new(function: Option<Py<PyAny>>, noise: Option<Tensor<f32, 4>>, wanted: Wanted) -> Self {
        Self {
            function,
            wanted,
            noise,
            replaced: None,
            latents: None,
            first: 0,
            count: 0,
            stopped: false,
            raised: None,
            seeds: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The next run begins, of `pictures` pictures.
    pub(crate) fn begin(&mut self, pictures: usize) {
        self.first += self.count;
        self.count = pictures;
    }

    /// All runs are over: pictures that were not begun have no seed.
    pub(crate) fn end(&mut self) {
        self.seeds.truncate(self.first + self.count);
    }

    /// Whether the latents of this run were kept.
    pub(crate) fn has_latents(&self) -> bool {
        self.latents.as_ref().is_some_and(|latents| latents.shape()[0] == self.first + self.count)
    }

    /// Calls the function. True if it asks for an early end.
    fn call(&mut self, py: Python<'_>, info: &StepInfo<'_>) -> PyResult<bool> {
        py.check_signals()?;
        let Some(function) = &self.function else { return Ok(false) };
        let (n, [channels, height, width]) = (info.pictures(), info.shape());
        let shape = [n, channels, height, width];
        let arrays = PyDict::new(py);
        if self.wanted.latents {
            arrays.set_item("latents", array(py, &shape, &joined(n, |i| info.latents(i).to_vec()))?)?;
        }
        if self.wanted.pred_original_sample {
            let x0 = joined(n, |i| info.pred_original_sample(i));
            arrays.set_item("pred_original_sample", array(py, &shape, &x0)?)?;
        }
        if self.wanted.noise_pred {
            arrays.set_item("noise_pred", array(py, &shape, info.outputs())?)?;
        }
        let answer = function.call1(py, (info.done - 1, info.timestep(), arrays))?;
        let (stop, latents): (bool, Option<ArrayIn>) = answer.extract(py)?;
        if let Some(latents) = latents {
            let latents = tensor::<4>("the callback's latents", &latents)?;
            expect(latents.shape() == shape, || {
                format!("the callback's latents are {:?}; expected {shape:?}", latents.shape())
            })?;
            self.replaced = Some(latents);
        }
        Ok(stop)
    }
}

/// The numbers of all pictures, one behind the other.
fn joined(pictures: usize, numbers: impl Fn(usize) -> Vec<f32>) -> Vec<f32> {
    (0..pictures).flat_map(numbers).collect()
}

impl Callbacks for PythonCallbacks {
    fn progress(&mut self, event: Progress) {
        match event {
            Progress::Truncated { text, cut } => {
                self.warnings.push(format!("the {text} is too long for the model; ignored is \"{cut}\""));
            }
            Progress::ReadAsWords { text, tags, .. } => {
                let tags = tags.join(", ");
                self.warnings.push(format!("{tags} in the {text} is read as words, not as syntax"));
            }
            Progress::ReadAsWeight { weight } => {
                self.warnings.push(format!("`{weight}` at the end of the prompt is read as its weight"));
            }
            _ => {}
        }
    }

    fn initial_noise(&mut self, index: usize, shape: [usize; 3]) -> Result<Option<Vec<f32>>, Error> {
        let Some(noise) = &self.noise else { return Ok(None) };
        let [n, channels, height, width] = noise.shape();
        if [channels, height, width] != shape || n != self.seeds.len() {
            let [channels, height, width] = shape;
            return Err(Error::request(format_args!(
                "the latents are {:?}; expected [{}, {channels}, {height}, {width}]",
                noise.shape(),
                self.seeds.len()
            )));
        }
        let index = self.first + index;
        Ok(Some(noise.view().slice(0, index..index + 1).to_tensor().into_vec()))
    }

    fn on_step_end(&mut self, info: &StepInfo<'_>) -> Result<ControlFlow<Interrupt>, Error> {
        let stop = match Python::attach(|py| self.call(py, info)) {
            Ok(stop) => stop,
            Err(raised) => {
                self.raised = Some(raised);
                return Err(Error::Interrupted);
            }
        };
        self.stopped |= stop;
        if self.wanted.only_latents && (stop || info.done == info.total) {
            let (n, [channels, height, width]) = (info.pictures(), info.shape());
            let shape = [n, channels, height, width];
            let numbers = || Tensor::from_vec(shape, joined(n, |i| info.latents(i).to_vec()));
            let these = self.replaced.take().unwrap_or_else(numbers);
            self.latents = Some(match self.latents.take() {
                Some(before) => concat(&[before.view(), these.view()], 0),
                None => these,
            });
            return Ok(ControlFlow::Break(Interrupt::Discard));
        }
        Ok(if stop { ControlFlow::Break(Interrupt::Decode) } else { ControlFlow::Continue(()) })
    }

    fn replaced_latents(&mut self) -> Option<Vec<f32>> {
        self.replaced.take().map(Tensor::into_vec)
    }
}
