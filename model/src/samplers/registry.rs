//! What people call samplers and schedules: the one table of names. [`super::descriptions`] has
//! what to tell a user of each.
//!
//! A name is compared without case, spaces, `_` and `-`, and with `++` read as `pp`, so "DPM++ 2M"
//! (A1111), "dpm++2m" (stable-diffusion.cpp) and "dpmpp_2m" (ComfyUI) are one. A1111 used to append
//! the schedule, "DPM++ 2M Karras"; that is understood as well.

use crate::{Error, Result};

/// The samplers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplerKind {
    /// Denoising diffusion implicit models.
    Ddim,
    /// Denoising diffusion probabilistic models.
    Ddpm,
    /// Pseudo numerical methods: linear multistep, optionally after Runge–Kutta steps. A1111's
    /// "PLMS".
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
    /// DPM-Solver++, second order, single step.
    DpmPp2S,
    /// The same with fresh noise at each step.
    DpmPp2SAncestral,
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
    /// Even timesteps, without the cleanest.
    SgmUniform,
    /// Even timesteps from the noisiest down: `timestep_spacing` "trailing", whatever the folder
    /// says.
    Trailing,
    /// Evenly spaced timesteps, from the noisiest down.
    Simple,
    /// "Align Your Steps" for Stable Diffusion 1.5.
    AlignYourSteps,
    /// Even in λ = −ln σ: Lu et al. 2022.
    Lu,
    /// The noise levels that the setting `sigmas` lists.
    Given,
}

/// What a user chose; `None` leaves it to the folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SamplerChoice {
    /// Which sampler.
    pub kind: Option<SamplerKind>,
    /// Which schedule.
    pub schedule: Option<Schedule>,
}

/// One sampler: its label in pictures and messages (A1111's), its class in diffusers, its other
/// names once normalised, and the schedules that it can follow.
struct Names {
    kind: SamplerKind,
    label: &'static str,
    class: Option<&'static str>,
    aliases: &'static [&'static str],
    schedules: &'static [Schedule],
}

/// Samplers in terms of timesteps.
const TIMESTEPS: &[Schedule] = &[Schedule::Normal, Schedule::Trailing];

/// Samplers of distilled models, which visit the timesteps of the distillation.
const DISTILLED: &[Schedule] = &[Schedule::Normal];

/// Samplers in terms of noise levels whose timesteps are even whatever the folder says.
const EVEN_SIGMAS: &[Schedule] = &[
    Schedule::Normal,
    Schedule::Karras,
    Schedule::Exponential,
    Schedule::Beta,
    Schedule::SgmUniform,
    Schedule::Simple,
    Schedule::AlignYourSteps,
    Schedule::Given,
];

/// Samplers in terms of noise levels.
const SIGMAS: &[Schedule] = &[
    Schedule::Normal,
    Schedule::Karras,
    Schedule::Exponential,
    Schedule::Beta,
    Schedule::SgmUniform,
    Schedule::Trailing,
    Schedule::Simple,
    Schedule::AlignYourSteps,
    Schedule::Given,
];

/// Those whose class in diffusers has Lu's spacing as well.
const SIGMAS_AND_LU: &[Schedule] = &[
    Schedule::Normal,
    Schedule::Karras,
    Schedule::Exponential,
    Schedule::Beta,
    Schedule::SgmUniform,
    Schedule::Trailing,
    Schedule::Simple,
    Schedule::AlignYourSteps,
    Schedule::Lu,
    Schedule::Given,
];

const SAMPLERS: &[Names] = &[
    Names {
        kind: SamplerKind::Ddim,
        label: "DDIM",
        class: Some("DDIMScheduler"),
        aliases: &[],
        schedules: TIMESTEPS,
    },
    Names {
        kind: SamplerKind::Ddpm,
        label: "DDPM",
        class: Some("DDPMScheduler"),
        aliases: &[],
        schedules: TIMESTEPS,
    },
    Names {
        kind: SamplerKind::Pndm,
        label: "PNDM",
        class: Some("PNDMScheduler"),
        aliases: &["plms"],
        schedules: TIMESTEPS,
    },
    Names {
        kind: SamplerKind::Lms,
        label: "LMS",
        class: Some("LMSDiscreteScheduler"),
        aliases: &["klms"],
        schedules: SIGMAS,
    },
    Names {
        kind: SamplerKind::Euler,
        label: "Euler",
        class: Some("EulerDiscreteScheduler"),
        aliases: &["keuler"],
        schedules: SIGMAS,
    },
    Names {
        kind: SamplerKind::EulerAncestral,
        label: "Euler a",
        class: Some("EulerAncestralDiscreteScheduler"),
        aliases: &["eulerancestral", "keulera", "keulerancestral"],
        schedules: SIGMAS,
    },
    Names {
        kind: SamplerKind::Heun,
        label: "Heun",
        class: Some("HeunDiscreteScheduler"),
        aliases: &["kheun"],
        schedules: SIGMAS,
    },
    Names {
        kind: SamplerKind::Dpm2,
        label: "DPM2",
        class: Some("KDPM2DiscreteScheduler"),
        aliases: &["kdpm2", "dpm2discrete"],
        schedules: SIGMAS,
    },
    Names {
        kind: SamplerKind::Dpm2Ancestral,
        label: "DPM2 a",
        class: Some("KDPM2AncestralDiscreteScheduler"),
        aliases: &["dpm2ancestral", "kdpm2a", "kdpm2ancestral"],
        schedules: SIGMAS,
    },
    Names {
        kind: SamplerKind::DpmPp2S,
        label: "DPM++ 2S",
        class: Some("DPMSolverSinglestepScheduler"),
        aliases: &["kdpmpp2s"],
        schedules: EVEN_SIGMAS,
    },
    Names {
        kind: SamplerKind::DpmPp2SAncestral,
        label: "DPM++ 2S a",
        class: None,
        aliases: &["dpmpp2sancestral", "kdpmpp2sa", "kdpmpp2sancestral"],
        schedules: SIGMAS,
    },
    Names {
        kind: SamplerKind::DpmPpSde,
        label: "DPM++ SDE",
        class: Some("DPMSolverSDEScheduler"),
        aliases: &["kdpmppsde", "dpmppsdegpu"],
        schedules: SIGMAS,
    },
    Names {
        kind: SamplerKind::DpmPp2M,
        label: "DPM++ 2M",
        class: Some("DPMSolverMultistepScheduler"),
        aliases: &["kdpmpp2m"],
        schedules: SIGMAS_AND_LU,
    },
    Names {
        kind: SamplerKind::DpmPp2MSde,
        label: "DPM++ 2M SDE",
        class: Some("DPMSolverMultistepScheduler"),
        aliases: &["kdpmpp2msde", "dpmpp2msdegpu"],
        schedules: SIGMAS_AND_LU,
    },
    Names {
        kind: SamplerKind::DpmPp3MSde,
        label: "DPM++ 3M SDE",
        class: Some("DPMSolverMultistepScheduler"),
        aliases: &["kdpmpp3msde", "dpmpp3msdegpu"],
        schedules: SIGMAS_AND_LU,
    },
    Names {
        kind: SamplerKind::UniPc,
        label: "UniPC",
        class: Some("UniPCMultistepScheduler"),
        aliases: &["unipcbh2"],
        schedules: SIGMAS,
    },
    Names {
        kind: SamplerKind::Deis,
        label: "DEIS",
        class: Some("DEISMultistepScheduler"),
        aliases: &["deismultistep"],
        schedules: SIGMAS,
    },
    Names {
        kind: SamplerKind::Lcm,
        label: "LCM",
        class: Some("LCMScheduler"),
        aliases: &[],
        schedules: TIMESTEPS,
    },
    Names {
        kind: SamplerKind::Tcd,
        label: "TCD",
        class: Some("TCDScheduler"),
        aliases: &[],
        schedules: DISTILLED,
    },
];

/// One schedule: its label, and its other names once normalised.
struct ScheduleNames {
    schedule: Schedule,
    label: &'static str,
    aliases: &'static [&'static str],
}

const SCHEDULES: &[ScheduleNames] = &[
    ScheduleNames {
        schedule: Schedule::Normal,
        label: "normal",
        aliases: &["default", "discrete", "automatic", "uniform"],
    },
    ScheduleNames { schedule: Schedule::Karras, label: "karras", aliases: &[] },
    ScheduleNames { schedule: Schedule::Exponential, label: "exponential", aliases: &[] },
    ScheduleNames { schedule: Schedule::Beta, label: "beta", aliases: &[] },
    ScheduleNames { schedule: Schedule::SgmUniform, label: "sgm_uniform", aliases: &[] },
    ScheduleNames { schedule: Schedule::Trailing, label: "trailing", aliases: &[] },
    ScheduleNames { schedule: Schedule::Simple, label: "simple", aliases: &[] },
    ScheduleNames {
        schedule: Schedule::AlignYourSteps,
        label: "ays",
        aliases: &["alignyoursteps", "alignyourstepssd15"],
    },
    ScheduleNames { schedule: Schedule::Lu, label: "lu", aliases: &[] },
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
                || names.class.is_some_and(|class| plain == normalised(class))
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

    /// The class in diffusers, as `scheduler_config.json` names it, if there is one.
    pub fn class(self) -> Option<&'static str> {
        self.names().class
    }

    /// The schedules that this sampler can follow.
    pub fn schedules(self) -> &'static [Schedule] {
        self.names().schedules
    }

    /// Whether it leaves open how much fresh noise is added.
    pub fn has_eta(self) -> bool {
        matches!(self, Self::Ddim | Self::Tcd)
    }

    /// Whether fresh noise is added at each step.
    pub fn adds_noise(self) -> bool {
        matches!(
            self,
            Self::Ddpm
                | Self::EulerAncestral
                | Self::Dpm2Ancestral
                | Self::DpmPp2SAncestral
                | Self::DpmPpSde
                | Self::DpmPp2MSde
                | Self::DpmPp3MSde
                | Self::Lcm
                | Self::Tcd
        )
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
    /// `Request` for an unknown name, or if the sampler's name says another schedule than the
    /// schedule's.
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
            ("DPM++ 2S", SamplerKind::DpmPp2S),
            ("DPMSolverSinglestepScheduler", SamplerKind::DpmPp2S),
            ("DPM++ 2S a", SamplerKind::DpmPp2SAncestral),
            ("dpm++2s_a", SamplerKind::DpmPp2SAncestral),
            ("dpmpp_2s_ancestral", SamplerKind::DpmPp2SAncestral),
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
        let known =
            "`normal`, `karras`, `exponential`, `beta`, `sgm_uniform`, `trailing`, `simple`, `ays`, `lu`";
        assert_eq!(message, format!("unknown schedule `cosine`; known are {known}"));
    }
}
