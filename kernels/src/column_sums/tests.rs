use super::*;
use crate::Matrix;
use crate::reference::{self, widen_matrix};
use crate::testing::{
    Edge, Guarded, Random, Tolerance, U, for_each_level, lengths, same_on_any_threads,
};

#[test]
fn sums_of_any_shape_keep_the_bound_and_add_to_what_is_there() {
    for_each_level(|level| {
        let mut random = Random::new(1);
        let mut tolerance = Tolerance::new(format!("column_sums {level}"));
        for rows in [0, 1, 2, 63, 64, 65, 130, 300] {
            for cols in lengths().into_iter().filter(|&n| n < 50 || n > 1000 && n < 3100) {
                let edge = if (rows + cols) % 2 == 0 { Edge::Start } else { Edge::End };
                let x = Guarded::copy(&random.vector(rows * cols, -2.0, 3.0), edge);
                let view = Mat::new(&x, rows, cols, cols);
                let before = random.vector(cols, -1.0, 1.0);
                let mut sums = Guarded::copy(&before, edge);
                column_sums(level, view, &mut sums);
                let exact = reference::column_sums(&widen_matrix(view));
                let limit = (64.0 + rows as f64 / 64.0) * U * (3.0 * rows as f64 + 1.0);
                for j in 0..cols {
                    let exact = exact[j] + f64::from(before[j]);
                    tolerance.check(sums[j], exact, limit, || format!("{rows} x {cols}: {j}"));
                }
            }
        }
        tolerance.finish();
    });
}

#[test]
fn sums_of_integers_are_exact() {
    for_each_level(|level| {
        let x = Matrix::from_slice(1000, 37, &Random::new(2).integers(37_000, 50));
        let mut sums = [5.0; 37];
        column_sums(level, x.view(), &mut sums);
        for (sum, exact) in sums.iter().zip(reference::column_sums(&widen_matrix(x.view()))) {
            assert_eq!(f64::from(*sum), exact + 5.0, "{level}");
        }
    });
}

#[test]
fn threads_columns_and_gaps_change_no_bit() {
    let x = Random::new(3).vector(700 * 1300, -1.0, 1.0);
    for_each_level(|level| {
        let view = Mat::new(&x, 700, 1290, 1300);
        let sums = same_on_any_threads(|| {
            let mut sums = vec![0.25; 1290];
            column_sums(level, view, &mut sums);
            sums
        });
        let mut part = [0.25; 13];
        column_sums(level, view.col_range(21..34), &mut part);
        assert_eq!(sums[21..34], part, "{level}");
    });
}

#[test]
#[should_panic(expected = "lengths of a row and of the sums")]
fn sums_of_another_length_are_refused() {
    column_sums(Level::current(), Mat::from_row(&[0.0; 3]), &mut [0.0; 2]);
}
