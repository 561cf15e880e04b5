//! The Rust in the chapters of `model/book/`, compiled and run as documentation tests.

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/shapes.md")]
struct Shapes;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/vae.md")]
struct Vae;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/noise.md")]
struct Noise;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/step.md")]
struct Step;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/guidance.md")]
struct Guidance;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/attention.md")]
struct Attention;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/group_norm.md")]
struct GroupNorm;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/upsampling.md")]
struct Upsampling;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/convolution.md")]
struct Convolution;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/products.md")]
struct Products;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/caches.md")]
struct Caches;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/bf16.md")]
struct Bf16;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/checking.md")]
struct Checking;

#[cfg(doctest)]
#[doc = include_str!("../../model/book/src/bench.md")]
struct Bench;
