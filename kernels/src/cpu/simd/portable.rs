//! The tier that every CPU has: eight lanes of the crate `wide`.
//!
//! `wide` chooses its instructions when the program is built, so this is SSE2 on an x86-64 baseline
//! binary and NEON on aarch64. Eight lanes are two registers on both: SSE2 has 16, room for eight
//! vectors, NEON 32. The two treat NaN differently in `min` and `max`; here they don't.

use wide::f32x8;

use super::Simd;

/// Proof that needs no asking: every CPU has this tier.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Portable;

impl Simd for Portable {
    type V = f32x8;
    const LANES: usize = 8;
    const REGISTERS: usize = if cfg!(target_arch = "aarch64") { 16 } else { 8 };

    #[inline(always)]
    fn splat(self, x: f32) -> f32x8 {
        f32x8::splat(x)
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> f32x8 {
        f32x8::new(*x.first_chunk().expect("a vector's worth of numbers"))
    }
    #[inline(always)]
    fn store(self, v: f32x8, out: &mut [f32]) {
        *out.first_chunk_mut().expect("room for a vector") = v.to_array();
    }
    #[inline(always)]
    fn add(self, a: f32x8, b: f32x8) -> f32x8 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x8, b: f32x8) -> f32x8 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x8, b: f32x8) -> f32x8 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32x8, b: f32x8) -> f32x8 {
        a / b
    }
    #[inline(always)]
    fn mul_add(self, a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn min(self, a: f32x8, b: f32x8) -> f32x8 {
        if cfg!(target_arch = "x86_64") { a.fast_min(b) } else { a.simd_lt(b).bitselect(a, b) }
    }
    #[inline(always)]
    fn max(self, a: f32x8, b: f32x8) -> f32x8 {
        if cfg!(target_arch = "x86_64") { a.fast_max(b) } else { a.simd_gt(b).bitselect(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: f32x8) -> f32x8 {
        a.abs()
    }
    #[inline(always)]
    fn select_less(self, a: f32x8, b: f32x8, x: f32x8, y: f32x8) -> f32x8 {
        a.simd_lt(b).bitselect(x, y)
    }
    #[inline(always)]
    fn ldexp(self, x: f32x8, n: f32x8) -> f32x8 {
        // 2ⁿ has n + 127 in the eight exponent bits of an f32 and nothing else. Where n is NaN, so
        // is x: then any integer will do.
        x * f32x8::new(
            n.fast_round_int().to_array().map(|n| f32::from_bits((n.wrapping_add(127) << 23) as u32)),
        )
    }
}
