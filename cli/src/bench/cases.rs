//! What can be measured: every kernel, each step of its ladder, on the layers of Stable Diffusion.
//!
//! A kernel is a [`Family`]: its layers, and its rungs from the definition's nearest relative to
//! the production form. A new rung is one line: its name, its idea as the kernel's own doc has it,
//! and a closure that prepares operands and gives the loop's body. Nothing is allocated before a
//! case is due.

use aquatint_kernels::{Isa, Precision};
use aquatint_model::Precisions;

use super::roofline::Work;

/// The body of the measured loop.
pub(super) type Run = Box<dyn FnMut()>;

/// A layer as the bench sees it.
pub(super) trait Layer: Copy + 'static {
    /// In words: "3×3 640→640 @32 ×2".
    fn shape(&self) -> String;
    /// Layers of this shape in a UNet step, or in a decoded picture.
    fn count(&self) -> usize;
    /// What it has to do; weights for products in bf16 have been rounded or split before.
    fn work(&self, precision: Precision) -> Work;
}

/// A step of a ladder.
pub(super) struct Rung<L> {
    /// Its file.
    pub(super) name: &'static str,
    /// The idea, in the words of the kernel's `mod.rs`.
    pub(super) idea: &'static str,
    /// Whether it works on one thread only.
    pub(super) single_thread: bool,
    /// Whether a layer is not for it: too large, or of another form.
    pub(super) unfit: fn(&L) -> bool,
    /// Of its products.
    pub(super) precision: Precision,
    /// Makes operands and gives the body of the loop.
    pub(super) prepare: fn(L, Isa) -> Run,
}

/// A rung that works on all threads and on all layers.
pub(super) const fn rung<L>(name: &'static str, idea: &'static str, prepare: fn(L, Isa) -> Run) -> Rung<L> {
    let precision = Precision::F32;
    Rung { name, idea, single_thread: false, unfit: |_| false, precision, prepare }
}

/// A kernel's layers and rungs.
pub(super) struct Family<L: 'static> {
    /// Its folder.
    pub(super) kernel: &'static str,
    /// All layers, those of each network together.
    pub(super) networks: Vec<Vec<L>>,
    /// The layer on which the rungs are compared.
    pub(super) example: L,
    /// From the slowest to the one that is used, those of a precision together.
    pub(super) rungs: &'static [Rung<L>],
}

/// One layer on one rung and one instruction set.
pub(super) struct Case {
    pub(super) kernel: &'static str,
    pub(super) rung: &'static str,
    pub(super) idea: &'static str,
    pub(super) precision: Precision,
    pub(super) isa: Isa,
    pub(super) shape: String,
    pub(super) count: usize,
    pub(super) work: Work,
    pub(super) single_thread: bool,
    /// Whether this is the layer on which the rungs are compared.
    pub(super) example: bool,
    /// Whether this is what a picture is made with: the last rung that the layer has, on the
    /// fastest instruction set. Of bf16 only if that has a unit for it.
    pub(super) used: bool,
    /// Whether the layer is one of the largest, which make up half of the kernel's work in its
    /// network.
    pub(super) large: bool,
    pub(super) prepare: Box<dyn Fn() -> Run>,
}

impl Case {
    /// See [`Row::name`](super::report::Row::name).
    pub(super) fn name(&self) -> String {
        name(self.kernel, self.rung, self.precision, self.isa.name(), &self.shape)
    }
}

/// "conv2d/indirect/avx512 3×3 640→640 @32 ×2", "conv2d/indirect_tiles/bf16/amx 3×3 640→640 @32
/// ×2".
pub(super) fn name(
    kernel: &str,
    rung: &str,
    precision: impl Into<Precisions>,
    isa: &str,
    shape: &str,
) -> String {
    let precision = precision.into();
    match precision == Precisions::default() {
        true => format!("{kernel}/{rung}/{isa} {shape}"),
        false => format!("{kernel}/{rung}/{precision}/{isa} {shape}"),
    }
}

/// What there is to compute with, each list from the slowest to the one that pictures are made
/// with.
pub(super) struct Isas {
    /// In f32.
    pub(super) single: Vec<Isa>,
    /// In bf16: the units beside the best vectors, and those vectors alone, which stand in where
    /// there is no unit.
    pub(super) pairs: Vec<Isa>,
}

impl Isas {
    /// All of this machine, if pictures are made with `chosen`.
    pub(super) fn of(chosen: Isa) -> Self {
        let to_the_end = |mut isas: Vec<Isa>, best| {
            isas.retain(|&isa| isa != best);
            isas.push(best);
            isas
        };
        let best = chosen.for_f32();
        let pairs = Isa::all().into_iter().filter(|isa| isa.for_f32() == best).collect();
        Self { single: to_the_end(Isa::available(), best), pairs: to_the_end(pairs, chosen) }
    }

    /// Those for products in this precision.
    pub(super) fn of_precision(&self, precision: Precision) -> &[Isa] {
        if precision == Precision::F32 { &self.single } else { &self.pairs }
    }

    /// Each once: what has a peak of its own.
    pub(super) fn peaks(&self) -> Vec<Isa> {
        self.single.iter().chain(self.pairs.iter().filter(|isa| has_unit(**isa))).copied().collect()
    }
}

/// Whether the instruction set has a unit for bf16.
fn has_unit(isa: Isa) -> bool {
    isa != isa.for_f32()
}

/// Of the work of a network's layers, the share that the large ones make up.
const LARGE: f64 = 0.5;

/// The shapes of the largest layers, all of their kind counted together, that make up [`LARGE`] of
/// the work.
fn large<L: Layer>(layers: &[L]) -> Vec<String> {
    let share = |layer: &L| {
        let Work { flops, bytes } = layer.work(Precision::F32);
        layer.count() as f64 * if flops > 0.0 { flops } else { bytes }
    };
    let all: f64 = layers.iter().map(share).sum();
    let mut layers: Vec<_> = layers.iter().map(|layer| (share(layer), layer.shape())).collect();
    layers.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut before = 0.0;
    let missing = layers.into_iter().take_while(|(share, _)| {
        let wanted = before < LARGE * all;
        before += share;
        wanted
    });
    missing.map(|(_, shape)| shape).collect()
}

impl<L: Layer> Family<L> {
    /// All cases, the example first.
    pub(super) fn cases(self, isas: &Isas) -> Vec<Case> {
        let large: Vec<String> = self.networks.iter().flat_map(|layers| large(layers)).collect();
        let example = self.example.shape();
        let others = self.networks.into_iter().flatten().filter(|layer| layer.shape() != example);
        let mut cases = Vec::new();
        for layer in std::iter::once(self.example).chain(others) {
            let rungs: Vec<_> = self.rungs.iter().filter(|rung| !(rung.unfit)(&layer)).collect();
            for (i, rung) in rungs.iter().enumerate() {
                let precision = rung.precision;
                let last = rungs.get(i + 1).is_none_or(|next| next.precision != precision);
                let isas = isas.of_precision(precision);
                for (j, &isa) in isas.iter().enumerate() {
                    let real = precision == Precision::F32 || has_unit(isa);
                    let prepare = rung.prepare;
                    cases.push(Case {
                        kernel: self.kernel,
                        rung: rung.name,
                        idea: rung.idea,
                        precision,
                        isa,
                        shape: layer.shape(),
                        count: layer.count(),
                        work: layer.work(precision),
                        single_thread: rung.single_thread,
                        example: layer.shape() == example,
                        used: last && real && j + 1 == isas.len(),
                        large: large.contains(&layer.shape()),
                        prepare: Box::new(move || prepare(layer, isa)),
                    });
                }
            }
        }
        cases
    }
}

/// Whether `name` contains each of the words, in any order.
pub(super) fn matches(name: &str, words: &[String]) -> bool {
    let name = name.to_lowercase();
    words.iter().flat_map(|words| words.split_whitespace()).all(|word| name.contains(&word.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Square(usize);

    impl Layer for Square {
        fn shape(&self) -> String {
            format!("@{}", self.0)
        }
        fn count(&self) -> usize {
            1
        }
        fn work(&self, _: Precision) -> Work {
            Work { flops: self.0 as f64, bytes: 4.0 }
        }
    }

    static RUNGS: [Rung<Square>; 4] = [
        Rung { unfit: |layer| layer.0 > 2, ..rung("slow", "", |_, _| Box::new(|| ())) },
        rung("fast", "", |_, _| Box::new(|| ())),
        Rung { unfit: |layer| layer.0 < 3, ..rung("for large ones", "", |_, _| Box::new(|| ())) },
        Rung { precision: Precision::Bf16, ..rung("fast", "", |_, _| Box::new(|| ())) },
    ];

    fn squares(isas: &Isas) -> Vec<Case> {
        let networks = vec![vec![Square(1), Square(2), Square(3)]];
        Family { kernel: "k", networks, example: Square(2), rungs: &RUNGS }.cases(isas)
    }

    #[test]
    fn each_layer_meets_each_rung_and_instruction_set_unless_it_is_unfit() {
        let isas = Isas::of(Isa::best());
        let (single, pairs) = (isas.single.len(), isas.pairs.len());
        let cases = squares(&isas);
        assert_eq!(cases.len(), 6 * single + 3 * pairs);
        assert!(cases[0].example && cases[0].name() == format!("k/slow/{} @2", isas.single[0]));
        let used = |precision| {
            let used = cases.iter().filter(move |case| case.used && case.precision == precision);
            used.map(|case| (case.shape.as_str(), case.rung)).collect::<Vec<_>>()
        };
        assert_eq!(used(Precision::F32), [("@2", "fast"), ("@1", "fast"), ("@3", "for large ones")]);
        assert_eq!(used(Precision::Bf16).len(), if has_unit(Isa::best()) { 3 } else { 0 });
        assert_eq!(cases.iter().filter(|case| case.example).count(), 2 * single + pairs);
    }

    #[test]
    fn the_largest_layers_are_those_that_make_up_half_of_the_work() {
        // 1 + 2 + 3 operations.
        let cases = squares(&Isas::of(Isa::best()));
        for (shape, expected) in [("@1", false), ("@2", false), ("@3", true)] {
            assert!(cases.iter().filter(|case| case.shape == shape).all(|case| case.large == expected));
        }
    }

    #[test]
    fn pictures_are_made_with_the_last_of_each_list() {
        for chosen in Isa::all() {
            let isas = Isas::of(chosen);
            assert_eq!(isas.single.len(), Isa::available().len());
            assert_eq!((isas.single.last(), isas.pairs.last()), (Some(&chosen.for_f32()), Some(&chosen)));
            assert!(isas.pairs.contains(&chosen.for_f32()), "the vectors alone: {:?}", isas.pairs);
            let mut names: Vec<&str> = isas.peaks().into_iter().map(Isa::name).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert!(names.len() == all && names.contains(&chosen.name()), "{names:?}");
        }
    }

    #[test]
    fn a_filter_names_words_in_any_order() {
        let name = "conv2d/indirect/avx512 3×3 640→640 @32 ×2";
        let words = |text: &[&str]| text.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        for (filter, expected) in [
            (&[][..], true),
            (&["conv2d"], true),
            (&["AVX512", "conv"], true),
            (&["@32 indirect"], true),
            (&["im2col"], false),
            (&["conv2d", "@64"], false),
        ] {
            assert_eq!(matches(name, &words(filter)), expected, "{filter:?}");
        }
    }
}
