//! Activations, softmax and upsampling on the sizes of Stable Diffusion 1.5:
//! `cargo bench -p aquatint-benches --bench activations`.

use aquatint_benches::assert_close;
use aquatint_kernels::{Isa, activation, conv2d::upsample, softmax};
use aquatint_model::tools::shapes::SD_IMAGES;
use aquatint_tensor::Tensor;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

type InPlace = fn(Isa, &mut [f32]);
type Reference = fn(f64) -> f64;

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("activations");
    group.sample_size(10);
    for image in SD_IMAGES {
        let shape = image.shape();
        let mut x = Tensor::from_fn(shape, |[_, y, x, c]| ((x + 3 * y + 7 * c) % 11) as f32 - 5.0);
        group.throughput(Throughput::Bytes(8 * x.len() as u64)); // each number read once and written once
        for isa in Isa::available() {
            let id = |name: &str| BenchmarkId::new(format!("{name}/{isa}"), format!("{shape:?}"));
            let activations: [(&str, InPlace, Reference); 4] = [
                ("silu", activation::silu, activation::reference::silu),
                ("gelu", activation::gelu, activation::reference::gelu),
                ("gelu_tanh", activation::gelu_tanh, activation::reference::gelu_tanh),
                ("quick_gelu", activation::quick_gelu, activation::reference::quick_gelu),
            ];
            for (name, f, reference) in activations {
                let mut found = x.clone();
                f(isa, found.as_mut_slice());
                let expected = x.map(|x| reference(x.into()) as f32);
                assert_close(name, found.as_slice(), expected.as_slice(), 1e-5);
                group.bench_function(id(name), |b| b.iter(|| f(isa, x.as_mut_slice())));
            }
            let mut found = x.clone();
            softmax::softmax(isa, &mut found);
            let expected = softmax::reference::softmax(x.view());
            assert_close("softmax", found.as_slice(), expected.as_slice(), 1e-5);
            let found = activation::geglu(isa, x.view());
            let expected = activation::reference::geglu(x.view());
            assert_close("geglu", found.as_slice(), expected.as_slice(), 1e-5);
            let [_, height, width, _] = x.shape();
            let expected = upsample::nearest::reference::nearest(x.view(), [2 * height, 2 * width]);
            assert!(upsample::nearest_2x(isa, x.view()) == expected, "nearest_2x");
            group.bench_function(id("geglu"), |b| b.iter(|| activation::geglu(isa, x.view())));
            group.bench_function(id("softmax"), |b| b.iter(|| softmax::softmax(isa, &mut x)));
            group.bench_function(id("nearest_2x"), |b| b.iter(|| upsample::nearest_2x(isa, x.view())));
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
