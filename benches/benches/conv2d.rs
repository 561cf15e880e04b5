//! Convolutions of Stable Diffusion 1.5, each rung on each instruction set:
//! `cargo bench -p aquatint-benches --bench conv2d`.

use aquatint_benches::assert_close;
use aquatint_kernels::conv2d::{ConvWeights, Geometry, im2col, indirect, winograd};
use aquatint_kernels::gemm::Epilogue;
use aquatint_kernels::{Isa, Precision};
use aquatint_model::tools::shapes::{Conv, UNET_CONVS, VAE_CONVS};
use aquatint_tensor::Tensor;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn bench(c: &mut Criterion) {
    for (name, convs) in [("unet", &UNET_CONVS[..]), ("vae", &VAE_CONVS[..])] {
        let mut group = c.benchmark_group(format!("conv2d/{name}"));
        group.sample_size(10);
        for conv in convs {
            let &Conv { images, size, in_channels, out_channels, kernel_size, stride, .. } = conv;
            let geometry = Geometry { stride: [stride; 2], ..Geometry::same(kernel_size) };
            let x = Tensor::full([images, size, size, in_channels], 0.5);
            let w = Tensor::full([out_channels, in_channels, kernel_size, kernel_size], 0.25f32);
            let w = ConvWeights::pack(w.view());
            group.throughput(Throughput::Elements(conv.flops() as u64)); // FLOP of the definition, shown as elements
            for isa in Isa::available() {
                let shape =
                    format!("{kernel_size}x{kernel_size} {in_channels}-{out_channels} @{size} s{stride}");
                let id = |rung: &str| BenchmarkId::new(format!("{rung}/{isa}"), &shape);
                // Away from the border each tap adds an eighth for each channel.
                let taps = kernel_size * kernel_size;
                let expected = vec![0.125 * (taps * in_channels) as f32; out_channels];
                let assert_middle = |rung: &str, found: Tensor<f32, 4>| {
                    let [_, h, w, columns] = found.shape();
                    let middle = (h / 2 * w + w / 2) * columns;
                    assert_close(rung, &found.as_slice()[middle..][..columns], &expected, 1e-5);
                };
                let epilogue = Epilogue::default();
                if winograd::can(Precision::F32, geometry) {
                    assert_middle("winograd", winograd::conv2d(isa, x.view(), &w, geometry, epilogue));
                }
                assert_middle("indirect", indirect::conv2d(isa, x.view(), &w, geometry, epilogue));
                assert_middle("im2col", im2col::conv2d(isa, x.view(), &w, geometry, epilogue));
                if winograd::can(Precision::F32, geometry) {
                    group.bench_function(id("winograd"), |b| {
                        b.iter(|| winograd::conv2d(isa, x.view(), &w, geometry, Epilogue::default()));
                    });
                }
                group.bench_function(id("indirect"), |b| {
                    b.iter(|| indirect::conv2d(isa, x.view(), &w, geometry, Epilogue::default()));
                });
                group.bench_function(id("im2col"), |b| {
                    b.iter(|| im2col::conv2d(isa, x.view(), &w, geometry, Epilogue::default()));
                });
            }
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
