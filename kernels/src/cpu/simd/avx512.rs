//! AVX-512: sixteen lanes, thirty-two registers. Of its many parts the foundation (F) is used and,
//! for one instruction, DQ: every CPU since Skylake that has the one has the other.

use std::arch::x86_64::*;

use aquatint_tensor::f16;

use super::{Op, Simd, math};

/// Proof that the CPU has AVX-512F and DQ. The private field keeps [`detect`](Self::detect) the
/// only way to get one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Avx512(());

impl Avx512 {
    /// A proof, if this CPU has the instructions and the operating system saves the registers.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq")).then_some(Self(()))
    }

    /// Runs `op` in a function that is compiled for AVX-512F and DQ.
    #[inline]
    pub(crate) fn run<O: Op>(self, op: O) -> O::Output {
        #[target_feature(enable = "avx512f,avx512dq")]
        fn compiled_for_avx512<O: Op>(isa: Avx512, op: O) -> O::Output {
            op.eval(isa)
        }
        // SAFETY: `self` exists only if `detect` found both features.
        unsafe { compiled_for_avx512(self, op) }
    }
}

/// One intrinsic that needs AVX-512F or DQ and nothing else.
macro_rules! avx512 {
    ($call:expr) => {{
        #[allow(
            clippy::multiple_unsafe_ops_per_block,
            reason = "an intrinsic and the pointer it reads are one idea"
        )]
        // SAFETY: an `Avx512` proves the features; an intrinsic that takes a pointer gets one to
        // sixteen numbers that are borrowed for the call.
        unsafe {
            $call
        }
    }};
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        avx512!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m512 {
        let x: &[f32; 16] = x.first_chunk().expect("a vector's worth of numbers");
        avx512!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32]) {
        let out: &mut [f32; 16] = out.first_chunk_mut().expect("room for a vector");
        avx512!(_mm512_storeu_ps(out.as_mut_ptr(), v));
    }
    #[inline(always)]
    fn stream(self, v: __m512, out: &mut [f32]) {
        let line: &mut [f32; 16] = out.first_chunk_mut().expect("room for a vector");
        if line.as_ptr().addr().is_multiple_of(64) {
            avx512!(_mm512_stream_ps(line.as_mut_ptr(), v));
        } else {
            self.store(v, line);
        }
    }
    #[inline(always)]
    fn drain(self) {
        avx512!(_mm_sfence());
    }
    #[inline(always)]
    fn prefetch(self, x: &[f32]) {
        for line in x.chunks(16) {
            avx512!(_mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()));
        }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        avx512!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        avx512!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        let less = avx512!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b));
        avx512!(_mm512_mask_blend_ps(less, y, x))
    }
    #[inline(always)]
    fn ldexp(self, x: __m512, n: __m512) -> __m512 {
        avx512!(_mm512_scalef_ps(x, n))
    }
    #[inline(always)]
    fn widen_f16(self, x: &[f16], out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "the slices have different lengths");
        let ((x, x_rest), (out, out_rest)) = (x.as_chunks::<16>(), out.as_chunks_mut::<16>());
        for (x, out) in x.iter().zip(out) {
            let x = avx512!(_mm256_loadu_si256(x.as_ptr().cast()));
            self.store(avx512!(_mm512_cvtph_ps(x)), out);
        }
        for (x, out) in x_rest.iter().zip(out_rest) {
            *out = x.to_f32();
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> __m512 {
        let x: &[f16; 16] = x.first_chunk().expect("a vector's worth of numbers");
        avx512!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_f16(self, v: __m512, out: &mut [f16]) {
        let out: &mut [f16; 16] = out.first_chunk_mut().expect("room for a vector");
        let halves = avx512!(_mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v));
        avx512!(_mm256_storeu_si256(out.as_mut_ptr().cast(), halves));
    }
    #[inline(always)]
    fn stream_f16(self, v: __m512, out: &mut [f16]) {
        let half_line: &mut [f16; 16] = out.first_chunk_mut().expect("room for a vector");
        if half_line.as_ptr().addr().is_multiple_of(32) {
            let halves = avx512!(_mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v));
            avx512!(_mm256_stream_si256(half_line.as_mut_ptr().cast(), halves));
        } else {
            self.store_f16(v, half_line);
        }
    }
    #[inline(always)]
    fn prefetch_f16(self, x: &[f16]) {
        for line in x.chunks(32) {
            avx512!(_mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()));
        }
    }
    #[inline(always)]
    fn exp2_with<const N: usize>(self, x: __m512, p: [f32; N]) -> __m512 {
        // One instruction takes x − ⌊x⌋; another multiplies by 2^⌊x⌋, and knows by itself what to
        // do with an x far below.
        let fraction = avx512!(_mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x));
        avx512!(_mm512_scalef_ps(math::polynomial(self, p, fraction), x))
    }
    #[inline(always)]
    fn interleave(self, a: __m512, b: __m512) -> [__m512; 2] {
        // Bit 4 of an index chooses between a and b.
        let lower = avx512!(_mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
        let upper = avx512!(_mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
        [avx512!(_mm512_permutex2var_ps(a, lower, b)), avx512!(_mm512_permutex2var_ps(a, upper, b))]
    }
}
