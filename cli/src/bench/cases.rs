//! What can be measured: every kernel, each step of its ladder, on the layers of Stable Diffusion.
//!
//! A kernel is a [`Family`]: its layers, and its rungs from the definition's nearest relative to the production form. A new rung is one
//! line: its name, its idea as the kernel's own doc has it, and a closure that prepares operands and gives the loop's body.
//! Nothing is allocated before a case is due.

use aquatint_kernels::Isa;

use super::roofline::Work;

/// The body of the measured loop.
pub(super) type Run = Box<dyn FnMut()>;

/// A layer as the bench sees it.
pub(super) trait Layer: Copy + 'static {
    /// In words: "3×3 640→640 @32 ×2".
    fn shape(&self) -> String;
    /// Layers of this shape in a UNet step, or in a decoded picture.
    fn count(&self) -> usize;
    /// What it has to do.
    fn work(&self) -> Work;
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
    /// Makes operands and gives the body of the loop.
    pub(super) prepare: fn(L, Isa) -> Run,
}

/// A rung that works on all threads and on all layers.
pub(super) const fn rung<L>(name: &'static str, idea: &'static str, prepare: fn(L, Isa) -> Run) -> Rung<L> {
    Rung { name, idea, single_thread: false, unfit: |_| false, prepare }
}

/// A kernel's layers and rungs.
pub(super) struct Family<L: 'static> {
    /// Its folder.
    pub(super) kernel: &'static str,
    /// All layers.
    pub(super) layers: Vec<L>,
    /// The layer on which the rungs are compared.
    pub(super) example: L,
    /// From the slowest to the one that is used.
    pub(super) rungs: &'static [Rung<L>],
}

/// One layer on one rung and one instruction set.
pub(super) struct Case {
    pub(super) kernel: &'static str,
    pub(super) rung: &'static str,
    pub(super) idea: &'static str,
    pub(super) isa: Isa,
    pub(super) shape: String,
    pub(super) count: usize,
    pub(super) work: Work,
    pub(super) single_thread: bool,
    /// Whether this is the layer on which the rungs are compared.
    pub(super) example: bool,
    /// Whether this is what a picture is made with: the last rung that the layer has, on the fastest instruction set.
    pub(super) used: bool,
    pub(super) prepare: Box<dyn Fn() -> Run>,
}

impl Case {
    /// See [`Row::name`](super::report::Row::name).
    pub(super) fn name(&self) -> String {
        format!("{}/{}/{} {}", self.kernel, self.rung, self.isa, self.shape)
    }
}

impl<L: Layer> Family<L> {
    /// All cases, the example first.
    pub(super) fn cases(self, isas: &[Isa]) -> Vec<Case> {
        let example = self.example.shape();
        let others = self.layers.into_iter().filter(|layer| layer.shape() != example);
        let mut cases = Vec::new();
        for layer in std::iter::once(self.example).chain(others) {
            let rungs: Vec<_> = self.rungs.iter().filter(|rung| !(rung.unfit)(&layer)).collect();
            for (i, rung) in rungs.iter().enumerate() {
                for (j, &isa) in isas.iter().enumerate() {
                    let prepare = rung.prepare;
                    cases.push(Case {
                        kernel: self.kernel,
                        rung: rung.name,
                        idea: rung.idea,
                        isa,
                        shape: layer.shape(),
                        count: layer.count(),
                        work: layer.work(),
                        single_thread: rung.single_thread,
                        example: layer.shape() == example,
                        used: i + 1 == rungs.len() && j + 1 == isas.len(),
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
        fn work(&self) -> Work {
            Work { flops: self.0 as f64, bytes: 4.0 }
        }
    }

    static RUNGS: [Rung<Square>; 3] = [
        Rung { unfit: |layer| layer.0 > 2, ..rung("slow", "", |_, _| Box::new(|| ())) },
        rung("fast", "", |_, _| Box::new(|| ())),
        Rung { unfit: |layer| layer.0 < 3, ..rung("for large ones", "", |_, _| Box::new(|| ())) },
    ];

    #[test]
    fn each_layer_meets_each_rung_and_instruction_set_unless_it_is_unfit() {
        let isas = Isa::available();
        let layers = vec![Square(1), Square(2), Square(3)];
        let cases = Family { kernel: "k", layers, example: Square(2), rungs: &RUNGS }.cases(&isas);
        assert_eq!(cases.len(), 6 * isas.len());
        assert!(cases[0].example && cases[0].name() == format!("k/slow/{} @2", isas[0]));
        let used: Vec<_> =
            cases.iter().filter(|case| case.used).map(|case| (case.shape.as_str(), case.rung)).collect();
        assert_eq!(used, [("@2", "fast"), ("@1", "fast"), ("@3", "for large ones")]);
        assert_eq!(cases.iter().filter(|case| case.example).count(), 2 * isas.len());
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
