//! What each layer of a network takes: its shape, its work and its seconds, in the order in which a
//! network calls its layers.
//!
//! ```text
//! let (image, layers) = trace::record(|| unet.forward(isa, latents, step, &conditioning));
//! ```
//!
//! Layers are timed on the thread that calls the network, which waits for all others. Outside of
//! [`record`] a layer only asks whether anybody wants to know.

use std::cell::RefCell;
use std::time::Instant;

use aquatint_kernels::Precision;
use aquatint_kernels::conv2d::{ConvWeights, Geometry};
use aquatint_kernels::cpu::stored::Stored;
use aquatint_kernels::gemm::{GegluWeights, PackedWeights};
use aquatint_kernels::norm::group::NormInput;
use aquatint_kernels::packed_input::{Activations, Input};

/// What a layer is and has to do at least.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerWork {
    /// The class of the layer: "conv 3×3", "linear", "group norm".
    pub kind: &'static str,
    /// Its sizes: "2×64×64×320→320".
    pub shape: String,
    /// Multiplications and additions of its products by the definition; 0 if it has none.
    pub flops: f64,
    /// Of its inputs, weights and outputs, each once.
    pub bytes: f64,
}

/// A layer that ran.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// What it was.
    pub work: LayerWork,
    /// How long it took.
    pub seconds: f64,
}

impl LayerWork {
    /// A product with `rows` rows that reads inputs of `input` bytes, and `output` for each number
    /// of its output with writing it.
    pub(crate) fn linear(
        kind: &'static str,
        rows: usize,
        w: &PackedWeights,
        [input_bytes, output_bytes]: [usize; 2],
    ) -> Self {
        let (depth, columns) = (w.segments() * w.segment_len(), w.out_features());
        Self {
            kind,
            shape: format!("{rows}×{depth}→{columns}"),
            flops: 2.0 * (rows * depth * columns) as f64,
            bytes: (input_bytes + w.bytes() + output_bytes * rows * columns) as f64,
        }
    }

    /// A linear layer with GEGLU behind it.
    pub(crate) fn geglu(rows: usize, w: &GegluWeights, input_bytes: usize) -> Self {
        let (depth, columns) = (w.in_features(), w.features());
        Self {
            kind: "linear with GEGLU",
            shape: format!("{rows}×{depth}→2×{columns}"),
            flops: 4.0 * (rows * depth * columns) as f64,
            bytes: (input_bytes + w.bytes() + bytes_packed_for(w.precision()) * rows * columns) as f64,
        }
    }

    /// A convolution whose output has so many bytes a number, and its residual so many, or 0.
    pub(crate) fn conv(
        x: Input<'_, 4>,
        w: &ConvWeights,
        geometry: Geometry,
        [number, residual]: [usize; 2],
    ) -> Self {
        let [n, height, width, in_channels] = x.shape();
        let Geometry { kernel_size, stride, .. } = geometry;
        let (out_channels, taps) = (w.out_channels(), kernel_size[0] * kernel_size[1]);
        let pixels = n * height.div_ceil(stride[0]) * width.div_ceil(stride[1]);
        let kind = match (kernel_size, stride, residual > 0) {
            ([3, 3], [1, 1], false) if in_channels.min(out_channels) < 32 => "conv 3×3, few channels",
            ([3, 3], [1, 1], false) => "conv 3×3",
            ([3, 3], [1, 1], true) => "conv 3×3 with residual",
            _ => "conv, other",
        };
        let output_bytes = (number + residual) * pixels * out_channels;
        Self {
            kind,
            shape: format!("{n}×{height}×{width}×{in_channels}→{out_channels}"),
            flops: 2.0 * (pixels * taps * in_channels * out_channels) as f64,
            bytes: (x.bytes() + w.bytes() + output_bytes) as f64,
        }
    }

    /// A convolution of an enlarged image; operations are those on the enlarged one.
    pub(crate) fn upsample_conv(
        [n, height, width, channels]: [usize; 4],
        [_, out_height, out_width, _]: [usize; 4],
        [number, weight_bytes]: [usize; 2],
    ) -> Self {
        let pixels = n * out_height * out_width;
        Self {
            kind: "conv 3×3, enlarging",
            shape: format!("{n}×{height}×{width}×{channels}→{out_height}×{out_width}"),
            flops: 18.0 * (pixels * channels * channels) as f64,
            bytes: (number * (n * height * width + pixels) * channels + weight_bytes) as f64,
        }
    }

    /// What a transformer does to its tokens, `[rows, channels]`, behind its attention to the text,
    /// as one: 13 products of `channels × channels`, and an output that is rounded.
    pub(crate) fn depth_first([rows, channels]: [usize; 2], attended_bytes: usize) -> Self {
        let weights = 13 * channels * channels;
        Self {
            kind: "transformer, depth first",
            shape: format!("{rows}×{channels}"),
            flops: 2.0 * (rows * weights) as f64,
            bytes: (attended_bytes + 6 * rows * channels + 2 * weights) as f64,
        }
    }

    /// A group norm in front of a layer of this precision.
    pub(crate) fn group_norm<T: Stored>(inputs: &[NormInput<'_, T>], precision: Precision) -> Self {
        let [_, height, width, _] = inputs[0].pixels.shape();
        let channels: usize = inputs.iter().map(|input| input.pixels.shape()[3]).sum();
        let images = inputs.iter().map(|input| input.pixels.shape()[0]).max().unwrap_or(0);
        let read = |input: &NormInput<'_, T>| size_of::<T>() * input.pixels.shape().iter().product::<usize>();
        let written = bytes_packed_for(precision) * images * height * width * channels;
        Self {
            kind: "group norm",
            shape: format!("{images}×{height}×{width}×{channels}"),
            flops: 0.0,
            bytes: (inputs.iter().map(read).sum::<usize>() + written) as f64,
        }
    }

    /// A layer norm that reads and writes so many bytes a number.
    pub(crate) fn layer_norm([n, tokens, channels]: [usize; 3], [read, written]: [usize; 2]) -> Self {
        Self {
            kind: "layer norm",
            shape: format!("{}×{channels}", n * tokens),
            flops: 0.0,
            bytes: ((read + written) * n * tokens * channels) as f64,
        }
    }

    /// Both products of attention.
    pub(crate) fn attention(qkv: [&Activations<3>; 3], heads: usize) -> Self {
        let ([_, queries, channels], [images, keys, _]) = (qkv[0].shape(), qkv[1].shape());
        Self {
            kind: if keys == queries { "self-attention" } else { "cross-attention" },
            shape: format!("{images}×{queries}×{keys}, {heads}×{}", channels / heads),
            flops: 4.0 * (images * queries * keys * channels) as f64,
            bytes: (qkv.iter().map(|x| x.bytes()).sum::<usize>() + qkv[0].bytes()) as f64,
        }
    }
}

/// The memory of a number that is made for a product of this precision.
pub(crate) fn bytes_packed_for(precision: Precision) -> usize {
    match precision {
        Precision::Bf16 => 2,
        Precision::F32 | Precision::Bf16x3 => 4,
    }
}

thread_local! {
    static LAYERS: RefCell<Option<Vec<LayerTime>>> = const { RefCell::new(None) };
}

/// Runs a network and says what its layers took.
pub fn record<T>(network: impl FnOnce() -> T) -> (T, Vec<LayerTime>) {
    let before = LAYERS.replace(Some(Vec::new()));
    let result = network();
    (result, LAYERS.replace(before).unwrap_or_default())
}

/// Runs a layer, and notes its time if this thread is recording; layers within it are not noted.
pub(crate) fn layer<T>(work: impl FnOnce() -> LayerWork, run: impl FnOnce() -> T) -> T {
    let Some(mut layers) = LAYERS.take() else { return run() };
    let start = Instant::now();
    let result = run();
    layers.push(LayerTime { work: work(), seconds: start.elapsed().as_secs_f64() });
    LAYERS.set(Some(layers));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(kind: &'static str) -> LayerWork {
        LayerWork { kind, shape: "1×1".into(), flops: 2.0, bytes: 4.0 }
    }

    #[test]
    fn layers_are_noted_in_order_and_only_while_somebody_records() {
        layer(|| panic!("no trace was asked for"), || ());
        let (sum, layers) = record(|| layer(|| work("linear"), || 1) + layer(|| work("group norm"), || 2));
        assert_eq!(sum, 3);
        let (_, outer) =
            record(|| layer(|| work("outer"), || layer(|| panic!("it is within another"), || ())));
        assert_eq!(outer.len(), 1);
        let kinds: Vec<_> = layers.iter().map(|layer| layer.work.kind).collect();
        assert_eq!(kinds, ["linear", "group norm"]);
        assert!(layers.iter().all(|layer| layer.seconds >= 0.0));
        layer(|| panic!("the trace has ended"), || ());
    }
}
