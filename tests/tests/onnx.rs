//! ONNX's own conformance vectors, on every rung of our kernels and every instruction set.
//!
//! `goldens/onnx_vectors.py` took them out of PyPI's package `onnx`: inputs and outputs that no one
//! here wrote. ONNX has images as `[n, c, h, w]`, heads before tokens, and operators that are more
//! general than our kernels. Each test says its operator in terms of our kernel, once for each
//! rung, and runs it on all of its cases.

use aquatint_kernels::activation::{self, reference::gelu, reference::gelu_tanh};
use aquatint_kernels::attention::{self, Attention};
use aquatint_kernels::conv2d::{self, Geometry, Padding};
use aquatint_kernels::gemm::{self, Epilogue};
use aquatint_kernels::norm::group::{Activation, GroupNorm};
use aquatint_kernels::norm::{group as group_norm, layer as layer_norm};
use aquatint_kernels::{Isa, Precision, conv2d::upsample, linear, softmax};
use aquatint_tensor::{Tensor, View, concat};
use aquatint_tests::{Golden, json, relative_error};
use serde_json::Value;

/// One node with its inputs and its output.
struct Case<'a> {
    golden: &'a Golden,
    index: &'a Value,
}

/// What one rung made of a case: its name, and the output in ONNX's order.
type Found = (&'static str, Vec<f32>);

impl Case<'_> {
    fn name(&self) -> &str {
        self.index["name"].as_str().expect("a name")
    }

    /// The shape of an input or output.
    fn shape(&self, name: &str) -> Vec<usize> {
        let kind = if name == "y" { "outputs" } else { "inputs" };
        lengths(&self.index[kind][name])
    }

    fn has(&self, name: &str) -> bool {
        self.index["inputs"].get(name).is_some()
    }

    fn tensor<const N: usize>(&self, name: &str) -> Tensor<f32, N> {
        self.golden.tensor(&format!("{}/{name}", self.name()))
    }

    /// A tensor of any rank without its shape.
    fn values(&self, name: &str) -> Vec<f32> {
        match self.shape(name).len() {
            0 | 1 => self.tensor::<1>(name).into_vec(), // a scalar is stored as a vector of one
            2 => self.tensor::<2>(name).into_vec(),
            3 => self.tensor::<3>(name).into_vec(),
            _ => self.tensor::<4>(name).into_vec(),
        }
    }

    fn number(&self, attribute: &str) -> f64 {
        self.index["attributes"][attribute].as_f64().unwrap_or_else(|| panic!("no `{attribute}`"))
    }

    fn flag(&self, attribute: &str) -> bool {
        self.number(attribute) != 0.0
    }

    fn list<const N: usize>(&self, attribute: &str) -> [usize; N] {
        lengths(&self.index["attributes"][attribute]).try_into().expect("a list of the right length")
    }

    /// The attribute `axis`, which counts from behind if it is negative.
    fn axis(&self, rank: usize) -> usize {
        let axis = self.number("axis") as isize;
        axis.checked_add_unsigned(if axis < 0 { rank } else { 0 }).expect("an axis") as usize
    }
}

fn lengths(list: &Value) -> Vec<usize> {
    let list = list.as_array().expect("a list");
    list.iter().map(|n| n.as_u64().expect("a length") as usize).collect()
}

/// Runs all `count` cases of `op` and compares every rung with ONNX's output: the worst element may
/// be off by `tolerance` times the root mean square.
fn check(op: &str, count: usize, tolerance: f64, rungs: impl Fn(&Case<'_>, Isa) -> Vec<Found>) {
    let golden = Golden::open("onnx.safetensors");
    let index = json("onnx.json");
    let index = index.as_array().expect("a list of cases");
    let cases: Vec<_> = index.iter().filter(|case| case["op"] == op).collect();
    assert_eq!(cases.len(), count, "cases of {op}");
    for index in cases {
        let case = Case { golden: &golden, index };
        let expected = case.values("y");
        let expected = View::from_slice([expected.len()], &expected);
        for isa in Isa::available() {
            for (rung, found) in rungs(&case, isa) {
                let error = relative_error(View::from_slice([found.len()], &found), expected);
                let name = case.name();
                assert!(error <= tolerance, "{op}, {rung}, {name}, {isa}: relative error {error:.1e}");
            }
        }
    }
}

#[test]
fn conv() {
    check("Conv", 18, 1e-5, |case, isa| {
        let [top, left, bottom, right] = case.list("pads");
        let geometry = Geometry {
            kernel_size: case.list("kernel_shape"),
            stride: case.list("strides"),
            padding: Padding { top, bottom, left, right },
            dilation: case.list("dilations"),
        };
        let groups = case.number("group") as usize;
        let x = channels_last(case.tensor("x"));
        let w = case.tensor::<4>("w");
        let [_, _, _, in_channels] = x.shape();
        let [out_channels, ..] = w.shape();
        let bias = if case.has("b") { case.values("b") } else { vec![0.0; out_channels] };

        let mut by_definition = conv2d::reference::conv2d(x.view(), w.view(), geometry, groups);
        for pixel in by_definition.as_mut_slice().chunks_exact_mut(out_channels) {
            pixel.iter_mut().zip(&bias).for_each(|(y, b)| *y += b);
        }

        // The fast kernels know one group; several are as many convolutions side by side.
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        let grouped = |kernel: ConvKernel| {
            let parts: Vec<_> = (0..groups)
                .map(|group| {
                    let outputs = group * group_out..(group + 1) * group_out;
                    let x = x.view().slice(3, group * group_in..(group + 1) * group_in).to_tensor();
                    let weights = conv2d::ConvWeights::pack(w.view().slice(0, outputs.clone()));
                    kernel(isa, x.view(), &weights, geometry, Epilogue::bias(Some(&bias[outputs])))
                })
                .collect();
            concat(&parts.iter().map(Tensor::view).collect::<Vec<_>>(), 3)
        };
        let mut found = vec![
            ("reference", channels_first(&by_definition)),
            ("im2col", channels_first(&grouped(conv2d::im2col::conv2d))),
            ("indirect", channels_first(&grouped(conv2d::indirect::conv2d))),
        ];
        if conv2d::winograd::can(Precision::F32, geometry) {
            found.push(("winograd", channels_first(&grouped(conv2d::winograd::conv2d))));
        }
        found
    });
}

type ConvKernel =
    for<'a> fn(Isa, View<'a, f32, 4>, &conv2d::ConvWeights, Geometry, Epilogue<'_>) -> Tensor<f32, 4>;

#[test]
fn group_normalization() {
    check("GroupNormalization", 2, 1e-5, |case, isa| {
        let x = channels_last(case.tensor("x"));
        let norm = GroupNorm {
            num_groups: case.number("num_groups") as usize,
            eps: case.number("epsilon") as f32,
            weight: &case.values("scale"),
            bias: &case.values("bias"),
            activation: Activation::None,
        };
        vec![
            ("reference", channels_first(&group_norm::reference::group_norm(x.view(), norm))),
            ("streaming", channels_first(&group_norm::streaming::group_norm(isa, &[x.view().into()], norm))),
        ]
    });
}

/// ONNX normalises over all axes from `axis` on; ours is the last one, so these are flattened into
/// one.
#[test]
fn layer_normalization() {
    check("LayerNormalization", 19, 1e-5, |case, isa| {
        let shape = case.shape("x");
        let (outer, inner) = shape.split_at(case.axis(shape.len()));
        let x = Tensor::from_vec([outer.iter().product(), inner.iter().product()], case.values("x"));
        let (weight, bias, eps) = (case.values("scale"), case.values("bias"), case.number("epsilon") as f32);
        vec![
            ("reference", layer_norm::reference::layer_norm(x.view(), &weight, &bias, eps).into_vec()),
            ("two_pass", layer_norm::two_pass::layer_norm(isa, x.view(), &weight, &bias, eps).into_vec()),
        ]
    });
}

/// ONNX takes any axis: it becomes the last one of `[outer, inner, axis]`, and moves back
/// afterwards.
#[test]
fn softmax() {
    check("Softmax", 10, 1e-5, |case, isa| {
        let shape = case.shape("x");
        let axis = case.axis(shape.len());
        let outer = shape[..axis].iter().product();
        let inner = shape[axis + 1..].iter().product();
        let x = Tensor::from_vec([outer, shape[axis], inner], case.values("x"));
        let x = x.view().transpose().to_tensor();
        let back = |y: Tensor<f32, 3>| y.view().transpose().to_tensor().into_vec();
        let mut fast = x.clone();
        softmax::three_pass::softmax(isa, &mut fast);
        vec![("reference", back(softmax::reference::softmax(x.view()))), ("three_pass", back(fast))]
    });
}

#[test]
fn gelu_of_both_kinds() {
    check("Gelu", 4, 1e-6, |case, isa| {
        let x = case.values("x");
        let tanh = case.index["attributes"]["approximate"] == "tanh";
        let definition = if tanh { gelu_tanh } else { gelu };
        let kernel = if tanh { activation::gelu_tanh } else { activation::gelu };
        let mut fast = x.clone();
        kernel(isa, &mut fast);
        vec![("reference", x.iter().map(|&x| definition(f64::from(x)) as f32).collect()), ("vectors", fast)]
    });
}

/// `y = alpha·a·b + beta·c` with a and b transposed at will, and c of any shape that broadcasts to
/// the output's.
#[test]
fn gemm() {
    check("Gemm", 12, 1e-5, |case, isa| {
        let (alpha, beta) = (case.number("alpha") as f32, case.number("beta") as f32);
        let (a, b) = (case.tensor::<2>("a"), case.tensor::<2>("b"));
        let a = if case.flag("transA") { a.view().transpose() } else { a.view() };
        // Our weights are [out, in], which is what ONNX calls b transposed.
        let w = if case.flag("transB") { b.view() } else { b.view().transpose() };
        let [rows, columns] = [a.shape()[0], w.shape()[0]];

        // alpha·(product + beta/alpha·c), with c as the residual.
        let c = if case.has("c") { case.values("c") } else { vec![0.0] };
        let c_rows = if c.len() == rows * columns { rows } else { 1 };
        let c = Tensor::from_vec([c_rows, c.len() / c_rows], c).map(|c| c * beta / alpha);
        let c = c.view().broadcast_to([rows, columns]).to_tensor().into_vec();
        let finish = |product: Tensor<f32, 2>| -> Vec<f32> {
            product.into_vec().iter().zip(&c).map(|(product, c)| alpha * (product + c)).collect()
        };
        let weights = gemm::PackedWeights::pack(w);
        let epilogue = Epilogue { residual: Some(&c), scale: alpha, ..Epilogue::default() };
        vec![
            ("reference", finish(gemm::reference::product(a, w))),
            ("row_at_a_time", finish(gemm::row_at_a_time::product(isa, a.to_tensor().view(), &weights))),
            ("blocked", linear::linear(isa, a, &weights, epilogue).into_vec()),
        ]
    });
}

/// A product for each index of the leading axes, which broadcast; a vector is a matrix of one row
/// or one column.
#[test]
fn matmul() {
    check("MatMul", 7, 1e-5, |case, isa| {
        let matrices = |name: &str, axis_of_vector: usize| {
            let mut shape = [1; 4];
            match case.shape(name)[..] {
                [len] => shape[axis_of_vector] = len,
                ref given => shape[4 - given.len()..].copy_from_slice(given),
            }
            Tensor::from_vec(shape, case.values(name))
        };
        let (a, b) = (matrices("a", 3), matrices("b", 2));
        let ([a0, a1, rows, depth], [b0, b1, _, columns]) = (a.shape(), b.shape());
        let batch = [a0.max(b0), a1.max(b1)];
        let a = a.view().broadcast_to([batch[0], batch[1], rows, depth]);
        let b = b.view().transpose().broadcast_to([batch[0], batch[1], columns, depth]);

        let mut found = ["reference", "row_at_a_time", "blocked"].map(|rung| (rung, Vec::new()));
        for i in 0..batch[0] {
            for j in 0..batch[1] {
                let a = a.select::<3>(0, i).select::<2>(0, j);
                let w = b.select::<3>(0, i).select::<2>(0, j);
                let packed = gemm::PackedWeights::pack(w);
                found[0].1.extend(gemm::reference::product(a, w).into_vec());
                found[1].1.extend(gemm::row_at_a_time::product(isa, a, &packed).into_vec());
                found[2].1.extend(linear::linear(isa, a, &packed, Epilogue::default()).into_vec());
            }
        }
        found.to_vec()
    });
}

/// The kernel takes values as wide as the keys. Where ONNX has wider ones: each channel of the
/// output depends on one channel of the values, so the first and the last ones are computed apart.
#[test]
fn attention() {
    check("Attention", 6, 1e-5, |case, isa| {
        let [q, k, v] = ["q", "k", "v"].map(|name| swap_heads_and_tokens(case.tensor(name)));
        let ([.., head_dim], [.., width]) = (q.shape(), v.shape());
        let scale = case.index["attributes"].get("scale").and_then(Value::as_f64);
        let settings = Attention {
            scale: scale.map_or_else(|| Attention::new(head_dim).scale, |scale| scale as f32),
            causal: case.flag("is_causal"),
            ..Attention::new(head_dim)
        };
        let whole = |kernel: &dyn Fn(View<'_, f32, 4>) -> Tensor<f32, 4>| {
            let first = kernel(v.view().slice(3, 0..head_dim));
            let last = kernel(v.view().slice(3, width - head_dim..width));
            let rest = last.view().slice(3, 2 * head_dim - width..head_dim);
            swap_heads_and_tokens(concat(&[first.view(), rest], 3)).into_vec()
        };
        let (q, k) = (q.view(), k.view());
        vec![
            ("reference", whole(&|v| attention::reference::attention(q, k, v, settings))),
            ("flash", whole(&|v| attention::flash::attention(isa, q, k, v, settings))),
        ]
    });
}

/// Nearest-neighbour resizing to whole multiples copies numbers: nothing may differ.
fn resize(op: &str, count: usize) {
    check(op, count, 0.0, |case, isa| {
        let x = channels_last(case.tensor("x"));
        let [_, _, height, width] = case.shape("y").try_into().expect("an image");
        vec![
            ("reference", channels_first(&upsample::nearest::reference::nearest(x.view(), [height, width]))),
            ("row_copy", channels_first(&upsample::nearest(isa, x.view(), [height, width]))),
        ]
    });
}

#[test]
fn resize_nearest() {
    resize("Resize", 4);
}

#[test]
fn upsample_nearest() {
    resize("Upsample", 1);
}

/// `[n, c, h, w]` → `[n, h, w, c]`
fn channels_last(x: Tensor<f32, 4>) -> Tensor<f32, 4> {
    x.view().permute([0, 2, 3, 1]).to_tensor()
}

/// The way back.
fn channels_first(x: &Tensor<f32, 4>) -> Vec<f32> {
    x.view().permute([0, 3, 1, 2]).to_tensor().into_vec()
}

/// `[n, heads, tokens, head_dim]` to `[n, tokens, heads, head_dim]`, or back.
fn swap_heads_and_tokens(x: Tensor<f32, 4>) -> Tensor<f32, 4> {
    x.view().permute([0, 2, 1, 3]).to_tensor()
}
