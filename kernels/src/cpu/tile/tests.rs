use aquatint_tensor::Tensor;

use super::{
    BTile, MatmulUnit, TILE_K, TILE_M, TileJob, TileRow, UnitOp, ZERO_TILE, split_panel, split_rows,
};
use crate::Isa;
use crate::cpu::simd::Simd;
use crate::gemm::{NR, PanelRow, Row, reference};
use crate::testing::{assert_close, random, to_bf16};

/// A product of up to 32 rows by 32 columns as a single job, in the parts that are asked for.
struct OneJob<'a> {
    a: &'a Tensor<f32, 2>,
    /// `[columns, depth]`
    b: &'a Tensor<f32, 2>,
    before: Option<f32>,
    /// Steps that are fetched meanwhile.
    ahead: Option<usize>,
}

impl UnitOp for OneJob<'_> {
    type Output = Tensor<f32, 2>;
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) -> Tensor<f32, 2> {
        let ([rows, depth], [columns, _]) = (self.a.shape(), self.b.shape());
        let steps = depth.div_ceil(TILE_K);
        let mut a = vec![ZERO_TILE; 2 * steps];
        let (upper, lower) = a.split_at_mut(steps);
        let a_rows: Vec<&[f32]> = (0..rows).map(|m| &self.a.as_slice()[m * depth..][..depth]).collect();
        let middle = rows.min(TILE_M);
        for (rows, tiles) in [(0..middle, &mut *upper), (middle..rows, &mut *lower)] {
            let mut planes: Vec<&mut [TileRow]> = tiles.iter_mut().map(|tile| &mut tile[..]).collect();
            split_rows(unit, &a_rows[rows], (&mut planes, &mut []), 0);
        }
        let panel: Vec<PanelRow> = (0..depth)
            .map(|k| Row(std::array::from_fn(|n| if n < columns { self.b[[n, k]] } else { 0.0 })))
            .collect();
        let mut b = vec![BTile::ZERO; steps];
        split_panel(unit, &panel, &mut b, &mut []);

        let mut sums =
            vec![Row([self.before.unwrap_or(f32::NAN); NR]); if rows > TILE_M { 2 * TILE_M } else { TILE_M }];
        let [upper, lower] = [upper, lower].map(|tiles| tiles.iter().collect::<Vec<_>>());
        let lower = (rows > TILE_M).then_some(&lower[..]);
        let last_depth = depth - (steps.max(1) - 1) * TILE_K;
        let job = TileJob { upper: &upper, lower, b: &b, first: self.before.is_none(), last_depth };
        match self.ahead {
            None => unit.multiply(s, job, &mut sums),
            Some(ahead) => unit.multiply_ahead(s, job, &vec![BTile::ZERO; ahead], &mut sums),
        }
        Tensor::from_fn([rows, columns], |[m, n]| sums[m][n])
    }
}

#[test]
fn every_unit_does_the_same_job() {
    for [rows, depth, columns] in
        [[1, 1, 1], [16, 32, 32], [17, 33, 31], [32, 96, 32], [20, 320, 7], [5, 0, 3]]
    {
        // Numbers that are bf16 already: then products are exact, and only the order of the sums
        // differs.
        let [a, b] = [random([rows, depth], 1), random([columns, depth], 2)].map(|x| to_bf16(&x));
        let expected = reference::product(a.view(), b.view());
        for isa in Isa::all_and_emulated() {
            let name = format!("{rows}×{depth}×{columns}, {isa}");
            let found = isa.run_with_unit(OneJob { a: &a, b: &b, before: None, ahead: None });
            assert_close(&name, &found, &expected, 1e-6);
            let found = isa.run_with_unit(OneJob { a: &a, b: &b, before: Some(3.0), ahead: None });
            assert_close(&format!("{name}, on top of 3"), &found, &expected.map(|x| x + 3.0), 1e-6);
        }
    }
}

#[test]
fn jobs_of_any_depth_are_the_same_whatever_is_fetched_meanwhile() {
    for (rows, steps) in
        [TILE_M, 2 * TILE_M].into_iter().flat_map(|rows| (0..10).map(move |steps| (rows, steps)))
    {
        let [a, b] = [rows, NR].map(|lines| to_bf16(&random([lines, steps * TILE_K], lines as u64)));
        let expected = reference::product(a.view(), b.view());
        for isa in Isa::all_and_emulated() {
            for (before, ahead) in [None, Some(3.0)].into_iter().flat_map(|b| [0, 1, 7].map(|n| (b, n))) {
                let found = isa.run_with_unit(OneJob { a: &a, b: &b, before, ahead: Some(ahead) });
                let name = format!("{rows} rows, {steps} steps on {before:?}, {ahead} ahead, {isa}");
                assert_close(&name, &found, &expected.map(|x| x + before.unwrap_or(0.0)), 1e-6);
            }
        }
    }
}

#[test]
fn every_unit_rounds_to_the_same_numbers() {
    // The identity as B shows what became of A, and the other way round.
    let identity = Tensor::from_fn([32, 32], |[i, j]| if i == j { 1.0 } else { 0.0 });
    let mut x = random([32, 32], 3).map(|x| x * 1e3);
    x[[0, 0]] = f32::from_bits(0x3F80_8000); // ties
    x[[0, 1]] = f32::from_bits(0x3F81_8000);
    let expected = to_bf16(&x);
    for isa in Isa::all_and_emulated() {
        let as_a = isa.run_with_unit(OneJob { a: &x, b: &identity, before: None, ahead: None });
        assert_close(&format!("A, {isa}"), &as_a, &expected, 0.0);
        let as_b = isa.run_with_unit(OneJob { a: &identity, b: &x, before: None, ahead: None });
        assert_close(&format!("B, {isa}"), &as_b, &expected.view().permute([1, 0]).to_tensor(), 0.0);
    }
}

/// An operation that asks for the unit once more.
#[cfg(target_arch = "x86_64")]
struct Nested(Isa);

#[cfg(target_arch = "x86_64")]
impl UnitOp for Nested {
    type Output = ();
    fn eval<S: Simd, U: MatmulUnit>(self, _: S, unit: U) {
        match unit.amx() {
            Some(_) => self.0.run_with_unit(OneAfterTheOther),
            None => panic!("configured already: there is nothing to configure"),
        }
    }
}

/// Nothing; a second one can follow it.
#[cfg(target_arch = "x86_64")]
struct OneAfterTheOther;

#[cfg(target_arch = "x86_64")]
impl UnitOp for OneAfterTheOther {
    type Output = ();
    fn eval<S: Simd, U: MatmulUnit>(self, _: S, _: U) {}
}

#[test]
#[cfg(target_arch = "x86_64")]
#[should_panic(expected = "configured already")]
fn tile_registers_are_configured_once_at_a_time() {
    let isa = Isa::all_and_emulated().pop().expect("the portable one is always there");
    isa.run_with_unit(OneAfterTheOther);
    isa.run_with_unit(OneAfterTheOther);
    isa.run_with_unit(Nested(isa));
}

#[test]
fn nan_and_infinity_are_not_hidden() {
    for bad in [f32::NAN, f32::from_bits(0x7FFF_FFFF), f32::INFINITY] {
        let mut a = Tensor::full([3, 40], 1.0);
        a[[1, 35]] = bad;
        let b = Tensor::full([2, 40], 1.0);
        for isa in Isa::all_and_emulated() {
            let found = isa.run_with_unit(OneJob { a: &a, b: &b, before: None, ahead: None });
            assert!(!found[[1, 1]].is_finite() && found[[0, 0]] == 40.0, "{bad}, {isa}: {found:?}");
        }
    }
}
