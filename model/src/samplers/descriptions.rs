//! What to tell a user of each sampler and schedule: the texts of `aquatint samplers`.
//! [`super::registry`] has their names.

use super::{SamplerKind, Schedule};

/// What a user should know of a sampler, a phrase each.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// What it is.
    pub what: &'static str,
    /// When to choose it.
    pub when: &'static str,
    /// Where it was published.
    pub paper: &'static str,
}

impl SamplerKind {
    /// What a user should know of it.
    pub fn description(self) -> Description {
        match self {
            Self::Ddim => Description {
                what: "guess the picture, go back to less of the same noise; with eta above 0, of fresh noise",
                when: "for reproducible pictures and to invert them; 20 to 50 steps",
                paper: "Song et al. 2020, arXiv:2010.02502",
            },
            Self::Ddpm => Description {
                what: "a mean and fresh noise, the diffusion in reverse",
                when: "to study the beginnings; hundreds of steps",
                paper: "Ho et al. 2020, arXiv:2006.11239",
            },
            Self::Pndm => Description {
                what: "DDIM's step along a blend of the last four outputs (A1111's PLMS)",
                when: "what Stable Diffusion 1.x folders ask for; 20 to 50 steps",
                paper: "Liu et al. 2022, arXiv:2202.09778",
            },
            Self::Lms => Description {
                what: "a cubic through the last four slopes",
                when: "one call a step, better than Euler from about 20 steps on",
                paper: "k-diffusion (Adams-Bashforth for uneven steps)",
            },
            Self::Euler => Description {
                what: "straight along the slope to the next noise level",
                when: "the plainest; a good first choice with 20 to 30 steps",
                paper: "Karras et al. 2022, arXiv:2206.00364",
            },
            Self::EulerAncestral => Description {
                what: "Euler with fresh noise at each step",
                when: "for variety: more steps give another picture, not the same one refined",
                paper: "k-diffusion; Karras et al. 2022, arXiv:2206.00364",
            },
            Self::Heun => Description {
                what: "Euler there, then again with the mean of both slopes; two calls a step",
                when: "for accuracy, at twice the time of a step",
                paper: "Karras et al. 2022, arXiv:2206.00364",
            },
            Self::Dpm2 => Description {
                what: "half a step, then the whole along the slope found there; two calls a step",
                when: "as Heun",
                paper: "k-diffusion; Lu et al. 2022, arXiv:2206.00927",
            },
            Self::Dpm2Ancestral => Description {
                what: "DPM2 with fresh noise at each step; two calls a step",
                when: "as Euler a, with more detail at twice the time of a step",
                paper: "k-diffusion; Karras et al. 2022, arXiv:2206.00364",
            },
            Self::DpmPp2S => Description {
                what: "half of a pair of steps, then the pair with the guess found there; both halves count as steps",
                when: "as DPM++ 2M, which needs one call for what this does with two",
                paper: "Lu et al. 2022, arXiv:2211.01095",
            },
            Self::DpmPp2SAncestral => Description {
                what: "half a step, then the whole with the guess found there, and fresh noise; two calls a step",
                when: "with karras, 10 to 20 steps; as Euler a, with more detail at twice the time of a step",
                paper: "Lu et al. 2022, arXiv:2211.01095; k-diffusion",
            },
            Self::DpmPpSde => Description {
                what: "half a step, then the whole, with the noise of one Brownian path; two calls a step",
                when: "with karras, 8 to 15 steps; much detail, at twice the time of a step",
                paper: "Lu et al. 2022, arXiv:2211.01095",
            },
            Self::DpmPp2M => Description {
                what: "most of the ODE solved exactly, the rest by a line through the last two guesses",
                when: "the usual choice, with karras: 15 to 25 steps",
                paper: "Lu et al. 2022, arXiv:2211.01095",
            },
            Self::DpmPp2MSde => Description {
                what: "DPM++ 2M with fresh noise at each step",
                when: "with karras or exponential, 20 to 40 steps; as Euler a, with more detail",
                paper: "Lu et al. 2022, arXiv:2211.01095",
            },
            Self::DpmPp3MSde => Description {
                what: "the same through three guesses",
                when: "with exponential, 30 steps and more",
                paper: "Lu et al. 2022, arXiv:2211.01095",
            },
            Self::UniPc => Description {
                what: "a predictor, and a corrector that costs no call",
                when: "good pictures in few steps: 10 to 20",
                paper: "Zhao et al. 2023, arXiv:2302.04867",
            },
            Self::Deis => Description {
                what: "a polynomial in ln(sigma) through the last noises",
                when: "as DPM++ 2M: 15 to 25 steps",
                paper: "Zhang and Chen 2022, arXiv:2204.13902",
            },
            Self::Lcm => Description {
                what: "asks a distilled model for the finished picture, again and again",
                when: "only with LCM models: 1 to 8 steps, guidance 1 to 2",
                paper: "Luo et al. 2023, arXiv:2310.04378",
            },
            Self::Tcd => Description {
                what: "jumps below the next timestep, and back up with fresh noise (eta)",
                when: "only with TCD models: 1 to 8 steps, guidance 0 to 1",
                paper: "Zheng et al. 2024, arXiv:2402.19159",
            },
        }
    }
}

impl Schedule {
    /// What a user should know of it, a phrase.
    pub fn description(self) -> &'static str {
        match self {
            Self::Normal => "even timesteps, as the model's `timestep_spacing` has them",
            Self::Karras => {
                "small steps where there is little noise; the usual choice with DPM++ (arXiv:2206.00364)"
            }
            Self::Exponential => "even in the logarithm of the noise; smooth backgrounds",
            Self::Beta => "dense at both ends (arXiv:2407.12173)",
            Self::SgmUniform => "even timesteps, the cleanest not visited; for distilled models",
            Self::Trailing => {
                "even timesteps from the noisiest down (arXiv:2305.08891); for models of few steps"
            }
            Self::Simple => "evenly spaced timesteps, from the noisiest down",
            Self::AlignYourSteps => {
                "measured for Stable Diffusion 1.5; good with 10 steps (arXiv:2404.14507)"
            }
            Self::Lu => "even in DPM-Solver's lambda (arXiv:2206.00927)",
            Self::Given => "the noise levels of the setting `sigmas`",
        }
    }
}
