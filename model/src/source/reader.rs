//! The cursor with which layers read their weights: a place in the tree of names, and typed,
//! shape-checked reads.
//!
//! ```text
//! unet.weights()                            ""
//!     .at("mid_block").at("resnets.0")      "mid_block.resnets.0."
//!     .vector("norm1.weight", 1280)         reads `mid_block.resnets.0.norm1.weight`
//! ```
//!
//! Matrices and kernels are packed for the arithmetic as they are read. For products in f32 they
//! keep the file's element type; for other precisions they are rounded now, once. Vectors (biases,
//! norms) become f32: they are small, and every kernel wants them so.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use aquatint_kernels::conv2d::upsample;
use aquatint_kernels::gemm::{GegluWeights, Packable};
use aquatint_kernels::{Precision, conv2d, gemm};
use aquatint_tensor::View;

use super::packed::Reuse;
use super::spec::{Role, TensorKind, TensorSpec, Usage, same_shape};
use super::tensor::{Elements, Visitor};
use super::{Schema, TensorSource};
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
    /// How often the layers here are applied; for estimates.
    usage: Usage,
    /// Is called with the count of numbers of each tensor that was read.
    on_read: Option<&'a dyn Fn(usize)>,
    /// Packed weights from before.
    reuse: Option<Reuse<'a>>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Tensors(&'a dyn TensorSource),
    Schema(&'a Schema<'a>),
}

impl Schema<'_> {
    /// The cursor that load code is given.
    pub fn weights(&self) -> Weights<'_> {
        Weights::at_top(Source::Schema(self))
    }
}

impl<'a> Weights<'a> {
    /// The top of the tree of names of `source`.
    pub fn of(source: &'a dyn TensorSource) -> Self {
        Self::at_top(Source::Tensors(source))
    }

    fn at_top(source: Source<'a>) -> Self {
        Self {
            source,
            prefix: String::new(),
            precisions: Precisions::default(),
            without_numbers: false,
            usage: Usage::default(),
            on_read: None,
            reuse: None,
        }
    }

    /// The place one or more names further down.
    pub fn at(&self, name: impl fmt::Display) -> Self {
        Self { prefix: format!("{}{name}.", self.prefix), ..*self }
    }

    /// The same place, for layers that compute on an image that was halved so often.
    pub fn halved(&self, halvings: usize) -> Self {
        Self { usage: Usage { halvings, ..self.usage }, ..self.clone() }
    }

    /// The same place, for layers of this role.
    pub fn role(&self, role: Role) -> Self {
        Self { usage: Usage { role, ..self.usage }, ..self.clone() }
    }

    /// The same place, to read weights for products in this precision, or in one for each kind of
    /// product.
    pub fn for_precision(&self, precisions: impl Into<Precisions>) -> Self {
        Self { precisions: precisions.into(), ..self.clone() }
    }

    /// The same place, to read the weights of a 3×3 window.
    pub fn for_window(&self) -> Self {
        self.for_precision(self.precisions.windows())
    }

    /// The same place, to look whether everything is there: names, shapes and types are checked,
    /// and the layers stay empty.
    pub fn without_numbers(&self) -> Self {
        Self { without_numbers: true, ..self.clone() }
    }

    /// The same place, to take what is packed already and did not change, and to keep what is
    /// packed now.
    pub(crate) fn reusing(&self, reuse: Reuse<'a>) -> Self {
        Self { reuse: Some(reuse), ..self.clone() }
    }

    /// The same place, to read the weights of a layer that computes in f32 whatever the others do:
    /// at the borders of a network, where there are few channels to win anything with and every
    /// rounding shows, and on the way of the time embedding.
    pub fn in_f32(&self) -> Self {
        self.for_precision(Precision::F32)
    }

    /// The same place; `on_read` is called with the count of numbers of each tensor that was read.
    pub fn reporting(&self, on_read: &'a dyn Fn(usize)) -> Self {
        Self { on_read: Some(on_read), ..self.clone() }
    }

    /// For which products matrices and kernels are packed.
    pub fn precision(&self) -> Precision {
        self.precisions.products()
    }

    /// Whether there is a tensor of this name. Only for names that changed over time; what a model
    /// needs follows from its config.
    pub fn has(&self, name: &str) -> bool {
        let name = self.full(name);
        match self.source {
            Source::Tensors(source) => source.find(&name).is_some(),
            Source::Schema(schema) => schema.has(&name),
        }
    }

    /// A vector of `length` numbers, as f32.
    ///
    /// # Errors
    /// As for every read: if there is no such tensor, or if its shape or element type is another.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        self.read(name, &[length], TensorKind::Vector, |elements| elements.into_f32())
            .map(Option::unwrap_or_default)
    }

    /// The packed matrix of a linear layer; `shape`: `[out_features, in_features]`, in the file
    /// perhaps `[out, in, 1, 1]`.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn linear(&self, name: &str, shape: [usize; 2]) -> Result<Arc<gemm::PackedWeights>> {
        self.packed(name, &shape, shape)
    }

    /// The packed matrix of a 1×1 convolution; `shape`: `[out_channels, in_channels]`, in the file
    /// `[out, in, 1, 1]`.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn pointwise(&self, name: &str, shape: [usize; 2]) -> Result<Arc<gemm::PackedWeights>> {
        self.packed(name, &[shape[0], shape[1], 1, 1], shape)
    }

    /// The packed matrix and the bias of a linear layer with gates; `shape`: `[2·features,
    /// in_features]`.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn gated(&self, weight: &str, bias: &str, shape: [usize; 2]) -> Result<Arc<GegluWeights>> {
        let numbers = self.vector(bias, shape[0])?;
        let pack = PackGated { precision: self.precision(), shape, bias: &numbers };
        self.shared(&[weight, bias], shape[0] * shape[1], || {
            let weights = self.read(weight, &shape, TensorKind::Matrix, |elements| elements.visit(pack))?;
            Ok(weights.unwrap_or_else(GegluWeights::empty))
        })
    }

    /// The packed matrix of a 1×1 convolution, in segments of `segment_len` inputs each, for an
    /// input that is joined of several.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn pointwise_segments(
        &self,
        name: &str,
        [out_channels, in_channels]: [usize; 2],
        segment_len: usize,
    ) -> Result<Arc<gemm::PackedWeights>> {
        let segments = [out_channels, in_channels / segment_len, segment_len];
        self.packed(name, &[out_channels, in_channels, 1, 1], segments)
    }

    /// The packed kernel of a convolution; `shape`: `[out_channels, in_channels, height, width]`.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn conv(&self, name: &str, shape: [usize; 4]) -> Result<Arc<conv2d::ConvWeights>> {
        self.packed(name, &shape, shape)
    }

    /// The packed 3×3 kernel of a convolution that follows a doubling, with as many channels in as
    /// out.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn upsample_conv(&self, name: &str, channels: usize) -> Result<Arc<upsample::UpsampleWeights>> {
        let shape = [channels, channels, 3, 3];
        self.packed(name, &shape, shape)
    }

    /// A table of `shape[0]` vectors, looked up by number.
    ///
    /// # Errors
    /// See [`Weights::vector`].
    pub fn table(&self, name: &str, [rows, columns]: [usize; 2]) -> Result<Table> {
        let table = self.read(name, &[rows, columns], TensorKind::Table, |elements| Table {
            elements: elements.into_owned(),
            rows,
            columns,
        })?;
        Ok(table.unwrap_or_else(Table::empty))
    }

    /// Packs the tensor of this name, stored in the shape `stored`, as if it had `shape`.
    fn packed<W: Pack<N> + Send + Sync + 'static, const N: usize>(
        &self,
        name: &str,
        stored: &[usize],
        shape: [usize; N],
    ) -> Result<Arc<W>> {
        self.shared(&[name], stored.iter().product(), || {
            let pack = PackAs { precision: self.precision(), shape, weights: PhantomData };
            let weights = self.read(name, stored, W::KIND, |elements| elements.visit(pack))?;
            Ok(weights.unwrap_or_else(W::empty))
        })
    }

    /// What `pack` makes of the tensors `names`, or what it made of them before; the first has
    /// `numbers` numbers.
    fn shared<W: Send + Sync + 'static>(
        &self,
        names: &[&str],
        numbers: usize,
        pack: impl FnOnce() -> Result<W>,
    ) -> Result<Arc<W>> {
        let Some(reuse) = self.reuse.filter(|_| !self.without_numbers) else {
            return pack().map(Arc::new);
        };
        let names: Vec<_> = names.iter().map(|name| self.full(name)).collect();
        let mut is_new = false;
        let weights = reuse.get(&names, || {
            is_new = true;
            pack()
        })?;
        if let Some(on_read) = self.on_read.filter(|_| !is_new) {
            on_read(numbers);
        }
        Ok(weights)
    }

    /// Finds the tensor, checks it, and hands its numbers to `build`; `None` if numbers are not
    /// wanted or not there.
    fn read<R>(
        &self,
        name: &str,
        shape: &[usize],
        kind: TensorKind,
        build: impl FnOnce(Elements<'_>) -> R,
    ) -> Result<Option<R>> {
        let name = self.full(name);
        let source = match self.source {
            Source::Tensors(source) => source,
            Source::Schema(schema) => {
                let (shape, precision, usage) = (shape.to_vec(), self.precision(), self.usage);
                schema.record(TensorSpec { name, shape, precision, kind, usage });
                return Ok(None);
            }
        };
        let Some(found) = source.find(&name) else {
            return Err(Error::model(format_args!(
                "{}: there is no tensor `{name}` (expected {shape:?}); the file belongs to another architecture or is \
                 incomplete",
                source.describe()
            )));
        };
        if !same_shape(&found.shape(), shape) {
            return Err(found.error(format_args!("expected {shape:?}, found {:?}", found.shape())));
        }
        found.check()?;
        source.mark_used(&name);
        if self.without_numbers {
            return Ok(None);
        }
        let result = build(found.elements()?);
        found.release();
        if let Some(on_read) = self.on_read {
            on_read(shape.iter().product());
        }
        Ok(Some(result))
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Packed weights that are made of numbers of N axes.
trait Pack<const N: usize> {
    const KIND: TensorKind = TensorKind::Matrix;
    fn pack<T: Packable>(precision: Precision, numbers: View<'_, T, N>) -> Self;
    /// The value in their place where there are no numbers.
    fn empty() -> Self;
}

impl Pack<2> for gemm::PackedWeights {
    fn pack<T: Packable>(precision: Precision, numbers: View<'_, T, 2>) -> Self {
        Self::pack_for(precision, numbers)
    }
    fn empty() -> Self {
        Self::empty()
    }
}

impl Pack<3> for gemm::PackedWeights {
    fn pack<T: Packable>(precision: Precision, numbers: View<'_, T, 3>) -> Self {
        Self::pack_segments(precision, numbers)
    }
    fn empty() -> Self {
        Self::empty()
    }
}

impl Pack<4> for conv2d::ConvWeights {
    fn pack<T: Packable>(precision: Precision, numbers: View<'_, T, 4>) -> Self {
        Self::pack_for(precision, numbers)
    }
    fn empty() -> Self {
        Self::empty()
    }
}

impl Pack<4> for upsample::UpsampleWeights {
    const KIND: TensorKind = TensorKind::Upsampling;
    fn pack<T: Packable>(precision: Precision, numbers: View<'_, T, 4>) -> Self {
        Self::pack_for(precision, numbers)
    }
    fn empty() -> Self {
        Self::empty()
    }
}

/// The visitor that packs.
struct PackAs<W, const N: usize> {
    precision: Precision,
    shape: [usize; N],
    weights: PhantomData<W>,
}

impl<W: Pack<N>, const N: usize> Visitor for PackAs<W, N> {
    type Output = W;
    fn visit<T: Packable>(self, numbers: &[T]) -> W {
        W::pack(self.precision, View::from_slice(self.shape, numbers))
    }
}

/// The visitor that packs a linear layer with gates.
struct PackGated<'a> {
    precision: Precision,
    shape: [usize; 2],
    bias: &'a [f32],
}

impl Visitor for PackGated<'_> {
    type Output = GegluWeights;
    fn visit<T: Packable>(self, numbers: &[T]) -> GegluWeights {
        GegluWeights::pack(self.precision, View::from_slice(self.shape, numbers), self.bias)
    }
}

/// Embedding vectors in the file's element type; a row becomes f32 when it is looked up.
pub struct Table {
    elements: Elements<'static>,
    rows: usize,
    columns: usize,
}

impl Table {
    fn empty() -> Self {
        Self { elements: Elements::F32(Cow::Borrowed(&[])), rows: 0, columns: 0 }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// `out += table[row]`.
    ///
    /// # Panics
    /// If there is no such row, or if `out` is not as long as one.
    pub fn add_row(&self, row: usize, out: &mut [f32]) {
        struct AddRow<'a> {
            row: usize,
            out: &'a mut [f32],
        }
        impl Visitor for AddRow<'_> {
            type Output = ();
            fn visit<T: Packable>(self, numbers: &[T]) {
                let row = &numbers[self.row * self.out.len()..];
                self.out.iter_mut().zip(row).for_each(|(out, x)| *out += x.to_f32());
            }
        }
        assert!(row < self.rows, "row {row} of a table with {} rows", self.rows);
        assert_eq!(self.columns, out.len(), "a row of the table has {} numbers", self.columns);
        self.elements.visit(AddRow { row, out });
    }
}
