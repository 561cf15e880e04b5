//! In which numbers a network computes: one precision for its products, one for its 3×3 windows.
//!
//! | name | linear layers, 1×1 convolutions, attention, upsampling | 3×3 convolutions | made for |
//! |---|---|---|---|
//! | `f32` | f32 | f32 | the reference |
//! | `bf16` | bf16 | bf16 | tile units |
//! | `mixed` | bf16 | f32 | CPUs that multiply bf16 twice as fast as f32 |
//! | `bf16x3` | bf16x3 | bf16x3 | results of f32 from tile units |
//!
//! A 3×3 convolution in f32 needs a quarter of its multiplications (Winograd's minimal filtering,
//! [`conv2d`](aquatint_kernels::conv2d)); in bf16, whose few digits do not survive the transforms,
//! it needs all. So where bf16 is only twice as fast, f32 wins on windows. Two images of 320
//! channels at 64×64, one core of an AMD EPYC (Zen 4), in one run: 57 ms in f32, 71 ms in bf16; a
//! step of Stable Diffusion 1.5 on two: 4.0 s mixed, 4.5 s in bf16.

use std::fmt;

use aquatint_kernels::{Bf16Gain, Isa, Precision};

/// The precision of each kind of product.
///
/// Only the combinations of [`Precisions::ALL`] can be made: each has a name, which images store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Precisions {
    products: Precision,
    windows: Precision,
}

impl Precisions {
    /// Products in bf16, windows in f32.
    pub const MIXED: Self = Self { products: Precision::Bf16, windows: Precision::F32 };

    /// Those that have a name, the most exact first.
    pub const ALL: [Self; 4] =
        [Self::all(Precision::F32), Self::all(Precision::Bf16x3), Self::MIXED, Self::all(Precision::Bf16)];

    /// The same for everything.
    pub const fn all(precision: Precision) -> Self {
        Self { products: precision, windows: precision }
    }

    /// Of linear layers, 1×1 convolutions, attention, and convolutions of enlarged images.
    pub fn products(self) -> Precision {
        self.products
    }

    /// Of other convolutions with a 3×3 window.
    pub fn windows(self) -> Precision {
        self.windows
    }

    /// The fastest whose pictures look like those of f32.
    ///
    /// A rule and no measurement, since a picture must not depend on what else a machine was doing.
    pub fn auto(isa: Isa) -> Self {
        match isa.bf16_gain() {
            Bf16Gain::None => Self::all(Precision::F32),
            Bf16Gain::Twice => Self::MIXED,
            Bf16Gain::Tiles => Self::all(Precision::Bf16),
        }
    }

    /// The precision of a text encoder in front of such a network. It runs once, and its errors
    /// would be in every step: f32, or on a tile unit what is nearly f32 and faster.
    pub fn for_text(self, isa: Isa) -> Precision {
        match (self.products, isa.bf16_gain()) {
            (Precision::Bf16 | Precision::Bf16x3, Bf16Gain::Tiles) => Precision::Bf16x3,
            _ => Precision::F32,
        }
    }

    /// Its name, as users choose it and images store it.
    pub fn name(self) -> &'static str {
        match self == Self::MIXED {
            true => "mixed",
            false => self.products.name(),
        }
    }

    /// Those of this name, if there are any.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precisions| precisions.name() == name)
    }
}

impl From<Precision> for Precisions {
    fn from(precision: Precision) -> Self {
        Self::all(precision)
    }
}

impl fmt::Display for Precisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for precisions in Precisions::ALL {
            assert_eq!(Precisions::named(&precisions.to_string()), Some(precisions));
        }
        assert_eq!(Precisions::named("fp8"), None);
    }

    #[test]
    fn a_text_encoder_rounds_nothing_that_f32_would_not() {
        for isa in Isa::all() {
            assert_eq!(Precisions::default().for_text(isa), Precision::F32);
            let tiles = isa.bf16_gain() == Bf16Gain::Tiles;
            let expected = if tiles { Precision::Bf16x3 } else { Precision::F32 };
            assert_eq!(Precisions::auto(isa).for_text(isa), expected);
        }
    }
}
