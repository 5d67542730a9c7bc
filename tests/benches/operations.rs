//! How long a transaction and its parts take: `cargo bench -p tests`.

use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tests::operations::Operations;

const CARDS: usize = 1_000_000;
const ENCODES: u32 = 100;

fn operations(criterion: &mut Criterion) {
    let mut operations = Operations::new(CARDS);
    criterion.bench_function("decode", |b| b.iter(|| operations.decode()));
    let mut group = criterion.benchmark_group("100 at a time");
    group.throughput(Throughput::Elements(ENCODES.into()));
    group.bench_function("encode", |b| b.iter(|| operations.encode(ENCODES)));
    group.finish();
    criterion.bench_function("card key of a PAN", |b| b.iter(|| operations.card_key()));
    criterion.bench_function("lookup at 1 M cards", |b| b.iter(|| operations.lookup()));
    criterion.bench_function("PIN verification", |b| b.iter(|| operations.verify_pin()));
    criterion.bench_function("ARQC and ARPC", |b| b.iter(|| operations.chip(false)));
    criterion.bench_function("ARQC, ARPC and script", |b| b.iter(|| operations.chip(true)));
    criterion.bench_function("whole transaction", |b| b.iter(|| operations.transaction()));
    criterion.bench_function("whole transaction with a chip", |b| {
        b.iter_custom(|count| {
            let requests = operations.chip_requests(count);
            let start = Instant::now();
            requests.into_iter().for_each(|request| operations.chip_transaction(request));
            start.elapsed()
        });
    });
}

criterion_group!(benches, operations);
criterion_main!(benches);
