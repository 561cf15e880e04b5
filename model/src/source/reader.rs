//! The cursor with which layers read their weights: a place in the tree of names, and typed, shape-checked reads.
//!
//! ```text
//! unet.weights()                            ""
//!     .at("mid_block").at("resnets.0")      "mid_block.resnets.0."
//!     .vector("norm1.weight", 1280)         reads `mid_block.resnets.0.norm1.weight`
//! ```
//!
//! Matrices and kernels are packed for the arithmetic as they are read. For products in f32 they keep the file's element type; for other
//! precisions they are rounded now, once. Vectors (biases, norms) become f32: they are small, and every kernel wants them so.

use std::borrow::Cow;
use std::fmt;

use aquatint_kernels::gemm::GegluWeights;
use aquatint_kernels::{Precision, conv2d, conv2d::upsample, gemm};
use aquatint_tensor::{Element, Tensor, View};
use half::{bf16, f16};

use super::{Checkpoint, Schema, StoredTensor, StoredType};
use crate::error::{Error, Result};
use crate::precisions::Precisions;

/// A place in the tree of tensor names.
#[derive(Clone)]
pub struct Weights<'a> {
    source: Source<'a>,
    /// Empty, or ending in a dot.
    prefix: String,
    /// For which products matrices and kernels are packed.
    precisions: Precisions,
    /// Whether tensors are only looked for.
    without_numbers: bool,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Checkpoint(&'a Checkpoint),
    Schema(&'a Schema<'a>),
}

impl<'a> Weights<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint) -> Self {
        Self {
            source: Source::Checkpoint(checkpoint),
            prefix: String::new(),
            precisions: Precisions::default(),
            without_numbers: false,
        }
    }

    pub(super) fn of_schema(schema: &'a Schema<'a>) -> Self {
        Self {
            source: Source::Schema(schema),
            prefix: String::new(),
            precisions: Precisions::default(),
            without_numbers: false,
        }
    }

    /// The place one or more names further down.
    pub fn at(&self, name: impl fmt::Display) -> Self {
        Self { prefix: format!("{}{name}.", self.prefix), ..*self }
    }

    /// The same place, to read weights for products in this precision, or in one for each kind of product.
    pub fn for_precision(&self, precisions: impl Into<Precisions>) -> Self {
        Self { precisions: precisions.into(), ..self.clone() }
    }

    /// The same place, to read the weights of a 3×3 window.
    pub fn for_window(&self) -> Self {
        self.for_precision(self.precisions.windows)
    }

    /// The same place, to look whether everything is there: names, shapes and types are checked, and the layers stay empty.
    pub fn without_numbers(&self) -> Self {
        Self { without_numbers: true, ..self.clone() }
    }

    /// The same place, to read the weights of a layer that computes in f32 whatever the others do: at the borders of a network,
    /// where there are few channels to win anything with and every rounding shows, and on the way of the time embedding.
    pub fn in_f32(&self) -> Self {
        self.for_precision(Precision::F32)
    }

    /// For which products matrices and kernels are packed.
    pub fn precision(&self) -> Precision {
        self.precisions.products
    }

    /// Whether there is a tensor of this name. Only for names that changed over time; what a model needs follows from its config.
    pub fn has(&self, name: &str) -> bool {
        let name = self.full(name);
        match self.source {
            Source::Checkpoint(checkpoint) => checkpoint.find(&name).is_some(),
            Source::Schema(schema) => schema.has(&name),
        }
    }

    /// A vector of `length` numbers, as f32.
    ///
    /// # Errors
    /// As for every read: if there is no such tensor, or if its shape or element type is another.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        self.read(name, &[length], |elements| match elements {
            Elements::F32(x) => x.into_owned(),
            Elements::F16(x) => x.iter().map(|x| x.to_f32()).collect(),
            Elements::Bf16(x) => x.iter().map(|x| x.to_f32()).collect(),
        })
        .map(Option::unwrap_or_default)
    }

    /// The packed matrix of a linear layer; `shape`: `[out_features, in_features]`, in the file perhaps `[out, in, 1, 1]`.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn linear(&self, name: &str, shape: [usize; 2]) -> Result<gemm::PackedWeights> {
        self.matrix(name, &shape, shape)
    }

    /// The packed matrix of a 1×1 convolution; `shape`: `[out_channels, in_channels]`, in the file `[out, in, 1, 1]`.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn pointwise(
        &self,
        name: &str,
        [out_channels, in_channels]: [usize; 2],
    ) -> Result<gemm::PackedWeights> {
        self.matrix(name, &[out_channels, in_channels, 1, 1], [out_channels, in_channels])
    }

    /// The packed matrix and the bias of a linear layer with gates; `shape`: `[2·features, in_features]`.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn gated(&self, weight: &str, bias: &str, shape: [usize; 2]) -> Result<GegluWeights> {
        let bias = self.vector(bias, shape[0])?;
        let precision = self.precision();
        self.read(weight, &shape, |elements| match elements {
            Elements::F32(x) => GegluWeights::pack(precision, View::from_slice(shape, &x), &bias),
            Elements::F16(x) => GegluWeights::pack(precision, View::from_slice(shape, &x), &bias),
            Elements::Bf16(x) => GegluWeights::pack(precision, View::from_slice(shape, &x), &bias),
        })
        .map(|weights| weights.unwrap_or_else(GegluWeights::empty))
    }

    /// The packed matrix of a 1×1 convolution, in segments of `segment_len` inputs each, for an input that is joined of several.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn pointwise_segments(
        &self,
        name: &str,
        [out_channels, in_channels]: [usize; 2],
        segment_len: usize,
    ) -> Result<gemm::PackedWeights> {
        let shape = [out_channels, in_channels / segment_len, segment_len];
        self.read(name, &[out_channels, in_channels, 1, 1], |elements| match elements {
            Elements::F32(x) => {
                gemm::PackedWeights::pack_segments(self.precision(), View::from_slice(shape, &x))
            }
            Elements::F16(x) => {
                gemm::PackedWeights::pack_segments(self.precision(), View::from_slice(shape, &x))
            }
            Elements::Bf16(x) => {
                gemm::PackedWeights::pack_segments(self.precision(), View::from_slice(shape, &x))
            }
        })
        .map(|weights| weights.unwrap_or_else(gemm::PackedWeights::empty))
    }

    fn matrix(&self, name: &str, stored: &[usize], shape: [usize; 2]) -> Result<gemm::PackedWeights> {
        self.read(name, stored, |elements| match elements {
            Elements::F32(x) => gemm::PackedWeights::pack_for(self.precision(), View::from_slice(shape, &x)),
            Elements::F16(x) => gemm::PackedWeights::pack_for(self.precision(), View::from_slice(shape, &x)),
            Elements::Bf16(x) => gemm::PackedWeights::pack_for(self.precision(), View::from_slice(shape, &x)),
        })
        .map(|weights| weights.unwrap_or_else(gemm::PackedWeights::empty))
    }

    /// The packed kernel of a convolution; `shape`: `[out_channels, in_channels, height, width]`.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn conv(&self, name: &str, shape: [usize; 4]) -> Result<conv2d::ConvWeights> {
        self.read(name, &shape, |elements| match elements {
            Elements::F32(x) => conv2d::ConvWeights::pack_for(self.precision(), View::from_slice(shape, &x)),
            Elements::F16(x) => conv2d::ConvWeights::pack_for(self.precision(), View::from_slice(shape, &x)),
            Elements::Bf16(x) => conv2d::ConvWeights::pack_for(self.precision(), View::from_slice(shape, &x)),
        })
        .map(|weights| weights.unwrap_or_else(conv2d::ConvWeights::empty))
    }

    /// The packed 3×3 kernel of a convolution that follows a doubling, with as many channels in as out.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn upsample_conv(&self, name: &str, channels: usize) -> Result<upsample::UpsampleWeights> {
        let shape = [channels, channels, 3, 3];
        self.read(name, &shape, |elements| match elements {
            Elements::F32(x) => {
                upsample::UpsampleWeights::pack_for(self.precision(), View::from_slice(shape, &x))
            }
            Elements::F16(x) => {
                upsample::UpsampleWeights::pack_for(self.precision(), View::from_slice(shape, &x))
            }
            Elements::Bf16(x) => {
                upsample::UpsampleWeights::pack_for(self.precision(), View::from_slice(shape, &x))
            }
        })
        .map(|weights| weights.unwrap_or_else(upsample::UpsampleWeights::empty))
    }

    /// A table of `rows` vectors, looked up by number.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn table(&self, name: &str, shape: [usize; 2]) -> Result<Table> {
        self.read(name, &shape, |elements| match elements {
            Elements::F32(x) => Table::F32(Tensor::from_vec(shape, x.into_owned())),
            Elements::F16(x) => Table::F16(Tensor::from_vec(shape, x.into_owned())),
            Elements::Bf16(x) => Table::Bf16(Tensor::from_vec(shape, x.into_owned())),
        })
        .map(|table| table.unwrap_or_else(|| Table::F32(Tensor::zeros([0, 0]))))
    }

    /// Finds the tensor, checks it, and hands its elements to `build`; from a schema there is nothing to build from.
    fn read<R>(
        &self,
        name: &str,
        shape: &[usize],
        build: impl FnOnce(Elements<'_>) -> R,
    ) -> Result<Option<R>> {
        let name = self.full(name);
        let checkpoint = match self.source {
            Source::Checkpoint(checkpoint) => checkpoint,
            Source::Schema(schema) => {
                schema.record(name, shape, self.precision());
                return Ok(None);
            }
        };
        let Some((file, tensor)) = checkpoint.find(&name) else {
            let files: Vec<String> = checkpoint.paths().map(|path| format!("`{}`", path.display())).collect();
            return Err(Error::model(format_args!(
                "{}: there is no tensor `{name}` (expected {shape:?}); the file belongs to another architecture or is incomplete",
                files.join(", ")
            )));
        };
        if !same_shape(tensor.shape, shape) {
            return Err(Error::in_file(
                file.path(),
                format_args!("tensor `{name}`: expected {shape:?}, found {:?}", tensor.shape),
            ));
        }
        if !Elements::supports(tensor.dtype) {
            return Err(Error::in_file(
                file.path(),
                format_args!(
                    "tensor `{name}`: expected element type F32, F16 or BF16, found {}",
                    tensor.dtype
                ),
            ));
        }
        checkpoint.mark_read(&name);
        if self.without_numbers {
            return Ok(None);
        }
        let result = build(Elements::of(&tensor));
        file.release(&tensor);
        Ok(Some(result))
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Whether two shapes mean the same weights: a matrix `[out, in]` is also a 1×1 kernel `[out, in, 1, 1]`.
pub(super) fn same_shape(a: &[usize], b: &[usize]) -> bool {
    fn matrix(shape: &[usize]) -> &[usize] {
        match shape {
            [_, _, 1, 1] => &shape[..2],
            _ => shape,
        }
    }
    matrix(a) == matrix(b)
}

/// The numbers of a tensor, borrowed from the file where its alignment allows.
enum Elements<'a> {
    F32(Cow<'a, [f32]>),
    F16(Cow<'a, [f16]>),
    Bf16(Cow<'a, [bf16]>),
}

impl<'a> Elements<'a> {
    fn supports(stored: StoredType) -> bool {
        matches!(stored, StoredType::F32 | StoredType::F16 | StoredType::BF16)
    }

    fn of(tensor: &StoredTensor<'a>) -> Self {
        match tensor.dtype {
            StoredType::F32 => Self::F32(elements(tensor.bytes, f32::from_le_bytes)),
            StoredType::F16 => Self::F16(elements(tensor.bytes, f16::from_le_bytes)),
            StoredType::BF16 => Self::Bf16(elements(tensor.bytes, bf16::from_le_bytes)),
            other => panic!("{other} was refused before"),
        }
    }
}

/// Little-endian bytes as numbers: in place if they are aligned and this machine is little-endian, else copied.
fn elements<T: bytemuck::Pod, const SIZE: usize>(bytes: &[u8], decode: fn([u8; SIZE]) -> T) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(numbers) if cfg!(target_endian = "little") => Cow::Borrowed(numbers),
        _ => bytes.as_chunks().0.iter().map(|&chunk| decode(chunk)).collect(),
    }
}

/// Embedding vectors in the file's element type; a row becomes f32 when it is looked up.
pub enum Table {
    /// Single precision.
    F32(Tensor<f32, 2>),
    /// Half precision.
    F16(Tensor<f16, 2>),
    /// The upper halves of single precision.
    Bf16(Tensor<bf16, 2>),
}

impl Table {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Table::F32(x) => x.shape()[0],
            Table::F16(x) => x.shape()[0],
            Table::Bf16(x) => x.shape()[0],
        }
    }

    /// `out += table[row]`.
    ///
    /// # Panics
    /// If there is no such row, or if `out` is not as long as one.
    pub fn add_row(&self, row: usize, out: &mut [f32]) {
        fn add<T: Element>(table: &Tensor<T, 2>, row: usize, out: &mut [f32]) {
            let [rows, columns] = table.shape();
            assert!(row < rows, "row {row} of a table with {rows} rows");
            assert_eq!(columns, out.len(), "a row of the table has {columns} numbers");
            for (out, x) in out.iter_mut().zip(&table.as_slice()[row * columns..]) {
                *out += x.to_f32();
            }
        }
        match self {
            Table::F32(table) => add(table, row, out),
            Table::F16(table) => add(table, row, out),
            Table::Bf16(table) => add(table, row, out),
        }
    }
}
