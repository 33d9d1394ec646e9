//! The row kernels at the shapes of BERT-base, every level of the machine, one thread, beside a
//! copy of the same bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use ferrite_kernels::testing::{Random, Tolerance, U, ulp};
use ferrite_kernels::{
    Activation, Level, MatMut, Matrix, add_layer_norm, layer_norm, reference, softmax,
};

/// An input with the given shape and range.
fn input(rows: usize, cols: usize, range: f32) -> Matrix {
    Matrix::from_slice(rows, cols, &Random::new(1).vector(rows * cols, -range, range))
}

/// Times `kernel` on a fresh copy of `x` each time, since it works in place. The copy is not timed,
/// but it leaves the operands where they would be after the kernel before.
fn time_in_place(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    x: &Matrix,
    mut kernel: impl FnMut(MatMut<'_>),
) {
    let mut y = x.clone();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                y.as_mut_slice().copy_from_slice(x.as_slice());
                let start = Instant::now();
                kernel(black_box(y.view_mut()));
                total += start.elapsed();
            }
            total
        });
    });
}

/// Times a copy of `x`.
fn time_copy(group: &mut BenchmarkGroup<'_, WallTime>, x: &Matrix) {
    let mut y = x.clone();
    group.bench_function("copy", |bencher| {
        bencher.iter(|| y.as_mut_slice().copy_from_slice(black_box(x.as_slice())));
    });
}

fn rows_of_softmax(criterion: &mut Criterion) {
    // The scores of BERT-base's 12 heads for 128 tokens.
    let x = input(1536, 128, 8.0);
    let mut group = criterion.benchmark_group("softmax 1536x128");
    group.throughput(Throughput::Elements(x.as_slice().len() as u64));
    time_copy(&mut group, &x);
    for level in Level::available() {
        let mut y = x.clone();
        softmax(level, y.view_mut());
        let mut tolerance = Tolerance::new(format!("softmax {level}"));
        for row in 0..x.rows() {
            let exact = reference::softmax(&reference::widen(x.row(row)));
            for (&y, exact) in y.row(row).iter().zip(exact) {
                tolerance.check(y, exact, 4.0 * ulp(exact) + 1e-7, || format!("row {row}"));
            }
        }
        tolerance.finish();
        time_in_place(&mut group, level.name(), &x, |x| softmax(level, x));
    }
    group.finish();
}

fn rows_of_layer_norm(criterion: &mut Criterion) {
    let x = input(4096, 768, 3.0);
    let (gamma, beta) = (vec![1.1; 768], vec![0.1; 768]);
    let mut group = criterion.benchmark_group("layer_norm 4096x768");
    group.throughput(Throughput::Bytes(2 * size_of_val(x.as_slice()) as u64));
    time_copy(&mut group, &x);
    for level in Level::available() {
        let mut y = x.clone();
        let norm = |y: MatMut<'_>| layer_norm(level, x.view(), &gamma, &beta, 1e-12, y);
        norm(y.view_mut());
        let mut tolerance = Tolerance::new(format!("layer_norm {level}"));
        let [wide_gamma, wide_beta] = [&gamma, &beta].map(|x| reference::widen(x));
        for row in 0..x.rows() {
            let wide = reference::widen(x.row(row));
            let exact = reference::layer_norm(&wide, &wide_gamma, &wide_beta, 1e-12);
            for (&y, exact) in y.row(row).iter().zip(exact) {
                tolerance.check(y, exact, 64.0 * U, || format!("row {row}"));
            }
        }
        tolerance.finish();
        time_in_place(&mut group, level.name(), &x, norm);
    }
    group.finish();
}

fn rows_of_add_layer_norm(criterion: &mut Criterion) {
    let (x, residual) = (input(4096, 768, 3.0), input(4096, 768, 1.0));
    let (gamma, beta) = (vec![1.1; 768], vec![0.1; 768]);
    let mut group = criterion.benchmark_group("add_layer_norm 4096x768");
    // Two matrices are read and one is written.
    group.throughput(Throughput::Bytes(3 * size_of_val(x.as_slice()) as u64));
    for level in Level::available() {
        let norm = |y: MatMut<'_>| {
            add_layer_norm(level, y, residual.view(), &gamma, &beta, 1e-12);
        };
        let mut y = x.clone();
        norm(y.view_mut());
        let sum = Matrix::from_fn(4096, 768, |row, col| x.row(row)[col] + residual.row(row)[col]);
        let mut expected = x.clone();
        layer_norm(level, sum.view(), &gamma, &beta, 1e-12, expected.view_mut());
        assert!(y == expected, "{level}: add_layer_norm differs from an addition and layer_norm");
        time_in_place(&mut group, level.name(), &x, norm);
    }
    group.finish();
}

fn elements_of_activations(criterion: &mut Criterion) {
    // All of a batch's intermediate activations, and a block of them that stays in the L2 cache.
    for rows in [4096, 64] {
        let x = input(rows, 3072, 4.0);
        let mut group = criterion.benchmark_group(format!("activations {rows}x3072"));
        group.throughput(Throughput::Elements(x.as_slice().len() as u64));
        time_copy(&mut group, &x);
        for level in Level::available() {
            for (activation, exact) in [
                (Activation::Gelu, reference::gelu as fn(f64) -> f64),
                (Activation::GeluTanh, reference::gelu_tanh),
                (Activation::Tanh, f64::tanh),
            ] {
                let mut y = x.clone();
                activation.apply_rows(level, y.view_mut());
                let mut tolerance = Tolerance::new(format!("{activation:?} {level}"));
                for (&x, &y) in x.as_slice().iter().zip(y.as_slice()).take(1 << 18) {
                    let exact = exact(f64::from(x));
                    let limit = f64::max(4.0 * ulp(exact), 1e-7);
                    tolerance.check(y, exact, limit, || format!("x = {x}"));
                }
                tolerance.finish();
                let name = format!("{activation:?} {level}");
                time_in_place(&mut group, &name, &x, |x| activation.apply_rows(level, x));
            }
            let name = format!("exp {level}");
            time_in_place(&mut group, &name, &x, |mut x| {
                for row in 0..x.rows() {
                    ferrite_kernels::elementwise::exp(level, x.row_mut(row));
                }
            });
        }
        group.finish();
    }
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = quick().sample_size(20);
    targets = rows_of_softmax, rows_of_layer_norm, rows_of_add_layer_norm, elements_of_activations
}
criterion_main!(benches);
