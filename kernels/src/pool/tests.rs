use super::*;
use crate::Matrix;
use crate::reference::{self, widen_matrix};
use crate::testing::{Edge, Guarded, Random, Tolerance, U, for_each_level};

#[test]
fn pools_of_any_shape_keep_their_bounds() {
    for_each_level(|level| {
        let mut random = Random::new(1);
        let mut tolerance = Tolerance::new(format!("mean_rows {level}"));
        for rows in [0, 1, 2, 7, 31, 32, 33, 64, 65, 512] {
            for d in (0..=35).chain([384, 768]) {
                let edge = if (rows + d) % 2 == 0 { Edge::Start } else { Edge::End };
                let x = Guarded::copy(&random.vector(rows * d, -2.0, 3.0), edge);
                let view = Mat::new(&x, rows, d, d);
                let (mut mean, mut max) = (Guarded::nan(d, edge), Guarded::nan(d, edge));
                mean_rows(level, view, &mut mean);
                max_rows(level, view, &mut max);
                let wide = widen_matrix(view);
                let (exact_mean, exact_max) =
                    (reference::mean_rows(&wide), reference::max_rows(&wide));
                for j in 0..d {
                    let limit = 66.0 * U * 3.0;
                    tolerance.check(mean[j], exact_mean[j], limit, || format!("{rows} x {d}: {j}"));
                    assert_eq!(f64::from(max[j]), exact_max[j], "{level} {rows} x {d}: {j}");
                }
            }
        }
        tolerance.finish();
    });
}

#[test]
fn means_of_integers_are_exact() {
    for_each_level(|level| {
        for rows in [1, 2, 64, 1024] {
            let x = Matrix::from_slice(rows, 19, &Random::new(2).integers(rows * 19, 50));
            let mut mean = [f32::NAN; 19];
            mean_rows(level, x.view(), &mut mean);
            let exact = reference::mean_rows(&widen_matrix(x.view()));
            assert_eq!(reference::widen(&mean), exact, "{level} {rows}");
        }
    });
}

#[test]
fn columns_do_not_depend_on_the_width() {
    for_each_level(|level| {
        let x = Matrix::from_slice(70, 50, &Random::new(3).vector(70 * 50, -1.0, 1.0));
        let (mut whole, mut part) = ([0.0; 50], [0.0; 13]);
        mean_rows(level, x.view(), &mut whole);
        mean_rows(level, x.view().col_range(21..34), &mut part);
        assert_eq!(whole[21..34], part, "{level}");
    });
}

#[test]
fn nan_and_infinities_reach_the_result() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    let cases: [([f32; 3], f32); 9] = [
        ([NAN, 1.0, 2.0], NAN),
        ([1.0, NAN, 2.0], NAN),
        ([1.0, 2.0, NAN], NAN),
        ([NAN, INF, -INF], NAN),
        ([INF, NAN, INF], NAN),
        ([-INF, INF, 1.0], INF),
        ([INF, 1.0, INF], INF),
        ([-INF, -INF, -INF], -INF),
        ([-INF, -3.0, -4.0], -3.0),
    ];
    for_each_level(|level| {
        for (column, expected) in cases {
            let x = Matrix::from_fn(3, 20, |row, _| column[row]);
            let mut max = [0.0; 20];
            max_rows(level, x.view(), &mut max);
            for max in max {
                assert!(max == expected || max.is_nan() && expected.is_nan(), "{column:?}: {max}");
            }
        }
    });
}

#[test]
fn an_empty_sequence_pools_to_zeros() {
    for_each_level(|level| {
        let (mut mean, mut max) = ([1.0; 5], [1.0; 5]);
        mean_rows(level, Mat::new(&[], 0, 5, 5), &mut mean);
        max_rows(level, Mat::new(&[], 0, 5, 5), &mut max);
        assert_eq!((mean, max), ([0.0; 5], [0.0; 5]), "{level}");
    });
}
