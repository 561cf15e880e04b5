//! `--precision`.

use aquatint_kernels::{self as kernels, Isa};
use aquatint_model::Precisions;
use clap::ValueEnum;

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Precision {
    /// The fastest that keeps the picture: bf16 with AMX, mixed with AMD's AVX-512 BF16, else f32.
    Auto,
    /// Single precision: the picture that diffusers makes in float32.
    F32,
    /// Operands rounded to 8 bits, sums in f32: nearly the same picture, and fast on CPUs with AMX
    /// or, less so, AVX-512 BF16.
    Bf16,
    /// As bf16, but for 3×3 convolutions, which f32 does with a quarter of the multiplications.
    Mixed,
    /// Operands split in two bf16 parts, sums in f32: the same picture within two levels, three
    /// times the products.
    Bf16x3,
}

impl Precision {
    /// What it means on an instruction set.
    pub(crate) fn on(self, isa: Isa) -> Precisions {
        match self {
            Self::Auto => Precisions::auto(isa),
            Self::F32 => kernels::Precision::F32.into(),
            Self::Bf16 => kernels::Precision::Bf16.into(),
            Self::Mixed => Precisions::MIXED,
            Self::Bf16x3 => kernels::Precision::Bf16x3.into(),
        }
    }
}
