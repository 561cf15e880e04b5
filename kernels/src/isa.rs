//! Which instructions this CPU has, decided at run time.
//!
//! An [`Isa`] is an opaque value; holding one proves that the CPU can run it, because every way to get one asks the
//! CPU first. Kernels take it as their first argument and hand their inner loop to [`Isa::run`]:
//!
//! | name | vectors | tier |
//! |---|---|---|
//! | `portable` | 8 × f32 through the crate `wide`, compiled for the baseline of the target | any CPU |
//! | `avx2` | 8 × f32, 16 registers, fused multiply-add | x86-64 since 2013 |
//! | `avx512` | 16 × f32, 32 registers, fused multiply-add | x86-64 servers, Zen 4 and newer |

use std::fmt;

use crate::simd::{Op, portable::Portable};
#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2::Avx2, avx512::Avx512};

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "AQUATINT_ISA";

/// An instruction set that this CPU has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// All names, from the slowest to the fastest.
const NAMES: [&str; 3] = ["portable", "avx2", "avx512"];

/// Why no instruction set of that name can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// There is no instruction set of this name.
    #[error("no instruction set is called `{0}`; the names are portable, avx2 and avx512")]
    Unknown(String),
    /// The CPU does not have it.
    #[error("this CPU does not have `{name}`; it has {available}")]
    Absent {
        /// The name that was asked for.
        name: String,
        /// The names that would work, separated by commas.
        available: String,
    },
}

impl Isa {
    /// The instruction sets that this CPU has, from the slowest to the fastest.
    pub fn available() -> Vec<Isa> {
        let mut all = vec![Isa(Kind::Portable(Portable))];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(|isa| Isa(Kind::Avx2(isa))));
            all.extend(Avx512::detect().map(|isa| Isa(Kind::Avx512(isa))));
        }
        all
    }

    /// The fastest instruction set that this CPU has.
    pub fn best() -> Isa {
        Self::available().pop().expect("the portable one is always there")
    }

    /// The portable tier, which every CPU has.
    pub fn portable() -> Isa {
        Isa(Kind::Portable(Portable))
    }

    /// The instruction set of this name.
    ///
    /// # Errors
    /// If there is none of that name, or this CPU does not have it.
    pub fn named(name: &str) -> Result<Isa, IsaError> {
        if !NAMES.contains(&name) {
            return Err(IsaError::Unknown(name.to_owned()));
        }
        let available = Self::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| IsaError::Absent {
            name: name.to_owned(),
            available: available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The instruction set that `AQUATINT_ISA` names, or the best one if the variable is not set or empty.
    ///
    /// # Errors
    /// If the variable names an instruction set that does not exist or that this CPU does not have.
    pub fn from_env() -> Result<Isa, IsaError> {
        match std::env::var(ISA_VARIABLE) {
            Ok(name) if !name.is_empty() => Self::named(&name),
            Ok(_) | Err(std::env::VarError::NotPresent) => Ok(Self::best()),
            Err(std::env::VarError::NotUnicode(name)) => {
                Err(IsaError::Unknown(name.to_string_lossy().into_owned()))
            }
        }
    }

    /// Its name, as `AQUATINT_ISA` takes it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
        }
    }

    /// Runs `op` compiled for this instruction set.
    ///
    /// Call it inside each parallel task, not around the parallel loop: a closure that is handed to another thread
    /// is compiled without the caller's instruction set.
    #[inline]
    pub fn run<O: Op>(self, op: O) -> O::Output {
        match self.0 {
            Kind::Portable(isa) => op.eval(isa),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(isa) => isa.run(op),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(isa) => isa.run(op),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Isa({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_instruction_set_is_found_by_its_name() {
        for isa in Isa::available() {
            assert_eq!(Isa::named(isa.name()), Ok(isa));
        }
        assert_eq!(Isa::available()[0], Isa::portable());
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let error = Isa::named("avx1024").expect_err("there is no such thing").to_string();
        for name in NAMES.iter().chain(&["avx1024"]) {
            assert!(error.contains(name), "{error}");
        }
    }
}
