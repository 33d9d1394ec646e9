//! The same work by one thread and by several.

use std::fmt::Debug;
use std::sync::LazyLock;

use crate::crew;

/// Runs `f` in pools of 1, 2, 3 and 5 threads, by itself and in a [`crew`], and returns what it
/// gives. Floats are best compared as their bits.
///
/// # Panics
/// If the results differ.
#[track_caller]
pub fn same_on_any_threads<R: PartialEq + Debug + Send>(f: impl Fn() -> R + Sync) -> R {
    static POOLS: LazyLock<Vec<rayon::ThreadPool>> = LazyLock::new(|| {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        [1, 2, 3, 5].map(|threads| pool(threads).expect("a pool of threads")).into()
    });
    let expected = POOLS[0].install(&f);
    for pool in POOLS.iter() {
        let threads = pool.current_num_threads();
        assert!(pool.install(&f) == expected, "{threads} threads give another result");
        let crewed = pool.install(|| crew(&f));
        assert!(crewed == expected, "a crew of {threads} gives another result");
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "2 threads give another result")]
    fn what_depends_on_the_threads_is_found() {
        same_on_any_threads(crate::threads);
    }
}
