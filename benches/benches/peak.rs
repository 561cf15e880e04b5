//! What this machine can do at most: multiply-adds that never leave the registers, on all threads
//! at once. The other benches are to be read as shares of it.
//! `cargo bench -p aquatint-benches --bench peak`.

use aquatint_benches as _; // its allocator
use aquatint_kernels::{Isa, cpu::peak};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Long enough that starting the threads does not show.
const ROUNDS: usize = 10_000_000;

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("peak");
    group.sample_size(10);
    for isa in Isa::all() {
        let operations = peak::multiply_adds(isa, ROUNDS);
        assert_eq!(operations, ROUNDS / 10 * peak::multiply_adds(isa, 10), "{isa}: operations");
        group.throughput(Throughput::Elements((operations * rayon::current_num_threads()) as u64)); // FLOP
        group.bench_function(isa.name(), |b| {
            b.iter(|| rayon::broadcast(|_| peak::multiply_adds(isa, ROUNDS)));
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
