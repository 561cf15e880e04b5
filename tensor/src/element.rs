//! What a tensor may hold: 32-bit floats, and the two 16-bit formats in which weights are
//! published.
//!
//! | type | sign, exponent, fraction | largest | spacing at 1 |
//! |---|---|---|---|
//! | `f32` | 1, 8, 23 | 3.4e38 | 1.2e-7 |
//! | `f16` | 1, 5, 10 | 65504 | 9.8e-4 |
//! | `bf16` | 1, 8, 7 | 3.4e38 | 7.8e-3 |
//!
//! `bf16` is the upper half of an `f32`: the same range, two to three decimal digits.

use std::fmt;

use crate::recycle;

pub use half::{bf16, f16};

/// A number that a tensor can hold. Implemented for [`f32`], [`struct@f16`] and [`bf16`] only.
pub trait Element: Copy + Default + PartialEq + fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// The name of this type at run time.
    const DTYPE: DType;
    /// The same value as `f32`; exact for all three types.
    fn to_f32(self) -> f32;
    /// The nearest value of this type (ties to even).
    fn from_f32(x: f32) -> Self;
    /// Takes the buffer of a tensor that is dropped; see [`Recycling`](crate::Recycling).
    #[doc(hidden)]
    fn give_back(buffer: Vec<Self>) {
        drop(buffer);
    }
}

/// The element type of stored weights.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper 16 bits of an `f32`.
    Bf16,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::Bf16 => 2,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
        })
    }
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
    fn give_back(buffer: Vec<f32>) {
        recycle::give(buffer);
    }
    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(x: f32) -> Self {
        x
    }
}

impl Element for f16 {
    const DTYPE: DType = DType::F16;
    fn give_back(buffer: Vec<f16>) {
        recycle::give(buffer);
    }
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
    fn from_f32(x: f32) -> Self {
        f16::from_f32(x)
    }
}

impl Element for bf16 {
    const DTYPE: DType = DType::Bf16;
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
    fn from_f32(x: f32) -> Self {
        bf16::from_f32(x)
    }
}
