//! What the caches and the memory can do.

use std::hint::black_box;
use std::sync::Mutex;

use ferrite_bench::timing::{TURN, seconds};
use ferrite_kernels::{Level, Matrix, elementwise};
use rayon::ThreadPool;

use crate::Setting;
use crate::table::{Cell, Table};

/// Working sets in KB; the last is that of BERT-base's weights in f32, and some more.
const WORKING_SETS: [usize; 10] = [16, 32, 128, 512, 2048, 8192, 16_384, 32_768, 98_304, 409_600];

/// Floats of a cache line.
const LINE: usize = 16;

pub(crate) fn measure(setting: &Setting) -> Table {
    let mut values = ones(WORKING_SETS[WORKING_SETS.len() - 1] * 1024);
    let rounds = setting.rounds.min(7);
    let mut rows = Vec::new();
    for kilobytes in WORKING_SETS {
        let bytes = kilobytes * 1024;
        let values = &mut values.as_mut_slice()[..bytes / size_of::<f32>()];
        let mut row = vec![Cell::count(kilobytes)];
        for pool in &setting.pools {
            row.push(Cell::number(bandwidth(bytes, rounds, |times| read(pool, values, times))));
        }
        for pool in &setting.pools {
            row.push(Cell::number(bandwidth(bytes, rounds, |times| copy(pool, values, times))));
        }
        rows.push(row);
    }
    let mut columns = vec!["working set, KB".to_owned()];
    for what in ["read", "copy"] {
        let threads = setting.pools.iter().map(ThreadPool::current_num_threads);
        columns.extend(threads.map(|n| format!("{what}, {}", threads_of(n))));
    }
    Table {
        key: "memory",
        title: "What the memory can do",
        note: "GB/s, the best of a few turns. The working set is that of all threads together. \
               Reading is a sum of squares, whose arithmetic takes longer than loads from the \
               first-level cache do. A copy, the C library's, counts what it reads and what it writes, half of \
               the working set each."
            .into(),
        columns,
        rows,
    }
}

/// `1 thread` and the like.
pub(crate) fn threads_of(n: usize) -> String {
    if n == 1 { "1 thread".into() } else { format!("{n} threads") }
}

/// Memory that is really there, a page of zeros need not be.
pub(crate) fn ones(bytes: usize) -> Matrix {
    let mut values = Matrix::zeros(1, bytes / size_of::<f32>());
    values.fill(1.0);
    values
}

/// GB/s of `run(times)`, which moves so many bytes each time and says how long that took.
fn bandwidth(bytes: usize, rounds: usize, mut run: impl FnMut(usize) -> f64) -> f64 {
    run(1);
    let times = (TURN / run(1)).ceil().max(1.0) as usize;
    let best = (0..rounds).map(|_| run(times)).fold(f64::MAX, f64::min);
    (bytes * times) as f64 / best / 1e9
}

/// Seconds in which the threads of the pool, each with a share of its own, read `values` so many
/// times.
pub(crate) fn read(pool: &ThreadPool, values: &[f32], times: usize) -> f64 {
    let level = Level::current();
    let shares: Vec<&[f32]> = values.chunks(share(values.len(), pool)).collect();
    seconds(|| {
        pool.broadcast(|context| {
            let share = shares[context.index()];
            for _ in 0..times {
                black_box(elementwise::sum_of_squares(level, black_box(share)));
            }
        });
    })
}

/// Seconds in which the threads of the pool copy one half of `values` over the other so many times.
fn copy(pool: &ThreadPool, values: &mut [f32], times: usize) -> f64 {
    let (from, to) = values.split_at_mut(values.len() / 2);
    let step = share(from.len(), pool);
    let shares: Vec<_> = from.chunks(step).zip(to.chunks_mut(step)).map(Mutex::new).collect();
    seconds(|| {
        pool.broadcast(|context| {
            let mut share = shares[context.index()].lock().expect("a share of this thread alone");
            let (from, to) = &mut *share;
            for _ in 0..times {
                to.copy_from_slice(black_box(from));
                black_box(&mut *to);
            }
        });
    })
}

/// The share of each thread, in whole cache lines.
fn share(len: usize, pool: &ThreadPool) -> usize {
    len.div_ceil(pool.current_num_threads()).next_multiple_of(LINE)
}
