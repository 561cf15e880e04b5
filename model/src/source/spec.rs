//! What load code asks for: a tensor's name, shape and use.

use aquatint_kernels::Precision;

/// A tensor that an architecture needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its full name.
    pub name: String,
    /// Its shape, as diffusers or transformers would save it.
    pub shape: Vec<usize>,
    /// For which products it would be packed, if it is a matrix or a kernel.
    pub precision: Precision,
    /// What it becomes.
    pub kind: TensorKind,
    /// How often it is applied.
    pub usage: Usage,
}

/// What a tensor becomes when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// Numbers in f32: a bias, or the weights of a norm.
    Vector,
    /// Vectors that are looked up, in the file's type.
    Table,
    /// A packed matrix, or the packed kernel of a convolution.
    Matrix,
    /// The packed kernel of a convolution of a doubled image: a 2×2 kernel for each of four phases.
    Upsampling,
}

/// How often the weights at a place in the tree of names are applied when the network runs once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How often the image was halved on which the layer computes.
    pub halvings: usize,
    /// For what it computes.
    pub role: Role,
}

/// For what a layer computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// For each pixel or token.
    #[default]
    Each,
    /// The same: queries that attend to every pixel.
    SelfAttention,
    /// The same: queries that attend to the tokens of the text.
    CrossAttention,
    /// Once for all steps of an image: the time embedding, keys and values of the text.
    Once,
}

/// Whether two shapes mean the same weights: a matrix `[out, in]` is also a 1×1 kernel `[out, in,
/// 1, 1]`.
pub(super) fn same_shape(a: &[usize], b: &[usize]) -> bool {
    fn matrix(shape: &[usize]) -> &[usize] {
        match shape {
            [_, _, 1] | [_, _, 1, 1] => &shape[..2],
            _ => shape,
        }
    }
    matrix(a) == matrix(b)
}
