//! The innermost loop: a tile of the product that lives in registers.
//!
//! For each depth k, a row of the panel (32 columns) is multiplied by one number from each of the
//! tile's rows:
//!
//! ```text
//! for k:  b = panel[k][0..32]
//!         for i in 0..ROWS:  sum[i][0..32] += a[i][k] · b
//! ```
//!
//! Each number of `b` is used once per row and each number of `a` 32 times, so the more rows, the
//! fewer loads per multiplication. The register file sets the limit: ROWS·VECTORS sums, VECTORS of
//! `b` and one of `a` must fit.
//!
//! | instruction set | registers | ROWS × VECTORS × lanes | registers used |
//! |---|---|---|---|
//! | AVX-512 | 32 | 12 × 2 × 16 | 24 + 2 + 1 |
//! | AVX2 | 16 | 6 × 2 × 8, for each half of the panel | 12 + 2 + 1 |
//! | portable on aarch64 | 16 pairs | 6 × 2 × 8, for each half of the panel | 12 + 2 + 1 |
//! | portable elsewhere | 8 pairs | 4 × 1 × 8, for each quarter of the panel | 4 + 1 + 1 |

use super::{NR, PanelRow};
use crate::cpu::simd::Simd;

/// Rows of a full tile.
pub(crate) const MR: usize = 12;

/// Tiles may be lower: any multiple of this many rows up to [`MR`].
pub(crate) const MR_STEP: usize = 4;

/// `sums[i] = Σₖ a[i][k]·b[k]`, or `sums[i] += …` unless `first`.
///
/// `a`: 4, 8 or 12 rows, each at least as long as `b`; `sums`: as many rows.
#[inline(always)]
pub(crate) fn tile<S: Simd>(s: S, a: &[&[f32]], b: &[PanelRow], sums: &mut [PanelRow], first: bool) {
    assert!(a.len() == sums.len() && a.len().is_multiple_of(MR_STEP) && a.len() <= MR);
    match (S::REGISTERS, a.len()) {
        (32.., 12) => block::<S, 12, 2>(s, a, b, sums, first),
        (32.., 8) => block::<S, 8, 2>(s, a, b, sums, first),
        (16.., 12) => {
            let (upper, lower) = sums.split_at_mut(6);
            block::<S, 6, 2>(s, &a[..6], b, upper, first);
            block::<S, 6, 2>(s, &a[6..], b, lower, first);
        }
        (16.., _) => {
            for (a, sums) in a.chunks_exact(4).zip(sums.chunks_exact_mut(4)) {
                block::<S, 4, 2>(s, a, b, sums, first);
            }
        }
        _ => {
            for (a, sums) in a.chunks_exact(4).zip(sums.chunks_exact_mut(4)) {
                block::<S, 4, 1>(s, a, b, sums, first);
            }
        }
    }
}

/// The sums of ROWS rows with all columns of the panel, VECTORS vectors of columns at a time.
///
/// Loops over plain arrays, no closures: behind `array::from_fn` the compiler may lose sight of the
/// lengths and check seven indices for 12 multiply-adds, or even leave the closure out of line.
#[inline(always)]
fn block<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    a: &[&[f32]],
    b: &[PanelRow],
    sums: &mut [PanelRow],
    first: bool,
) {
    let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
    for i in 0..ROWS {
        rows[i] = &a[i][..b.len()];
    }
    let sums: &mut [PanelRow; ROWS] = sums.first_chunk_mut().expect("as many sums as rows");
    for column in (0..NR).step_by(VECTORS * S::LANES) {
        let mut sum = [[s.zero(); VECTORS]; ROWS];
        for (k, b) in b.iter().enumerate() {
            let mut vectors = [s.zero(); VECTORS];
            for j in 0..VECTORS {
                vectors[j] = s.load(&b[column + j * S::LANES..]);
            }
            for i in 0..ROWS {
                // SAFETY: each row was cut to the length of `b`.
                let a = s.splat(unsafe { *rows[i].get_unchecked(k) });
                for j in 0..VECTORS {
                    sum[i][j] = s.mul_add(a, vectors[j], sum[i][j]);
                }
            }
        }
        for i in 0..ROWS {
            for j in 0..VECTORS {
                let out = &mut sums[i][column + j * S::LANES..];
                let before = if first { s.zero() } else { s.load(out) };
                s.store(s.add(before, sum[i][j]), out);
            }
        }
    }
}
