//! The kernels that can be measured, rung by rung.

use aquatint_kernels::conv2d::upsample::{self, filtered, phases, two_steps};
use aquatint_kernels::conv2d::{self, Geometry, im2col, indirect, indirect_tiles, winograd};
use aquatint_kernels::gemm::{self, Epilogue, row_at_a_time};
use aquatint_kernels::norm::group::{Activation, GroupNorm};
use aquatint_kernels::{
    Isa, Precision, activation, attention, linear, norm::group as group_norm, norm::layer as layer_norm,
    softmax,
};
use aquatint_model::tools::shapes::{self, Attention, Conv, FeatureMap, Linear, Upsample};
use aquatint_tensor::{Tensor, f16};

use super::cases::{Case, Family, Isas, Layer, Run, Rung, rung};
use super::roofline::Work;

/// Every case on these instruction sets.
pub(super) fn cases(isas: &Isas) -> Vec<Case> {
    let (images, vae_images) = shapes::SD_IMAGES.split_at(4);
    let images = || vec![images.to_vec(), vae_images.to_vec()];
    let example = shapes::SD_IMAGES[0];
    let passes: [(&'static str, &'static [Rung<FeatureMap>]); 8] = [
        ("group_norm", &GROUP_NORM),
        ("layer_norm", &LAYER_NORM),
        ("softmax", &SOFTMAX),
        ("silu", &SILU),
        ("gelu", &GELU),
        ("quick_gelu", &QUICK_GELU),
        ("geglu", &GEGLU),
        ("upsample", &UPSAMPLE),
    ];
    let convs = vec![shapes::UNET_CONVS.to_vec(), shapes::VAE_CONVS.to_vec()];
    let (upsamples, vae_upsamples) = shapes::UPSAMPLES.split_at(3);
    let upsamples = vec![upsamples.to_vec(), vae_upsamples.to_vec()];
    let gated_linears: Vec<_> =
        shapes::UNET_LINEARS.into_iter().filter(|x| x.out_features == 8 * x.in_features).map(Gated).collect();
    let attentions = vec![shapes::UNET_ATTENTIONS.to_vec(), vec![shapes::VAE_ATTENTION]];
    let mut cases = [
        Family {
            kernel: "gemm",
            networks: vec![shapes::UNET_LINEARS.to_vec()],
            example: shapes::UNET_LINEARS[8],
            rungs: &GEMM,
        }
        .cases(isas),
        Family {
            kernel: "linear_geglu",
            networks: vec![gated_linears.clone()],
            example: gated_linears[0],
            rungs: &LINEAR_GEGLU,
        }
        .cases(isas),
        Family { kernel: "conv2d", networks: convs, example: shapes::UNET_CONVS[8], rungs: &CONV2D }
            .cases(isas),
        Family {
            kernel: "upsample_conv",
            networks: upsamples,
            example: shapes::UPSAMPLES[2],
            rungs: &UPSAMPLE_CONV,
        }
        .cases(isas),
        Family {
            kernel: "attention",
            networks: attentions,
            example: shapes::UNET_ATTENTIONS[0],
            rungs: &ATTENTION,
        }
        .cases(isas),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    for (kernel, rungs) in passes {
        cases.extend(Family { kernel, networks: images(), example, rungs }.cases(isas));
    }
    cases
}

/// The form in use of a kernel whose products can be in bf16.
const fn in_bf16<L>(name: &'static str, prepare: fn(L, Isa) -> Run) -> Rung<L> {
    let idea = "Operands rounded to bf16, sums in f32";
    Rung { precision: Precision::Bf16, ..rung(name, idea, prepare) }
}

/// The same with operands in two terms. The operations of the product are counted once, not three
/// times, so that speeds can be compared.
const fn in_bf16x3<L>(name: &'static str, prepare: fn(L, Isa) -> Run) -> Rung<L> {
    let idea = "Operands split into two bf16 terms, three products, sums in f32";
    Rung { precision: Precision::Bf16x3, ..rung(name, idea, prepare) }
}

static GEMM: [Rung<Linear>; 5] = [
    Rung {
        single_thread: true,
        unfit: |layer| layer.rows > 512,
        ..rung(
            "row_at_a_time",
            "weights in panels of 32 columns; one row of A meets one panel in vector registers",
            |layer, isa| {
                let (x, w) = linear_operands(layer);
                let w = gemm::PackedWeights::pack(w.view());
                Box::new(move || drop(row_at_a_time::product(isa, x.view(), &w)))
            },
        )
    },
    rung("blocked, f16", "the same, of weights that become f32 a block at a time", |layer, isa| {
        let (x, w) = linear_operands(layer);
        let w = gemm::PackedWeights::pack(w.convert::<f16>().view());
        Box::new(move || drop(linear::linear(isa, x.view(), &w, Epilogue::default())))
    }),
    rung(
        "blocked",
        "twelve rows share each panel (384 sums live in registers), blocks fit the caches, all cores work",
        |layer, isa| linear_run(layer, isa, Precision::F32),
    ),
    in_bf16("tiled", |layer, isa| linear_run(layer, isa, Precision::Bf16)),
    in_bf16x3("tiled", |layer, isa| linear_run(layer, isa, Precision::Bf16x3)),
];

fn linear_run(layer: Linear, isa: Isa, precision: Precision) -> Run {
    let (x, w) = linear_operands(layer);
    let w = gemm::PackedWeights::pack_for(precision, w.view());
    Box::new(move || drop(linear::linear(isa, x.view(), &w, Epilogue::default())))
}

fn linear_operands(layer: Linear) -> (Tensor<f32, 2>, Tensor<f32, 2>) {
    (noise([layer.rows, layer.in_features]), noise([layer.out_features, layer.in_features]))
}

/// A linear layer in front of GEGLU. In Stable Diffusion those are eight times as wide as their
/// input.
#[derive(Clone, Copy)]
struct Gated(Linear);

static LINEAR_GEGLU: [Rung<Gated>; 3] = [
    rung("gated", "columns come in two halves, one the gate of the other", |layer, isa| {
        gated_run(layer, isa, Precision::F32)
    }),
    in_bf16("gated", |layer, isa| gated_run(layer, isa, Precision::Bf16)),
    in_bf16x3("gated", |layer, isa| gated_run(layer, isa, Precision::Bf16x3)),
];

fn gated_run(Gated(layer): Gated, isa: Isa, precision: Precision) -> Run {
    let (x, w) = linear_operands(layer);
    let w = gemm::GegluWeights::pack(precision, w.view(), &vec![0.5; layer.out_features]);
    Box::new(move || drop(linear::linear_geglu(isa, x.view(), &w)))
}

static CONV2D: [Rung<Conv>; 5] = [
    Rung {
        // The matrix of all patches would be larger than a gigabyte.
        unfit: |layer| {
            4 * layer.images * (layer.kernel_size * layer.size).pow(2) * layer.in_channels > 1 << 30
        },
        ..rung(
            "im2col",
            "write each patch as a row of a matrix; then one matrix product does it all",
            |layer, isa| {
                let (x, w, geometry) = conv_operands(layer, Precision::F32);
                Box::new(move || drop(im2col::conv2d(isa, x.view(), &w, geometry, Epilogue::default())))
            },
        )
    },
    rung(
        "indirect",
        "the same product, but the rows stay where they are in the image: nothing is written",
        |layer, isa| conv_run(layer, isa, Precision::F32),
    ),
    Rung {
        unfit: |layer| !conv2d::wants_winograd(conv_shape(layer), Precision::F32, conv_geometry(layer)),
        ..rung(
            "winograd",
            "3×3: 36 products of sums for 16 outputs, where the definition has 144; the speed is that of its 144",
            |layer, isa| {
                let (x, w, geometry) = conv_operands(layer, Precision::F32);
                Box::new(move || drop(winograd::conv2d(isa, x.view(), &w, geometry, Epilogue::default())))
            },
        )
    },
    in_bf16("indirect_tiles", |layer, isa| conv_run(layer, isa, Precision::Bf16)),
    in_bf16x3("indirect_tiles", |layer, isa| conv_run(layer, isa, Precision::Bf16x3)),
];

fn conv_shape(layer: &Conv) -> [usize; 4] {
    [layer.images, layer.size, layer.size, layer.in_channels]
}

fn conv_geometry(layer: &Conv) -> Geometry {
    Geometry { stride: [layer.stride; 2], ..Geometry::same(layer.kernel_size) }
}

fn conv_run(layer: Conv, isa: Isa, precision: Precision) -> Run {
    let (x, w, geometry) = conv_operands(layer, precision);
    Box::new(move || {
        let (x, epilogue) = (x.view(), Epilogue::default());
        drop(match precision {
            Precision::F32 => indirect::conv2d(isa, x, &w, geometry, epilogue),
            Precision::Bf16 | Precision::Bf16x3 => indirect_tiles::conv2d(isa, x, &w, geometry, epilogue),
        });
    })
}

fn conv_operands(layer: Conv, precision: Precision) -> (Tensor<f32, 4>, conv2d::ConvWeights, Geometry) {
    let Conv { in_channels, out_channels, kernel_size, .. } = layer;
    let w = noise([out_channels, in_channels, kernel_size, kernel_size]);
    let w = conv2d::ConvWeights::pack_for(precision, w.view());
    (noise(conv_shape(&layer)), w, conv_geometry(&layer))
}

static UPSAMPLE_CONV: [Rung<Upsample>; 4] = [
    rung("two_steps", "the fast forms of both, one after the other", |layer, isa| {
        let (x, w) = upsample_operands(layer, Precision::F32);
        Box::new(move || drop(two_steps::upsample_conv(isa, x.view(), &w, Epilogue::default())))
    }),
    rung(
        "filtered",
        "minimal filtering whose tiles read each pixel of the small image for four",
        |layer, isa| {
            let (x, w) = upsample_operands(layer, Precision::F32);
            Box::new(move || drop(filtered::upsample_conv(isa, x.view(), &w, Epilogue::default())))
        },
    ),
    in_bf16("phases", |layer, isa| phases_run(layer, isa, Precision::Bf16)),
    in_bf16x3("phases", |layer, isa| phases_run(layer, isa, Precision::Bf16x3)),
];

fn phases_run(layer: Upsample, isa: Isa, precision: Precision) -> Run {
    let (x, w) = upsample_operands(layer, precision);
    Box::new(move || drop(phases::upsample_conv(isa, x.view(), &w, Epilogue::default())))
}

fn upsample_operands(layer: Upsample, precision: Precision) -> (Tensor<f32, 4>, upsample::UpsampleWeights) {
    let Upsample { images, size, channels, .. } = layer;
    let w = noise([channels, channels, 3, 3]);
    let w = upsample::UpsampleWeights::pack_for(precision, w.view());
    (noise([images, size, size, channels]), w)
}

static ATTENTION: [Rung<Attention>; 3] = [
    rung("flash", "blocks of scores; online softmax", |layer, isa| attention_run(layer, isa, Precision::F32)),
    in_bf16("flash_bf16", |layer, isa| attention_run(layer, isa, Precision::Bf16)),
    in_bf16x3("flash_bf16", |layer, isa| attention_run(layer, isa, Precision::Bf16x3)),
];

/// Of what a network has: operands that were rounded where they were made, if attention takes such.
/// With tiles the row called `flash_bf16` is then [`attention::pipelined`]: the form in use has one
/// name on all instruction sets.
fn attention_run(layer: Attention, isa: Isa, precision: Precision) -> Run {
    let Attention { images, queries, keys, heads, head_dim, .. } = layer;
    let settings = attention::Attention { precision, ..attention::Attention::new(head_dim) };
    let operand = |tokens| {
        let x = noise([images, tokens, heads * head_dim]);
        match attention::takes_packed(isa, settings, head_dim) {
            true => {
                let [weight, bias] = [1.0, 0.0].map(|x| vec![x; heads * head_dim]);
                layer_norm::layer_norm_packed(isa, x.view(), &weight, &bias, 1e-5, precision)
            }
            false => x.into(),
        }
    };
    let (q, k) = (operand(queries), operand(keys));
    Box::new(move || drop(attention::attention_of_activations(isa, [&q, &k, &k], heads, settings)))
}

static GROUP_NORM: [Rung<FeatureMap>; 1] = [rung(
    "streaming",
    "statistics in one reading pass; scale, shift and SiLU in one writing pass",
    |layer, isa| {
        let x = varied(layer);
        let (weight, bias) = (vec![1.0; layer.channels], vec![0.5; layer.channels]);
        Box::new(move || {
            let activation = Activation::Silu;
            let norm = GroupNorm { num_groups: 32, eps: 1e-5, weight: &weight, bias: &bias, activation };
            drop(group_norm::group_norm(isa, x.view(), norm));
        })
    },
)];

static LAYER_NORM: [Rung<FeatureMap>; 1] = [rung(
    "two_pass",
    "the same in f32 on vectors, with the mean's rounding error taken out again",
    |layer, isa| {
        let x = varied(layer);
        let (weight, bias) = (vec![1.0; layer.channels], vec![0.5; layer.channels]);
        Box::new(move || drop(layer_norm::layer_norm(isa, x.view(), &weight, &bias, 1e-5)))
    },
)];

static SOFTMAX: [Rung<FeatureMap>; 1] =
    [rung("three_pass", "the same in f32 on vectors, in place", |layer, isa| {
        let mut x = varied(layer);
        Box::new(move || softmax::softmax(isa, &mut x))
    })];

static SILU: [Rung<FeatureMap>; 1] =
    [rung("pointwise", POINTWISE, |layer, isa| in_place(layer, isa, activation::silu))];
static GELU: [Rung<FeatureMap>; 1] =
    [rung("pointwise", POINTWISE, |layer, isa| in_place(layer, isa, activation::gelu))];
static QUICK_GELU: [Rung<FeatureMap>; 1] =
    [rung("pointwise", POINTWISE, |layer, isa| in_place(layer, isa, activation::quick_gelu))];
static GEGLU: [Rung<FeatureMap>; 1] = [rung("pointwise", POINTWISE, |layer, isa| {
    let x = varied(FeatureMap { channels: 2 * layer.channels, ..layer });
    Box::new(move || drop(activation::geglu(isa, x.view())))
})];
const POINTWISE: &str =
    "a vector at a time, from the polynomials of [`simd::math`](crate::cpu::simd::math), on all cores";

static UPSAMPLE: [Rung<FeatureMap>; 1] =
    [rung("row_copy", "whole pixels copied, output rows on all cores", |layer, isa| {
        let x = varied(FeatureMap { size: layer.size / 2, ..layer });
        Box::new(move || drop(upsample::nearest_2x(isa, x.view())))
    })];

fn in_place(layer: FeatureMap, isa: Isa, f: fn(Isa, &mut [f32])) -> Run {
    let mut x = varied(layer);
    Box::new(move || f(isa, x.as_mut_slice()))
}

/// Numbers around zero that are not all the same.
fn varied(layer: FeatureMap) -> Tensor<f32, 4> {
    Tensor::from_fn(layer.shape(), |[_, y, x, c]| ((x + 3 * y + 7 * c) % 11) as f32 * 0.2 - 1.0)
}

/// Numbers between −½ and ½ without a pattern. The same number everywhere would flatter a tile
/// unit: it draws less power, and the clock stays higher.
fn noise<const N: usize>(shape: [usize; N]) -> Tensor<f32, N> {
    let mut state = 1u32;
    Tensor::from_fn(shape, |_| {
        // Numerical Recipes' generator; the upper bits are the better ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 24) as f32 - 0.5
    })
}

/// Bytes of a number.
const F32: f64 = 4.0;

/// The bytes of a layer: `numbers` that come and go, in f32, and weights.
fn bytes(numbers: usize, weights: usize, precision: Precision) -> f64 {
    let weight = match precision {
        Precision::F32 => F32,
        Precision::Bf16 => F32 / 2.0,
        Precision::Bf16x3 => F32, // two terms
    };
    F32 * numbers as f64 + weight * weights as f64
}

impl Layer for Linear {
    fn shape(&self) -> String {
        format!("{}×{}→{}", self.rows, self.in_features, self.out_features)
    }
    fn count(&self) -> usize {
        self.count
    }
    fn work(&self, precision: Precision) -> Work {
        let Linear { rows, in_features, out_features, .. } = *self;
        let numbers = rows * in_features + rows * out_features;
        let bytes = bytes(numbers, in_features * out_features, precision);
        Work { flops: self.flops() as f64, bytes }
    }
}

impl Layer for Gated {
    fn shape(&self) -> String {
        self.0.shape()
    }
    fn count(&self) -> usize {
        self.0.count
    }
    /// Half of the product's numbers leave; the gate's arithmetic does not count.
    fn work(&self, precision: Precision) -> Work {
        let Linear { rows, in_features, out_features, .. } = self.0;
        let bytes = bytes(rows * (in_features + out_features / 2), in_features * out_features, precision);
        Work { flops: self.0.flops() as f64, bytes }
    }
}

impl Layer for Conv {
    fn shape(&self) -> String {
        let Conv { images, size, in_channels, out_channels, kernel_size, stride, .. } = self;
        let stride = if *stride == 1 { String::new() } else { format!(" /{stride}") };
        format!("{kernel_size}×{kernel_size} {in_channels}→{out_channels} @{size}{stride} ×{images}")
    }
    fn count(&self) -> usize {
        self.count
    }
    fn work(&self, precision: Precision) -> Work {
        let Conv { images, size, in_channels, out_channels, kernel_size, stride, .. } = *self;
        let pixels = images * size * size;
        let numbers = pixels * in_channels + pixels / (stride * stride) * out_channels;
        let weights = kernel_size * kernel_size * in_channels * out_channels;
        Work { flops: self.flops() as f64, bytes: bytes(numbers, weights, precision) }
    }
}

impl Layer for Upsample {
    fn shape(&self) -> String {
        format!("{0}→{0} @{1} ×{2}", self.channels, self.size, self.images)
    }
    fn count(&self) -> usize {
        self.count
    }
    fn work(&self, precision: Precision) -> Work {
        let Upsample { images, size, channels, .. } = *self;
        let numbers = 5 * images * size * size * channels;
        Work { flops: self.flops() as f64, bytes: bytes(numbers, 9 * channels * channels, precision) }
    }
}

impl Layer for Attention {
    fn shape(&self) -> String {
        let Attention { images, queries, keys, heads, head_dim, .. } = self;
        format!("{queries}×{keys} {heads}×{head_dim} ×{images}")
    }
    fn count(&self) -> usize {
        self.count
    }
    fn work(&self, precision: Precision) -> Work {
        let Attention { images, queries, keys, heads, head_dim, .. } = *self;
        let numbers = images * heads * head_dim * (2 * queries + 2 * keys);
        Work { flops: self.flops() as f64, bytes: bytes(numbers, 0, precision) }
    }
}

/// Each number is read once and written once; the arithmetic does not count.
impl Layer for FeatureMap {
    fn shape(&self) -> String {
        format!("{}×{}×{}×{}", self.images, self.size, self.size, self.channels)
    }
    fn count(&self) -> usize {
        1
    }
    fn work(&self, _: Precision) -> Work {
        Work { flops: 0.0, bytes: 2.0 * F32 * self.len() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_kernel_has_one_example_and_one_form_in_use() {
        let cases = cases(&Isas::of(Isa::best()));
        let mut names: Vec<String> = cases.iter().map(Case::name).collect();
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "two cases have one name");
        let kernels = [
            "gemm",
            "linear_geglu",
            "conv2d",
            "upsample_conv",
            "attention",
            "group_norm",
            "layer_norm",
            "softmax",
            "geglu",
        ];
        for kernel in kernels {
            let of = || cases.iter().filter(|case| case.kernel == kernel);
            let used = |precision| {
                of().filter(|case| case.used && case.example && case.precision == precision).count()
            };
            assert_eq!(used(Precision::F32), 1, "{kernel}");
            let rounds = ["gemm", "linear_geglu", "conv2d", "upsample_conv", "attention"].contains(&kernel);
            let expected = usize::from(rounds && Isa::best() != Isa::best().for_f32());
            assert_eq!([Precision::Bf16, Precision::Bf16x3].map(used), [expected; 2], "{kernel}");
        }
    }

    #[test]
    fn the_ideas_are_those_of_the_kernels_own_pages() {
        let pages = [
            include_str!("../../../kernels/src/gemm/mod.rs"),
            include_str!("../../../kernels/src/gemm/epilogue/geglu.rs"),
            include_str!("../../../kernels/src/conv2d/mod.rs"),
            include_str!("../../../kernels/src/conv2d/upsample/mod.rs"),
            include_str!("../../../kernels/src/attention/mod.rs"),
            include_str!("../../../kernels/src/norm/group/mod.rs"),
            include_str!("../../../kernels/src/norm/layer/mod.rs"),
            include_str!("../../../kernels/src/softmax/mod.rs"),
            include_str!("../../../kernels/src/activation/mod.rs"),
            include_str!("../../../kernels/src/conv2d/upsample/nearest/mod.rs"),
            include_str!("../../../kernels/src/precision.rs"),
        ];
        for case in cases(&Isas::of(Isa::portable())).iter().filter(|case| case.rung != "blocked, f16") {
            assert!(pages.iter().any(|page| page.contains(case.idea)), "{}: {}", case.name(), case.idea);
        }
    }

    #[test]
    fn every_case_of_a_small_layer_runs() {
        for case in cases(&Isas::of(Isa::best())).iter().filter(|case| case.work.bytes < 2e6) {
            (case.prepare)()();
        }
    }
}
