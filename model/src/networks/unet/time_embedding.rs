//! The time embedding: which of the 1000 noise levels are we at?
//!
//! ```text
//! frequency[i] = exp(−ln(10000) · i / (half − freq_shift))   i in 0..half, half = channels / 2
//! t_emb        = [cos(t · frequency), sin(t · frequency)]    sines first unless flip_sin_to_cos
//! temb         = linear_2(silu(linear_1(t_emb + cond_proj(w_emb))))
//! ```
//!
//! w_emb, in guidance-distilled models only, is such an embedding of the guidance scale.
//!
//! Slow and fast waves side by side, like the hands of a clock: from them the network can tell t =
//! 500 from 501 and from 900 alike. Source: Vaswani et al., *Attention Is All You Need* (2017),
//! section 3.5; diffusers' `Timesteps` and `TimestepEmbedding`.

use aquatint_kernels::{Isa, activation};
use aquatint_tensor::Tensor;

use super::UNetConfig;
use crate::error::Result;
use crate::networks::layers::Linear;
use crate::source::Weights;

/// From a timestep to the vector that every residual block receives.
pub struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    /// Of the guidance scale, with the channels of its embedding.
    cond_proj: Option<(Linear, usize)>,
    channels: usize,
    flip_sin_to_cos: bool,
    freq_shift: f32,
}

impl TimestepEmbedding {
    /// Reads `linear_1`, `linear_2` and, if the config has one, `cond_proj`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(w: &Weights<'_>, config: &UNetConfig) -> Result<Self> {
        let (channels, out_channels) = (config.block_out_channels[0], config.time_embed_dim());
        Ok(Self {
            linear_1: Linear::load(&w.at("linear_1"), [out_channels, channels])?,
            linear_2: Linear::load(&w.at("linear_2"), [out_channels, out_channels])?,
            cond_proj: config
                .time_cond_proj_dim
                .map(|dim| {
                    Linear::load_without_bias(&w.at("cond_proj"), [channels, dim]).map(|proj| (proj, dim))
                })
                .transpose()?,
            channels,
            flip_sin_to_cos: config.flip_sin_to_cos,
            freq_shift: config.freq_shift,
        })
    }

    /// A row for each timestep → `[timesteps, time_embed_dim]`. The guidance scale counts only for
    /// models with a `cond_proj`.
    pub fn forward(&self, isa: Isa, timesteps: &[f32], guidance_scale: f32) -> Tensor<f32, 2> {
        let mut waves: Vec<f32> = timesteps
            .iter()
            .flat_map(|&t| sinusoidal(t, self.channels, self.flip_sin_to_cos, self.freq_shift))
            .collect();
        if let Some((cond_proj, dim)) = &self.cond_proj {
            let w_emb = Tensor::from_vec([1, *dim], guidance_embedding(guidance_scale, *dim));
            let cond = cond_proj.forward(isa, w_emb.view());
            waves.iter_mut().zip(cond.as_slice().iter().cycle()).for_each(|(x, cond)| *x += cond);
        }
        let waves = Tensor::from_vec([timesteps.len(), self.channels], waves);
        let mut hidden = self.linear_1.forward(isa, waves.view());
        activation::silu(isa, hidden.as_mut_slice());
        self.linear_2.forward(isa, hidden.view())
    }
}

/// `channels` cosines and sines of `timestep`. All in f32: t reaches 999, so the result carries the
/// frequency's rounding a thousandfold, and more digits here would be another embedding than the
/// one that the network was trained on.
pub(super) fn sinusoidal(timestep: f32, channels: usize, flip_sin_to_cos: bool, freq_shift: f32) -> Vec<f32> {
    let half = channels / 2;
    let period = -(10000f64.ln() as f32);
    let angles: Vec<f32> =
        (0..half).map(|i| timestep * (period * i as f32 / (half as f32 - freq_shift)).exp()).collect();
    let cosines = angles.iter().map(|angle| angle.cos());
    let sines = angles.iter().map(|angle| angle.sin());
    let mut waves: Vec<f32> =
        if flip_sin_to_cos { cosines.chain(sines).collect() } else { sines.chain(cosines).collect() };
    waves.resize(channels, 0.0); // an odd number of channels ends in a zero
    waves
}

/// diffusers' `get_guidance_scale_embedding` of the guidance scale less 1: sines, then cosines.
fn guidance_embedding(guidance_scale: f32, channels: usize) -> Vec<f32> {
    let half = channels / 2;
    let w = (guidance_scale - 1.0) * 1000.0;
    let slope = 10000f32.ln() / (half - 1) as f32;
    let angles: Vec<f32> = (0..half).map(|i| w * (i as f32 * -slope).exp()).collect();
    let mut waves: Vec<f32> =
        angles.iter().map(|angle| angle.sin()).chain(angles.iter().map(|angle| angle.cos())).collect();
    waves.resize(channels, 0.0); // an odd number of channels ends in a zero
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_and_fastest_waves_are_where_they_belong() {
        let waves = sinusoidal(100.0, 4, true, 0.0);
        // Frequencies 1 and exp(−ln(10000)/2) = 0.01.
        let expected = [100f32.cos(), 1f32.cos(), 100f32.sin(), 1f32.sin()];
        for (found, expected) in waves.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{waves:?}");
        }
        let flipped = sinusoidal(100.0, 4, false, 0.0);
        assert_eq!(flipped, [waves[2], waves[3], waves[0], waves[1]]);
    }

    #[test]
    fn a_shift_of_one_makes_the_slowest_wave_exactly_ten_thousand_times_slower() {
        let waves = sinusoidal(10000.0, 5, false, 1.0);
        assert!((waves[1] - 1f32.sin()).abs() < 1e-5, "{waves:?}");
        assert_eq!(waves[4], 0.0);
    }
}
