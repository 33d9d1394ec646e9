//! The promise that the bits of a result depend on neither threads nor batch mates.

use ferrite_kernels::testing::Random;
use ferrite_kernels::{Mat, Matrix, Segments};

/// Numbers of threads to test: the bits are those of the first.
pub const THREADS: [usize; 4] = [1, 2, 3, 5];

/// Runs `f` in a rayon pool of its own.
pub fn in_pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("threads to run a test on").install(f)
}

/// Checks that the rows of each of `count` sequences have the same bits however it is run: alone on
/// one thread, or with any others, in any order, even twice, on each number of [`THREADS`].
///
/// `run` puts the sequences that it is given together to a batch, in this order, and returns the
/// result and where in it each sequence lies.
///
/// # Panics
/// If a bit differs, with the threads, the batch and the sequence.
#[track_caller]
pub fn assert_same_bits(
    count: usize,
    run: impl Fn(&[usize]) -> (Matrix<f32>, Segments) + Send + Sync,
) {
    let alone = in_pool(1, || -> Vec<Vec<u32>> {
        let result = |sequence| bits(run(&[sequence]).0.view());
        (0..count).map(result).collect()
    });
    let all: Vec<usize> = (0..count).collect();
    for threads in THREADS {
        let mut batches = vec![all.clone(), all.iter().rev().copied().collect()];
        let (first, second) = all.split_at(count / 2);
        batches.extend([first.to_vec(), second.to_vec(), [second, second, first].concat()]);
        batches.push(shuffled(&all, threads as u64));
        for batch in batches {
            let (result, rows) = in_pool(threads, || run(&batch));
            assert_eq!((rows.len(), rows.total()), (batch.len(), result.rows()), "{batch:?}");
            for (rows, &sequence) in rows.iter().zip(&batch) {
                let same = bits(result.view().row_range(rows)) == alone[sequence];
                assert!(same, "sequence {sequence} of {batch:?} on {threads} threads");
            }
        }
    }
}

fn bits(x: Mat<'_>) -> Vec<u32> {
    (0..x.rows()).flat_map(|row| x.row(row).iter().map(|x| x.to_bits())).collect()
}

fn shuffled(all: &[usize], seed: u64) -> Vec<usize> {
    let (mut random, mut order) = (Random::new(seed), all.to_vec());
    for end in (1..order.len()).rev() {
        order.swap(end, random.below(end + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three sequences of one row: a number that `f` makes of the sequence, its place in the batch
    /// and the batch.
    fn holds(f: impl Fn(usize, usize, &[usize]) -> f32 + Send + Sync) -> bool {
        let check = || {
            assert_same_bits(3, |batch| {
                let row = |place: usize, _| f(batch[place], place, batch);
                let result = Matrix::from_fn(batch.len(), 1, row);
                (result, Segments::from_lengths(batch.iter().map(|_| 1)))
            });
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok()
    }

    #[test]
    fn whatever_depends_on_more_than_its_sequence_fails() {
        assert!(holds(|sequence, _, _| sequence as f32));
        assert!(!holds(|sequence, place, _| (sequence + place) as f32));
        assert!(!holds(|sequence, _, batch| (sequence + batch.len()) as f32));
        assert!(!holds(|sequence, _, _| (sequence + rayon::current_num_threads()) as f32));
        assert!(!holds(|sequence, _, batch| if batch.len() > 1 && sequence == 0 {
            -0.0
        } else {
            0.0
        }));
    }
}
