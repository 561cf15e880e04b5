//! What an adapter adds to a weight, in f32, row by row.
//!
//! ```text
//! LoRA          ΔW = B·A · alpha/rank       A: [rank, in·k²], B: [out, rank]   Hu et al. 2021
//!  with kernel  ΔW[o,i,y,x] = Σ B[o,m]·K[m,n,y,x]·A[n,i]                 LyCORIS' Tucker form
//! LoHa          ΔW = (A₁·B₁) ∘ (A₂·B₂) · alpha/rank                            Yeh et al. 2023
//! LoKr          ΔW = C ⊗ D · alpha/rank     C and D whole, or products         the same
//! difference    ΔW = D
//! (IA)³         ΔW = W ∘ s                  s of the rows, or of the columns   Liu et al. 2022
//! DoRA          W + w·(m·V/‖V‖ − W)         V = W + ΔW, ‖·‖ of rows, columns   Liu et al. 2024
//! otherwise     W + w·ΔW                              w: the weight that the user gave
//! ```
//!
//! A row of W is an output: `in · kh · kw` numbers. Rows are shared out among the threads; each is
//! computed by one of them in the same order, so that the bits do not depend on their number.
//! Nothing larger than a few rows is made on the way, but for DoRA by columns, which needs V as a
//! whole.

use std::sync::Arc;

use rayon::prelude::*;

use crate::source::{TensorFile, WeightDelta};

/// A tensor of the adapter's file; it was looked at when the file was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// How ΔW is made.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// LoRA.
    LowRank {
        /// B.
        up: Factor,
        /// K.
        mid: Option<Factor>,
        /// A.
        down: Factor,
    },
    /// LoHa: the two products, each as A, K, B.
    Hadamard([(Factor, Option<Factor>, Factor); 2]),
    /// LoKr: C, and D, each whole or in factors; D's perhaps with a kernel between.
    Kronecker {
        /// C.
        first: Matrix,
        /// D.
        second: Matrix,
    },
    /// A difference.
    Difference(Factor),
    /// (IA)³.
    Scale {
        /// s.
        factors: Factor,
        /// Whether they are of the columns.
        on_input: bool,
    },
}

/// A matrix, whole or in factors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// As it is.
    Whole(Factor),
    /// A·B.
    Product(Factor, Factor),
    /// `Σ A[m,o]·K[m,n,y,x]·B[n,i]`.
    Tucker(Factor, Factor, Factor),
}

/// What one adapter does to one weight.
pub struct Delta {
    /// The adapter's file.
    pub file: Arc<TensorFile>,
    /// How ΔW is made.
    pub form: Form,
    /// alpha / rank.
    pub scale: f32,
    /// DoRA's m.
    pub magnitude: Option<Factor>,
    /// The user's weight.
    pub weight: f32,
}

/// What is done with row `o`, W's and ΔW's.
type ChangeRow<'a> = dyn Fn(usize, &mut [f32], &mut [f32]) + Sync + 'a;

impl WeightDelta for Delta {
    fn apply(&self, shape: &[usize], weights: &mut [f32]) {
        let rows = shape.first().copied().unwrap_or(1);
        let width = weights.len() / rows.max(1);
        if width == 0 {
            return;
        }
        let taps = shape.iter().skip(2).product();
        let maker = RowMaker::new(self, rows, width, taps);
        let each_row = |weights: &mut [f32], change: &ChangeRow<'_>| {
            let buffers = || (vec![0.0; width], Scratch::default());
            weights.par_chunks_exact_mut(width).enumerate().for_each_init(
                buffers,
                |(delta, scratch), (o, row)| {
                    delta.fill(0.0);
                    maker.fill(o, row, delta, scratch);
                    change(o, row, delta);
                },
            );
        };
        let Some(magnitude) = self.magnitude.as_ref().map(|factor| self.numbers(factor)) else {
            let factor = self.weight * self.scale;
            return each_row(weights, &|_, row, delta| add_scaled(row, factor, delta));
        };
        if magnitude.len() == rows && self.magnitude.as_ref().is_some_and(|factor| by_rows(&factor.shape)) {
            return each_row(weights, &|o, row, delta| {
                for (v, &w) in delta.iter_mut().zip(&*row) {
                    *v = w + self.scale * *v;
                }
                let factor = magnitude[o] / norm(delta);
                for (w, &v) in row.iter_mut().zip(&*delta) {
                    *w += self.weight * (v * factor - *w);
                }
            });
        }
        let mut merged = weights.to_vec();
        each_row(&mut merged, &|_, row, delta| add_scaled(row, self.scale, delta));
        let mut squares = vec![0f64; width / taps];
        for row in merged.chunks_exact(width) {
            for (square, column) in squares.iter_mut().zip(row.chunks_exact(taps)) {
                *square += column.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
            }
        }
        let factors: Vec<f32> = magnitude.iter().zip(&squares).map(|(m, s)| m / s.sqrt() as f32).collect();
        let rows = weights.par_chunks_exact_mut(width).zip(merged.par_chunks_exact(width));
        rows.for_each(|(row, merged)| {
            for (i, (w, &v)) in row.iter_mut().zip(merged).enumerate() {
                *w += self.weight * (v * factors[i / taps] - *w);
            }
        });
    }
}

impl Delta {
    /// # Panics
    /// If the file has no such numbers: they were looked at when it was opened.
    fn numbers(&self, factor: &Factor) -> Vec<f32> {
        let tensor = self.file.tensor(&factor.name).expect("a tensor of the adapter");
        tensor.to_f32().expect("a tensor of numbers")
    }
}

/// Whether DoRA's norms are of rows: `[out]`, `[out, 1]`, `[out, 1, 1, 1]`, and not `[1, in]`.
pub(super) fn by_rows(shape: &[usize]) -> bool {
    shape.len() == 1 || shape[1..].iter().all(|&side| side == 1)
}

fn norm(row: &[f32]) -> f32 {
    row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32
}

fn add_scaled(row: &mut [f32], factor: f32, x: &[f32]) {
    for (row, x) in row.iter_mut().zip(x) {
        *row += factor * x;
    }
}

/// The factors in memory while one weight is changed.
enum RowMaker {
    LowRank(Product),
    Hadamard([Product; 2]),
    Kronecker {
        first: Vec<f32>,
        columns: usize,
        second: Vec<f32>,
        second_rows: usize,
        second_columns: usize,
        taps: usize,
    },
    Difference(Vec<f32>),
    Scale {
        factors: Vec<f32>,
        on_input: bool,
        taps: usize,
    },
}

#[derive(Default)]
struct Scratch {
    row: Vec<f32>,
    kernel: Vec<f32>,
}

impl RowMaker {
    fn new(delta: &Delta, rows: usize, width: usize, taps: usize) -> Self {
        let numbers = |factor: &Factor| delta.numbers(factor);
        match &delta.form {
            Form::LowRank { up, mid, down } => Self::LowRank(Product {
                left: numbers(up),
                left_by_rank: false,
                kernel: mid.as_ref().map(numbers),
                right: numbers(down),
                rank: down.shape[0],
                middle: up.shape[1],
                taps,
            }),
            Form::Hadamard(products) => Self::Hadamard(products.clone().map(|(a, kernel, b)| Product {
                left_by_rank: kernel.is_some(),
                left: numbers(&a),
                rank: b.shape[0],
                middle: if kernel.is_some() { a.shape[0] } else { a.shape[1] },
                kernel: kernel.as_ref().map(numbers),
                right: numbers(&b),
                taps,
            })),
            Form::Kronecker { first, second } => {
                let (first, [first_rows, columns]) = matrix(delta, first, 1);
                let second = matrix(delta, second, taps).0;
                let second_rows = rows / first_rows;
                Self::Kronecker {
                    first,
                    columns,
                    second,
                    second_rows,
                    second_columns: width / taps / columns,
                    taps,
                }
            }
            Form::Difference(diff) => Self::Difference(numbers(diff)),
            Form::Scale { factors, on_input } => {
                Self::Scale { factors: numbers(factors), on_input: *on_input, taps }
            }
        }
    }

    /// ΔW's row `o` without its factor, added to `out`, which is zero; `weights` is W's.
    fn fill(&self, o: usize, weights: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        match self {
            Self::LowRank(product) => product.add_row(o, out, scratch),
            Self::Hadamard([first, second]) => {
                let mut other = std::mem::take(&mut scratch.row);
                other.clear();
                other.resize(out.len(), 0.0);
                first.add_row(o, out, scratch);
                second.add_row(o, &mut other, scratch);
                out.iter_mut().zip(&other).for_each(|(x, y)| *x *= y);
                scratch.row = other;
            }
            Self::Kronecker { first, columns, second, second_rows, second_columns, taps } => {
                let width = second_columns * taps;
                let second = &second[o % second_rows * width..][..width];
                let first = &first[o / second_rows * columns..][..*columns];
                for (out, &factor) in out.chunks_exact_mut(width).zip(first) {
                    add_scaled(out, factor, second);
                }
            }
            Self::Difference(diff) => out.copy_from_slice(&diff[o * out.len()..][..out.len()]),
            Self::Scale { factors, on_input, taps } => {
                for (i, (out, w)) in out.iter_mut().zip(weights).enumerate() {
                    *out = w * factors[if *on_input { i / taps } else { o }];
                }
            }
        }
    }
}

/// A matrix in memory, and its rows and columns; `taps` numbers stand at each place of it.
fn matrix(delta: &Delta, matrix: &Matrix, taps: usize) -> (Vec<f32>, [usize; 2]) {
    let product = |product: Product, rows: usize, columns: usize| {
        let mut made = vec![0.0; rows * columns * taps];
        let mut scratch = Scratch::default();
        for (o, row) in made.chunks_exact_mut(columns * taps).enumerate() {
            product.add_row(o, row, &mut scratch);
        }
        (made, [rows, columns])
    };
    match matrix {
        Matrix::Whole(whole) => (delta.numbers(whole), [whole.shape[0], whole.shape[1]]),
        Matrix::Product(a, b) => product(
            Product {
                left: delta.numbers(a),
                left_by_rank: false,
                kernel: None,
                right: delta.numbers(b),
                rank: b.shape[0],
                middle: a.shape[1],
                taps,
            },
            a.shape[0],
            b.shape[1..].iter().product::<usize>() / taps,
        ),
        Matrix::Tucker(a, kernel, b) => product(
            Product {
                left: delta.numbers(a),
                left_by_rank: true,
                kernel: Some(delta.numbers(kernel)),
                right: delta.numbers(b),
                rank: b.shape[0],
                middle: a.shape[0],
                taps,
            },
            a.shape[1],
            b.shape[1],
        ),
    }
}

/// `left · right`, or `Σ left[o,m]·kernel[m,n,·]·right[n,i]`.
struct Product {
    left: Vec<f32>,
    /// Whether `left` is `[middle, rows]`, and not `[rows, middle]`.
    left_by_rank: bool,
    kernel: Option<Vec<f32>>,
    /// `[rank, columns]`.
    right: Vec<f32>,
    rank: usize,
    middle: usize,
    taps: usize,
}

impl Product {
    fn add_row(&self, o: usize, out: &mut [f32], scratch: &mut Scratch) {
        let rows = self.left.len() / self.middle;
        let left = |m: usize| {
            if self.left_by_rank { self.left[m * rows + o] } else { self.left[o * self.middle + m] }
        };
        let columns = self.right.len() / self.rank;
        let Some(kernel) = &self.kernel else {
            let factors: Vec<f32> = (0..self.rank).map(left).collect();
            return add_products(out, &factors, &self.right);
        };
        let taps = self.taps;
        scratch.kernel.clear();
        scratch.kernel.resize(self.rank * taps, 0.0);
        for (m, kernel) in kernel.chunks_exact(self.rank * taps).enumerate() {
            add_scaled(&mut scratch.kernel, left(m), kernel);
        }
        for (kernel, right) in scratch.kernel.chunks_exact(taps).zip(self.right.chunks_exact(columns)) {
            for (out, &right) in out.chunks_exact_mut(taps).zip(right) {
                add_scaled(out, right, kernel);
            }
        }
    }
}

/// `out += Σ factors[r] · rows[r]`, four rows at a time, so that `out` is read and written less
/// often.
fn add_products(out: &mut [f32], factors: &[f32], rows: &[f32]) {
    let width = out.len();
    let (fours, rest) = factors.as_chunks::<4>();
    for (&[a, b, c, d], rows) in fours.iter().zip(rows.chunks_exact(4 * width)) {
        let (first, second) = rows.split_at(2 * width);
        let (ra, rb) = first.split_at(width);
        let (rc, rd) = second.split_at(width);
        for ((((out, ra), rb), rc), rd) in out.iter_mut().zip(ra).zip(rb).zip(rc).zip(rd) {
            *out += a * ra + b * rb + (c * rc + d * rd);
        }
    }
    for (&factor, row) in rest.iter().zip(rows[fours.len() * 4 * width..].chunks_exact(width)) {
        add_scaled(out, factor, row);
    }
}
