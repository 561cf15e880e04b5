//! What people call samplers and schedules: the one table of names.
//!
//! A name is compared without case, spaces, `_` and `-`, and with `++` read as `pp`, so "DPM++ 2M" (A1111), "dpm++2m"
//! (stable-diffusion.cpp) and "dpmpp_2m" (ComfyUI) are one. A1111 used to append the schedule, "DPM++ 2M Karras"; that is
//! understood as well.

use crate::{Error, Result};

/// The samplers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplerKind {
    /// Denoising diffusion implicit models.
    Ddim,
    /// Denoising diffusion probabilistic models.
    Ddpm,
    /// Pseudo numerical methods: linear multistep, optionally after Runge–Kutta steps. A1111's "PLMS".
    Pndm,
    /// Linear multistep.
    Lms,
    /// Euler's method on the probability-flow ODE.
    Euler,
    /// Euler's method with fresh noise at each step.
    EulerAncestral,
    /// Heun's method.
    Heun,
    /// The midpoint method.
    Dpm2,
    /// The midpoint method with fresh noise at each step.
    Dpm2Ancestral,
    /// DPM-Solver++ for the reverse SDE, single step.
    DpmPpSde,
    /// DPM-Solver++, second order, multistep.
    DpmPp2M,
    /// The same with fresh noise at each step.
    DpmPp2MSde,
    /// The same with fresh noise, third order.
    DpmPp3MSde,
    /// Unified predictor-corrector.
    UniPc,
    /// Diffusion exponential integrator sampler.
    Deis,
    /// Latent consistency model.
    Lcm,
    /// Trajectory consistency distillation.
    Tcd,
}

/// How noise levels are spread over the steps; [`super::schedules`] has the formulas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// As the timesteps of `timestep_spacing` have them.
    Normal,
    /// Even in σ^(1/7).
    Karras,
    /// Even in ln σ.
    Exponential,
    /// By the quantiles of a beta distribution.
    Beta,
    /// Even timesteps, of which the cleanest is not visited.
    SgmUniform,
    /// Every so many timesteps, from the noisiest down.
    Simple,
    /// "Align Your Steps" for Stable Diffusion 1.5.
    AlignYourSteps,
    /// Even in λ = −ln σ: Lu et al. 2022.
    Lu,
    /// The noise levels that the setting `sigmas` lists.
    Given,
}

/// What a user asked for; `None` leaves it to the folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SamplerChoice {
    /// Which sampler.
    pub kind: Option<SamplerKind>,
    /// Which schedule.
    pub schedule: Option<Schedule>,
}

/// One sampler: its label in pictures and messages (A1111's), its class in diffusers, its other names once normalised,
/// the schedules that it can follow, and what to tell a user.
struct Names {
    kind: SamplerKind,
    label: &'static str,
    class: &'static str,
    aliases: &'static [&'static str],
    schedules: &'static [Schedule],
    about: About,
}

/// What a user should know of a sampler, a phrase each.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// What it is.
    pub what: &'static str,
    /// When to choose it.
    pub when: &'static str,
    /// Where it was published.
    pub paper: &'static str,
}

/// Samplers that speak of timesteps.
const TIMESTEPS: &[Schedule] = &[Schedule::Normal];

/// Samplers that speak of noise levels.
const SIGMAS: &[Schedule] = &[
    Schedule::Normal,
    Schedule::Karras,
    Schedule::Exponential,
    Schedule::Beta,
    Schedule::SgmUniform,
    Schedule::Simple,
    Schedule::AlignYourSteps,
    Schedule::Given,
];

/// Those whose class in diffusers knows Lu's spacing besides.
const SIGMAS_AND_LU: &[Schedule] = &[
    Schedule::Normal,
    Schedule::Karras,
    Schedule::Exponential,
    Schedule::Beta,
    Schedule::SgmUniform,
    Schedule::Simple,
    Schedule::AlignYourSteps,
    Schedule::Lu,
    Schedule::Given,
];

const SAMPLERS: &[Names] = &[
    Names {
        kind: SamplerKind::Ddim,
        label: "DDIM",
        class: "DDIMScheduler",
        aliases: &[],
        schedules: TIMESTEPS,
        about: About {
            what: "guess the picture, go back to less of the same noise; with eta above 0, of fresh noise",
            when: "for reproducible pictures and to invert them; 20 to 50 steps",
            paper: "Song et al. 2020, arXiv:2010.02502",
        },
    },
    Names {
        kind: SamplerKind::Ddpm,
        label: "DDPM",
        class: "DDPMScheduler",
        aliases: &[],
        schedules: TIMESTEPS,
        about: About {
            what: "a mean and fresh noise, the diffusion in reverse",
            when: "to study the beginnings; hundreds of steps",
            paper: "Ho et al. 2020, arXiv:2006.11239",
        },
    },
    Names {
        kind: SamplerKind::Pndm,
        label: "PNDM",
        class: "PNDMScheduler",
        aliases: &["plms"],
        schedules: TIMESTEPS,
        about: About {
            what: "DDIM's step along a blend of the last four outputs (A1111's PLMS)",
            when: "what Stable Diffusion 1.x folders ask for; 20 to 50 steps",
            paper: "Liu et al. 2022, arXiv:2202.09778",
        },
    },
    Names {
        kind: SamplerKind::Lms,
        label: "LMS",
        class: "LMSDiscreteScheduler",
        aliases: &["klms"],
        schedules: SIGMAS,
        about: About {
            what: "a cubic through the last four slopes",
            when: "one call a step, better than Euler from about 20 steps on",
            paper: "k-diffusion (Adams-Bashforth for uneven steps)",
        },
    },
    Names {
        kind: SamplerKind::Euler,
        label: "Euler",
        class: "EulerDiscreteScheduler",
        aliases: &["keuler"],
        schedules: SIGMAS,
        about: About {
            what: "straight along the slope to the next noise level",
            when: "the plainest; a good first choice with 20 to 30 steps",
            paper: "Karras et al. 2022, arXiv:2206.00364",
        },
    },
    Names {
        kind: SamplerKind::EulerAncestral,
        label: "Euler a",
        class: "EulerAncestralDiscreteScheduler",
        aliases: &["eulerancestral", "keulera", "keulerancestral"],
        schedules: SIGMAS,
        about: About {
            what: "Euler with fresh noise at each step",
            when: "for variety: more steps give another picture, not the same one refined",
            paper: "k-diffusion; Karras et al. 2022, arXiv:2206.00364",
        },
    },
    Names {
        kind: SamplerKind::Heun,
        label: "Heun",
        class: "HeunDiscreteScheduler",
        aliases: &["kheun"],
        schedules: SIGMAS,
        about: About {
            what: "Euler there, then again with the mean of both slopes; two calls a step",
            when: "for accuracy, at twice the time of a step",
            paper: "Karras et al. 2022, arXiv:2206.00364",
        },
    },
    Names {
        kind: SamplerKind::Dpm2,
        label: "DPM2",
        class: "KDPM2DiscreteScheduler",
        aliases: &["kdpm2", "dpm2discrete"],
        schedules: SIGMAS,
        about: About {
            what: "half a step, then the whole along the slope found there; two calls a step",
            when: "as Heun",
            paper: "k-diffusion; Lu et al. 2022, arXiv:2206.00927",
        },
    },
    Names {
        kind: SamplerKind::Dpm2Ancestral,
        label: "DPM2 a",
        class: "KDPM2AncestralDiscreteScheduler",
        aliases: &["dpm2ancestral", "kdpm2a", "kdpm2ancestral"],
        schedules: SIGMAS,
        about: About {
            what: "DPM2 with fresh noise at each step; two calls a step",
            when: "as Euler a, with more detail at twice the time of a step",
            paper: "k-diffusion; Karras et al. 2022, arXiv:2206.00364",
        },
    },
    Names {
        kind: SamplerKind::DpmPpSde,
        label: "DPM++ SDE",
        class: "DPMSolverSDEScheduler",
        aliases: &["kdpmppsde", "dpmppsdegpu"],
        schedules: SIGMAS,
        about: About {
            what: "half a step, then the whole, with the noise of one Brownian path; two calls a step",
            when: "with karras, 8 to 15 steps; much detail, at twice the time of a step",
            paper: "Lu et al. 2022, arXiv:2211.01095",
        },
    },
    Names {
        kind: SamplerKind::DpmPp2M,
        label: "DPM++ 2M",
        class: "DPMSolverMultistepScheduler",
        aliases: &["kdpmpp2m"],
        schedules: SIGMAS_AND_LU,
        about: About {
            what: "most of the ODE solved exactly, the rest by a line through the last two guesses",
            when: "the usual choice, with karras: 15 to 25 steps",
            paper: "Lu et al. 2022, arXiv:2211.01095",
        },
    },
    Names {
        kind: SamplerKind::DpmPp2MSde,
        label: "DPM++ 2M SDE",
        class: "DPMSolverMultistepScheduler",
        aliases: &["kdpmpp2msde", "dpmpp2msdegpu"],
        schedules: SIGMAS_AND_LU,
        about: About {
            what: "DPM++ 2M with fresh noise at each step",
            when: "with karras or exponential, 20 to 40 steps; as Euler a, with more detail",
            paper: "Lu et al. 2022, arXiv:2211.01095",
        },
    },
    Names {
        kind: SamplerKind::DpmPp3MSde,
        label: "DPM++ 3M SDE",
        class: "DPMSolverMultistepScheduler",
        aliases: &["kdpmpp3msde", "dpmpp3msdegpu"],
        schedules: SIGMAS_AND_LU,
        about: About {
            what: "the same through three guesses",
            when: "with exponential, 30 steps and more",
            paper: "Lu et al. 2022, arXiv:2211.01095",
        },
    },
    Names {
        kind: SamplerKind::UniPc,
        label: "UniPC",
        class: "UniPCMultistepScheduler",
        aliases: &["unipcbh2"],
        schedules: SIGMAS,
        about: About {
            what: "a predictor, and a corrector that costs no call",
            when: "good pictures in few steps: 10 to 20",
            paper: "Zhao et al. 2023, arXiv:2302.04867",
        },
    },
    Names {
        kind: SamplerKind::Deis,
        label: "DEIS",
        class: "DEISMultistepScheduler",
        aliases: &["deismultistep"],
        schedules: SIGMAS,
        about: About {
            what: "a polynomial in ln(sigma) through the last noises",
            when: "as DPM++ 2M: 15 to 25 steps",
            paper: "Zhang and Chen 2022, arXiv:2204.13902",
        },
    },
    Names {
        kind: SamplerKind::Lcm,
        label: "LCM",
        class: "LCMScheduler",
        aliases: &[],
        schedules: TIMESTEPS,
        about: About {
            what: "asks a distilled model for the end of the walk, again and again",
            when: "only with LCM models: 1 to 8 steps, guidance 1 to 2",
            paper: "Luo et al. 2023, arXiv:2310.04378",
        },
    },
    Names {
        kind: SamplerKind::Tcd,
        label: "TCD",
        class: "TCDScheduler",
        aliases: &[],
        schedules: TIMESTEPS,
        about: About {
            what: "jumps below the next timestep, and back up with fresh noise (eta)",
            when: "only with TCD models: 1 to 8 steps, guidance 0 to 1",
            paper: "Zheng et al. 2024, arXiv:2402.19159",
        },
    },
];

/// One schedule: its label, its other names once normalised, and what to tell a user.
struct ScheduleNames {
    schedule: Schedule,
    label: &'static str,
    aliases: &'static [&'static str],
    about: &'static str,
}

const SCHEDULES: &[ScheduleNames] = &[
    ScheduleNames {
        schedule: Schedule::Normal,
        label: "normal",
        aliases: &["default", "discrete", "automatic", "uniform"],
        about: "even timesteps, as the model's `timestep_spacing` has them",
    },
    ScheduleNames {
        schedule: Schedule::Karras,
        label: "karras",
        aliases: &[],
        about: "small steps where there is little noise; the usual choice with DPM++ (arXiv:2206.00364)",
    },
    ScheduleNames {
        schedule: Schedule::Exponential,
        label: "exponential",
        aliases: &[],
        about: "even in the logarithm of the noise; smooth backgrounds",
    },
    ScheduleNames {
        schedule: Schedule::Beta,
        label: "beta",
        aliases: &[],
        about: "dense at both ends (arXiv:2407.12173)",
    },
    ScheduleNames {
        schedule: Schedule::SgmUniform,
        label: "sgm_uniform",
        aliases: &[],
        about: "even timesteps, the cleanest not visited; for distilled models",
    },
    ScheduleNames {
        schedule: Schedule::Simple,
        label: "simple",
        aliases: &[],
        about: "every so many timesteps, from the noisiest down",
    },
    ScheduleNames {
        schedule: Schedule::AlignYourSteps,
        label: "ays",
        aliases: &["alignyoursteps", "alignyourstepssd15"],
        about: "measured for Stable Diffusion 1.5; good with 10 steps (arXiv:2404.14507)",
    },
    ScheduleNames {
        schedule: Schedule::Lu,
        label: "lu",
        aliases: &[],
        about: "even in DPM-Solver's lambda (arXiv:2206.00927)",
    },
];

impl SamplerKind {
    /// The sampler of that name, in any family's spelling.
    ///
    /// # Errors
    /// `Request`, listing the known names.
    pub fn parse(name: &str) -> Result<Self> {
        let plain = normalised(name);
        let known = |names: &&Names| {
            plain == normalised(names.label)
                || plain == normalised(names.class)
                || names.aliases.contains(&plain.as_str())
        };
        SAMPLERS.iter().find(known).map(|names| names.kind).ok_or_else(|| {
            Error::request(format!(
                "unknown sampler `{name}`; known are {}",
                listed(Self::all().map(Self::label))
            ))
        })
    }

    /// All samplers.
    pub fn all() -> impl Iterator<Item = Self> {
        SAMPLERS.iter().map(|names| names.kind)
    }

    /// The name for people, as A1111 writes it into pictures: "Euler a".
    pub fn label(self) -> &'static str {
        self.names().label
    }

    /// The class in diffusers, as `scheduler_config.json` names it.
    pub fn class(self) -> &'static str {
        self.names().class
    }

    /// What a user should know of it.
    pub fn about(self) -> About {
        self.names().about
    }

    /// The schedules that this sampler can follow.
    pub fn schedules(self) -> &'static [Schedule] {
        self.names().schedules
    }

    /// Whether it leaves open how much fresh noise is added.
    pub fn has_eta(self) -> bool {
        matches!(self, Self::Ddim | Self::Tcd)
    }

    fn names(self) -> &'static Names {
        let row = SAMPLERS.iter().find(|names| names.kind == self);
        row.expect("every sampler has a row in the table of names")
    }
}

impl Schedule {
    /// The schedule of that name.
    ///
    /// # Errors
    /// `Request`, listing the known names.
    pub fn parse(name: &str) -> Result<Self> {
        let plain = normalised(name);
        let known =
            |row: &&ScheduleNames| plain == normalised(row.label) || row.aliases.contains(&plain.as_str());
        let row = SCHEDULES.iter().find(known);
        row.map(|row| row.schedule).ok_or_else(|| {
            let known = listed(Self::all().map(Self::label));
            Error::request(format!("unknown schedule `{name}`; known are {known}"))
        })
    }

    /// The schedules that have a name: all but the given one, which comes with its list.
    pub fn all() -> impl Iterator<Item = Self> {
        SCHEDULES.iter().map(|row| row.schedule)
    }

    /// The name for people: "karras".
    pub fn label(self) -> &'static str {
        self.names().map_or("given", |row| row.label)
    }

    /// What a user should know of it, a phrase.
    pub fn about(self) -> &'static str {
        self.names().map_or("the noise levels of the setting `sigmas`", |row| row.about)
    }

    fn names(self) -> Option<&'static ScheduleNames> {
        SCHEDULES.iter().find(|row| row.schedule == self)
    }
}

impl SamplerChoice {
    /// The choice that two names make, as the flags `--sampler` and `--schedule` give them.
    ///
    /// ```
    /// # use aquatint_model::samplers::{SamplerChoice, SamplerKind, Schedule};
    /// let choice = SamplerChoice::parse(Some("DPM++ 2M Karras"), None)?;
    /// assert_eq!(choice.kind, Some(SamplerKind::DpmPp2M));
    /// assert_eq!(choice.schedule, Some(Schedule::Karras));
    /// # Ok::<(), aquatint_model::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Request` for an unknown name, or if the sampler's name says another schedule than the schedule's.
    pub fn parse(sampler: Option<&str>, schedule: Option<&str>) -> Result<Self> {
        let mut choice = Self { kind: None, schedule: schedule.map(Schedule::parse).transpose()? };
        let Some(name) = sampler else { return Ok(choice) };
        let Some((first, suffix)) = split_schedule(name) else {
            choice.kind = Some(SamplerKind::parse(name)?);
            return Ok(choice);
        };
        if choice.schedule.is_some_and(|s| s != suffix) {
            let other = schedule.unwrap_or_default();
            return Err(Error::request(format!(
                "the sampler `{name}` contradicts the schedule `{other}`; give one"
            )));
        }
        choice.kind = Some(SamplerKind::parse(&first).map_err(|_| unknown_with_suffix(name))?);
        choice.schedule = Some(suffix);
        Ok(choice)
    }
}

/// "Euler Karras" → "euler", Karras. A1111 used to write these two schedules so.
fn split_schedule(name: &str) -> Option<(String, Schedule)> {
    let plain = normalised(name);
    [("karras", Schedule::Karras), ("exponential", Schedule::Exponential)]
        .into_iter()
        .find_map(|(suffix, schedule)| Some((plain.strip_suffix(suffix)?.to_owned(), schedule)))
}

/// The error for "Foo Karras", which must show the name as it was typed.
fn unknown_with_suffix(name: &str) -> Error {
    SamplerKind::parse(name).expect_err("a name with a schedule at its end is no row of the table")
}

/// "DPM++ 2M" → "dpmpp2m".
fn normalised(name: &str) -> String {
    name.to_lowercase().replace([' ', '_', '-'], "").replace("++", "pp")
}

/// "`a`, `b`, `c`".
fn listed(names: impl Iterator<Item = &'static str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_of_names_is_understood() {
        for (name, kind) in [
            ("ddim", SamplerKind::Ddim),
            ("PLMS", SamplerKind::Pndm),
            ("PNDMScheduler", SamplerKind::Pndm),
            ("euler", SamplerKind::Euler),
            ("Euler a", SamplerKind::EulerAncestral),
            ("euler_a", SamplerKind::EulerAncestral),
            ("euler_ancestral", SamplerKind::EulerAncestral),
            ("k_euler_a", SamplerKind::EulerAncestral),
            ("EulerAncestralDiscreteScheduler", SamplerKind::EulerAncestral),
            ("k_lms", SamplerKind::Lms),
            ("Heun", SamplerKind::Heun),
            ("DPM2", SamplerKind::Dpm2),
            ("dpm_2", SamplerKind::Dpm2),
            ("KDPM2DiscreteScheduler", SamplerKind::Dpm2),
            ("DPM2 a", SamplerKind::Dpm2Ancestral),
            ("dpm_2_ancestral", SamplerKind::Dpm2Ancestral),
            ("DPM++ 2M", SamplerKind::DpmPp2M),
            ("dpm++2m", SamplerKind::DpmPp2M),
            ("dpmpp_2m", SamplerKind::DpmPp2M),
            ("dpmsolvermultistepscheduler", SamplerKind::DpmPp2M),
            ("DPM++ SDE", SamplerKind::DpmPpSde),
            ("dpmpp_sde", SamplerKind::DpmPpSde),
            ("DPM++ 2M SDE", SamplerKind::DpmPp2MSde),
            ("dpmpp_2m_sde_gpu", SamplerKind::DpmPp2MSde),
            ("dpmpp_3m_sde", SamplerKind::DpmPp3MSde),
            ("uni_pc", SamplerKind::UniPc),
            ("uni_pc_bh2", SamplerKind::UniPc),
            ("UniPC", SamplerKind::UniPc),
            ("DEISMultistepScheduler", SamplerKind::Deis),
            ("lcm", SamplerKind::Lcm),
            ("TCD", SamplerKind::Tcd),
            ("ddpm", SamplerKind::Ddpm),
        ] {
            assert_eq!(SamplerKind::parse(name).ok(), Some(kind), "{name}");
        }
    }

    #[test]
    fn a_schedule_may_stand_behind_the_sampler() {
        let both = |sampler, schedule| SamplerChoice::parse(Some(sampler), schedule);
        let karras = SamplerChoice { kind: Some(SamplerKind::Euler), schedule: Some(Schedule::Karras) };
        assert_eq!(both("Euler Karras", None).ok(), Some(karras));
        assert_eq!(both("Euler", Some("KARRAS")).ok(), Some(karras));
        assert_eq!(both("Euler", Some("discrete")).ok().and_then(|c| c.schedule), Some(Schedule::Normal));
        assert!(both("Euler Karras", Some("normal")).is_err());
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        for name in ["dpm4", "dpm4 karras", ""] {
            let message = SamplerChoice::parse(Some(name), None).expect_err("unknown").to_string();
            let start = format!("unknown sampler `{name}`; known are `DDIM`, ");
            assert!(message.starts_with(&start), "{message}");
            assert!(SamplerKind::all().all(|kind| message.contains(&format!("`{}`", kind.label()))));
        }
        let message = Schedule::parse("cosine").expect_err("unknown").to_string();
        let known = "`normal`, `karras`, `exponential`, `beta`, `sgm_uniform`, `simple`, `ays`, `lu`";
        assert_eq!(message, format!("unknown schedule `cosine`; known are {known}"));
    }
}
