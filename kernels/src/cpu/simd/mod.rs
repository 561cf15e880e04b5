//! Vector arithmetic, written once and compiled for each instruction set.
//!
//! A kernel's inner loop is an [`Op`]: a struct that holds its operands, and `eval`, generic over a
//! [`Simd`] back-end. [`Isa::run`](crate::Isa::run) picks the back-end. The back-ends are
//! [`portable`], [`avx2`] and [`avx512`]; each is a thin shell of one instruction per method.
//!
//! Everything that an [`Op`] calls must be `#[inline(always)]`: only code that is inlined into the
//! back-end's entry point is compiled with its instructions. A closure cannot be marked so, and the
//! compiler leaves a large one out of line, where each instruction becomes a call; functions of
//! more than an operation or two are therefore [`Pointwise`] types.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod math;
pub(crate) mod pointwise;
pub mod portable;

use aquatint_tensor::f16;
use half::slice::HalfFloatSliceExt;

/// An inner loop that can be compiled for any instruction set.
pub trait Op {
    /// What it computes, if not written in place.
    type Output;
    /// The loop. Implementations must be marked `#[inline(always)]`.
    fn eval<S: Simd>(self, s: S) -> Self::Output;
}

/// A function of one number, to be compiled for any instruction set.
pub trait Pointwise: Copy + Send + Sync {
    /// f of each lane. Implementations must be marked `#[inline(always)]`.
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V;
}

/// The operations of one instruction set on vectors of `f32`.
///
/// A value of an implementing type proves that the CPU has the instructions. Slices may be longer
/// than a vector; if they are shorter, `load` and `store` panic.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`LANES`](Self::LANES) numbers.
    type V: Copy;
    /// Numbers in a vector.
    const LANES: usize;
    /// Vectors that the register file holds; it decides the shape of the GEMM tile.
    const REGISTERS: usize;

    /// `x` in each lane.
    fn splat(self, x: f32) -> Self::V;
    /// The first `LANES` numbers of `x`.
    fn load(self, x: &[f32]) -> Self::V;
    /// Writes the lanes to the start of `out`.
    fn store(self, v: Self::V, out: &mut [f32]);
    /// The same, past the caches if the CPU can and `out` begins at a cache line. What was written
    /// may be read when [`drain`](Self::drain) has been called.
    #[inline(always)]
    fn stream(self, v: Self::V, out: &mut [f32]) {
        self.store(v, out);
    }
    /// Waits until all that was streamed can be seen by other threads.
    #[inline(always)]
    fn drain(self) {}
    /// Has the cache lines of `x` fetched, which will be read soon.
    #[inline(always)]
    fn prefetch(self, _x: &[f32]) {}
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a·b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a·b + c, rounded once where the instruction set can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The smaller of each pair; `b` where one of them is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger of each pair; `b` where one of them is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// |a|
    fn abs(self, a: Self::V) -> Self::V;
    /// x where a < b, else y.
    fn select_less(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// x·2ⁿ for an integral n from −126 to 127.
    fn ldexp(self, x: Self::V, n: Self::V) -> Self::V;

    /// `out[i] = x[i]` for slices of the same length.
    ///
    /// # Panics
    /// If the lengths differ.
    #[inline(always)]
    fn widen_f16(self, x: &[f16], out: &mut [f32]) {
        x.convert_to_f32_slice(out);
    }

    /// A vector of the first numbers of `x`.
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> Self::V {
        let mut lanes = [0.0; MAX_LANES];
        self.widen_f16(&x[..Self::LANES], &mut lanes[..Self::LANES]);
        self.load(&lanes)
    }
    /// Rounds to the nearest f16, ties to even; what is beyond the largest becomes infinite.
    #[inline(always)]
    fn store_f16(self, v: Self::V, out: &mut [f16]) {
        let mut lanes = [0.0; MAX_LANES];
        self.store(v, &mut lanes);
        for (out, x) in out[..Self::LANES].iter_mut().zip(lanes) {
            *out = f16::from_f32(x);
        }
    }
    /// The same past the caches, where the instruction set can and half a line of the cache begins
    /// at `out`.
    #[inline(always)]
    fn stream_f16(self, v: Self::V, out: &mut [f16]) {
        self.store_f16(v, out);
    }
    /// Has the cache lines of `x` fetched, which will be read soon.
    #[inline(always)]
    fn prefetch_f16(self, _x: &[f16]) {}

    /// `2^⌊x⌋·p(x − ⌊x⌋)` with the coefficients of p, constant term first: 2ˣ, where p is 2ʳ on [0,
    /// 1].
    ///
    /// For x up to 127. From x = −126 down it is 2⁻¹²⁵ at most, nothing at all where the
    /// instruction set can; NaN stays NaN.
    #[inline(always)]
    fn exp2_with<const N: usize>(self, x: Self::V, p: [f32; N]) -> Self::V {
        // In `max` the second operand wins over NaN.
        let x = self.max(self.splat(-126.0), x);
        let n = math::round(self, self.sub(x, self.splat(0.5)));
        self.ldexp(math::polynomial(self, p, self.sub(x, n)), n)
    }

    /// `a₀ b₀ a₁ b₁ …`, in two vectors.
    #[inline(always)]
    fn interleave(self, a: Self::V, b: Self::V) -> [Self::V; 2] {
        let mut lanes = [[0.0; MAX_LANES]; 2];
        self.store(a, &mut lanes[0]);
        self.store(b, &mut lanes[1]);
        let half = |first: usize| -> [f32; MAX_LANES] {
            std::array::from_fn(|i| lanes[i % 2][(first + i / 2) % MAX_LANES])
        };
        [self.load(&half(0)), self.load(&half(Self::LANES / 2))]
    }

    /// Rows become columns: as many vectors as there are lanes, 8 or 16; the rest are left alone.
    ///
    /// Vector i is interleaved with the one half of all vectors further on, and all that again.
    /// Write the place of a number as the bits of its row and then those of its lane: each round
    /// rotates them by one, so that as many rounds as a lane has bits swap both.
    #[inline(always)]
    fn transpose(self, rows: &mut [Self::V; MAX_LANES]) {
        // Not as a loop, so that all vectors stay in registers.
        if Self::LANES > 8 {
            self.interleave_halves(rows);
        }
        if Self::LANES > 4 {
            self.interleave_halves(rows);
        }
        self.interleave_halves(rows);
        self.interleave_halves(rows);
    }

    /// One round of [`transpose`](Self::transpose).
    #[inline(always)]
    fn interleave_halves(self, rows: &mut [Self::V; MAX_LANES]) {
        let (before, half) = (*rows, Self::LANES / 2);
        for i in 0..half {
            [rows[2 * i], rows[2 * i + 1]] = self.interleave(before[i], before[i + half]);
        }
    }

    /// Zero in each lane.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }

    /// The first numbers of `x`, `fill` in the lanes behind its end.
    #[inline(always)]
    fn load_or(self, x: &[f32], fill: f32) -> Self::V {
        let mut lanes = [fill; MAX_LANES];
        let n = x.len().min(Self::LANES);
        lanes[..n].copy_from_slice(&x[..n]);
        self.load(&lanes)
    }

    /// Writes as many lanes as `out` has room for.
    #[inline(always)]
    fn store_part(self, v: Self::V, out: &mut [f32]) {
        let mut lanes = [0.0; MAX_LANES];
        self.store(v, &mut lanes);
        let n = out.len().min(Self::LANES);
        out[..n].copy_from_slice(&lanes[..n]);
    }

    /// The sum of all lanes, halves first: lane i + lane i + LANES/2, and so on.
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        self.fold(v, |a, b| a + b)
    }

    /// The largest lane.
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        self.fold(v, f32::max)
    }

    /// All lanes joined by `f`, in halves.
    #[inline(always)]
    fn fold(self, v: Self::V, f: impl Fn(f32, f32) -> f32) -> f32 {
        let mut lanes = [0.0; MAX_LANES];
        self.store(v, &mut lanes);
        let mut n = Self::LANES;
        while n > 1 {
            n /= 2;
            for i in 0..n {
                lanes[i] = f(lanes[i], lanes[i + n]);
            }
        }
        lanes[0]
    }

    /// `f(…f(f(start, x[..LANES]), x[LANES..2·LANES])…)`: a running value over a whole slice, a
    /// vector at a time. Lanes behind the end of the slice hold `fill`, which should leave the
    /// running value as it is. `f` must be small.
    #[inline(always)]
    fn reduce<A>(self, x: &[f32], fill: f32, start: A, f: impl Fn(A, Self::V) -> A) -> A {
        let mut running = start;
        let chunks = x.chunks_exact(Self::LANES);
        let tail = chunks.remainder();
        for chunk in chunks {
            running = f(running, self.load(chunk));
        }
        if !tail.is_empty() {
            running = f(running, self.load_or(tail, fill));
        }
        running
    }

    /// `x[i] = f(x[i])` for a whole slice, a vector at a time.
    #[inline(always)]
    fn map_in_place(self, x: &mut [f32], f: impl Pointwise) {
        let mut chunks = x.chunks_exact_mut(Self::LANES);
        for chunk in &mut chunks {
            self.store(f.apply(self, self.load(chunk)), chunk);
        }
        let tail = chunks.into_remainder();
        if !tail.is_empty() {
            self.store_part(f.apply(self, self.load_or(tail, 0.0)), tail);
        }
    }

    /// `out[i] = f(a[i], b[i])` for whole slices, a vector at a time. `f` must be small.
    ///
    /// # Panics
    /// If the three lengths differ.
    #[inline(always)]
    fn zip(self, out: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(Self::V, Self::V) -> Self::V) {
        assert!(out.len() == a.len() && out.len() == b.len(), "the slices have different lengths");
        let whole = out.len() / Self::LANES * Self::LANES;
        for i in (0..whole).step_by(Self::LANES) {
            self.store(f(self.load(&a[i..]), self.load(&b[i..])), &mut out[i..]);
        }
        if whole < out.len() {
            let v = f(self.load_or(&a[whole..], 0.0), self.load_or(&b[whole..], 0.0));
            self.store_part(v, &mut out[whole..]);
        }
    }
}

/// The most lanes that any back-end has.
pub const MAX_LANES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// Each operation on the numbers of a case, collected into rows that must not depend on the
    /// back-end.
    struct AllOps;

    impl Op for AllOps {
        type Output = Vec<Vec<f32>>;
        #[inline(always)]
        fn eval<S: Simd>(self, s: S) -> Self::Output {
            let a: Vec<f32> = (0..16).map(|i| i as f32 - 7.5).collect();
            let b: Vec<f32> = (0..16).map(|i| (i * 5 % 16) as f32 * 0.25 + 0.125).collect();
            let mut rows = Vec::new();
            let mut row = |f: &dyn Fn(S::V, S::V) -> S::V| {
                let mut out = vec![0.0; 16];
                s.zip(&mut out, &a, &b, f);
                rows.push(out);
            };
            row(&|a, b| s.add(a, b));
            row(&|a, b| s.sub(a, b));
            row(&|a, b| s.mul(a, b));
            row(&|a, b| s.div(a, b));
            row(&|a, b| s.mul_add(a, b, s.splat(2.0)));
            row(&|a, b| s.min(a, b));
            row(&|a, b| s.max(a, b));
            row(&|a, _| s.abs(a));
            row(&|a, b| s.select_less(a, b, s.splat(1.0), s.zero()));
            row(&|a, _| s.ldexp(a, s.splat(-3.0)));
            row(&|a, _| s.exp2_with(a, [1.0, 0.5]));
            rows
        }
    }

    #[test]
    fn every_back_end_gives_the_same_numbers() {
        let expected = Isa::portable().run(AllOps);
        let hand = [-7.375, -7.625, -0.9375, -60.0, 1.0625, -7.5, 0.125, 7.5, 1.0, -0.9375, 1.25 / 256.0];
        for (row, first) in expected.iter().zip(hand) {
            assert_eq!(row[0], first);
        }
        for isa in Isa::available() {
            assert_eq!(isa.run(AllOps), expected, "{isa}");
        }
    }

    /// The smaller and the larger of two numbers.
    struct MinMax(f32, f32);

    impl Op for MinMax {
        type Output = [f32; 2];
        #[inline(always)]
        fn eval<S: Simd>(self, s: S) -> [f32; 2] {
            let (a, b) = (s.splat(self.0), s.splat(self.1));
            [s.min(a, b), s.max(a, b)].map(|v| {
                let mut lanes = [0.0; MAX_LANES];
                s.store(v, &mut lanes);
                lanes[0]
            })
        }
    }

    #[test]
    fn the_second_number_wins_over_nan() {
        for isa in Isa::available() {
            assert_eq!(isa.run(MinMax(f32::NAN, 2.0)), [2.0, 2.0], "{isa}");
            assert!(isa.run(MinMax(2.0, f32::NAN)).iter().all(|x| x.is_nan()), "{isa}");
        }
    }

    struct Turn;

    impl Op for Turn {
        type Output = Vec<Vec<f32>>;
        #[inline(always)]
        fn eval<S: Simd>(self, s: S) -> Self::Output {
            let mut rows = [s.zero(); MAX_LANES];
            for (i, row) in rows[..S::LANES].iter_mut().enumerate() {
                let numbers: Vec<f32> = (0..S::LANES).map(|lane| (100 * i + lane) as f32).collect();
                *row = s.load(&numbers);
            }
            s.transpose(&mut rows);
            let numbers = |row: &S::V| {
                let mut out = vec![0.0; S::LANES];
                s.store(*row, &mut out);
                out
            };
            rows[..S::LANES].iter().map(numbers).collect()
        }
    }

    #[test]
    fn rows_become_columns() {
        for isa in Isa::available() {
            let turned = isa.run(Turn);
            for (i, row) in turned.iter().enumerate() {
                let expected: Vec<f32> = (0..turned.len()).map(|lane| (100 * lane + i) as f32).collect();
                assert_eq!(row, &expected, "{isa}, row {i}");
            }
        }
    }

    struct Widen<'a>(&'a [f16]);

    impl Op for Widen<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn eval<S: Simd>(self, s: S) -> Vec<f32> {
            let mut out = vec![9.0; self.0.len()];
            s.widen_f16(self.0, &mut out);
            out
        }
    }

    #[test]
    fn every_half_keeps_its_value() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for isa in Isa::available() {
            // Whole vectors, vectors and a rest, a rest only, nothing.
            for x in [&all[..], &all[1000..1013], &all[..3], &all[..0]] {
                for (x, found) in x.iter().zip(isa.run(Widen(x))) {
                    let expected = x.to_f32();
                    assert!(
                        found == expected || found.is_nan() && expected.is_nan(),
                        "{isa}: {x} became {found}"
                    );
                }
            }
        }
    }

    struct Reduce<'a>(&'a [f32]);

    impl Op for Reduce<'_> {
        type Output = (f32, f32, Vec<f32>);
        #[inline(always)]
        fn eval<S: Simd>(self, s: S) -> Self::Output {
            let v = s.load_or(self.0, 0.0);
            let mut out = vec![9.0; self.0.len().min(S::LANES)];
            s.store_part(v, &mut out);
            (s.sum(v), s.largest(v), out)
        }
    }

    #[test]
    fn parts_of_a_vector_load_store_and_reduce() {
        for isa in Isa::available() {
            for n in 1..=8 {
                let x: Vec<f32> = (1..=n).map(|i| i as f32).collect();
                let (sum, largest, out) = isa.run(Reduce(&x));
                assert_eq!((sum, largest), ((n * (n + 1) / 2) as f32, n as f32), "{isa}, {n}");
                assert_eq!(out, x, "{isa}");
            }
        }
    }
}
