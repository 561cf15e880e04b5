//! Three passes over a row that stays in the cache: its largest number; e^(x − largest) and their
//! sum; the division.

use aquatint_tensor::Tensor;
use rayon::prelude::*;

use crate::Isa;
use crate::cpu::partition::rows_per_task;
use crate::cpu::simd::{Op, Pointwise, Simd, math};

/// See [`softmax`](super::softmax()).
///
/// # Panics
/// As [`softmax`](super::softmax()).
pub fn softmax<const N: usize>(isa: Isa, x: &mut Tensor<f32, N>) {
    let columns = *x.shape().last().expect("softmax needs a tensor of rank 1 or more");
    if !x.is_empty() {
        x.as_mut_slice()
            .par_chunks_mut(rows_per_task(columns) * columns)
            .for_each(|rows| isa.run(SoftmaxRows { rows, columns }));
    }
}

struct SoftmaxRows<'a> {
    rows: &'a mut [f32],
    columns: usize,
}

impl Op for SoftmaxRows<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let lowest = f32::NEG_INFINITY;
        for row in self.rows.chunks_exact_mut(self.columns) {
            let largest = s.reduce(row, lowest, s.splat(lowest), |largest, x| s.max(x, largest));
            s.map_in_place(row, ExpOfDifference { largest: s.largest(largest) });
            let sum = s.reduce(row, 0.0, s.zero(), |sum, x| s.add(sum, x));
            let factor = 1.0 / s.sum(sum);
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }
}

/// `exp(x − largest)`
#[derive(Clone, Copy)]
struct ExpOfDifference {
    largest: f32,
}

impl Pointwise for ExpOfDifference {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        math::exp(s, s.sub(x, s.splat(self.largest)))
    }
}
