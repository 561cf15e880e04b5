//! Attention: each query token looks at all key tokens and takes a weighted mean of their values.
//!
//! ```text
//! out = softmax(scale · Q·Kᵀ) · V        for each image and each head
//! ```
//!
//! | step | idea | AVX-512 | AVX2 | portable |
//! |---|---|---|---|---|
//! | [`mod@reference`] | the formula, a row of scores at a time, sums in `f64` | | | |
//! | [`flash`] | blocks of scores; online softmax | 80, 68 % | 63, 55 % | 24, 50 % |
//! | [`flash_bf16`] | the same in bf16, with a tile unit | 126, 54 % of its peak | | |
//! | [`pipelined`] | tile unit and vectors at the same time | see there | | |
//!
//! GFLOP/s of the two products and share of the peak in the same run, one core of an AMD EPYC (Zen
//! 4), 4096 tokens, 8 heads of 40. In f32: `cargo bench -p aquatint-benches --bench attention`.
//!
//! A head of 64×64 latents has 64 MB of scores; in blocks they never leave the L1 cache.
//! Source: Vaswani et al., "Attention Is All You Need" (2017, arXiv:1706.03762), section 3.2.1.

pub mod flash;
pub mod flash_bf16;
mod online_softmax;
pub mod pipelined;
pub mod reference;
mod transpose;

use aquatint_tensor::{Tensor, View, concat};

use crate::gemm::Matrix;
use crate::gemm::PackedA;
use crate::packed_input::{Activations, Input};
use crate::{Isa, Precision};

/// The settings of an attention layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Attention {
    /// The factor of the scores, usually 1/√head_dim.
    pub scale: f32,
    /// Whether query i sees only keys 0..=i.
    pub causal: bool,
    /// The precision of both products. In `Bf16` the exponentials between them are as exact as
    /// bf16.
    pub precision: Precision,
}

impl Attention {
    /// The usual scale of 1/√head_dim, every key visible, all in f32.
    pub fn new(head_dim: usize) -> Self {
        Self { scale: 1.0 / (head_dim as f32).sqrt(), causal: false, precision: Precision::F32 }
    }
}

/// `out[n, i, h] = Σⱼ softmaxⱼ(scale · q[n, i, h]·k[n, j, h]) · v[n, j, h]`
///
/// `q: [n, queries, heads, head_dim]`, `k, v: [n, keys, heads, head_dim]` → `[n, queries, heads,
/// head_dim]`; so the output of a linear layer, `[n, tokens, heads·head_dim]`, only needs a
/// reshape. As `torch.nn.functional.scaled_dot_product_attention`, which has the heads before the
/// tokens.
///
/// ```
/// # use aquatint_kernels::{Isa, attention::{Attention, attention}};
/// # use aquatint_tensor::Tensor;
/// // Two keys that score the same for the one query: the result is the mean of the two values.
/// let q = Tensor::from_vec([1, 1, 1, 1], vec![2.0]);
/// let k = Tensor::from_vec([1, 2, 1, 1], vec![3.0, 3.0]);
/// let v = Tensor::from_vec([1, 2, 1, 1], vec![10.0, 20.0]);
/// let out = attention(Isa::best(), q.view(), k.view(), v.view(), Attention::new(1));
/// assert_eq!(out.as_slice(), [15.0]);
/// ```
///
/// # Panics
/// If the shapes do not fit each other, there is no key, or the scale is not positive and the
/// precision not f32.
pub fn attention(
    isa: Isa,
    q: View<'_, f32, 4>,
    k: View<'_, f32, 4>,
    v: View<'_, f32, 4>,
    settings: Attention,
) -> Tensor<f32, 4> {
    match settings.precision {
        Precision::F32 => flash::attention(isa, q, k, v, settings),
        _ if pipelined::pays(isa, settings) => {
            let (mut out, overflowed) = pipelined::attention(isa, q, k, v, settings);
            for image in overflowed {
                let [q, k, v] = [q, k, v].map(|x| x.slice(0, image..image + 1));
                let again = flash_bf16::attention(isa, q, k, v, settings);
                out.as_mut_slice()[image * again.len()..][..again.len()].copy_from_slice(again.as_slice());
            }
            out
        }
        Precision::Bf16 | Precision::Bf16x3 => flash_bf16::attention(isa, q, k, v, settings),
    }
}

/// Whether [`attention_of_activations`] takes rounded activations, for heads of this length; else
/// f32.
pub fn takes_packed(isa: Isa, settings: Attention, head_dim: usize) -> bool {
    pipelined::pays(isa, settings) && head_dim.is_multiple_of(pipelined::PIECE)
}

/// [`attention()`] from linear layers to a linear layer: `q: [m, queries, heads·head_dim]`, `k, v:
/// [n, keys, heads·head_dim]` → `[n, queries, heads·head_dim]`. Image i of the keys meets image i
/// mod m of the queries.
///
/// # Panics
/// As [`attention`](attention()); also if n is not a multiple of m, or some are rounded and others
/// not.
pub fn attention_of_activations(
    isa: Isa,
    [q, k, v]: [&Activations<3>; 3],
    heads: usize,
    settings: Attention,
) -> Activations<3> {
    let ([few, queries, channels], [images, keys, _]) = (q.shape(), k.shape());
    assert!(few > 0 && images.is_multiple_of(few), "{images} images of keys cannot meet {few} of queries");
    assert_eq!(k.shape(), [images, keys, channels], "k does not fit q, which is {:?}", q.shape());
    assert_eq!(v.shape(), k.shape(), "v does not fit k");
    assert!(heads > 0 && channels.is_multiple_of(heads), "{channels} channels are not {heads} heads");
    let shape = [images, queries, channels];
    match [q, k, v].map(Input::from) {
        [Input::F32(q), Input::F32(k), Input::F32(v)] => {
            attention_of_views(attention, isa, [q, k, v], heads, settings).into()
        }
        [Input::Packed(_, q), Input::Packed(_, k), Input::Packed(_, v)] => {
            let of_heads = pipelined::Shape { images, queries, keys, heads, head_dim: channels / heads };
            let (mut out, overflowed) = pipelined::attention_of_packed(isa, [q, k, v], of_heads, settings);
            for image in overflowed {
                let of_image = |x: &PackedA, image: usize, tokens: usize| {
                    Tensor::from_fn([1, tokens, channels], |[_, i, c]| x.number(image * tokens + i, c))
                };
                let tensors =
                    [of_image(q, image % few, queries), of_image(k, image, keys), of_image(v, image, keys)];
                let views = tensors.each_ref().map(Tensor::view);
                let again = attention_of_views(flash_bf16::attention, isa, views, heads, settings)
                    .reshape([queries, channels]);
                let rows = Matrix::new(again.view());
                let again = PackedA::of_rows(isa, settings.precision, &rows, 0..queries, [1, channels]);
                out.put_rows(image * queries, &again);
            }
            Activations::packed(shape, out)
        }
        _ => panic!("of q, k and v some are rounded and others are not"),
    }
}

/// A form of attention in f32 at its ends.
type OfViews = fn(Isa, View<'_, f32, 4>, View<'_, f32, 4>, View<'_, f32, 4>, Attention) -> Tensor<f32, 4>;

/// `form` of tokens whose heads are side by side; the queries are repeated for more images of keys.
fn attention_of_views(
    form: OfViews,
    isa: Isa,
    qkv: [View<'_, f32, 3>; 3],
    heads: usize,
    settings: Attention,
) -> Tensor<f32, 3> {
    let [q, k, v] = qkv.map(|x| {
        let [n, tokens, channels] = x.shape();
        x.reshape([n, tokens, heads, channels / heads]).expect("the channels of a token are contiguous")
    });
    let times = k.shape()[0] / q.shape()[0];
    let repeated = (times > 1).then(|| concat(&vec![q; times], 0));
    let out = form(isa, repeated.as_ref().map_or(q, Tensor::view), k, v, settings);
    let [n, tokens, heads, head_dim] = out.shape();
    out.reshape([n, tokens, heads * head_dim])
}

/// Panics unless the three shapes fit; gives (images, queries, keys, heads, head_dim).
fn check(
    q: View<'_, f32, 4>,
    k: View<'_, f32, 4>,
    v: View<'_, f32, 4>,
) -> (usize, usize, usize, usize, usize) {
    let [images, queries, heads, head_dim] = q.shape();
    let keys = k.shape()[1];
    assert_eq!(k.shape(), [images, keys, heads, head_dim], "k does not fit q, which is {:?}", q.shape());
    assert_eq!(v.shape(), k.shape(), "v does not fit k");
    assert!(keys > 0, "there is no key to look at");
    (images, queries, keys, heads, head_dim)
}

#[cfg(test)]
mod tests;
