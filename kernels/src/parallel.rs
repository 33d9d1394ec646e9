//! Rows shared out to the current rayon pool.

use crate::matrix::MatMut;

/// Below this many elements a second thread costs more than it brings.
const WORTH_A_THREAD: usize = 64 * 1024;

/// Cuts `x` into blocks of rows and runs `f(first row, block)` for each, on several threads if
/// there is enough of it. `f` must treat each row by itself: how the rows are cut depends on the
/// number of threads.
pub fn share_rows<T: Send>(x: MatMut<'_, T>, f: impl Fn(usize, MatMut<'_, T>) + Sync) {
    let step = rows_per_thread(x.rows(), x.cols());
    halve(0, x, step, &f);
}

/// How many threads share the work of a kernel that is called here.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// How many rows of a matrix each thread takes.
pub(crate) fn rows_per_thread(rows: usize, cols: usize) -> usize {
    let pieces = threads().min(rows * cols / WORTH_A_THREAD).max(1);
    rows.div_ceil(pieces).max(1)
}

/// Runs both, on two threads if one is idle.
pub(crate) use rayon::join;

fn halve<T: Send>(
    first: usize,
    x: MatMut<'_, T>,
    step: usize,
    f: &(impl Fn(usize, MatMut<'_, T>) + Sync),
) {
    if x.rows() <= step {
        return f(first, x);
    }
    let middle = x.rows() / 2;
    let (top, bottom) = x.split_rows(middle);
    join(|| halve(first, top, step, f), || halve(first + middle, bottom, step, f));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;

    #[test]
    fn every_row_is_visited_once() {
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for rows in [0, 1, 2, 5, 1000] {
                let mut x = Matrix::<f32>::zeros(rows, 500);
                pool.install(|| {
                    share_rows(x.view_mut(), |first, mut block| {
                        for row in 0..block.rows() {
                            block.row_mut(row).iter_mut().for_each(|x| *x += (first + row) as f32);
                        }
                    });
                });
                let expected = Matrix::from_fn(rows, 500, |row, _| row as f32);
                assert_eq!(x, expected, "{rows} rows, {threads} threads");
            }
        }
    }
}
