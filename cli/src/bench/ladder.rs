//! The tables with which the kernels' own pages begin: a row for each rung, a column for each
//! instruction set.
//!
//! ```text
//! | step | idea | AVX-512 | AVX2 | portable |
//! |---|---|---|---|---|
//! | [`im2col`] | write each patch as … | 286, 52 % | 191, 71 % | 80, 65 % |
//! ```
//!
//! GFLOP/s and share of the peak that was measured beside it (of bf16 where the instruction set has
//! a unit for it, and bf16x3 counts the operations of the product once); GB/s and share of the
//! bandwidth for kernels that read and write.

use aquatint_kernels::Precision;

use super::cases::Case;
use super::machine::Machine;
use super::report::Row;

/// Prints a table for each kernel with a measured example, the instruction sets from the
/// fastest.
pub(super) fn print(cases: &[Case], rows: &[Row], machine: &Machine) {
    let mut kernels: Vec<&str> = cases.iter().map(|case| case.kernel).collect();
    kernels.dedup();
    for kernel in kernels {
        if let Some(table) = table(kernel, cases, rows, machine) {
            println!("\n{table}");
        }
    }
}

fn table(kernel: &str, cases: &[Case], rows: &[Row], machine: &Machine) -> Option<String> {
    let examples = || cases.iter().filter(|case| case.kernel == kernel && case.example);
    let measured = |case: &Case| rows.iter().find(|row| row.name() == case.name());
    let shape = &examples().find(|case| measured(case).is_some())?.shape;
    let mut isas: Vec<&str> = examples().map(|case| case.isa.name()).collect();
    isas.sort_unstable();
    isas.dedup();
    isas.sort_by_key(|isa| std::cmp::Reverse(examples().position(|case| case.isa.name() == *isa)));

    let heads: String = isas.iter().map(|isa| format!(" {isa} |")).collect();
    let mut table =
        format!("{kernel}, {shape}\n\n| step | idea |{heads}\n|---|---|{}", "---|".repeat(isas.len()));
    let mut rungs = Vec::new();
    for case in examples() {
        let rung = (case.rung, case.precision);
        if rungs.contains(&rung) {
            continue;
        }
        rungs.push(rung);
        let cell = |isa: &&str| {
            let case =
                examples().find(|other| (other.rung, other.precision) == rung && other.isa.name() == *isa);
            let cell = case.and_then(measured).map(|row| cell(row, machine)).unwrap_or_default();
            format!(" {cell} |")
        };
        let cells: String = isas.iter().map(cell).collect();
        let precision = match case.precision {
            Precision::F32 => String::new(),
            precision => format!(", {precision}"),
        };
        table.push_str(&format!("\n| [`{}`]{precision} | {} |{cells}", case.rung, case.idea));
    }
    Some(table)
}

/// "286, 52 %"
fn cell(row: &Row, machine: &Machine) -> String {
    let with_share = |speed: f64, share: Option<f64>| match share {
        Some(share) => format!("{:.0}, {:.0} %", speed / 1e9, 100.0 * share),
        None => format!("{:.0}", speed / 1e9),
    };
    match row.flops > 0.0 {
        true => with_share(row.flops_per_second(), row.share_of_peak(machine)),
        false => {
            let bound = row.bound(machine).map(|bound| bound.seconds / row.timing.seconds);
            with_share(row.bytes / row.timing.seconds, bound)
        }
    }
}

#[cfg(test)]
mod tests {
    use aquatint_kernels::Isa;

    use super::super::cases::{Family, Isas, Layer, Rung, rung};
    use super::super::report::tests::row;
    use super::super::roofline::Work;
    use super::super::roofline::tests::machine;
    use super::*;

    #[derive(Clone, Copy)]
    struct Only;

    impl Layer for Only {
        fn shape(&self) -> String {
            "3×3".into()
        }
        fn count(&self) -> usize {
            1
        }
        fn work(&self, _: Precision) -> Work {
            Work { flops: 2e10, bytes: 1e7 }
        }
    }

    static RUNGS: [Rung<Only>; 3] = [
        rung("im2col", "patches", |_, _| Box::new(|| ())),
        rung("indirect", "pointers", |_, _| Box::new(|| ())),
        Rung { precision: Precision::Bf16, ..rung("indirect", "rounded", |_, _| Box::new(|| ())) },
    ];

    #[test]
    fn a_table_has_a_row_for_each_rung_and_says_nothing_of_what_was_not_measured() {
        let isa = Isa::portable();
        let isas = Isas { single: vec![isa], pairs: vec![isa] };
        let cases = Family { kernel: "conv2d", networks: vec![], example: Only, rungs: &RUNGS }.cases(&isas);
        let mut machine = machine();
        machine.peaks.iter_mut().for_each(|peak| peak.isa = isa.name().into());
        let rows = [Row { precision: Precision::Bf16.into(), ..row("3×3", 0.4, 0.0) }, row("3×3", 0.2, 0.0)];
        let rows = rows.map(|row| Row { isa: isa.name().into(), ..row });
        let expected = "conv2d, 3×3\n\n| step | idea | portable |\n|---|---|---|\n\
                        | [`im2col`] | patches |  |\n| [`indirect`] | pointers | 100, 50 % |\n\
                        | [`indirect`], bf16 | rounded | 50, 25 % |";
        assert_eq!(table("conv2d", &cases, &rows, &machine).as_deref(), Some(expected));
        assert_eq!(table("conv2d", &cases, &[], &machine), None);
    }
}
