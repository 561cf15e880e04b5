//! A tensor as a file holds it, and its numbers as the kernels take them.
//!
//! ```text
//! stored               numbers                       why
//! f32, f16, bf16       as they are, not copied       the kernels pack each of the three
//! fp8                  f16                           holds every value of both formats exactly
//! f64                  f32                           weights carry no more digits
//! ```
//!
//! The storage type says how a file keeps a number; in which arithmetic a layer computes is another
//! matter, see [`Precisions`](crate::precisions::Precisions). Everything that has to do something
//! for each element type is a [`Visitor`], so that a further type is a further arm in this file and
//! nowhere else.

use std::borrow::Cow;
use std::fmt;

use aquatint_kernels::gemm::Packable;
use half::{bf16, f16};

/// The element type of a stored tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoredType {
    /// IEEE 754 double precision.
    F64,
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// 8 bits: sign, 4 of exponent, 3 of fraction; no infinities (torch's `float8_e4m3fn`).
    F8E4M3,
    /// 8 bits: sign, 5 of exponent, 2 of fraction: the upper half of half precision.
    F8E5M2,
    /// Signed whole numbers.
    I64,
    /// See [`StoredType::I64`].
    I32,
    /// See [`StoredType::I64`].
    I16,
    /// See [`StoredType::I64`].
    I8,
    /// Bytes.
    U8,
    /// True or false, a byte each.
    Bool,
    /// A type that carries no weights here, by its name.
    Other(&'static str),
}

impl StoredType {
    /// Bytes of one element in the file; `None` for types that are not known.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::F64 | Self::I64 => Some(8),
            Self::F32 | Self::I32 => Some(4),
            Self::F16 | Self::Bf16 | Self::I16 => Some(2),
            Self::F8E4M3 | Self::F8E5M2 | Self::I8 | Self::U8 | Self::Bool => Some(1),
            Self::Other(_) => None,
        }
    }

    /// Whether its numbers can be weights.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16 | Self::F8E4M3 | Self::F8E5M2)
    }

    /// Bytes of one element when it is packed as it is; see the module's table.
    pub fn packed_size(self) -> usize {
        match self {
            Self::F64 | Self::F32 => 4,
            _ => 2,
        }
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F8E4M3 => "F8_E4M3",
            Self::F8E5M2 => "F8_E5M2",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
            Self::Other(name) => name,
        })
    }
}

/// A tensor as a file holds it.
#[derive(Clone, Copy, Debug)]
pub struct StoredTensor<'a> {
    /// Its full name in the file.
    pub name: &'a str,
    /// Its element type; not every one can be loaded.
    pub dtype: StoredType,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its numbers, little endian: row-major, or a storage in which `strides` finds them.
    pub bytes: &'a [u8],
    /// From an element to the next along each axis, in elements; `None` if the numbers are
    /// row-major. All of them lie in `bytes`.
    pub strides: Option<&'a [usize]>,
}

impl<'a> StoredTensor<'a> {
    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its numbers; `None` if their type carries no weights.
    pub fn elements(&self) -> Option<Elements<'a>> {
        let bytes = self.row_major();
        Some(match self.dtype {
            StoredType::F32 => Elements::F32(decoded(bytes, f32::from_le_bytes)),
            StoredType::F16 => Elements::F16(decoded(bytes, f16::from_le_bytes)),
            StoredType::Bf16 => Elements::Bf16(decoded(bytes, bf16::from_le_bytes)),
            StoredType::F64 => {
                let numbers = bytes.as_chunks().0.iter().map(|&x| f64::from_le_bytes(x) as f32);
                Elements::F32(numbers.collect())
            }
            StoredType::F8E4M3 => Elements::F16(bytes.iter().map(|&x| e4m3(x)).collect()),
            StoredType::F8E5M2 => Elements::F16(bytes.iter().map(|&x| e5m2(x)).collect()),
            _ => return None,
        })
    }

    /// Its numbers as f32; `None` if their type carries no weights.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        self.elements().map(Elements::into_f32)
    }

    /// The rows `range` of the first axis.
    pub(super) fn rows(&self, range: std::ops::Range<usize>) -> Elements<'a> {
        let row = self.len() / self.shape[0].max(1);
        match self.elements() {
            Some(Elements::F32(x)) => Elements::F32(part(x, range.start * row..range.end * row)),
            Some(Elements::F16(x)) => Elements::F16(part(x, range.start * row..range.end * row)),
            Some(Elements::Bf16(x)) => Elements::Bf16(part(x, range.start * row..range.end * row)),
            None => Elements::F32(Cow::Borrowed(&[])),
        }
    }

    /// The bytes of its numbers one after the other.
    fn row_major(&self) -> Cow<'a, [u8]> {
        let (Some(strides), Some(size)) = (self.strides, self.dtype.size()) else {
            return Cow::Borrowed(self.bytes);
        };
        let mut bytes = Vec::with_capacity(self.len() * size);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..self.len() {
            let at: usize = index.iter().zip(strides).map(|(i, stride)| i * stride).sum();
            bytes.extend_from_slice(&self.bytes[at * size..(at + 1) * size]);
            for (i, &length) in index.iter_mut().zip(self.shape).rev() {
                *i += 1;
                if *i < length {
                    break;
                }
                *i = 0;
            }
        }
        Cow::Owned(bytes)
    }
}

fn part<T: Clone>(numbers: Cow<'_, [T]>, range: std::ops::Range<usize>) -> Cow<'_, [T]> {
    match numbers {
        Cow::Borrowed(numbers) => Cow::Borrowed(&numbers[range]),
        Cow::Owned(numbers) => Cow::Owned(numbers[range].to_vec()),
    }
}

/// Little-endian bytes as numbers: in place if they are aligned and this machine is little-endian,
/// else copied.
fn decoded<T: bytemuck::Pod, const SIZE: usize>(
    bytes: Cow<'_, [u8]>,
    decode: fn([u8; SIZE]) -> T,
) -> Cow<'_, [T]> {
    if let Cow::Borrowed(bytes) = bytes
        && cfg!(target_endian = "little")
        && let Ok(numbers) = bytemuck::try_cast_slice(bytes)
    {
        return Cow::Borrowed(numbers);
    }
    bytes.as_chunks().0.iter().map(|&chunk| decode(chunk)).collect()
}

/// `(−1)^s · 2^(e−7) · 1.f`, for e = 0 `2^−6 · 0.f`; all ones are NaN. Micikevicius et al., *FP8
/// Formats for Deep Learning* (2022), table 1.
fn e4m3(x: u8) -> f16 {
    let (sign, exponent, fraction) = (u16::from(x & 0x80) << 8, u16::from(x >> 3 & 15), u16::from(x & 7));
    match (exponent, fraction) {
        (15, 7) => f16::from_bits(sign | 0x7e00),
        (0, _) => f16::from_bits(sign | f16::from_f32(f32::from(fraction) / 512.0).to_bits()),
        _ => f16::from_bits(sign | (exponent + 8) << 10 | fraction << 7),
    }
}

/// The upper half of an f16.
fn e5m2(x: u8) -> f16 {
    f16::from_bits(u16::from(x) << 8)
}

/// The numbers of a tensor, row-major, borrowed from the file where their type and alignment allow.
pub enum Elements<'a> {
    /// Single precision.
    F32(Cow<'a, [f32]>),
    /// Half precision.
    F16(Cow<'a, [f16]>),
    /// The upper halves of single precision.
    Bf16(Cow<'a, [bf16]>),
}

/// What is done with the numbers of a tensor, in whichever type they are.
pub trait Visitor {
    /// What comes of it.
    type Output;
    /// Does it.
    fn visit<T: Packable>(self, numbers: &[T]) -> Self::Output;
}

impl<'a> Elements<'a> {
    /// Hands the numbers to `visitor`.
    pub fn visit<V: Visitor>(&self, visitor: V) -> V::Output {
        match self {
            Self::F32(numbers) => visitor.visit(numbers),
            Self::F16(numbers) => visitor.visit(numbers),
            Self::Bf16(numbers) => visitor.visit(numbers),
        }
    }

    /// As f32; exact.
    pub fn into_f32(self) -> Vec<f32> {
        struct ToF32;
        impl Visitor for ToF32 {
            type Output = Vec<f32>;
            fn visit<T: Packable>(self, numbers: &[T]) -> Vec<f32> {
                numbers.iter().map(|x| x.to_f32()).collect()
            }
        }
        match self {
            Self::F32(numbers) => numbers.into_owned(),
            other => other.visit(ToF32),
        }
    }

    /// Copied, so that they outlive the file.
    pub fn into_owned(self) -> Elements<'static> {
        match self {
            Self::F32(x) => Elements::F32(Cow::Owned(x.into_owned())),
            Self::F16(x) => Elements::F16(Cow::Owned(x.into_owned())),
            Self::Bf16(x) => Elements::Bf16(Cow::Owned(x.into_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of table 1 of the FP8 paper.
    #[test]
    fn eight_bits_have_their_published_values() {
        for (bits, value) in [(0x00, 0.0), (0x01, 0.001953125), (0x07, 0.013671875), (0x08, 0.015625)] {
            assert_eq!(e4m3(bits).to_f32(), value);
            assert_eq!(e4m3(bits | 0x80).to_f32(), -value);
        }
        assert_eq!((e4m3(0x38).to_f32(), e4m3(0x7e).to_f32()), (1.0, 448.0));
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        assert_eq!((e5m2(0x3c).to_f32(), e5m2(0x7b).to_f32()), (1.0, 57344.0));
        assert!(e5m2(0x7c).is_infinite() && e5m2(0x01).to_f32() == 2f32.powi(-16));
        // Every value of a format is on its grid, and grows with its bits.
        for format in [e4m3, e5m2] {
            let positive: Vec<f32> = (0..0x7c).map(|bits| format(bits).to_f32()).collect();
            assert!(positive.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn strides_are_followed() {
        let numbers: Vec<u8> = (0..6u8).flat_map(|x| f32::from(x).to_le_bytes()).collect();
        let transposed = StoredTensor {
            name: "w",
            dtype: StoredType::F32,
            shape: &[3, 2],
            bytes: &numbers,
            strides: Some(&[1, 3]),
        };
        assert_eq!(transposed.to_f32().expect("floats"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let rows = transposed.rows(1..3).into_f32();
        assert_eq!(rows, [1.0, 4.0, 2.0, 5.0]);
    }
}
