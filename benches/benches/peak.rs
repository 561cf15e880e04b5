//! What this machine can do at most: multiply-adds that never leave the registers, on all threads at once. The other
//! benches are to be read as shares of it. `cargo bench -p aquatint-benches --bench peak`.

use aquatint_kernels::Isa;
use aquatint_kernels::simd::{Op, Simd};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Independent sums, at most: eight hide four cycles of latency at two multiply-adds a cycle, and a few more do no harm.
const SUMS: usize = 12;
/// Long enough that starting the threads does not show.
const ROUNDS: usize = 10_000_000;

/// `sum = sum·0.999 + 0.001`, over and over.
struct MultiplyAdds;

impl Op for MultiplyAdds {
    type Output = (usize, f32);
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> (usize, f32) {
        let sums = SUMS.min(S::REGISTERS - 2); // the others hold what is multiplied and added
        let (factor, summand) = (s.splat(0.999), s.splat(0.001));
        let mut sum = [s.splat(0.5); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sum[..sums] {
                *sum = s.mul_add(*sum, factor, summand);
            }
        }
        let total = sum.into_iter().fold(s.zero(), |a, b| s.add(a, b));
        (2 * S::LANES * sums * ROUNDS, s.sum(total))
    }
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("peak");
    group.sample_size(10);
    for isa in Isa::available() {
        let (flops, _) = isa.run(MultiplyAdds);
        group.throughput(Throughput::Elements((flops * rayon::current_num_threads()) as u64)); // FLOP
        group.bench_function(isa.name(), |b| {
            b.iter(|| rayon::broadcast(|_| isa.run(MultiplyAdds)));
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
