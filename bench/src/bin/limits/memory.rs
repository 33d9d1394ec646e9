//! What the caches and the memory can do.

use std::hint::black_box;
use std::sync::{Barrier, Mutex};
use std::time::Instant;

use ferrite_bench::timing::TURN;
use ferrite_kernels::{Level, Matrix, elementwise};
use rayon::ThreadPool;

use crate::Setting;
use crate::table::{Cell, Table};

/// Working sets in KB; the last is that of BERT-base's weights in f32, and some more.
const WORKING_SETS: [usize; 10] = [16, 32, 128, 512, 2048, 8192, 16_384, 32_768, 98_304, 409_600];

/// Floats of a cache line.
const LINE: usize = 16;

/// Bytes between two looks at the clock, about.
const LOOK: usize = 1 << 20;

pub(crate) fn measure(setting: &Setting) -> Table {
    let mut values = ones(WORKING_SETS[WORKING_SETS.len() - 1] * 1024);
    let rounds = setting.rounds / 2;
    let mut rows = Vec::new();
    for kilobytes in WORKING_SETS {
        let bytes = kilobytes * 1024;
        let values = &mut values.as_mut_slice()[..bytes / size_of::<f32>()];
        let mut row = vec![Cell::count(kilobytes)];
        for pool in &setting.pools {
            row.push(Cell::number(best(rounds, || read(pool, values))));
        }
        for pool in &setting.pools {
            row.push(Cell::number(best(rounds, || copy(pool, values))));
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

/// GB/s of the best of some rounds.
fn best(rounds: usize, run: impl FnMut() -> f64) -> f64 {
    std::iter::repeat_with(run).take(rounds).fold(0.0, f64::max) / 1e9
}

/// Bytes per second that the threads of the pool read together, each over and over a share of its
/// own of `values`.
pub(crate) fn read(pool: &ThreadPool, values: &[f32]) -> f64 {
    let level = Level::current();
    let shares: Vec<&[f32]> = values.chunks(share(values.len(), pool)).collect();
    together(pool, |thread, times| {
        let share = shares[thread];
        for _ in 0..times {
            black_box(elementwise::sum_of_squares(level, black_box(share)));
        }
        times * size_of_val(share)
    })
}

/// Bytes per second that the threads of the pool read and write together, each copying a share of
/// its own of one half of `values` over the other.
fn copy(pool: &ThreadPool, values: &mut [f32]) -> f64 {
    let (from, to) = values.split_at_mut(values.len() / 2);
    let step = share(from.len(), pool);
    let shares: Vec<_> = from.chunks(step).zip(to.chunks_mut(step)).map(Mutex::new).collect();
    together(pool, |thread, times| {
        let mut share = shares[thread].lock().expect("a share of this thread alone");
        let (from, to) = &mut *share;
        for _ in 0..times {
            to.copy_from_slice(black_box(from));
            black_box(&mut *to);
        }
        2 * times * size_of_val(*from)
    })
}

/// Bytes per second of all threads of the pool at once: `run(thread, times)` says how many bytes it
/// moved.
fn together(pool: &ThreadPool, run: impl Fn(usize, usize) -> usize + Sync) -> f64 {
    let barrier = Barrier::new(pool.current_num_threads());
    let rates = pool.broadcast(|context| {
        let run = |times| run(context.index(), times);
        // As often as makes looking at the clock cheap.
        let times = (LOOK / run(1)).max(1);
        let for_a_turn = || {
            let (start, mut bytes) = (Instant::now(), 0);
            while start.elapsed().as_secs_f64() < TURN {
                bytes += run(times);
            }
            bytes as f64 / start.elapsed().as_secs_f64()
        };
        // The first turn fills the caches, and gives the system time to part the threads: those
        // woken together may begin on one core.
        for_a_turn();
        barrier.wait();
        for_a_turn()
    });
    rates.iter().sum()
}

/// The share of each thread, in whole cache lines.
fn share(len: usize, pool: &ThreadPool) -> usize {
    len.div_ceil(pool.current_num_threads()).next_multiple_of(LINE)
}
