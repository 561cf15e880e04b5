//! Which instructions this CPU has, decided at run time.
//!
//! An [`Isa`] is an opaque value; holding one proves that the CPU can run it, because every way to
//! get one asks the CPU first. Kernels take it as their first argument and hand their inner loop to
//! [`Isa::run`]:
//!
//! | name | vectors | products of bf16 | tier |
//! |---|---|---|---|
//! | `portable` | 8 × f32 through the crate `wide`, compiled for the baseline of the target | in f32 | any CPU |
//! | `avx2` | 8 × f32, 16 registers, fused multiply-add | in f32 | x86-64 since 2013 |
//! | `avx512` | 16 × f32, 32 registers, fused multiply-add | in f32 | x86-64 servers, Zen 4 and newer |
//! | `avx512_bf16` | the same | 16 sums of two products in an instruction | Zen 4, Cooper Lake and newer |
//! | `amx` | the same | 256 sums of 32 products in an instruction | Intel servers since 2023 (Linux only) |
//!
//! `avx512`, `avx512_bf16` and `amx` differ only where [`Precision`] says bf16. `cpu/tile` has what
//! they then do.

use std::fmt;

use crate::Precision;
use crate::cpu::simd::{Op, Simd, portable::Portable};
#[cfg(target_arch = "x86_64")]
use crate::cpu::simd::{avx2::Avx2, avx512::Avx512};
pub use crate::cpu::tile::Bf16Gain;
use crate::cpu::tile::{MatmulUnit, UnitOp, software::Software};
#[cfg(target_arch = "x86_64")]
use crate::cpu::tile::{amx::Amx, avx512::Avx512Bf16};

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "AQUATINT_ISA";

/// An instruction set that this CPU has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa {
    vectors: VectorUnit,
    bf16: Bf16Unit,
}

/// Who computes with vectors of f32.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VectorUnit {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Who multiplies bf16.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bf16Unit {
    Software(Software),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512Bf16),
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
}

/// All names, from the slowest to the fastest.
const NAMES: [&str; 5] = ["portable", "avx2", "avx512", "avx512_bf16", "amx"];

/// Why no instruction set of that name can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// There is no instruction set of this name.
    #[error("no instruction set is called `{0}`; the names are portable, avx2, avx512, avx512_bf16 and amx")]
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
    /// The instruction sets that this CPU has and that differ in f32, from the slowest to the
    /// fastest.
    pub fn available() -> Vec<Isa> {
        let software = |vectors| Isa { vectors, bf16: Bf16Unit::Software(Software) };
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "nothing to add"))]
        let mut all = vec![software(VectorUnit::Portable(Portable))];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(|isa| software(VectorUnit::Avx2(isa))));
            all.extend(Avx512::detect().map(|isa| software(VectorUnit::Avx512(isa))));
        }
        all
    }

    /// All instruction sets that this CPU has, from the slowest to the fastest: also those that are
    /// only faster with bf16.
    pub fn all() -> Vec<Isa> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "nothing to add"))]
        let mut all = Self::available();
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = Avx512::detect() {
            let with = |bf16| Isa { vectors: VectorUnit::Avx512(avx512), bf16 };
            all.extend(Avx512Bf16::detect().map(|unit| with(Bf16Unit::Avx512(unit))));
            all.extend(Amx::detect().map(|unit| with(Bf16Unit::Amx(unit))));
        }
        all
    }

    /// All of them and, if this CPU has no AMX, one on which AMX is emulated.
    #[cfg(test)]
    pub(crate) fn all_and_emulated() -> Vec<Isa> {
        #[cfg_attr(
            not(all(target_arch = "x86_64", target_os = "linux")),
            expect(unused_mut, reason = "nothing to add")
        )]
        let mut all = Self::all();
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if Amx::detect().is_none() {
            let bf16 = Bf16Unit::Amx(Amx::real_or_emulated());
            all.extend(all.last().map(|best| Isa { bf16, ..*best }));
        }
        all
    }

    /// The fastest instruction set that this CPU has.
    pub fn best() -> Isa {
        Self::all().pop().expect("the portable one is always there")
    }

    /// The portable tier, which every CPU has.
    pub fn portable() -> Isa {
        Isa { vectors: VectorUnit::Portable(Portable), bf16: Bf16Unit::Software(Software) }
    }

    /// How much faster products are in bf16 than in f32.
    pub fn bf16_gain(self) -> Bf16Gain {
        match self.bf16 {
            Bf16Unit::Software(_) => Bf16Gain::None,
            #[cfg(target_arch = "x86_64")]
            Bf16Unit::Avx512(unit) => unit.gain(),
            #[cfg(target_arch = "x86_64")]
            Bf16Unit::Amx(_) => Bf16Gain::Tiles,
        }
    }

    /// Whether tiles and vectors work at the same time in attention.
    pub(crate) fn can_pipeline(self) -> bool {
        match self.bf16 {
            #[cfg(target_arch = "x86_64")]
            Bf16Unit::Amx(unit) => unit.can_pipeline(),
            _ => false,
        }
    }

    /// The instruction set of this name.
    ///
    /// # Errors
    /// If there is none of that name, or this CPU does not have it.
    pub fn named(name: &str) -> Result<Isa, IsaError> {
        if !NAMES.contains(&name) {
            return Err(IsaError::Unknown(name.to_owned()));
        }
        let available = Self::all();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| IsaError::Absent {
            name: name.to_owned(),
            available: available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The instruction set that `AQUATINT_ISA` names, or the best one if the variable is not set or
    /// empty.
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
        match self.bf16 {
            Bf16Unit::Software(_) => match self.vectors {
                VectorUnit::Portable(_) => "portable",
                #[cfg(target_arch = "x86_64")]
                VectorUnit::Avx2(_) => "avx2",
                #[cfg(target_arch = "x86_64")]
                VectorUnit::Avx512(_) => "avx512",
            },
            #[cfg(target_arch = "x86_64")]
            Bf16Unit::Avx512(_) => "avx512_bf16",
            #[cfg(target_arch = "x86_64")]
            Bf16Unit::Amx(_) => "amx",
        }
    }

    /// The slowest instruction set that does the same in f32: of AMX only `avx512` remains.
    #[must_use]
    pub fn for_f32(self) -> Isa {
        Isa { bf16: Bf16Unit::Software(Software), ..self }
    }

    /// The name of what computes with products in this precision.
    pub fn name_for(self, precision: Precision) -> &'static str {
        match precision {
            Precision::F32 => self.for_f32().name(),
            Precision::Bf16 | Precision::Bf16x3 => self.name(),
        }
    }

    /// Runs `op` compiled for this instruction set.
    ///
    /// Call it inside each parallel task, not around the parallel loop: a closure that is handed to
    /// another thread is compiled without the caller's instruction set.
    #[inline]
    pub fn run<O: Op>(self, op: O) -> O::Output {
        match self.vectors {
            VectorUnit::Portable(isa) => op.eval(isa),
            #[cfg(target_arch = "x86_64")]
            VectorUnit::Avx2(isa) => isa.run(op),
            #[cfg(target_arch = "x86_64")]
            VectorUnit::Avx512(isa) => isa.run(op),
        }
    }

    /// Runs an operation with this instruction set's vectors and its unit for bf16. Tile registers
    /// are configured while it runs.
    ///
    /// A unit of its own exists beside AVX-512 only, so loops are compiled for no others; a tile
    /// unit that is emulated, in tests, beside any.
    #[inline]
    pub(crate) fn run_with_unit<O: UnitOp>(self, op: O) -> O::Output {
        match (self.vectors, self.bf16) {
            #[cfg(target_arch = "x86_64")]
            (VectorUnit::Avx512(vectors), Bf16Unit::Avx512(unit)) => vectors.run(WithUnit { op, unit }),
            #[cfg(target_arch = "x86_64")]
            (VectorUnit::Avx512(vectors), Bf16Unit::Amx(amx)) => {
                vectors.run(WithUnit { op, unit: &amx.configure() })
            }
            #[cfg(all(test, target_arch = "x86_64"))]
            (_, Bf16Unit::Amx(amx)) => self.run(WithUnit { op, unit: &amx.configure() }),
            _ => self.run(WithUnit { op, unit: Software }),
        }
    }
}

struct WithUnit<O, U> {
    op: O,
    unit: U,
}

impl<O: UnitOp, U: MatmulUnit> Op for WithUnit<O, U> {
    type Output = O::Output;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> O::Output {
        self.op.eval(s, self.unit)
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
        for isa in Isa::all() {
            assert_eq!(Isa::named(isa.name()), Ok(isa));
            assert!(Isa::available().contains(&isa.for_f32()));
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
