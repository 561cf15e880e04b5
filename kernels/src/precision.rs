//! In which numbers a product is computed.
//!
//! | | operands | sums | largest relative error of a term | why |
//! |---|---|---|---|---|
//! | `F32` | f32 | f32 | 6e-8 | the reference |
//! | `Bf16` | rounded to bf16 | f32 | 8e-3 | half the memory, and units that multiply nothing else |
//! | `Bf16x3` | split in two bf16 terms | f32 | 3e-5 | nearly f32, on the same units, for three products instead of one |
//!
//! A bf16 is the upper half of an f32: the same range, 8 significant bits. Written `x = hi + lo`,
//! with `hi` the nearest bf16 of `x` and `lo` that of the rest, two of them hold 17 bits, and
//!
//! ```text
//! x·y ≈ hi·hi + hi·lo + lo·hi       what is left out, lo·lo, is below 2⁻¹⁶ of the product
//! ```
//!
//! Sums and the statistics of norms are f32 always. What only a product reads is rounded where it
//! is made: what norms and GEGLU put out, Q, K and V, the numerators of attention. What flows from
//! layer to layer, the residual stream, can be stored in f16 ([`cpu::stored`](crate::cpu::stored)):
//! a UNet's error stays that of its products; bf16 would double it.

use std::fmt;
use std::str::FromStr;

/// In which numbers a product is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in f32.
    Bf16,
    /// Operands split into two bf16 terms, three products, sums in f32.
    Bf16x3,
}

impl Precision {
    /// All, the most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16x3, Self::Bf16];

    /// Its name, as `--precision` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Bf16x3 => "bf16x3",
        }
    }

    /// The number of bf16 terms that an operand is made of; 0 if it stays f32.
    pub(crate) fn terms(self) -> usize {
        match self {
            Self::F32 => 0,
            Self::Bf16 => 1,
            Self::Bf16x3 => 2,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no precision of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no precision is called `{0}`; the names are f32, bf16 and bf16x3")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.name() == name)
            .ok_or_else(|| UnknownPrecision(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert!("fp16".parse::<Precision>().expect_err("there is none").to_string().contains("`fp16`"));
    }
}
