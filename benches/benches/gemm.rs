//! Linear layers of Stable Diffusion 1.5, each rung on each instruction set:
//! `cargo bench -p aquatint-benches --bench gemm`.

use aquatint_benches::assert_close;
use aquatint_kernels::Isa;
use aquatint_kernels::gemm::{Epilogue, PackedWeights, row_at_a_time};
use aquatint_kernels::linear::linear;
use aquatint_model::tools::shapes::{Linear, UNET_LINEARS};
use aquatint_tensor::{Tensor, f16};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("gemm");
    group.sample_size(10);
    for shape in UNET_LINEARS {
        let Linear { rows, in_features, out_features, .. } = shape;
        let x = Tensor::full([rows, in_features], 0.5);
        let w = Tensor::full([out_features, in_features], 0.25f32);
        let (single, half) = (PackedWeights::pack(w.view()), PackedWeights::pack(w.convert::<f16>().view()));
        group.throughput(Throughput::Elements(shape.flops() as u64)); // FLOP, shown as elements
        for isa in Isa::available() {
            let id = |rung: &str| {
                BenchmarkId::new(format!("{rung}/{isa}"), format!("{rows}x{in_features}-{out_features}"))
            };
            // Each sum is exact: as many eighths as the product is deep.
            let expected = vec![0.125 * in_features as f32; rows * out_features];
            for w in [&single, &half] {
                let found = linear(isa, x.view(), w, Epilogue::default());
                assert_close("blocked", found.as_slice(), &expected, 0.0);
            }
            group.bench_function(id("blocked"), |b| {
                b.iter(|| linear(isa, x.view(), &single, Epilogue::default()));
            });
            group.bench_function(id("blocked, f16 weights"), |b| {
                b.iter(|| linear(isa, x.view(), &half, Epilogue::default()));
            });
            if rows <= 512 {
                let found = row_at_a_time::product(isa, x.view(), &single);
                assert_close("row_at_a_time", found.as_slice(), &expected, 0.0);
                group.bench_function(id("row_at_a_time"), |b| {
                    b.iter(|| row_at_a_time::product(isa, x.view(), &single));
                });
            }
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
