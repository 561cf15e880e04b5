//! PNDM: DDIM's step with a better ε, blended from the last four as a linear multistep method
//! would.
//!
//! ```text
//! ε'  = (55·ε_i − 59·ε_{i−1} + 37·ε_{i−2} − 9·ε_{i−3}) / 24   Adams–Bashforth
//! x   ← transfer(x, ε', t → t − δ)                            DDIM's step, equation 9 of the paper
//! ```
//!
//! The first steps lack history, and there are two ways to begin. With `skip_prk_steps`, as in
//! Stable Diffusion's folders (A1111's "PLMS"), orders 1 to 3 come first, and the second call
//! repeats the first step with the mean of two ε: one call more than there are steps. Without it,
//! three Runge–Kutta steps of four calls each come first (the paper's F-PNDM).
//!
//! Liu et al. 2022 (arXiv:2202.09778), equations 9, 12 and 13, algorithm 2; diffusers'
//! `PNDMScheduler`.

use crate::samplers::noise_schedule::{NoiseSchedule, Prediction};
use crate::samplers::timestep_spacing::{Spacing, TimestepSpacing};
use crate::samplers::{Sampler, SchedulerConfig};
use crate::{Error, Generator, Result};

/// Pseudo numerical methods for diffusion models.
#[derive(Debug, Clone)]
pub(crate) struct Pndm {
    noise_schedule: NoiseSchedule,
    /// ᾱ after the last step.
    final_alpha_cumprod: f32,
    /// Timesteps from one step to the next.
    stride: usize,
    timestep_spacing: Vec<usize>,
    timesteps: Vec<f32>,
    /// How many of the first calls belong to Runge–Kutta steps.
    runge_kutta_calls: usize,
    /// Calls made so far.
    counter: usize,
    /// The last outputs, at most four, the newest last.
    history: Vec<Vec<f32>>,
    /// Where the current Runge–Kutta step, or the first step, began.
    origin: Vec<f32>,
    /// The weighted sum of the outputs within a Runge–Kutta step.
    blend: Vec<f32>,
}

impl Pndm {
    pub(crate) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let noise_schedule = NoiseSchedule::read(config)?;
        noise_schedule.check_steps(steps)?;
        noise_schedule.refuse_sample_prediction("PNDM")?;
        let set_alpha_to_one = config.flag("set_alpha_to_one", false)?;
        let skip_prk_steps = config.flag("skip_prk_steps", false)?;
        let falling =
            TimestepSpacing::read(config, &noise_schedule, Spacing::Leading)?.whole_timesteps(steps)?;
        let stride = noise_schedule.len() / steps;
        let (timestep_spacing, runge_kutta_calls) = if skip_prk_steps {
            (multistep_calls(&falling), 0)
        } else {
            runge_kutta_calls(&falling, stride)?
        };
        Ok(Self {
            final_alpha_cumprod: if set_alpha_to_one { 1.0 } else { noise_schedule.alphas_cumprod[0] },
            noise_schedule,
            stride,
            timesteps: timestep_spacing.iter().map(|&t| t as f32).collect(),
            timestep_spacing,
            runge_kutta_calls,
            counter: 0,
            history: Vec::new(),
            origin: Vec::new(),
            blend: Vec::new(),
        })
    }

    /// One of the four calls of a Runge–Kutta step: slopes at the start, twice in the middle, at
    /// the end, weighted 1/6, 1/3, 1/3, 1/6. The first three end where the next slope is wanted.
    fn runge_kutta(&mut self, model_output: &[f32], t: usize, sample: &mut [f32]) {
        const WEIGHTS: [f32; 4] = [1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0];
        let stage = self.counter % 4;
        let start = self.timestep_spacing[self.counter - stage];
        let half = if stage.is_multiple_of(2) { self.stride / 2 } else { 0 };
        if stage == 0 {
            self.history.push(model_output.to_vec());
            self.origin = sample.to_vec();
            self.blend = vec![0.0; sample.len()];
        }
        self.blend.iter_mut().zip(model_output).for_each(|(sum, output)| *sum += WEIGHTS[stage] * output);
        let slope = if stage == 3 { &self.blend } else { model_output };
        sample.copy_from_slice(&self.origin);
        self.transfer(sample, slope, start as i64, t as i64 - half as i64);
    }

    /// One call of the linear multistep method.
    fn multistep(&mut self, model_output: &[f32], t: usize, sample: &mut [f32]) {
        let (mut start, mut end) = (t as i64, t as i64 - self.stride as i64);
        if self.counter == 1 {
            // The repetition of the first step: from where it started to where it ended.
            (start, end) = (start + self.stride as i64, start);
            sample.copy_from_slice(&self.origin);
        } else {
            let surplus = self.history.len().saturating_sub(3);
            self.history.drain(..surplus);
            self.history.push(model_output.to_vec());
        }
        if self.counter == 0 {
            self.origin = sample.to_vec();
        }
        let slope: Vec<f32> = match self.history.as_slice() {
            [e1] if self.counter == 1 => model_output.iter().zip(e1).map(|(e, e1)| (e + e1) / 2.0).collect(),
            [e1] => e1.clone(),
            [e2, e1] => (0..e1.len()).map(|i| (3.0 * e1[i] - e2[i]) / 2.0).collect(),
            [e3, e2, e1] => {
                (0..e1.len()).map(|i| (23.0 * e1[i] - 16.0 * e2[i] + 5.0 * e3[i]) / 12.0).collect()
            }
            [e4, e3, e2, e1, ..] => {
                let sum = |i: usize| 55.0 * e1[i] - 59.0 * e2[i] + 37.0 * e3[i] - 9.0 * e4[i];
                (0..e1.len()).map(|i| (1.0 / 24.0) * sum(i)).collect()
            }
            [] => model_output.to_vec(),
        };
        self.transfer(sample, &slope, start, end);
    }

    /// Equation 9: x_t → x_s along ε; DDIM's step with x_0 eliminated.
    fn transfer(&self, sample: &mut [f32], model_output: &[f32], t: i64, s: i64) {
        let alpha_cumprod = |t: i64| match usize::try_from(t) {
            Ok(t) => self.noise_schedule.alphas_cumprod[t],
            Err(_) => self.final_alpha_cumprod,
        };
        let (alpha, alpha_next) = (alpha_cumprod(t), alpha_cumprod(s));
        let (beta, beta_next) = (1.0 - alpha, 1.0 - alpha_next);
        let (signal, noise) = (alpha.sqrt(), beta.sqrt());
        let scale = (alpha_next / alpha).sqrt();
        let change = alpha_next - alpha;
        let denominator = alpha * beta_next.sqrt() + (alpha * beta * alpha_next).sqrt();

        for (x, &output) in sample.iter_mut().zip(model_output) {
            let epsilon = match self.noise_schedule.prediction {
                Prediction::Velocity => signal * output + noise * *x,
                Prediction::Epsilon | Prediction::Sample => output,
            };
            *x = scale * *x - change * epsilon / denominator;
        }
    }
}

/// The calls with `skip_prk_steps`: every timestep, the second one twice.
fn multistep_calls(falling: &[usize]) -> Vec<usize> {
    let mut calls = falling.to_vec();
    if let Some(&second) = falling.get(1) {
        calls.insert(1, second);
    }
    calls
}

/// The calls without it, and how many of them belong to Runge–Kutta steps: for each of the first
/// three steps its start, twice its middle, and its end; then every later timestep.
fn runge_kutta_calls(falling: &[usize], stride: usize) -> Result<(Vec<usize>, usize)> {
    let [first, second, third, fourth, ..] = *falling else {
        let steps = falling.len();
        return Err(Error::request(format!(
            "{steps} steps are too few for the sampler `PNDM` with Runge-Kutta steps (`skip_prk_steps` false); choose at \
             least 4"
        )));
    };
    let mut calls = Vec::new();
    for (start, end) in [(first, second), (second, third), (third, fourth)] {
        let middle = end + stride / 2;
        calls.extend([start, middle, middle, end]);
    }
    let count = calls.len();
    calls.extend(&falling[3..]);
    Ok((calls, count))
}

impl Sampler for Pndm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], _rng: &mut Generator) {
        let t = self.timestep_spacing[call];
        if self.counter < self.runge_kutta_calls {
            self.runge_kutta(model_output, t, sample);
        } else {
            self.multistep(model_output, t, sample);
        }
        self.counter += 1;
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.noise_schedule.add_noise(sample, noise, self.timestep_spacing[call]);
    }
}
