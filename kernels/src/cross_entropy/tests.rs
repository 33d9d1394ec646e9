use proptest::prelude::*;

use super::*;
use crate::reference::{self, widen};
use crate::testing::{
    Edge, Guarded, Random, Tolerance, U, for_each_level, lengths, same_on_any_threads, ulp,
};

/// Checks loss and gradient of one row, in memory guarded at `edge`.
fn check_row(
    level: Level,
    x: &[f32],
    target: usize,
    smoothing: f32,
    scale: f32,
    edge: Edge,
    tolerances: &mut [Tolerance; 2],
) {
    let n = x.len();
    let targets = [target as u32];
    let mut y = Guarded::copy(x, edge);
    let only = cross_entropy_loss(level, Mat::from_row(&y), &targets, smoothing);
    assert_eq!(y[..], *x, "{level}: the loss alone leaves the logits");
    let found = cross_entropy(level, MatMut::new(&mut y, 1, n, n), &targets, smoothing, scale);
    assert_eq!(only, found, "{level} {n}");

    let wide = widen(x);
    let exact = reference::cross_entropy(&wide, target, smoothing.into());
    let max = wide.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let min = wide.iter().copied().fold(f64::INFINITY, f64::min);
    let distance = max - if smoothing > 0.0 { min } else { wide[target] };
    let limit = 4.0 * U * (1.0 + distance);
    let input = |what: String| move || format!("{what} of {n}, target {target}, eps {smoothing}");
    // The loss is an f64: its error is what is compared.
    let error = (found.loss - exact) as f32;
    tolerances[0].check(error, 0.0, limit, input(format!("loss {} for {exact}", found.loss)));
    let (exact, distance) = (reference::cross_entropy(&wide, target, 0.0), max - wide[target]);
    let (error, limit) = ((found.plain - exact) as f32, 4.0 * U * (1.0 + distance));
    tolerances[0].check(error, 0.0, limit, input(format!("plain {} for {exact}", found.plain)));
    let first = wide.iter().position(|&x| x == max).unwrap();
    assert_eq!((found.counted, found.correct), (1, usize::from(first == target)), "{level} {n}");

    let gradient = reference::cross_entropy_gradient(&wide, target, smoothing.into());
    for i in 0..n {
        let limit = f64::from(scale) * (2.0 * ulp(gradient[i]) + 2e-7);
        let exact = f64::from(scale) * gradient[i];
        tolerances[1].check(y[i], exact, limit, input(format!("element {i}")));
    }
}

fn tolerances(level: Level) -> [Tolerance; 2] {
    ["loss", "gradient"].map(|what| Tolerance::new(format!("cross_entropy: {what} {level}")))
}

#[test]
fn rows_of_every_length_keep_the_bounds() {
    for_each_level(|level| {
        let mut random = Random::new(1);
        let mut tolerances = tolerances(level);
        for n in lengths().into_iter().filter(|&n| n > 0) {
            for range in [0.0, 1.0, 10.0, 100.0] {
                let x = random.vector(n, -range, range);
                for smoothing in [0.0, 0.1, 1.0] {
                    for (edge, target) in Edge::BOTH.into_iter().zip([random.below(n), n - 1]) {
                        check_row(level, &x, target, smoothing, 0.37, edge, &mut tolerances);
                    }
                }
            }
        }
        for tolerance in tolerances {
            tolerance.finish();
        }
    });
}

#[test]
fn ignored_rows_become_zeros_and_do_not_count() {
    for_each_level(|level| {
        let mut x = vec![f32::NAN; 3 * 20];
        x[20..40].fill(2.0);
        let targets = [IGNORED, 3, IGNORED];
        let loss = cross_entropy_loss(level, Mat::new(&x, 3, 17, 20), &targets, 0.1);
        assert!((loss.loss - 17f64.ln()).abs() < 1e-6, "{level} {loss:?}");
        let found = cross_entropy(level, MatMut::new(&mut x, 3, 17, 20), &targets, 0.1, 1.0);
        assert_eq!((found, loss.counted, loss.correct), (loss, 1, 0), "{level}");
        for row in [0, 2] {
            assert_eq!(x[row * 20..row * 20 + 17], [0.0; 17], "{level}: row {row}");
            assert!(x[row * 20 + 17..(row + 1) * 20].iter().all(|x| x.is_nan()), "{level}: gap");
        }
        let all = cross_entropy(level, MatMut::new(&mut x, 3, 17, 20), &[IGNORED; 3], 0.0, 1.0);
        assert_eq!(all, CrossEntropy::default(), "{level}");
    });
}

#[test]
fn the_first_of_the_largest_is_the_answer() {
    for_each_level(|level| {
        let mut x = vec![1.0; 50];
        x[20] = 3.0;
        x[41] = 3.0;
        for target in 0..50 {
            let loss = cross_entropy_loss(level, Mat::from_row(&x), &[target], 0.0);
            assert_eq!(loss.correct, usize::from(target == 20), "{level} {target}");
        }
        let loss = cross_entropy_loss(level, Mat::from_row(&[5.0; 33]), &[0], 0.0);
        assert_eq!(loss.correct, 1, "{level}");
    });
}

#[test]
fn excluded_classes_cost_nothing_unless_they_are_wanted() {
    const NEVER: f32 = f32::NEG_INFINITY;
    for_each_level(|level| {
        let x = [NEVER, 1.0, 1.0, NEVER];
        let run = |target, smoothing| {
            let mut x = x;
            let view = MatMut::new(&mut x, 1, 4, 4);
            (cross_entropy(level, view, &[target], smoothing, 1.0).loss, x)
        };
        let (loss, gradient) = run(1, 0.0);
        assert!((loss - 2f64.ln()).abs() < 1e-7, "{level} {loss}");
        assert_eq!(gradient, [0.0, -0.5, 0.5, 0.0], "{level}");
        let (loss, gradient) = run(0, 0.0);
        assert_eq!((loss, gradient), (f64::INFINITY, [-1.0, 0.5, 0.5, 0.0]), "{level}");
        assert_eq!(run(1, 0.1).0, f64::INFINITY, "{level}");
    });
}

#[test]
fn what_is_no_number_spoils_its_row_and_no_other() {
    for_each_level(|level| {
        for bad in [f32::NAN, f32::INFINITY] {
            for at in 0..40 {
                let mut x = vec![0.5; 120];
                x[40 + at] = bad;
                let view = MatMut::new(&mut x, 3, 40, 40);
                assert!(cross_entropy(level, view, &[1, 2, 3], 0.0, 1.0).loss.is_nan());
                for (i, x) in x.iter().enumerate() {
                    assert_eq!(x.is_nan(), (40..80).contains(&i), "{level} {bad} {at} {i}");
                }
            }
        }
        let mut x = [f32::NEG_INFINITY; 20];
        let view = MatMut::new(&mut x, 1, 20, 20);
        assert!(cross_entropy(level, view, &[1], 0.0, 1.0).loss.is_nan(), "{level}");
    });
}

#[test]
fn a_row_that_is_no_number_is_never_answered_right() {
    for_each_level(|level| {
        let wrong = |x: &[f32], target: usize| {
            for smoothing in [0.0, 0.1, 1.0] {
                let targets = [target as u32];
                let loss = cross_entropy_loss(level, Mat::from_row(x), &targets, smoothing);
                let mut y = x.to_vec();
                let view = MatMut::new(&mut y, 1, x.len(), x.len());
                let with_gradient = cross_entropy(level, view, &targets, smoothing, 1.0);
                for found in [loss, with_gradient] {
                    assert!(found.loss.is_nan(), "{level} {x:?} {target}: {found:?}");
                    assert_eq!((found.counted, found.correct), (1, 0), "{level} {x:?} {target}");
                }
            }
        };
        for n in [1, 2, 7, 8, 15, 16, 17, 40] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                (0..n).for_each(|target| wrong(&vec![bad; n], target));
            }
            // One number that is none, and a target that is larger than all others.
            for at in 0..n {
                for target in 0..n {
                    let mut x = vec![0.5; n];
                    x[target] = 2.0;
                    x[at] = f32::NAN;
                    wrong(&x, target);
                    x[at] = f32::INFINITY;
                    wrong(&x, target);
                }
            }
        }
    });
}

#[test]
fn threads_change_no_bit() {
    let mut random = Random::new(4);
    let x = random.vector(700 * 200, -5.0, 5.0);
    let targets: Vec<u32> =
        (0..700).map(|row| if row % 7 == 0 { IGNORED } else { random.below(190) as u32 }).collect();
    for_each_level(|level| {
        let (found, gradient) = same_on_any_threads(|| {
            let mut y = x.clone();
            let view = MatMut::new(&mut y, 700, 190, 200);
            (cross_entropy(level, view, &targets, 0.1, 0.01), y)
        });
        let view = Mat::new(&x, 700, 190, 200);
        let loss = same_on_any_threads(|| cross_entropy_loss(level, view, &targets, 0.1));
        assert_eq!((loss, loss.counted), (found, 600), "{level}");
        let mut sum = 0.0;
        for row in 0..700 {
            let mut alone = x[row * 200..row * 200 + 190].to_vec();
            let view = MatMut::new(&mut alone, 1, 190, 190);
            sum += cross_entropy(level, view, &targets[row..=row], 0.1, 0.01).loss;
            assert_eq!(gradient[row * 200..row * 200 + 190], alone, "{level} row {row}");
            let gap = row * 200 + 190..(row + 1) * 200;
            assert_eq!(gradient[gap.clone()], x[gap], "{level} gap after row {row}");
        }
        assert_eq!(sum, found.loss, "{level}");
    });
}

#[test]
#[should_panic(expected = "target 4 of row 1 is not below 4")]
fn a_target_that_is_no_class_is_named() {
    cross_entropy_loss(Level::current(), Mat::new(&[0.0; 8], 2, 4, 4), &[IGNORED, 4], 0.0);
}

#[test]
#[should_panic(expected = "the targets and the rows of the logits")]
fn targets_of_another_number_are_refused() {
    cross_entropy_loss(Level::current(), Mat::new(&[0.0; 8], 2, 4, 4), &[1], 0.0);
}

#[test]
#[should_panic(expected = "a label smoothing of 1.5")]
fn a_smoothing_beyond_one_is_refused() {
    cross_entropy_loss(Level::current(), Mat::from_row(&[0.0; 4]), &[1], 1.5);
}

proptest! {
    #[test]
    fn any_row_keeps_the_bounds(
        x in proptest::collection::vec(-90f32..90.0, 1..300),
        target in 0usize..300,
        smoothing in 0f32..1.0,
    ) {
        for level in Level::available() {
            let mut tolerances = tolerances(level);
            let target = target % x.len();
            check_row(level, &x, target, smoothing, 2.0, Edge::End, &mut tolerances);
            for tolerance in tolerances {
                tolerance.finish();
            }
        }
    }
}
