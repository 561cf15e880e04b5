//! The roofline as a drawing: speed over intensity, both logarithmic, a dot for each kernel.
//!
//! Slopes are bandwidths, flat lines the peaks of the instruction sets: one roof for f32, and a
//! higher one for bf16 where the CPU has a unit for it. A browser shows a dot's name when the mouse
//! is on it. Products in bf16 are rings; in bf16x3, whose operations are counted once, they can
//! reach a third of the roof.

use std::fmt::Write as _;

use aquatint_kernels::Precision;

use super::report::{Report, Row};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 600.0;
/// Room for the axes' labels.
const MARGIN: f64 = 60.0;
/// Colours of instruction sets, from the slowest.
const COLOURS: [&str; 5] = ["#888888", "#2e7d32", "#1565c0", "#c62828", "#6a1b9a"];

/// Decades from the logarithm `low` to `high`.
#[derive(Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// Whole decades around all values; none of them may be zero.
    fn around(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) =
            values.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x.log10()), high.max(x.log10())));
        Self { low: low.floor(), high: high.ceil().max(low.floor() + 1.0) }
    }

    /// 0 at the lower end, 1 at the upper one.
    fn place(self, value: f64) -> f64 {
        ((value.log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn decades(self) -> impl Iterator<Item = i32> {
        self.low as i32..=self.high as i32
    }
}

/// The drawing, or `None` if there is nothing to draw: no kernel whose operations and bytes are
/// known.
pub(super) fn roofline(report: &Report) -> Option<String> {
    let drawn = |row: &&Row| row.flops > 0.0 && row.bytes > 0.0;
    let rows: Vec<&Row> = report.rows.iter().filter(drawn).collect();
    let threads = rows.iter().map(|row| row.threads).max()?;
    let rows: Vec<&Row> = rows.into_iter().filter(|row| row.threads == threads).collect();
    let machine = &report.machine;
    let peaks: Vec<_> = machine.peaks.iter().filter(|peak| peak.threads == threads).collect();
    let levels: Vec<_> = machine.bandwidths.iter().filter(|level| level.threads == threads).collect();
    let highest = peaks.iter().map(|peak| peak.flops_per_second).reduce(f64::max)?;

    let x = Axis::around(rows.iter().map(|row| row.work().intensity()).chain([0.1, 1000.0]));
    let y = Axis::around(rows.iter().map(|row| row.flops_per_second()).chain([highest]));
    let at = |intensity: f64, speed: f64| {
        (
            MARGIN + x.place(intensity) * (WIDTH - 2.0 * MARGIN),
            HEIGHT - MARGIN - y.place(speed) * (HEIGHT - 2.0 * MARGIN),
        )
    };
    let colour =
        |isa: &str| COLOURS[peaks.iter().position(|peak| peak.isa == isa).unwrap_or(0) % COLOURS.len()];

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"14\">aquatint {}: {}, {threads} threads</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">operations for each byte of inputs and outputs</text>\n",
        report.version,
        escaped(&machine.cpu),
        WIDTH / 2.0,
        HEIGHT - 16.0,
    );
    let mut line = |(x1, y1): (f64, f64), (x2, y2): (f64, f64), style: &str, label: &str, raised: f64| {
        let _ = writeln!(out, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>");
        // At the upper end of a slope, where there is room; at the left end of a flat line.
        let (x, y) = if y2 < y1 { (x2, y2) } else { (x1, y1) };
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 4.0,
            y - 4.0 - raised,
            escaped(label)
        );
    };
    let power = |exponent: i32| 10f64.powi(exponent);
    let (left, right, bottom, top) =
        (10f64.powf(x.low), 10f64.powf(x.high), 10f64.powf(y.low), 10f64.powf(y.high));
    for decade in x.decades() {
        line(
            at(power(decade), bottom),
            at(power(decade), top),
            "stroke=\"#eeeeee\"",
            &format!("{}", power(decade)),
            0.0,
        );
    }
    for decade in y.decades() {
        let label = format!("{} GFLOP/s", power(decade - 9));
        line(at(left, power(decade)), at(right, power(decade)), "stroke=\"#eeeeee\"", &label, 0.0);
    }
    for (i, level) in levels.iter().enumerate() {
        // From the lower or left edge to where the slope meets the highest peak.
        let slope = level.bytes_per_second;
        let start = left.max(bottom / slope);
        let end = (highest / slope).max(start);
        let label = format!("{} {:.0} GB/s", level.level, slope / 1e9);
        line(
            at(start, start * slope),
            at(end, end * slope),
            "stroke=\"#999999\"",
            &label,
            13.0 * (i + 1) as f64,
        );
    }
    let fastest = levels.iter().map(|level| level.bytes_per_second).fold(1.0, f64::max);
    for peak in &peaks {
        let (speed, style) =
            (peak.flops_per_second, format!("stroke=\"{}\" stroke-width=\"2\"", colour(&peak.isa)));
        let label = format!("{} {:.0} GFLOP/s", peak.isa, speed / 1e9);
        line(at((speed / fastest).max(left), speed), at(right, speed), &style, &label, 0.0);
    }
    for row in rows {
        let (cx, cy) = at(row.work().intensity(), row.flops_per_second());
        let name = format!("{}: {:.1} GFLOP/s", row.name(), row.flops_per_second() / 1e9);
        let _ = writeln!(
            out,
            "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\" {}><title>{}</title></circle>",
            dot(row.precision.products(), colour(&row.isa)),
            escaped(&name)
        );
    }
    out.push_str("</svg>\n");
    Some(out)
}

/// A disc for f32, a ring for bf16, a thin one for bf16x3.
fn dot(precision: Precision, colour: &str) -> String {
    let ring = |width: f64| {
        format!("fill=\"white\" fill-opacity=\"0.6\" stroke=\"{colour}\" stroke-width=\"{width}\"")
    };
    match precision {
        Precision::F32 => format!("fill=\"{colour}\" fill-opacity=\"0.6\""),
        Precision::Bf16 => ring(2.5),
        Precision::Bf16x3 => ring(1.0),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::machine::Peak;
    use super::super::report::tests::row;
    use super::super::roofline::tests::machine;
    use super::*;

    fn report(rows: Vec<Row>) -> Report {
        Report { version: "1".into(), machine: machine(), rows }
    }

    #[test]
    fn each_kernel_is_a_dot_and_each_limit_a_line() {
        let copy = Row { flops: 0.0, ..row("copy", 0.1, 0.0) };
        let one_thread = Row { threads: 1, ..row("alone", 0.1, 0.0) };
        let svg = roofline(&report(vec![row("a & b", 0.2, 0.0), row("c", 0.1, 0.0), copy, one_thread]))
            .expect("dots");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("a &amp; b: 100.0 GFLOP/s"));
        for label in ["fast 200 GFLOP/s", "L2 400 GB/s", "memory 10 GB/s", "a CPU, 2 threads"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    }

    #[test]
    fn both_roofs_are_drawn_and_each_precision_has_its_dots() {
        let mut machine = machine();
        machine.peaks.push(Peak { isa: "tiles".into(), threads: 2, flops_per_second: 3e12 });
        let in_tiles = |precision: Precision| Row {
            precision: precision.into(),
            isa: "tiles".into(),
            ..row("3×3", 0.01, 0.0)
        };
        let rows = vec![row("3×3", 0.2, 0.0), in_tiles(Precision::Bf16), in_tiles(Precision::Bf16x3)];
        let svg = roofline(&Report { version: "1".into(), machine, rows }).expect("dots");
        assert!(svg.contains("fast 200 GFLOP/s") && svg.contains("tiles 3000 GFLOP/s"), "{svg}");
        let rings = |width: &str| {
            svg.matches(&format!("stroke=\"#2e7d32\" stroke-width=\"{width}\"><title>")).count()
        };
        assert_eq!((svg.matches("<circle").count(), rings("2.5"), rings("1")), (3, 1, 1), "{svg}");
    }

    #[test]
    fn twice_the_speed_stands_higher_by_the_same_distance_everywhere() {
        let axis = Axis::around([1e9, 1e11].into_iter());
        assert_eq!((axis.place(1e9), axis.place(1e10), axis.place(1e11)), (0.0, 0.5, 1.0));
        let step = |x: f64| axis.place(2.0 * x) - axis.place(x);
        assert!((step(2e9) - step(3e10)).abs() < 1e-12);
    }

    #[test]
    fn without_a_kernel_there_is_no_drawing() {
        assert_eq!(roofline(&report(vec![])), None);
        assert_eq!(roofline(&report(vec![Row { flops: 0.0, ..row("copy", 0.1, 0.0) }])), None);
    }
}
