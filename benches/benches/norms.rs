//! Normalisations on the image sizes of Stable Diffusion 1.5:
//! `cargo bench -p aquatint-benches --bench norms`.

use aquatint_benches::assert_close;
use aquatint_kernels::Isa;
use aquatint_kernels::norm::group::{self, Activation, GroupNorm, group_norm};
use aquatint_kernels::norm::layer::{self, layer_norm};
use aquatint_model::tools::shapes::{FeatureMap, SD_IMAGES};
use aquatint_tensor::Tensor;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("norms");
    group.sample_size(10);
    for FeatureMap { images, size, channels } in SD_IMAGES {
        let x =
            Tensor::from_fn([images, size, size, channels], |[_, y, x, c]| ((x + 3 * y + 7 * c) % 11) as f32);
        let tokens = x.clone().reshape([images, size * size, channels]);
        let (weight, bias) = (vec![1.0; channels], vec![0.5; channels]);
        group.throughput(Throughput::Bytes(8 * x.len() as u64)); // each number read once and written once
        for isa in Isa::available() {
            let id = |name: &str| {
                BenchmarkId::new(format!("{name}/{isa}"), format!("{images}x{size}x{size}x{channels}"))
            };
            let norm = |activation| GroupNorm {
                num_groups: 32,
                eps: 1e-5,
                weight: &weight,
                bias: &bias,
                activation,
            };
            for activation in [Activation::None, Activation::Silu] {
                let expected = group::reference::group_norm(x.view(), norm(activation));
                let found = group_norm(isa, x.view(), norm(activation));
                assert_close("group_norm", found.as_slice(), expected.as_slice(), 1e-5);
            }
            let expected = layer::reference::layer_norm(tokens.view(), &weight, &bias, 1e-5);
            let found = layer_norm(isa, tokens.view(), &weight, &bias, 1e-5);
            assert_close("layer_norm", found.as_slice(), expected.as_slice(), 1e-5);
            group.bench_function(id("group_norm"), |b| {
                b.iter(|| group_norm(isa, x.view(), norm(Activation::None)));
            });
            group.bench_function(id("group_norm_silu"), |b| {
                b.iter(|| group_norm(isa, x.view(), norm(Activation::Silu)));
            });
            group.bench_function(id("layer_norm"), |b| {
                b.iter(|| layer_norm(isa, tokens.view(), &weight, &bias, 1e-5));
            });
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
