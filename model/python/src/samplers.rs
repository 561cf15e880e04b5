//! The samplers: which timesteps they visit, and how much noise is there.

use aquatint_model::samplers::{self, SamplerKind, Schedule, SchedulerConfig};
use aquatint_model::source::published::SD15;
use aquatint_model::{Error, Generator, RandomSource, SamplerChoice};
use pyo3::prelude::*;

use crate::arrays::{ArrayOut, array};
use crate::error::{expect, raised, refused};

/// For each call of the UNet its timestep, and the shares of picture and noise: a sample is
/// `signal·x_0 + noise·ε`. The training's noise is that of Stable Diffusion 1.5; `spacing` is
/// leading, linspace or trailing, where it is not the sampler's own.
#[pyfunction]
pub(crate) fn noise_levels<'py>(
    py: Python<'py>,
    sampler: &str,
    schedule: Option<&str>,
    steps: usize,
    spacing: Option<&str>,
) -> PyResult<[ArrayOut<'py>; 3]> {
    expect((1..=1000).contains(&steps), || format!("{steps} steps; expected 1 to 1000"))?;
    let levels = || -> Result<_, Error> {
        let mut config = SchedulerConfig::load(SD15.root().join("scheduler/scheduler_config.json"))?;
        if let Some(spacing) = spacing {
            config = config.with("timestep_spacing", spacing);
        }
        let choice = SamplerChoice::parse(Some(sampler), schedule)?;
        let sampler = samplers::build(&config, choice, steps)?;
        let calls = 0..sampler.timesteps().len();
        let [mut signal, mut noise] = [Vec::new(), Vec::new()];
        for level in calls.map(|call| sampler.noise_level(call)) {
            signal.push(level.signal);
            noise.push(level.noise);
        }
        Ok([sampler.timesteps().to_vec(), signal, noise])
    };
    let [timesteps, signal, noise] = levels().map_err(raised)?;
    let list = |numbers: &[f32]| array(py, &[numbers.len()], numbers);
    Ok([list(&timesteps)?, list(&signal)?, list(&noise)?])
}

/// Samplers by their names in A1111, with the names of their schedules.
#[pyfunction]
pub(crate) fn sampler_names() -> Vec<(&'static str, Vec<&'static str>)> {
    let named = |kind: SamplerKind| {
        Schedule::all().filter(move |schedule| kind.schedules().contains(schedule)).map(Schedule::label)
    };
    SamplerKind::all().map(|kind| (kind.label(), named(kind).collect())).collect()
}

/// Normal random numbers as torch draws them from this seed, "cpu" or "cuda".
#[pyfunction]
pub(crate) fn noise<'py>(
    py: Python<'py>,
    seed: u64,
    shape: Vec<usize>,
    rng: &str,
) -> PyResult<ArrayOut<'py>> {
    let source = match rng {
        "cpu" => RandomSource::Cpu,
        "cuda" => RandomSource::Cuda,
        _ => return Err(refused(format_args!("there is no rng `{rng}`; expected cpu or cuda"))),
    };
    let count = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
    let count = count.filter(|&count| count <= 1 << 30);
    let count = count.ok_or_else(|| refused(format_args!("the shape {shape:?} is too large")))?;
    array(py, &shape, &Generator::of(source, seed).randn(count))
}
