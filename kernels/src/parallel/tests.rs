use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::{Matrix, flush_denormals};

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// Ends the whole process if `f` has not returned after a minute: a deadlock would hold up the
/// thread that notices it as well.
fn watched<R>(f: impl FnOnce() -> R) -> R {
    let (done, ended) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("a deadlock");
            std::process::abort();
        }
    });
    let result = f();
    drop(done);
    watchdog.join().unwrap();
    result
}

/// A sum whose value depends on the order of its additions, which is that of the recursion.
fn sum(x: &[f32]) -> f32 {
    match x {
        [] => 0.0,
        [x] => 1.0 / x,
        _ => {
            let (a, b) = x.split_at(x.len() / 3 + 1);
            let (a, b) = join(|| sum(a), || sum(b));
            a + b
        }
    }
}

/// Waits for another thread to come to the same point, and says whether one did.
fn meet(count: &AtomicUsize, wanted: usize) -> bool {
    count.fetch_add(1, Ordering::SeqCst);
    let start = Instant::now();
    while count.load(Ordering::SeqCst) < wanted {
        if start.elapsed() > Duration::from_secs(20) {
            return false;
        }
        thread::yield_now();
    }
    true
}

#[test]
fn every_row_is_visited_once() {
    for threads in [1, 2, 3, 7] {
        for rows in [0, 1, 2, 5, 1000] {
            let visit = || {
                let mut x = Matrix::<f32>::zeros(rows, 500);
                share_rows(x.view_mut(), |first, mut block| {
                    for row in 0..block.rows() {
                        block.row_mut(row).iter_mut().for_each(|x| *x += (first + row) as f32);
                    }
                });
                x
            };
            let expected = Matrix::from_fn(rows, 500, |row, _| row as f32);
            let pool = pool(threads);
            assert_eq!(pool.install(visit), expected, "{rows} rows, {threads} threads");
            assert_eq!(pool.install(|| crew(visit)), expected, "{rows} rows, crew of {threads}");
        }
    }
}

#[test]
fn what_is_beside_a_row_comes_with_it() {
    for threads in [1, 2, 5] {
        for rows in [0, 1, 2, 5, 1000] {
            let mut x = Matrix::from_fn(rows, 500, |row, _| row as f32);
            let mut beside: Vec<usize> = (0..rows).collect();
            pool(threads).install(|| {
                share_rows_with(x.view_mut(), &mut beside, |x, beside| {
                    assert_eq!(x.rows(), beside.len());
                    for (row, beside) in beside.iter_mut().enumerate() {
                        assert_eq!(x.row(row)[499], *beside as f32);
                        *beside += 1;
                    }
                });
            });
            assert!(beside.iter().copied().eq(1..=rows), "{rows} rows, {threads} threads");
        }
    }
}

#[test]
fn results_are_those_of_one_thread() {
    watched(|| {
        let x: Vec<f32> = (1..=3000).map(|i| i as f32).collect();
        let expected = pool(1).install(|| sum(&x));
        for threads in 1..=7 {
            let pool = pool(threads);
            for _ in 0..30 {
                let found = pool.install(|| crew(|| sum(&x)));
                assert_eq!(found.to_bits(), expected.to_bits(), "{threads} threads");
            }
        }
    });
}

#[test]
fn helpers_do_take_work() {
    watched(|| {
        for threads in [2, 3, 5] {
            // Nobody returns before all are there, so each closure has a thread of its own.
            fn all(count: &AtomicUsize, wanted: usize, seats: usize) -> bool {
                if seats == 1 {
                    return meet(count, wanted);
                }
                let half = seats / 2;
                let (a, b) = join(|| all(count, wanted, half), || all(count, wanted, seats - half));
                a && b
            }
            let pool = pool(threads);
            for _ in 0..20 {
                let count = AtomicUsize::new(0);
                assert!(pool.install(|| crew(|| all(&count, threads, threads))), "{threads}");
            }
        }
    });
}

#[test]
fn a_helper_that_went_away_is_called_again() {
    watched(|| {
        pool(2).install(|| {
            crew(|| {
                for _ in 0..5 {
                    let count = AtomicUsize::new(0);
                    let (a, b) = join(|| meet(&count, 2), || meet(&count, 2));
                    assert!(a && b);
                    thread::sleep(Duration::from_millis(20));
                }
            });
        });
    });
}

#[test]
fn recursion_deeper_than_the_slots_ends() {
    fn count(depth: usize) -> usize {
        if depth == 0 {
            return 1;
        }
        let (a, b) = join(|| count(depth - 1), || 1);
        a + b
    }
    watched(|| {
        for threads in [1, 2, 3] {
            assert_eq!(pool(threads).install(|| crew(|| count(1000))), 1001);
        }
    });
}

#[test]
fn a_panic_comes_out_when_the_other_side_has_ended() {
    watched(|| {
        let pool = pool(2);
        for _ in 0..20 {
            for (who, message) in [(0, "a"), (1, "b"), (2, "a")] {
                let (met, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let side = |name: &'static str, panics: bool| {
                    assert!(meet(&met, 2), "both run at the same time");
                    if panics {
                        resume_unwind(Box::new(name));
                    }
                    thread::sleep(Duration::from_millis(2));
                    ended.fetch_add(1, Ordering::SeqCst);
                };
                pool.install(|| {
                    crew(|| {
                        let caught = catch_unwind(AssertUnwindSafe(|| {
                            join(|| side("a", who != 1), || side("b", who != 0))
                        }));
                        let payload = caught.unwrap_err();
                        assert_eq!(payload.downcast_ref(), Some(&message));
                        assert_eq!(ended.load(Ordering::SeqCst), usize::from(who != 2));
                        // The crew is as good as before.
                        let count = AtomicUsize::new(0);
                        let (a, b) = join(|| meet(&count, 2), || meet(&count, 2));
                        assert!(a && b);
                    });
                });
            }
        }
    });
}

/// Also where `b` was not taken, and where nobody offers any more.
#[test]
fn panics_at_any_depth_leave_the_thread_as_it_was() {
    fn fall(depth: usize) {
        if depth == 0 {
            resume_unwind(Box::new("the bottom"));
        }
        join(|| (), || fall(depth - 1));
    }
    watched(|| {
        let pool = pool(2);
        for depth in [0, 1, 5, 20] {
            let run = || pool.install(|| crew(|| fall(depth)));
            let payload = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"the bottom"));
            assert!(!pool.broadcast(|_| crew::in_crew()).contains(&true));
        }
        let x: Vec<f32> = (1..=100).map(|i| i as f32).collect();
        assert_eq!(pool.install(|| crew(|| sum(&x))), sum(&x));
    });
}

#[test]
fn a_crew_within_a_crew_is_the_same_crew() {
    watched(|| {
        let x: Vec<f32> = (1..=300).map(|i| i as f32).collect();
        let expected = pool(1).install(|| sum(&x));
        let found = pool(3).install(|| {
            crew(|| {
                let side = || crew(|| crew(|| sum(&x)));
                let (a, b) = join(side, side);
                assert!(crew::in_crew(), "the inner one does not end the outer one");
                (a, b, sum(&x))
            })
        });
        assert_eq!(found, (expected, expected, expected));
    });
}

/// Other jobs of the pool may land on members that wait in it, and helpers' jobs anywhere.
#[test]
fn crews_and_other_jobs_of_a_pool_mix() {
    watched(|| {
        let x: Vec<f32> = (1..=500).map(|i| i as f32).collect();
        let expected = pool(1).install(|| sum(&x));
        for threads in [2, 3] {
            let found = pool(threads).install(|| {
                let both = || {
                    let one = || crew(|| rayon::join(|| sum(&x), || crew(|| sum(&x))));
                    rayon::join(one, one)
                };
                (0..100).map(|_| rayon::join(both, || crew(both))).collect::<Vec<_>>()
            });
            let one = (expected, expected);
            assert!(found.iter().all(|&found| found == ((one, one), (one, one))));
        }
    });
}

#[test]
fn many_crews_share_a_pool() {
    watched(|| {
        let x: Vec<f32> = (1..=1000).map(|i| i as f32).collect();
        let expected = pool(1).install(|| sum(&x));
        for threads in [1, 2, 3, 5] {
            let pool = pool(threads);
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..50 {
                            assert_eq!(pool.install(|| crew(|| sum(&x))), expected);
                        }
                    });
                }
            });
        }
    });
}

#[test]
fn a_crew_whose_pool_is_busy_finishes_alone() {
    watched(|| {
        let pool = pool(3);
        let (blocked, free) = (Barrier::new(3), Barrier::new(3));
        pool.in_place_scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|_| {
                    blocked.wait();
                    free.wait();
                });
            }
            blocked.wait();
            pool.install(|| {
                let own = thread::current().id();
                let threads = Mutex::new(HashSet::new());
                for _ in 0..1000 {
                    let note = || threads.lock().unwrap().insert(thread::current().id());
                    crew(|| join(note, || join(note, note)));
                }
                assert_eq!(threads.into_inner().unwrap(), HashSet::from([own]));
            });
            free.wait();
        });
    });
}

#[test]
fn outside_a_pool_a_crew_runs_in_the_global_one() {
    watched(|| {
        assert!(crew(|| rayon::current_thread_index().is_some()));
        assert!(flush_denormals(|| crew(flushes)));
        assert_eq!(join(|| 1, || 2), (1, 2));
    });
}

fn flushes() -> bool {
    std::hint::black_box(1e-40_f32) * std::hint::black_box(1e30) == 0.0
}

/// Whether subnormals are flushed, each asked on two threads at the same time.
fn flushes_on_both() -> (bool, bool) {
    let count = AtomicUsize::new(0);
    let side = || {
        assert!(meet(&count, 2), "both run at the same time");
        flushes()
    };
    join(side, side)
}

/// On a target without such a mode nothing is flushed anywhere.
#[test]
fn who_takes_work_treats_subnormals_as_its_owner() {
    let flushed = flush_denormals(flushes);
    watched(|| {
        let pool = pool(2);
        for _ in 0..20 {
            let own_scope = || flush_denormals(flushes_on_both);
            let found = pool.install(|| crew(|| (flushes_on_both(), own_scope())));
            assert_eq!(found, ((false, false), (flushed, flushed)));
            let found = pool.install(|| (flushes_on_both(), own_scope()));
            assert_eq!(found, ((false, false), (flushed, flushed)), "outside a crew");
            let found = pool.install(|| flush_denormals(|| crew(flushes_on_both)));
            assert_eq!(found, (flushed, flushed));
            assert!(!pool.broadcast(|_| flushes()).contains(&true), "nobody keeps it");
        }
    });
}
