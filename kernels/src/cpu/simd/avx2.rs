//! AVX2 with fused multiply-add and conversions of f16, which every CPU with AVX2 has: eight lanes,
//! sixteen registers.

use std::arch::x86_64::*;

use aquatint_tensor::f16;

use super::{Op, Simd, math};

/// Proof that the CPU has AVX2, FMA and F16C. The private field keeps [`detect`](Self::detect) the
/// only way to get one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// A proof, if this CPU has the instructions and the operating system saves the registers.
    pub fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        all.then_some(Self(()))
    }

    /// Runs `op` in a function that is compiled for AVX2, FMA and F16C.
    #[inline]
    pub(crate) fn run<O: Op>(self, op: O) -> O::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled_for_avx2<O: Op>(isa: Avx2, op: O) -> O::Output {
            op.eval(isa)
        }
        // SAFETY: `self` exists only if `detect` found all three features.
        unsafe { compiled_for_avx2(self, op) }
    }
}

/// One intrinsic that needs AVX2, FMA or F16C and nothing else.
macro_rules! avx2 {
    ($call:expr) => {{
        #[allow(
            clippy::multiple_unsafe_ops_per_block,
            reason = "an intrinsic and the pointer it reads are one idea"
        )]
        // SAFETY: an `Avx2` proves the features; an intrinsic that takes a pointer gets one to
        // eight numbers that are borrowed for the call.
        unsafe {
            $call
        }
    }};
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        avx2!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m256 {
        let x: &[f32; 8] = x.first_chunk().expect("a vector's worth of numbers");
        avx2!(_mm256_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m256, out: &mut [f32]) {
        let out: &mut [f32; 8] = out.first_chunk_mut().expect("room for a vector");
        avx2!(_mm256_storeu_ps(out.as_mut_ptr(), v));
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        avx2!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        let sign = self.splat(-0.0);
        avx2!(_mm256_andnot_ps(sign, a))
    }
    #[inline(always)]
    fn select_less(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        let less = avx2!(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
        avx2!(_mm256_blendv_ps(y, x, less))
    }
    #[inline(always)]
    fn ldexp(self, x: __m256, n: __m256) -> __m256 {
        // 2ⁿ has n + 127 in the eight exponent bits of an f32 and nothing else.
        let n = avx2!(_mm256_cvtps_epi32(n));
        let exponent = avx2!(_mm256_add_epi32(n, _mm256_set1_epi32(127)));
        let power = avx2!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)));
        self.mul(x, power)
    }
    #[inline(always)]
    fn widen_f16(self, x: &[f16], out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "the slices have different lengths");
        let ((x, x_rest), (out, out_rest)) = (x.as_chunks::<8>(), out.as_chunks_mut::<8>());
        for (x, out) in x.iter().zip(out) {
            let x = avx2!(_mm_loadu_si128(x.as_ptr().cast()));
            self.store(avx2!(_mm256_cvtph_ps(x)), out);
        }
        for (x, out) in x_rest.iter().zip(out_rest) {
            *out = x.to_f32();
        }
    }
    #[inline(always)]
    fn prefetch(self, x: &[f32]) {
        for line in x.chunks(16) {
            avx2!(_mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()));
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> __m256 {
        let x: &[f16; 8] = x.first_chunk().expect("a vector's worth of numbers");
        avx2!(_mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_f16(self, v: __m256, out: &mut [f16]) {
        let out: &mut [f16; 8] = out.first_chunk_mut().expect("room for a vector");
        let halves = avx2!(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v));
        avx2!(_mm_storeu_si128(out.as_mut_ptr().cast(), halves));
    }
    #[inline(always)]
    fn prefetch_f16(self, x: &[f16]) {
        for line in x.chunks(32) {
            avx2!(_mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()));
        }
    }
    #[inline(always)]
    fn exp2_with<const N: usize>(self, x: __m256, p: [f32; N]) -> __m256 {
        // In `max` the second operand wins over NaN.
        let x = self.max(self.splat(-126.0), x);
        let n = avx2!(_mm256_floor_ps(x));
        let power = math::polynomial_in_pairs(self, p, self.sub(x, n));
        // A number from 1 to 2 is multiplied by 2ⁿ if n is added to its exponent.
        let n = avx2!(_mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n)));
        avx2!(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(power), n)))
    }
}
