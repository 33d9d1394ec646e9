//! Matrix products of real models, beside the multiply-add peak measured in the same run.

use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, Throughput};
use ferrite_bench::{PRODUCTS, median, uniform};
use ferrite_kernels::{Epilogue, Level, Matrix, PackedMatrix, fma_peak, matmul};
use rayon::ThreadPool;

fn main() {
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(300))
        .sample_size(10)
        .configure_from_args();
    println!("levels: {:?}, missing: {:?}", Level::available(), Level::missing());
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        for (n, d_out, d_in) in PRODUCTS {
            product(&mut criterion, &pool, n, d_out, d_in);
        }
    }
    criterion.final_summary();
}

fn product(criterion: &mut Criterion, pool: &ThreadPool, n: usize, d_out: usize, d_in: usize) {
    let threads = pool.current_num_threads();
    let (x, w) = (uniform(n, d_in, 1), uniform(d_out, d_in, 2));
    let bias = vec![0.5; d_out];
    let level = Level::current();
    let packed = PackedMatrix::new(level, w.view());
    let mut y = Matrix::zeros(n, d_out);
    matmul(x.view(), &packed, Epilogue::Bias(&bias), y.view_mut());
    check(&x, &w, 0.5, &y);

    let flops = 2 * n * d_out * d_in;
    let mut group = criterion.benchmark_group(format!("{n}x{d_out}x{d_in}/{threads} threads"));
    group.throughput(Throughput::Elements(flops as u64));
    group.bench_function("ferrite", |b| {
        in_pool(b, pool, || matmul(x.view(), &packed, Epilogue::Bias(&bias), y.view_mut()));
    });
    #[cfg(feature = "peers")]
    peers::bench(&mut group, pool, &x, &w);
    group.finish();
    pool.install(|| {
        fraction(level, threads, flops, || {
            matmul(x.view(), &packed, Epilogue::Bias(&bias), y.view_mut());
        });
    });
}

/// Times `run` inside the pool, so that entering it is not part of the time.
fn in_pool(bencher: &mut Bencher<'_>, pool: &ThreadPool, mut run: impl FnMut() + Send) {
    bencher.iter_custom(|iterations| {
        pool.install(|| {
            let start = Instant::now();
            (0..iterations).for_each(|_| run());
            start.elapsed()
        })
    });
}

/// Prints the fraction of the peak: peak and product in turn, the median of the ratios, since the
/// clock of a shared machine drifts.
fn fraction(level: Level, threads: usize, flops: usize, mut run: impl FnMut()) {
    let repeat = (20_000_000_000 / flops / 10).clamp(1, 10_000);
    let mut rates = Vec::new();
    let mut ratios = Vec::new();
    for _ in 0..11 {
        let peak = fma_peak(level, 2) * threads as f64;
        let start = Instant::now();
        (0..repeat).for_each(|_| run());
        let rate = (flops * repeat) as f64 / start.elapsed().as_secs_f64();
        rates.push(rate / 1e9);
        ratios.push(rate / peak);
    }
    println!(
        "    {level}: {:.0} GFLOP/s, {:.1} % of the multiply-add peak of {threads} cores\n",
        median(rates),
        100.0 * median(ratios)
    );
}

/// A few elements in f64.
fn check(x: &Matrix<f32>, w: &Matrix<f32>, bias: f64, y: &Matrix<f32>) {
    for i in 0..37 {
        let (row, col) = (i * 7919 % x.rows(), i * 104_729 % w.rows());
        let products = x.row(row).iter().zip(w.row(col));
        let products = products.map(|(&x, &w)| f64::from(x) * f64::from(w));
        let (sum, magnitude) = products.fold((bias, 0.0), |(s, m), p| (s + p, m + p.abs()));
        let error = (f64::from(y.row(row)[col]) - sum).abs();
        assert!(error <= 1e-6 * magnitude, "element ({row}, {col}): off by {error}");
    }
}

#[cfg(feature = "peers")]
mod peers {
    use criterion::BenchmarkGroup;
    use criterion::measurement::WallTime;

    use super::*;

    pub(crate) fn bench(
        group: &mut BenchmarkGroup<'_, WallTime>,
        pool: &ThreadPool,
        x: &Matrix<f32>,
        w: &Matrix<f32>,
    ) {
        let mut y = Matrix::zeros(x.rows(), w.rows());
        let threads = pool.current_num_threads();
        pool.install(|| run_gemm(threads, x, w, &mut y));
        check(x, w, 0.0, &y);
        group.bench_function("gemm", |b| in_pool(b, pool, || run_gemm(threads, x, w, &mut y)));
        // It has threads of its own, or none.
        if threads == 1 {
            y.fill(f32::NAN);
            run_matrixmultiply(x, w, &mut y);
            check(x, w, 0.0, &y);
            group.bench_function("matrixmultiply", |b| {
                b.iter(|| run_matrixmultiply(x, w, &mut y));
            });
        }
    }

    fn run_gemm(threads: usize, x: &Matrix<f32>, w: &Matrix<f32>, y: &mut Matrix<f32>) {
        let (m, n, k) = (x.rows(), w.rows(), x.cols());
        let parallelism = match threads {
            1 => gemm::Parallelism::None,
            threads => gemm::Parallelism::Rayon(threads),
        };
        // SAFETY: all three are whole matrices without gaps, of shapes (m, k), (n, k) and (m, n);
        // the right operand is the transpose of w, so its strides are swapped.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                y.as_mut_slice().as_mut_ptr(),
                1,
                n as isize,
                false,
                x.as_slice().as_ptr(),
                1,
                k as isize,
                w.as_slice().as_ptr(),
                k as isize,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    }

    fn run_matrixmultiply(x: &Matrix<f32>, w: &Matrix<f32>, y: &mut Matrix<f32>) {
        let (m, n, k) = (x.rows(), w.rows(), x.cols());
        // SAFETY: as for `gemm`.
        unsafe {
            matrixmultiply::sgemm(
                m,
                k,
                n,
                1.0,
                x.as_slice().as_ptr(),
                k as isize,
                1,
                w.as_slice().as_ptr(),
                1,
                k as isize,
                0.0,
                y.as_mut_slice().as_mut_ptr(),
                n as isize,
                1,
            );
        }
    }
}
