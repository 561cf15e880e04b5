//! The kernels, each rung of a ladder by its name: arrays in, arrays out.
//!
//! Images are channels-last, `[n, h, w, c]`; weights are as torch has them. Weights are packed in
//! each call, which a model does once. What a kernel would panic about is refused here.

use aquatint_kernels::attention::{self as attention_ladder, Attention};
use aquatint_kernels::conv2d::upsample::{self, UpsampleWeights};
use aquatint_kernels::conv2d::{self as conv2d_ladder, ConvWeights, Geometry, Padding};
use aquatint_kernels::gemm::{self, Epilogue, Matrix, PackedWeights};
use aquatint_kernels::norm::group::{self, Activation, GroupNorm};
use aquatint_kernels::norm::layer;
use aquatint_kernels::{Isa, Precision, activation, linear as linear_layer, softmax as softmax_ladder};
use aquatint_tensor::{Tensor, View};
use pyo3::prelude::*;

use crate::arrays::{ArrayIn, ArrayOut, returned, tensor, vector};
use crate::error::{expect, refused};
use crate::threads;

/// The rungs of each kernel, the definition first. `best` is the one that a model takes.
const RUNGS: [(&str, &[&str]); 7] = [
    ("conv2d", &["reference", "im2col", "indirect", "winograd", "narrow", "indirect_tiles"]),
    ("linear", &["reference", "row_at_a_time", "blocked"]),
    ("attention", &["reference", "flash", "flash_bf16"]),
    ("group_norm", &["reference", "streaming"]),
    ("layer_norm", &["reference", "two_pass"]),
    ("softmax", &["reference", "three_pass"]),
    ("upsample_conv", &["reference", "two_steps", "filtered", "phases"]),
];

/// The rungs that compute in bf16.
const IN_BF16: [&str; 3] = ["indirect_tiles", "flash_bf16", "phases"];

/// Kernel → names of its rungs.
#[pyfunction]
pub(crate) fn rungs() -> Vec<(&'static str, Vec<&'static str>)> {
    RUNGS.iter().map(|(kernel, rungs)| (*kernel, rungs.to_vec())).collect()
}

/// The instruction sets that this CPU has, from the slowest to the fastest.
#[pyfunction]
pub(crate) fn isas() -> Vec<&'static str> {
    Isa::all().into_iter().map(Isa::name).collect()
}

/// Pixels of a convolution's output along one axis; `padding` is the sum of both sides.
#[pyfunction]
pub(crate) fn output_size(
    input: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> PyResult<usize> {
    conv2d_ladder::output_size(input, kernel, stride, padding, dilation).ok_or_else(|| {
        refused("the window is larger than the padded input, or the stride or the kernel is 0")
    })
}

/// How a kernel is to be computed.
struct How<'a> {
    rung: &'a str,
    isa: Isa,
    precision: Precision,
}

impl<'a> How<'a> {
    fn read(kernel: &str, (rung, isa, precision): &'a (String, Option<String>, String)) -> PyResult<Self> {
        threads::ensure()?;
        let known = RUNGS.iter().find(|(name, _)| *name == kernel).map_or(&[][..], |(_, rungs)| rungs);
        let rung = rung.as_str();
        expect(rung == "best" || known.contains(&rung), || {
            format!("{kernel} has no rung `{rung}`; expected best, {}", known.join(", "))
        })?;
        let isa = isa.as_deref().map_or_else(Isa::from_env, Isa::named).map_err(refused)?;
        let precision: Precision = precision.parse().map_err(refused)?;
        let in_f32 = precision == Precision::F32;
        expect(rung == "best" || IN_BF16.contains(&rung) != in_f32, || {
            let expected = if in_f32 { "bf16 or bf16x3" } else { "f32" };
            format!("the rung `{rung}` of {kernel} does not compute in {precision}; expected {expected}")
        })?;
        Ok(Self { rung, isa, precision })
    }
}

/// Rung, instruction set and precision, as Python names them.
type HowIn = (String, Option<String>, String);

/// Adds one number to each channel, for the definitions, which have no bias.
fn biased<const N: usize>(mut x: Tensor<f32, N>, bias: Option<&[f32]>) -> Tensor<f32, N> {
    if let Some(bias) = bias {
        for row in x.as_mut_slice().chunks_exact_mut(bias.len().max(1)) {
            row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        }
    }
    x
}

/// `x: [n, h, w, in]`, `w: [out, in / groups, kh, kw]` → `[n, h', w', out]`.
#[pyfunction]
pub(crate) fn conv2d<'py>(
    py: Python<'py>,
    x: ArrayIn,
    w: ArrayIn,
    bias: Option<ArrayIn>,
    window: ([usize; 2], [usize; 4], [usize; 2], usize),
    how: HowIn,
) -> PyResult<ArrayOut<'py>> {
    let how = How::read("conv2d", &how)?;
    let (x, w) = (tensor::<4>("x", &x)?, tensor::<4>("w", &w)?);
    let (stride, [top, bottom, left, right], dilation, groups) = window;
    let ([_, height, width, in_channels], [out_channels, channels, kernel_h, kernel_w]) =
        (x.shape(), w.shape());
    let bias = vector("bias", bias.as_ref(), out_channels)?;
    let padding = Padding { top, bottom, left, right };
    let geometry = Geometry { kernel_size: [kernel_h, kernel_w], stride, padding, dilation };
    expect(geometry.output([height, width]).is_some(), || {
        format!("a window of {kernel_h}×{kernel_w} has no place in an image of {height}×{width}")
    })?;
    expect(groups > 0 && in_channels == channels * groups && out_channels.is_multiple_of(groups), || {
        format!(
            "x has {in_channels} channels and w the shape {:?} in {groups} groups: they do not fit",
            w.shape()
        )
    })?;
    expect(in_channels > 0 && out_channels > 0, || "expected at least one channel".into())?;
    expect(groups == 1 || how.rung == "reference", || "groups have the rung `reference` alone".into())?;
    let winograd = conv2d_ladder::winograd::can(how.precision, geometry);
    expect(how.rung != "winograd" || winograd, || {
        "winograd is for windows of 3×3 with stride 1, padding 1 and dilation 1 in f32".into()
    })?;
    let most = conv2d_ladder::narrow::MAX_COLUMNS;
    expect(how.rung != "narrow" || out_channels <= most, || {
        format!("narrow is for up to {most} output channels, not {out_channels}")
    })?;
    let y = py.detach(|| {
        let How { rung, isa, precision } = how;
        let (view, bias) = (x.view(), bias.as_deref());
        if rung == "reference" {
            return biased(conv2d_ladder::reference::conv2d(view, w.view(), geometry, groups), bias);
        }
        let packed = ConvWeights::pack_for(precision, w.view());
        let epilogue = Epilogue::bias(bias);
        match rung {
            "im2col" => conv2d_ladder::im2col::conv2d(isa, view, &packed, geometry, epilogue),
            "indirect" => conv2d_ladder::indirect::conv2d(isa, view, &packed, geometry, epilogue),
            "winograd" => conv2d_ladder::winograd::conv2d(isa, view, &packed, geometry, epilogue),
            "narrow" => {
                let bias = bias.map_or_else(|| vec![0.0; out_channels], <[f32]>::to_vec);
                conv2d_ladder::narrow::conv2d(isa, view, &packed, geometry, &bias)
            }
            "indirect_tiles" => conv2d_ladder::indirect_tiles::conv2d(isa, view, &packed, geometry, epilogue),
            _ => conv2d_ladder::conv2d(isa, view, &packed, geometry, epilogue),
        }
    });
    returned(py, &y)
}

/// `x: [rows, in]`, `w: [out, in]` → `[rows, out]`.
#[pyfunction]
pub(crate) fn linear<'py>(
    py: Python<'py>,
    x: ArrayIn,
    w: ArrayIn,
    bias: Option<ArrayIn>,
    how: HowIn,
) -> PyResult<ArrayOut<'py>> {
    let how = How::read("linear", &how)?;
    let (x, w) = (tensor::<2>("x", &x)?, tensor::<2>("w", &w)?);
    let ([rows, depth], [out_features, in_features]) = (x.shape(), w.shape());
    expect(depth == in_features && depth > 0, || {
        format!("x has {depth} features and w the shape {:?}: they do not fit", w.shape())
    })?;
    let bias = vector("bias", bias.as_ref(), out_features)?;
    let y = py.detach(|| {
        let How { rung, isa, precision } = how;
        let bias = bias.as_deref();
        if rung == "reference" {
            return biased(gemm::reference::product(x.view(), w.view()), bias);
        }
        let packed = PackedWeights::pack_for(precision, w.view());
        match rung {
            "row_at_a_time" => biased(gemm::row_at_a_time::product(isa, x.view(), &packed), bias),
            "blocked" => {
                let mut out = Tensor::zeros([rows, out_features]);
                let a = Matrix::new(x.view());
                gemm::product(isa, rows, &a, &packed, &Epilogue::bias(bias), out.as_mut_slice());
                out
            }
            _ => linear_layer::linear(isa, x.view(), &packed, Epilogue::bias(bias)),
        }
    });
    returned(py, &y)
}

/// `q: [n, queries, heads, head_dim]`, `k, v: [n, keys, heads, head_dim]` → as `q`.
#[pyfunction]
pub(crate) fn attention<'py>(
    py: Python<'py>,
    q: ArrayIn,
    k: ArrayIn,
    v: ArrayIn,
    scale: Option<f32>,
    causal: bool,
    how: HowIn,
) -> PyResult<ArrayOut<'py>> {
    let how = How::read("attention", &how)?;
    let [q, k, v] = [tensor::<4>("q", &q)?, tensor::<4>("k", &k)?, tensor::<4>("v", &v)?];
    let ([n, _, heads, head_dim], [keys_n, keys, ..]) = (q.shape(), k.shape());
    let fits = k.shape() == v.shape() && [n, heads, head_dim] == [keys_n, k.shape()[2], k.shape()[3]];
    expect(fits && keys > 0 && head_dim > 0, || {
        format!("q is {:?}, k {:?}, v {:?}: they do not fit", q.shape(), k.shape(), v.shape())
    })?;
    let scale = scale.unwrap_or_else(|| Attention::new(head_dim).scale);
    expect(scale > 0.0 && scale.is_finite(), || format!("scale is {scale}; expected more than 0"))?;
    let y = py.detach(|| {
        let How { rung, isa, precision } = how;
        let settings = Attention { scale, causal, precision };
        let [q, k, v]: [View<'_, f32, 4>; 3] = [q.view(), k.view(), v.view()];
        match rung {
            "reference" => attention_ladder::reference::attention(q, k, v, settings),
            "flash" => attention_ladder::flash::attention(isa, q, k, v, settings),
            "flash_bf16" => attention_ladder::flash_bf16::attention(isa, q, k, v, settings),
            _ => attention_ladder::attention(isa, q, k, v, settings),
        }
    });
    returned(py, &y)
}

/// `x: [n, h, w, c]` → the same shape.
#[pyfunction]
pub(crate) fn group_norm<'py>(
    py: Python<'py>,
    x: ArrayIn,
    scale_and_shift: (Option<ArrayIn>, Option<ArrayIn>),
    num_groups: usize,
    eps: f32,
    silu: bool,
    how: HowIn,
) -> PyResult<ArrayOut<'py>> {
    let how = How::read("group_norm", &how)?;
    let x = tensor::<4>("x", &x)?;
    let [.., channels] = x.shape();
    expect(num_groups > 0 && channels.is_multiple_of(num_groups), || {
        format!("{channels} channels cannot be cut into {num_groups} equal groups")
    })?;
    let weight = vector("weight", scale_and_shift.0.as_ref(), channels)?.unwrap_or(vec![1.0; channels]);
    let bias = vector("bias", scale_and_shift.1.as_ref(), channels)?.unwrap_or(vec![0.0; channels]);
    let y = py.detach(|| {
        let activation = if silu { Activation::Silu } else { Activation::None };
        let norm = GroupNorm { num_groups, eps, weight: &weight, bias: &bias, activation };
        match how.rung {
            "reference" => group::reference::group_norm(x.view(), norm),
            _ => group::group_norm(how.isa, x.view(), norm),
        }
    });
    returned(py, &y)
}

/// `x: [rows, c]` → the same shape.
#[pyfunction]
pub(crate) fn layer_norm<'py>(
    py: Python<'py>,
    x: ArrayIn,
    scale_and_shift: (Option<ArrayIn>, Option<ArrayIn>),
    eps: f32,
    how: HowIn,
) -> PyResult<ArrayOut<'py>> {
    let how = How::read("layer_norm", &how)?;
    let x = tensor::<2>("x", &x)?;
    let [_, channels] = x.shape();
    let weight = vector("weight", scale_and_shift.0.as_ref(), channels)?.unwrap_or(vec![1.0; channels]);
    let bias = vector("bias", scale_and_shift.1.as_ref(), channels)?.unwrap_or(vec![0.0; channels]);
    let y = py.detach(|| match how.rung {
        "reference" => layer::reference::layer_norm(x.view(), &weight, &bias, eps),
        _ => layer::layer_norm(how.isa, x.view(), &weight, &bias, eps),
    });
    returned(py, &y)
}

/// `x: [rows, c]` → the same shape; each row sums to 1.
#[pyfunction]
pub(crate) fn softmax<'py>(py: Python<'py>, x: ArrayIn, how: HowIn) -> PyResult<ArrayOut<'py>> {
    let how = How::read("softmax", &how)?;
    let mut x = tensor::<2>("x", &x)?;
    let y = py.detach(|| match how.rung {
        "reference" => softmax_ladder::reference::softmax(x.view()),
        _ => {
            softmax_ladder::softmax(how.isa, &mut x);
            x
        }
    });
    returned(py, &y)
}

/// `x·σ(x)` of each number.
#[pyfunction]
pub(crate) fn silu<'py>(py: Python<'py>, x: ArrayIn, isa: Option<String>) -> PyResult<ArrayOut<'py>> {
    pointwise(py, &x, isa, activation::silu)
}

/// `x·Φ(x)` of each number.
#[pyfunction]
pub(crate) fn gelu<'py>(py: Python<'py>, x: ArrayIn, isa: Option<String>) -> PyResult<ArrayOut<'py>> {
    pointwise(py, &x, isa, activation::gelu)
}

fn pointwise<'py>(
    py: Python<'py>,
    x: &ArrayIn,
    isa: Option<String>,
    f: fn(Isa, &mut [f32]),
) -> PyResult<ArrayOut<'py>> {
    threads::ensure()?;
    let isa = isa.as_deref().map_or_else(Isa::from_env, Isa::named).map_err(refused)?;
    let mut x = tensor::<1>("x", x)?;
    py.detach(|| f(isa, x.as_mut_slice()));
    returned(py, &x)
}

/// Each pixel becomes a rectangle: `x: [n, h, w, c]` → `[n, h', w', c]`.
#[pyfunction]
pub(crate) fn nearest<'py>(py: Python<'py>, x: ArrayIn, size: [usize; 2]) -> PyResult<ArrayOut<'py>> {
    threads::ensure()?;
    let x = tensor::<4>("x", &x)?;
    let [_, height, width, _] = x.shape();
    expect(height > 0 && width > 0, || format!("x has the shape {:?}; expected pixels", x.shape()))?;
    let y = py.detach(|| upsample::nearest(Isa::portable(), x.view(), size));
    returned(py, &y)
}

/// An image doubled, then convolved 3×3: `x: [n, h, w, in]`, `w: [out, in, 3, 3]` →
/// `[n, 2h, 2w, out]`.
#[pyfunction]
pub(crate) fn upsample_conv<'py>(
    py: Python<'py>,
    x: ArrayIn,
    w: ArrayIn,
    bias: Option<ArrayIn>,
    how: HowIn,
) -> PyResult<ArrayOut<'py>> {
    let how = How::read("upsample_conv", &how)?;
    let (x, w) = (tensor::<4>("x", &x)?, tensor::<4>("w", &w)?);
    let ([.., in_channels], [out_channels, channels, kernel_h, kernel_w]) = (x.shape(), w.shape());
    expect(in_channels == channels && channels > 0 && [kernel_h, kernel_w] == [3, 3], || {
        format!(
            "x has {in_channels} channels and w the shape {:?}; expected [out, {in_channels}, 3, 3]",
            w.shape()
        )
    })?;
    let bias = vector("bias", bias.as_ref(), out_channels)?;
    let y = py.detach(|| {
        let How { rung, isa, precision } = how;
        let (view, bias) = (x.view(), bias.as_deref());
        if rung == "reference" {
            return biased(upsample::reference::upsample_conv(view, w.view()), bias);
        }
        let packed = UpsampleWeights::pack_for(precision, w.view());
        let epilogue = Epilogue::bias(bias);
        match rung {
            "two_steps" => upsample::two_steps::upsample_conv(isa, view, &packed, epilogue),
            "filtered" => upsample::filtered::upsample_conv(isa, view, &packed, epilogue),
            "phases" => upsample::phases::upsample_conv(isa, view, &packed, epilogue),
            _ => upsample::upsample_conv(isa, view, &packed, epilogue),
        }
    });
    returned(py, &y)
}
