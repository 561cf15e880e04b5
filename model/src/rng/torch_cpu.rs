//! torch's generator on the CPU: mt19937, then Box–Muller.
//!
//! ```text
//! mt19937 (32 random bits a draw) → uniforms u1, u2 → r = √(−2 ln u1): r·cos(2π u2), r·sin(2π u2)
//! ```
//!
//! torch has two ways to draw here, and the length of the request chooses between them:
//!
//! - n ≥ 16: float uniforms of 24 bits, transformed in blocks of 16 (cosines in the first half,
//!   sines in the second);
//! - n < 16: double uniforms of 53 bits, one pair at a time; the sine waits in the generator for
//!   the next such draw.
//!
//! Sources: Matsumoto and Nishimura, "Mersenne Twister" (1998), and the behaviour of torch's
//! `CPUGeneratorImpl`. The last bits differ from torch's, whose vectorised logarithm and cosine
//! differ between machines; they agree within 1e-6.

use std::f64::consts::TAU;

/// The state of an mt19937 and the second half of the last normal pair.
#[derive(Debug, Clone)]
pub struct TorchCpu {
    bits: MersenneTwister,
    waiting: Option<f64>,
}

impl TorchCpu {
    /// The generator that `manual_seed(seed)` makes: of the seed, torch's mt19937 takes the low 32
    /// bits.
    pub fn new(seed: u64) -> Self {
        Self { bits: MersenneTwister::new(seed as u32), waiting: None }
    }

    /// `n` independent draws from N(0, 1).
    pub fn randn(&mut self, n: usize) -> Vec<f32> {
        if n < BLOCK {
            return (0..n).map(|_| self.normal() as f32).collect();
        }
        let mut values: Vec<f32> = (0..n).map(|_| self.uniform_f32()).collect();
        for block in values.chunks_exact_mut(BLOCK) {
            box_muller(block);
        }
        if !n.is_multiple_of(BLOCK) {
            // The tail is shorter than a block, so the last 16 values are drawn anew, over some
            // that are done already.
            let tail = &mut values[n - BLOCK..];
            tail.fill_with(|| self.uniform_f32());
            box_muller(tail);
        }
        values
    }

    /// One draw in double precision; every second one was computed together with the one before.
    fn normal(&mut self) -> f64 {
        if let Some(value) = self.waiting.take() {
            return value;
        }
        let angle = TAU * self.uniform_f64();
        let radius = (-2.0 * (-self.uniform_f64()).ln_1p()).sqrt();
        self.waiting = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// Uniform in [0, 1), a multiple of 2⁻²⁴.
    fn uniform_f32(&mut self) -> f32 {
        const BITS: u32 = f32::MANTISSA_DIGITS;
        (self.bits.next() & ((1 << BITS) - 1)) as f32 / (1u32 << BITS) as f32
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³, from two draws of which the first is the high half.
    fn uniform_f64(&mut self) -> f64 {
        const BITS: u32 = f64::MANTISSA_DIGITS;
        let high = u64::from(self.bits.next());
        let word = high << 32 | u64::from(self.bits.next());
        (word & ((1 << BITS) - 1)) as f64 / (1u64 << BITS) as f64
    }
}

/// torch transforms this many values at a time: two vectors of eight floats.
const BLOCK: usize = 16;

/// 16 uniforms → 16 normals, in place: d\[j\] and d\[j + 8\] become a cosine and a sine of one
/// radius.
///
/// The intermediate values are rounded to f32 where torch's are; the functions themselves are
/// rounded once, from f64.
fn box_muller(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        let log = f64::from(1.0 - *a).ln() as f32; // 1 − u lies in (0, 1], where the logarithm is finite
        let radius = (-2.0 * log).sqrt();
        let angle = f64::from(TAU as f32 * *b);
        *a = radius * angle.cos() as f32;
        *b = radius * angle.sin() as f32;
    }
}

/// mt19937: x\[k + 624\] = x\[k + 397\] ⊕ (upper bit of x\[k\] | lower 31 bits of x\[k + 1\])·A,
/// then tempered.
#[derive(Debug, Clone)]
struct MersenneTwister {
    state: [u32; Self::N],
    index: usize,
}

impl MersenneTwister {
    const N: usize = 624;
    const M: usize = 397;
    /// The last row of the twist matrix A; its other rows are a shift.
    const A: u32 = 0x9908_b0df;

    /// `init_genrand` of the authors' reference code.
    fn new(seed: u32) -> Self {
        let mut state = [seed; Self::N];
        for i in 1..Self::N {
            let previous = state[i - 1];
            state[i] = (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, index: Self::N }
    }

    /// The next 32 bits.
    fn next(&mut self) -> u32 {
        if self.index == Self::N {
            self.twist();
        }
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// The next 624 words of the recurrence, over the old ones.
    fn twist(&mut self) {
        for k in 0..Self::N {
            let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % Self::N] & 0x7fff_ffff);
            let twisted = (y >> 1) ^ if y & 1 == 1 { Self::A } else { 0 };
            self.state[k] = self.state[(k + Self::M) % Self::N] ^ twisted;
        }
        self.index = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests the given lengths in turn and compares with what torch 2.15 gave for them.
    #[track_caller]
    fn check(seed: u64, lengths: &[usize], expected: &[f32]) {
        let mut generator = TorchCpu::new(seed);
        let found: Vec<f32> = lengths.iter().flat_map(|&n| generator.randn(n)).collect();
        assert_eq!(found.len(), lengths.iter().sum::<usize>());
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let close = (found - expected).abs() <= 1e-6;
            assert!(
                close,
                "seed {seed}, lengths {lengths:?}, value {i}: found {found}, torch has {expected}"
            );
        }
    }

    #[test]
    fn the_twister_gives_the_numbers_of_the_reference_code() {
        // The C++ standard demands this of std::mt19937: the 10,000th output of the default seed
        // 5489.
        let mut bits = MersenneTwister::new(5489);
        let last = (0..10_000).map(|_| bits.next()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn one_block() {
        #[rustfmt::skip]
        let expected = [
            -1.1258398, -1.1523602, -0.25057858, -0.4338788, 0.84871036, 0.69200915, -0.31601277, -2.1152193,
            0.32227492, -1.2633348, 0.3499832, 0.30813393, 0.11984151, 1.2376579, 1.1167772, -0.24727815,
        ];
        check(0, &[16], &expected);
    }

    #[test]
    fn a_tail_is_drawn_anew() {
        #[rustfmt::skip]
        let expected = [
            1.9269153, 1.4872841, 0.9007172, -2.105521, -0.75813115, 1.0783176, 0.80080056, 1.6806205,
            0.3558599, -0.686623, -0.49335635, 0.24148779, -0.23162432, 0.04175949, -0.2515753, 0.8598585,
            -0.30972678, -0.3957105, 0.80340934, -0.6215954,
        ];
        check(42, &[20], &expected);
    }

    #[test]
    fn only_the_low_half_of_the_seed_counts() {
        let expected = [-0.8201345, 0.39563116, 0.8989085, -1.3884039];
        check(7, &[16], &expected);
        check((1 << 32) + 7, &[16], &expected);
    }

    #[test]
    fn short_requests_come_in_pairs() {
        check(0, &[5], &[1.5409961, -0.2934289, -2.1787894, 0.56843126, -1.0845224]);
        check(3, &[1, 1, 2], &[0.80327606, 0.17483339, 0.0889781, -0.61371803]);
        check(3, &[0], &[]);
    }

    #[test]
    fn the_waiting_value_outlives_a_long_request() {
        #[rustfmt::skip]
        let expected = [
            0.66135216, 0.2669241, 0.06167726,
            -1.1660347, 1.1712007, 1.7674273, -0.09536188, 0.1393715, -1.5785011, -0.32062083, -0.29934606,
            1.8793458, 0.33573052, 0.27533352, 1.7163026, -0.056139667, 0.910702, -1.3923858, 2.689087,
            -0.11101983,
            0.6213173, -0.11031315, 0.2913445,
            -1.2150067, 0.7311667, 1.1718048, -0.9273917, 0.5451415, 0.06628026, -0.43704012, 0.7626006,
            1.1632744, -0.0090745855, -0.8424634, 0.13741246, 0.9386447, -0.18600109, -0.6446393, 1.5392458,
        ];
        check(1, &[3, 17, 3, 16], &expected);
    }
}
