//! Work shared out to the current rayon pool.

mod crew;
mod divide;
mod offer;
#[cfg(test)]
mod tests;

pub use crew::crew;
pub(crate) use divide::{Divide, share};

use crate::denormals::Denormals;
use crate::matrix::MatMut;

/// Below this many elements a second thread costs more than it brings.
const WORTH_A_THREAD: usize = 64 * 1024;

/// How much less a second thread costs in a crew.
const CREW_SAVES: usize = 8;

/// Runs both closures, maybe at the same time, and returns both results: [`rayon::join`], and
/// inside a [`crew`] the same at a tenth of the price. Whoever runs `b` treats subnormal numbers as
/// the caller does: see [`crate::flush_denormals`].
///
/// # Panics
/// If a closure panics, once neither is running; `a`'s panic goes first, and then `b` may not have
/// been run.
pub fn join<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    if crew::in_crew() {
        return crew::join(a, b);
    }
    let denormals = Denormals::current();
    // Both, since a thread that is in no pool hands over both.
    rayon::join(move || denormals.during(a), move || denormals.during(b))
}

/// Cuts `x` into blocks of rows and runs `f(first row, block)` for each, on several threads if
/// there is enough of it. `f` must treat each row by itself: how the rows are cut depends on the
/// number of threads.
pub fn share_rows<T: Send>(x: MatMut<'_, T>, f: impl Fn(usize, MatMut<'_, T>) + Sync) {
    let step = rows_per_thread(x.rows(), x.cols());
    share(x, step, 1, &f);
}

/// [`share_rows`] with something beside each row: `f` gets a block of rows and as many of `beside`.
///
/// # Panics
/// If there is not one for each row.
#[track_caller]
pub fn share_rows_with<T: Send, U: Send>(
    x: MatMut<'_, T>,
    beside: &mut [U],
    f: impl Fn(MatMut<'_, T>, &mut [U]) + Sync,
) {
    assert_eq!(beside.len(), x.rows(), "rows, and what is beside them");
    let step = rows_per_thread(x.rows(), x.cols());
    share((x, beside), step, 1, &|_, (x, beside)| f(x, beside));
}

/// How many threads share the work of a kernel that is called here.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// How many threads some work is worth, at least one, if outside of a crew it takes `worth` of it to
/// make up for a second thread.
pub(crate) fn worthwhile(work: usize, worth: usize) -> usize {
    let worth = if crew::in_crew() { worth / CREW_SAVES } else { worth };
    threads().min(work / worth).max(1)
}

/// How many rows of a matrix each thread takes.
pub(crate) fn rows_per_thread(rows: usize, cols: usize) -> usize {
    rows.div_ceil(worthwhile(rows * cols, WORTH_A_THREAD)).max(1)
}
