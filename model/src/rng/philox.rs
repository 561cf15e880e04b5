//! torch's generator on a GPU: Philox 4×32-10, then Box–Muller. No state but a counter: number i is
//! a function of i.
//!
//! ```text
//! [x0, x1, _, _] = philox(counter = [call, 0, i, 0], key = seed)       ten rounds
//! u = (x0 + 1/2) · 2⁻³²,   v = (x1 + 1/2) · 2⁻³² · 2π,   value i = √(−2 ln u) · sin v
//! ```
//!
//! A thread of the GPU makes number i and throws three of its four words away; the next call of
//! `randn` counts `call` up. That holds as long as a GPU has a thread for every number, which
//! covers the latents of all usual pictures; beyond that, torch's own result depends on the GPU.
//!
//! Source: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (2011), and
//! the behaviour of torch's `CUDAGeneratorImpl`. The functions are rounded once, from f64; the
//! GPU's are its own, and differ in the last bits.

use std::f64::consts::TAU;

/// The seed, and how many calls were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Philox {
    seed: u64,
    call: u32,
}

impl Philox {
    /// The generator that `manual_seed(seed)` makes: all 64 bits of the seed count.
    pub fn new(seed: u64) -> Self {
        Self { seed, call: 0 }
    }

    /// `n` independent draws from N(0, 1).
    pub fn randn(&mut self, n: usize) -> Vec<f32> {
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        let values = (0..n).map(|i| normal(philox([self.call, 0, i as u32, 0], key))).collect();
        self.call += 1;
        values
    }
}

/// 64 random bits → one number of N(0, 1): the sine half of Box and Muller's pair.
fn normal([x0, x1, ..]: [u32; 4]) -> f32 {
    let uniform = |x: u32| (f64::from(x) + 0.5) / 4_294_967_296.0;
    ((-2.0 * uniform(x0).ln()).sqrt() * (TAU * uniform(x1)).sin()) as f32
}

/// Ten rounds; between them the key grows by the golden ratio and by √3 − 1.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const ROUNDS: usize = 10;
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    for _ in 0..ROUNDS {
        counter = round(counter, key);
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// Two products of 64 bits; their high halves are mixed with the other words and the key, their low
/// halves kept.
fn round([c0, c1, c2, c3]: [u32; 4], [k0, k1]: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    let [a, b] = [u64::from(c0) * u64::from(MULTIPLIERS[0]), u64::from(c2) * u64::from(MULTIPLIERS[1])];
    [(b >> 32) as u32 ^ c1 ^ k0, b as u32, (a >> 32) as u32 ^ c3 ^ k1, a as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the authors' library (Random123, `philox 4x32 10`).
    #[test]
    fn the_bits_are_those_of_the_paper() {
        for (counter, key, expected) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox(counter, key), expected);
        }
    }

    #[test]
    fn seed_0_begins_as_published() {
        let found = Philox::new(0).randn(4);
        for (found, expected) in found.iter().zip([-0.924663, -0.425344, -2.643846, 0.145184]) {
            assert!((found - expected).abs() < 1e-6, "found {found}, published {expected}");
        }
    }

    #[test]
    fn a_call_counts_once_whatever_its_length() {
        let second = |first: usize| {
            let mut generator = Philox::new(1 << 40);
            generator.randn(first);
            generator.randn(5)
        };
        assert_eq!(second(1), second(1000));
        assert_ne!(second(1), Philox::new(1 << 40).randn(5));
        assert_ne!(
            Philox::new(1 << 40).randn(5),
            Philox::new(0).randn(5),
            "the high half of the seed counts"
        );
    }
}
