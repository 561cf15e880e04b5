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
    /// Pseudo numerical methods: linear multistep, optionally after Runge–Kutta steps. A1111's "PLMS".
    Pndm,
    /// Euler's method on the probability-flow ODE.
    Euler,
    /// Euler's method with fresh noise at each step.
    EulerAncestral,
    /// DPM-Solver++, second order, multistep.
    DpmPp2M,
}

/// How noise levels are spread over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// As the timesteps of `timestep_spacing` have them.
    Normal,
    /// Even in σ^(1/7): Karras et al. 2022, equation 5.
    Karras,
    /// Even in ln σ: Lu et al. 2022.
    Lu,
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
/// and the schedules that diffusers has for it.
struct Names {
    kind: SamplerKind,
    label: &'static str,
    class: &'static str,
    aliases: &'static [&'static str],
    schedules: &'static [Schedule],
}

const SAMPLERS: &[Names] = &[
    Names {
        kind: SamplerKind::Ddim,
        label: "DDIM",
        class: "DDIMScheduler",
        aliases: &[],
        schedules: &[Schedule::Normal],
    },
    Names {
        kind: SamplerKind::Pndm,
        label: "PNDM",
        class: "PNDMScheduler",
        aliases: &["plms"],
        schedules: &[Schedule::Normal],
    },
    Names {
        kind: SamplerKind::Euler,
        label: "Euler",
        class: "EulerDiscreteScheduler",
        aliases: &["keuler"],
        schedules: &[Schedule::Normal, Schedule::Karras],
    },
    Names {
        kind: SamplerKind::EulerAncestral,
        label: "Euler a",
        class: "EulerAncestralDiscreteScheduler",
        aliases: &["eulerancestral", "keulera", "keulerancestral"],
        schedules: &[Schedule::Normal],
    },
    Names {
        kind: SamplerKind::DpmPp2M,
        label: "DPM++ 2M",
        class: "DPMSolverMultistepScheduler",
        aliases: &["kdpmpp2m"],
        schedules: &[Schedule::Normal, Schedule::Karras, Schedule::Lu],
    },
];

/// One schedule: its label, and its names once normalised.
const SCHEDULES: &[(Schedule, &str, &[&str])] = &[
    (Schedule::Normal, "normal", &["normal", "default", "discrete"]),
    (Schedule::Karras, "karras", &["karras"]),
    (Schedule::Lu, "lu", &["lu"]),
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

    /// The schedules that diffusers has for this sampler.
    pub fn schedules(self) -> &'static [Schedule] {
        self.names().schedules
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
        let row = SCHEDULES.iter().find(|(_, _, names)| names.contains(&plain.as_str()));
        row.map(|&(schedule, ..)| schedule).ok_or_else(|| {
            let known = listed(SCHEDULES.iter().map(|&(_, label, _)| label));
            Error::request(format!("unknown schedule `{name}`; known are {known}"))
        })
    }

    /// The name for people: "karras".
    pub fn label(self) -> &'static str {
        let row = SCHEDULES.iter().find(|&&(schedule, ..)| schedule == self);
        row.expect("every schedule has a row in the table of names").1
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
        let Some(first) = normalised(name).strip_suffix("karras").map(str::to_owned) else {
            choice.kind = Some(SamplerKind::parse(name)?);
            return Ok(choice);
        };
        if choice.schedule.is_some_and(|s| s != Schedule::Karras) {
            let other = schedule.unwrap_or_default();
            return Err(Error::request(format!(
                "the sampler `{name}` contradicts the schedule `{other}`; give one"
            )));
        }
        choice.kind = Some(SamplerKind::parse(&first).map_err(|_| unknown_with_suffix(name))?);
        choice.schedule = Some(Schedule::Karras);
        Ok(choice)
    }
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
            ("DPM++ 2M", SamplerKind::DpmPp2M),
            ("dpm++2m", SamplerKind::DpmPp2M),
            ("dpmpp_2m", SamplerKind::DpmPp2M),
            ("dpmsolvermultistepscheduler", SamplerKind::DpmPp2M),
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
            let known = "known are `DDIM`, `PNDM`, `Euler`, `Euler a`, `DPM++ 2M`";
            assert_eq!(message, format!("unknown sampler `{name}`; {known}"));
        }
        let message = Schedule::parse("cosine").expect_err("unknown").to_string();
        assert_eq!(message, "unknown schedule `cosine`; known are `normal`, `karras`, `lu`");
    }
}
