//! In which type the results of layers stand in memory between them: f32, or f16 in half the bytes.
//!
//! A product in bf16 takes hardly longer than its output takes to memory and back, so in that
//! precision what flows from layer to layer (the residual stream, skips, inputs of blocks) is
//! stored in f16. Arithmetic is f32 always: numbers are widened as they are loaded and rounded to
//! the nearest f16 as they are stored, by one instruction for a vector. An f16 has 11 bits, eight
//! times as exact as the bf16 that the next product will make of it.
//!
//! Beyond 65504 there is no f16: such a number becomes infinite. Norms, products and sums keep what
//! is not finite, so it reaches the output of the network, where it is seen.

use std::borrow::Cow;

use aquatint_tensor::{Recycled, View, f16};

use crate::Isa;
use crate::cpu::simd::{MAX_LANES, Op, Simd};

/// A type of numbers in memory.
pub trait Stored: Recycled {
    /// A vector of the first numbers of `x`.
    fn load<S: Simd>(s: S, x: &[Self]) -> S::V;
    /// Writes a vector.
    fn store<S: Simd>(s: S, v: S::V, out: &mut [Self]);
    /// The same, past the caches where that can be.
    fn stream<S: Simd>(s: S, v: S::V, out: &mut [Self]);
    /// Has the first numbers of `x`, as many as a panel is wide, fetched into the L2 cache.
    fn prefetch<S: Simd>(s: S, x: &[Self]);
    /// All numbers as f32: `x` itself, or in `buffer`, which is as long.
    fn widen<'a, S: Simd>(s: S, x: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32];
    /// `out[i] = x[i]`, rounded to the nearest.
    fn narrow(x: &[f32], out: &mut [Self]);
    /// The view, with its type known at run time.
    fn view<const N: usize>(x: View<'_, Self, N>) -> StoredView<'_, N>;
    /// The same numbers in f32, for what takes no others.
    fn widen_all(isa: Isa, x: Cow<'_, [Self]>) -> Cow<'_, [f32]>;

    /// The first numbers of `x`, `fill` in the lanes behind its end.
    #[inline(always)]
    fn load_or<S: Simd>(s: S, x: &[Self], fill: f32) -> S::V {
        let mut lanes = [fill; MAX_LANES];
        let n = x.len().min(S::LANES);
        let mut buffer = [0.0; MAX_LANES];
        lanes[..n].copy_from_slice(Self::widen(s, &x[..n], &mut buffer[..n]));
        s.load(&lanes)
    }

    /// `f(…f(f(start, x[..LANES]), x[LANES..2·LANES])…)`; see [`Simd::reduce`].
    #[inline(always)]
    fn reduce<S: Simd, A>(s: S, x: &[Self], fill: f32, start: A, f: impl Fn(A, S::V) -> A) -> A {
        let mut running = start;
        let chunks = x.chunks_exact(S::LANES);
        let tail = chunks.remainder();
        for chunk in chunks {
            running = f(running, Self::load(s, chunk));
        }
        if !tail.is_empty() {
            running = f(running, Self::load_or(s, tail, fill));
        }
        running
    }
}

/// A view of numbers of either type.
#[derive(Clone, Copy)]
pub enum StoredView<'a, const N: usize> {
    /// In f32.
    F32(View<'a, f32, N>),
    /// In f16.
    F16(View<'a, f16, N>),
}

impl Stored for f32 {
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[f32]) -> S::V {
        s.load(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::V, out: &mut [f32]) {
        s.store(v, out);
    }
    #[inline(always)]
    fn stream<S: Simd>(s: S, v: S::V, out: &mut [f32]) {
        s.stream(v, out);
    }
    #[inline(always)]
    fn prefetch<S: Simd>(s: S, x: &[f32]) {
        s.prefetch(x);
    }
    #[inline(always)]
    fn widen<'a, S: Simd>(_: S, x: &'a [f32], _: &'a mut [f32]) -> &'a [f32] {
        x
    }
    fn narrow(x: &[f32], out: &mut [f32]) {
        out.copy_from_slice(x);
    }
    fn view<const N: usize>(x: View<'_, f32, N>) -> StoredView<'_, N> {
        StoredView::F32(x)
    }
    fn widen_all(_: Isa, x: Cow<'_, [f32]>) -> Cow<'_, [f32]> {
        x
    }
}

impl Stored for f16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[f16]) -> S::V {
        s.load_f16(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::V, out: &mut [f16]) {
        s.store_f16(v, out);
    }
    #[inline(always)]
    fn stream<S: Simd>(s: S, v: S::V, out: &mut [f16]) {
        s.stream_f16(v, out);
    }
    #[inline(always)]
    fn prefetch<S: Simd>(s: S, x: &[f16]) {
        s.prefetch_f16(x);
    }
    #[inline(always)]
    fn widen<'a, S: Simd>(s: S, x: &'a [f16], buffer: &'a mut [f32]) -> &'a [f32] {
        s.widen_f16(x, buffer);
        buffer
    }
    fn narrow(x: &[f32], out: &mut [f16]) {
        for (x, out) in x.iter().zip(out) {
            *out = f16::from_f32(*x);
        }
    }
    fn view<const N: usize>(x: View<'_, f16, N>) -> StoredView<'_, N> {
        StoredView::F16(x)
    }
    fn widen_all(isa: Isa, x: Cow<'_, [f16]>) -> Cow<'_, [f32]> {
        let mut out = vec![0.0; x.len()];
        isa.run(Widen { x: &x, out: &mut out });
        out.into()
    }
}

struct Widen<'a> {
    x: &'a [f16],
    out: &'a mut [f32],
}

impl Op for Widen<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        s.widen_f16(self.x, self.out);
    }
}
