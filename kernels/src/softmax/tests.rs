use proptest::prelude::*;

use super::*;
use crate::reference;
use crate::testing::{Edge, Guarded, Random, Tolerance, for_each_level, lengths, ulp};

/// Checks softmax and log-softmax of one row at one level, in memory guarded at `edge`.
fn check_row(level: Level, x: &[f32], edge: Edge, tolerance: &mut Tolerance) {
    let wide = reference::widen(x);
    let input = |i| move || format!("element {i} of {}", x.len());

    let mut y = Guarded::copy(x, edge);
    softmax(level, MatMut::new(&mut y, 1, x.len(), x.len()));
    let exact = reference::softmax(&wide);
    for i in 0..x.len() {
        tolerance.check(y[i], exact[i], 4.0 * ulp(exact[i]) + 1e-7, input(i));
    }
    if exact.iter().sum::<f64>() > 0.5 {
        let sum: f64 = y.iter().map(|&y| f64::from(y)).sum();
        assert!((sum - 1.0).abs() <= 1e-6, "{level}: {} elements sum to {sum}", x.len());
    }

    let mut y = Guarded::copy(x, edge);
    log_softmax(level, MatMut::new(&mut y, 1, x.len(), x.len()));
    let exact = reference::log_softmax(&wide);
    let max = wide.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for i in 0..x.len() {
        let scale = (wide[i] - max).abs().max(exact[i].abs()).max(1.0);
        let limit = if scale.is_finite() { 2.0 * ulp(scale) } else { 0.0 };
        tolerance.check(y[i], exact[i], limit, input(i));
    }
}

#[test]
fn rows_of_every_length_keep_the_bound() {
    for_each_level(|level| {
        let mut random = Random::new(1);
        let mut tolerance = Tolerance::new(format!("softmax {level}"));
        for n in lengths() {
            for range in [1.0, 10.0, 100.0] {
                let x = random.vector(n, -range, range);
                for edge in Edge::BOTH {
                    check_row(level, &x, edge, &mut tolerance);
                }
            }
        }
        tolerance.finish();
    });
}

#[test]
fn misaligned_rows_have_the_same_bits() {
    for_each_level(|level| {
        let x = Random::new(2).vector(100, -5.0, 5.0);
        let mut expected = x.clone();
        softmax(level, MatMut::new(&mut expected, 1, 100, 100));
        for offset in 0..16 {
            let mut buffer = vec![f32::NAN; 120];
            buffer[offset..offset + 100].copy_from_slice(&x);
            softmax(level, MatMut::new(&mut buffer[offset..], 1, 100, 100));
            assert_eq!(buffer[offset..offset + 100], expected, "{level} offset {offset}");
            assert!(buffer[..offset].iter().chain(&buffer[offset + 100..]).all(|x| x.is_nan()));
        }
    });
}

#[test]
fn rows_do_not_depend_on_their_neighbours() {
    for_each_level(|level| {
        let x = Random::new(3).vector(7 * 50, -5.0, 5.0);
        let mut together = x.clone();
        softmax(level, MatMut::new(&mut together, 7, 45, 50));
        for row in 0..7 {
            let mut alone = x[row * 50..row * 50 + 45].to_vec();
            softmax(level, MatMut::new(&mut alone, 1, 45, 45));
            assert_eq!(together[row * 50..row * 50 + 45], alone, "{level} row {row}");
            let gap = row * 50 + 45..(row + 1) * 50;
            assert_eq!(together[gap.clone()], x[gap], "{level} gap after row {row}");
        }
    });
}

#[test]
fn masked_elements_get_zero_and_leak_nothing() {
    for_each_level(|level| {
        let mut random = Random::new(4);
        let mut tolerance = Tolerance::new(format!("masked softmax {level}"));
        for n in 1..70 {
            let mut x = random.vector(n, -3.0, 3.0);
            x.iter_mut().for_each(|x| {
                if random.below(3) > 0 {
                    *x = f32::NEG_INFINITY;
                }
            });
            check_row(level, &x, Edge::End, &mut tolerance);
            x.fill(f32::NEG_INFINITY);
            check_row(level, &x, Edge::End, &mut tolerance);
            softmax(level, MatMut::new(&mut x, 1, n, n));
            assert!(x.iter().all(|x| x.to_bits() == 0), "{level}: {x:?}");
        }
        tolerance.finish();
    });
}

#[test]
fn nan_and_infinity_spoil_their_whole_row_and_no_other() {
    for_each_level(|level| {
        for n in [1, 7, 16, 40, 130] {
            for bad in [f32::NAN, f32::INFINITY] {
                for others in [0.0, f32::NEG_INFINITY] {
                    for at in 0..n {
                        for f in [softmax, log_softmax] {
                            let mut x = vec![others; 3 * n];
                            x[n + at] = bad;
                            f(level, MatMut::new(&mut x, 3, n, n));
                            assert!(x[n..2 * n].iter().all(|x| x.is_nan()), "{level} {n} {at}");
                            let mut rest = x[..n].iter().chain(&x[2 * n..]);
                            assert!(rest.all(|x| !x.is_nan()), "{level} {n} {at}");
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn equal_elements_share_exactly() {
    for_each_level(|level| {
        for n in [1, 2, 4, 8, 64, 1024] {
            for x in [0.0, -1e30, 1e30, f32::MAX, f32::MIN, 1e-40] {
                let mut row = vec![x; n];
                softmax(level, MatMut::new(&mut row, 1, n, n));
                assert!(row.iter().all(|&y| y == 1.0 / n as f32), "{level} {n} of {x}: {row:?}");
            }
        }
    });
}

proptest! {
    #[test]
    fn any_row_keeps_the_bound(
        x in proptest::collection::vec(
            prop_oneof![8 => -90f32..90.0, 1 => Just(f32::NEG_INFINITY), 1 => -1e30f32..1e30],
            0..300,
        ),
    ) {
        for level in Level::available() {
            let mut tolerance = Tolerance::new(format!("softmax {level}"));
            check_row(level, &x, Edge::End, &mut tolerance);
            prop_assert!(tolerance.finish() <= 1.0);
        }
    }

    /// Softmax does not change when all elements grow by the same amount; with integers not even
    /// in its last bit.
    #[test]
    fn a_common_shift_changes_nothing(
        x in proptest::collection::vec(-40i32..40, 1..200),
        shift in -1000i32..1000,
    ) {
        for level in Level::available() {
            let row = |shift: i32| {
                let mut y: Vec<f32> = x.iter().map(|x| (x + shift) as f32).collect();
                softmax(level, MatMut::new(&mut y, 1, x.len(), x.len()));
                y
            };
            prop_assert_eq!(row(0), row(shift));
        }
    }
}
