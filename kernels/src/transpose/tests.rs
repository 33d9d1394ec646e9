use super::*;
use crate::Matrix;
use crate::reference::{self, widen_matrix};
use crate::testing::{Edge, Guarded, Random, same_on_any_threads};

#[test]
fn every_shape_around_the_tiles_is_turned() {
    let mut random = Random::new(1);
    let sides = (0..=35).chain([47, 48, 49, 63, 64, 65, 127, 130]);
    for rows in sides.clone() {
        for cols in sides.clone() {
            let edge = if (rows + cols) % 2 == 0 { Edge::Start } else { Edge::End };
            let x = Guarded::copy(&random.vector(rows * cols, -2.0, 2.0), edge);
            let mut out = Guarded::nan(rows * cols, edge);
            let view = Mat::new(&x, rows, cols, cols);
            transpose(view, MatMut::new(&mut out, cols, rows, rows));
            let exact = reference::transpose(&widen_matrix(view));
            assert_eq!(reference::widen(&out), exact.as_slice(), "{rows} x {cols}");
        }
    }
}

#[test]
fn threads_and_gaps_change_nothing() {
    let x = Random::new(2).vector(500 * 260, -1.0, 1.0);
    let view = Mat::new(&x, 500, 251, 260);
    let out = same_on_any_threads(|| {
        let mut out = vec![7.0; 251 * 512];
        transpose(view, MatMut::new(&mut out, 251, 500, 512));
        out
    });
    let mut here = vec![7.0; 251 * 512];
    transpose_here(view, MatMut::new(&mut here, 251, 500, 512));
    assert_eq!(here, out);
    for (i, &y) in out.iter().enumerate() {
        let (row, col) = (i / 512, i % 512);
        assert_eq!(y, if col < 500 { view.row(col)[row] } else { 7.0 }, "{row} {col}");
    }
}

#[test]
fn twice_is_the_identity() {
    let x = Matrix::from_slice(100, 33, &Random::new(3).vector(3300, -1.0, 1.0));
    let (mut once, mut twice) = (Matrix::zeros(33, 100), Matrix::zeros(100, 33));
    transpose(x.view(), once.view_mut());
    transpose(once.view(), twice.view_mut());
    assert_eq!(x, twice);
}

#[test]
#[should_panic(expected = "shapes of the output and of the turned input")]
fn an_output_that_is_not_turned_is_refused() {
    transpose(Matrix::zeros(2, 3).view(), Matrix::zeros(2, 3).view_mut());
}
