//! Samplers: from noise to an image, one evaluation of the UNet at a time.
//!
//! | in terms of | samplers ([`solvers`]) |
//! |---|---|
//! | ᾱ and t | `ddim`, `ddpm`, `pndm`, `lcm`, `tcd` |
//! | σ | `euler`, `heun`, `lms`, `dpm2`, `dpmpp_sde`, the ancestral ones |
//! | λ | `dpmpp_2s`, `dpmpp_2m`, `dpmpp_sde_multistep`, `unipc`, `deis` |
//!
//! The model was trained to find the noise in x_t = √ᾱ_t·x_0 + √(1 − ᾱ_t)·noise, at 1000 values of
//! t ([`noise_schedule`]). A sampler evaluates it at a few of them ([`timestep_spacing`]) and
//! integrates. Some compute in ᾱ and t, others in x/√ᾱ and its noise level σ = √((1 − ᾱ)/ᾱ)
//! ([`sigmas`], spread by [`schedules`]) or in λ = −ln σ ([`lambdas`]). The folder's
//! `scheduler_config.json` configures it ([`config`]); [`registry`] has the names, [`descriptions`]
//! papers and advice. Numbers are f32, combined in diffusers' order, so that whole images agree.
//!
//! `tests/SAMPLERS.md` is a measured table of how far each is from its class. Read
//! [`ddim`] first, then [`euler`].

pub mod config;
pub mod descriptions;
pub mod lambdas;
pub mod noise_schedule;
pub mod registry;
pub mod schedules;
pub mod sigmas;
pub mod solvers;
pub mod timestep_spacing;

#[cfg(test)]
mod sweep_tests;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use config::SchedulerConfig;
pub use descriptions::Description;
pub(crate) use noise_schedule::Prediction;
pub use registry::{SamplerChoice, SamplerKind, Schedule};

use crate::{Error, Generator, Result};
use solvers::{
    ddim, ddpm, deis, dpm2, dpm2_ancestral, dpmpp_2m, dpmpp_2s, dpmpp_2s_ancestral, dpmpp_sde,
    dpmpp_sde_multistep, euler, euler_ancestral, heun, lcm, lms, pndm, tcd, unipc,
};

/// An integrator from noise to an image. `call` counts the evaluations of the UNet from 0 and must
/// grow.
///
/// ```text
/// sample = randn · init_noise_sigma
/// for call in 0..timesteps.len():
///     output = unet(scale_model_input(sample, call), timesteps[call])
///     sample = step(output, call, sample)
/// ```
///
/// A sampler that needs several calls for one step lists a timestep for each of them and keeps its
/// books between them. To start from a picture instead of noise, begin at a later call, with
/// [`Sampler::add_noise`] for that call.
pub trait Sampler: Send {
    /// The timestep of every call of the UNet, in order.
    fn timesteps(&self) -> &[f32];

    /// How many entries of [`Sampler::timesteps`] make one step; all but the last step have as
    /// many. A run that begins later than at the first call must begin at a multiple of it.
    fn calls_per_step(&self) -> usize {
        1
    }

    /// The standard deviation that the first sample, pure noise, must have.
    fn init_noise_sigma(&self) -> f32 {
        1.0
    }

    /// Brings a sample to the scale on which the UNet was trained.
    fn scale_model_input(&self, _sample: &mut [f32], _call: usize) {}

    /// One step towards the picture: replaces `sample` by the next one. Fresh noise, if any, comes
    /// from `rng`.
    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator);

    /// Turns a clean sample into one as noisy as `call` expects it.
    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize);

    /// How much picture and how much noise is in the sample before `call`.
    fn noise_level(&self, call: usize) -> NoiseLevel {
        let (mut signal, mut noise) = ([1.0], [0.0]);
        self.add_noise(&mut signal, &[0.0], call);
        self.add_noise(&mut noise, &[1.0], call);
        NoiseLevel { signal: signal[0], noise: noise[0] }
    }
}

/// A sample is signal·x_0 + noise·ε.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseLevel {
    /// The share of the clean picture: √ᾱ, or 1 for the samplers in σ.
    pub signal: f32,
    /// The share of the noise: √(1 − ᾱ), or σ.
    pub noise: f32,
}

/// x_0 as the model's output has it, for a sample of that noise level; no sampler's clipping or
/// history is in it.
pub(crate) fn pred_original_sample(
    prediction: Prediction,
    NoiseLevel { signal, noise }: NoiseLevel,
    sample: &[f32],
    model_output: &[f32],
) -> Vec<f32> {
    let deviation = signal.hypot(noise);
    let x_0 = |(&x, &output): (&f32, &f32)| match prediction {
        Prediction::Epsilon => (x - noise * output) / signal,
        Prediction::Sample => output,
        // √ᾱ·x_t − √(1 − ᾱ)·v, where x_t has variance 1
        Prediction::Velocity => (signal * (x / deviation) - noise * output) / deviation,
    };
    sample.iter().zip(model_output).map(x_0).collect()
}

/// The sampler that `choice` and the folder's configuration ask for, set up for `steps` steps.
///
/// # Errors
/// `Request` if the sampler lacks the chosen schedule or cannot make that many steps; `Model` if
/// the configuration holds a setting that is not supported.
pub fn build(config: &SchedulerConfig, choice: SamplerChoice, steps: usize) -> Result<Box<dyn Sampler>> {
    let (kind, mut schedule) = config.resolve(choice)?;
    let mut config = Cow::Borrowed(config);
    if schedule == Schedule::Trailing {
        let trailing = config.into_owned().with("timestep_spacing", "trailing");
        config = Cow::Owned(trailing.with(config::OWN_TIMESTEPS, true));
        schedule = Schedule::Normal;
    }
    let config = &*config;
    // Two steps at one noise level, as of more steps than the model has timesteps, are divided by
    // their distance in some formulas. A run with one value shows it before the model is evaluated.
    if !is_finite(&mut *construct(config, kind, schedule, steps)?) {
        return Err(Error::request(format_args!(
            "the sampler `{}` finds no finite numbers for {steps} steps of this model's noise \
             schedule; choose fewer steps, or another sampler or schedule",
            kind.label()
        )));
    }
    construct(config, kind, schedule, steps)
}

/// Whether a run from noise stays finite if the model's output does.
fn is_finite(sampler: &mut dyn Sampler) -> bool {
    let mut rng = Generator::new(0);
    let mut sample = [sampler.init_noise_sigma()];
    (0..sampler.timesteps().len()).all(|call| {
        let mut input = sample;
        sampler.scale_model_input(&mut input, call);
        sampler.step(&[0.5], call, &mut sample, &mut rng);
        input[0].is_finite() && sample[0].is_finite()
    })
}

fn construct(
    config: &SchedulerConfig,
    kind: SamplerKind,
    schedule: Schedule,
    steps: usize,
) -> Result<Box<dyn Sampler>> {
    Ok(match kind {
        SamplerKind::Ddim => Box::new(ddim::Ddim::new(config, steps)?),
        SamplerKind::Ddpm => Box::new(ddpm::Ddpm::new(config, steps)?),
        SamplerKind::Pndm => Box::new(pndm::Pndm::new(config, steps)?),
        SamplerKind::Lms => Box::new(lms::Lms::new(config, schedule, steps)?),
        SamplerKind::Euler => Box::new(euler::Euler::new(config, schedule, steps)?),
        SamplerKind::EulerAncestral => {
            Box::new(euler_ancestral::EulerAncestral::new(config, schedule, steps)?)
        }
        SamplerKind::Heun => Box::new(heun::Heun::new(config, schedule, steps)?),
        SamplerKind::Dpm2 => Box::new(dpm2::Dpm2::new(config, schedule, steps)?),
        SamplerKind::Dpm2Ancestral => Box::new(dpm2_ancestral::Dpm2Ancestral::new(config, schedule, steps)?),
        SamplerKind::DpmPp2S => Box::new(dpmpp_2s::DpmPp2S::new(config, schedule, steps)?),
        SamplerKind::DpmPp2SAncestral => {
            Box::new(dpmpp_2s_ancestral::DpmPp2SAncestral::new(config, schedule, steps)?)
        }
        SamplerKind::DpmPpSde => Box::new(dpmpp_sde::DpmPpSde::new(config, schedule, steps)?),
        SamplerKind::DpmPp2M => Box::new(dpmpp_2m::DpmPp2M::new(config, schedule, steps)?),
        SamplerKind::DpmPp2MSde => {
            Box::new(dpmpp_sde_multistep::DpmPpSdeMultistep::new(config, schedule, steps, 2)?)
        }
        SamplerKind::DpmPp3MSde => {
            Box::new(dpmpp_sde_multistep::DpmPpSdeMultistep::new(config, schedule, steps, 3)?)
        }
        SamplerKind::UniPc => Box::new(unipc::UniPc::new(config, schedule, steps)?),
        SamplerKind::Deis => Box::new(deis::Deis::new(config, schedule, steps)?),
        SamplerKind::Lcm => Box::new(lcm::Lcm::new(config, steps)?),
        SamplerKind::Tcd => Box::new(tcd::Tcd::new(config, steps)?),
    })
}
