//! Attention layers of Stable Diffusion 1.5 on each instruction set:
//! `cargo bench -p aquatint-benches --bench attention`.

use aquatint_benches::assert_close;
use aquatint_kernels::{Isa, attention};
use aquatint_model::tools::shapes::{Attention, UNET_ATTENTIONS, VAE_ATTENTION};
use aquatint_tensor::Tensor;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("attention");
    group.sample_size(10);
    for layer in UNET_ATTENTIONS.into_iter().chain([VAE_ATTENTION]) {
        let Attention { images, queries, keys, heads, head_dim, .. } = layer;
        let q = Tensor::full([images, queries, heads, head_dim], 0.5);
        let k = Tensor::full([images, keys, heads, head_dim], 0.25);
        group.throughput(Throughput::Elements(layer.flops() as u64)); // FLOP, shown as elements
        for isa in Isa::available() {
            let id = BenchmarkId::new(format!("flash/{isa}"), format!("{queries}x{keys} {heads}x{head_dim}"));
            let settings = attention::Attention::new(head_dim);
            // All values are alike, and so is their mean.
            let found = attention::attention(isa, q.view(), k.view(), k.view(), settings);
            assert_close("flash", found.as_slice(), &vec![0.25; found.len()], 1e-5);
            group.bench_function(id, |b| {
                b.iter(|| attention::attention(isa, q.view(), k.view(), k.view(), settings));
            });
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
