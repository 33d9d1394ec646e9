//! Matrix products of real models in each precision, beside the peak of its arithmetic measured in
//! the same run.

use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, Throughput};
use ferrite_bench::timing::against_peak;
use ferrite_bench::{PRODUCTS, product::check, uniform};
use ferrite_kernels::{
    Activations, Arithmetic, Epilogue, Level, Matrix, PackedMatrix, Precision, crew, matmul,
};
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
    let operations = 2 * n * d_out * d_in;
    let mut group = criterion.benchmark_group(format!("{n}x{d_out}x{d_in}/{threads} threads"));
    group.throughput(Throughput::Elements(operations as u64));
    for precision in Precision::ALL {
        let arithmetic = Arithmetic::new(Level::current(), precision);
        let packed = PackedMatrix::new(arithmetic, w.view());
        let ready = Activations::from_rows(arithmetic, x.view());
        let mut y = Matrix::zeros(n, d_out);
        matmul(&ready, &packed, Epilogue::Bias(&bias), y.view_mut());
        check(precision, &x, &w, 0.5, &y);
        let mut run = || matmul(&ready, &packed, Epilogue::Bias(&bias), y.view_mut());
        group.bench_function(format!("ferrite {precision}"), |b| {
            in_pool(b, pool, |times| crew(|| (0..times).for_each(|_| run())));
        });
        let found = pool.install(|| against_peak(arithmetic, operations, 11, &mut run));
        println!(
            "    {arithmetic}: {:.0} Gop/s, {:.1} % of the peak of {threads} cores by {}\n",
            found.rate / 1e9,
            100.0 * found.fraction,
            arithmetic.instruction()
        );
    }
    #[cfg(feature = "peers")]
    peers::bench(&mut group, pool, &x, &w);
    group.finish();
}

/// Times `run(times)` inside the pool, so that entering it is not part of the time.
fn in_pool(bencher: &mut Bencher<'_>, pool: &ThreadPool, mut run: impl FnMut(u64) + Send) {
    bencher.iter_custom(|iterations| {
        pool.install(|| {
            let start = Instant::now();
            run(iterations);
            start.elapsed()
        })
    });
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
        check(Precision::F32, x, w, 0.0, &y);
        group.bench_function("gemm", |b| {
            in_pool(b, pool, |times| (0..times).for_each(|_| run_gemm(threads, x, w, &mut y)));
        });
        // It has threads of its own, or none.
        if threads == 1 {
            y.fill(f32::NAN);
            run_matrixmultiply(x, w, &mut y);
            check(Precision::F32, x, w, 0.0, &y);
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
