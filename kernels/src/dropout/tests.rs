use super::*;
use crate::Matrix;
use crate::testing::{Edge, Guarded, Random, for_each_level, lengths, same_on_any_threads};

const ONE: Dropout = Dropout { rate: 0.1, seed: 1, step: 2, place: 3 };

/// The mask of `dropout`: one where an element falls.
fn mask(dropout: Dropout, rows: usize, cols: usize) -> Matrix<u8> {
    let mut x = Matrix::from_fn(rows, cols, |_, _| 1.0);
    dropout.apply(Level::current(), x.view_mut());
    Matrix::from_fn(rows, cols, |row, col| u8::from(x.row(row)[col] == 0.0))
}

/// How many standard deviations the number of joint falls is from what independent masks have.
fn deviation(rate: f64, pairs: impl Iterator<Item = (u8, u8)>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (a, b) in pairs {
        sum += (f64::from(a) - rate) * (f64::from(b) - rate);
        count += 1.0;
    }
    sum / (rate * (1.0 - rate)) / f64::sqrt(count)
}

#[test]
fn the_share_that_falls_is_the_rate() {
    for rate in [0.001, 0.1, 0.5, 0.9] {
        let mask = mask(Dropout { rate, ..ONE }, 1000, 1000);
        let fallen: f64 = mask.as_slice().iter().map(|&x| f64::from(x)).sum();
        let (rate, n) = (f64::from(rate), 1e6);
        let deviation = (fallen - rate * n) / (n * rate * (1.0 - rate)).sqrt();
        assert!(deviation.abs() < 4.0, "{rate}: {deviation} standard deviations");
        // Nor does any row or column fall more often than chance has it: chi-square of 1000 cells.
        for by_column in [false, true] {
            let cell = |i: usize, j: usize| if by_column { mask.row(j)[i] } else { mask.row(i)[j] };
            let chi: f64 = (0..1000)
                .map(|i| (0..1000).map(|j| f64::from(cell(i, j))).sum::<f64>())
                .map(|fallen| (fallen - 1000.0 * rate).powi(2) / (1000.0 * rate * (1.0 - rate)))
                .sum();
            assert!((chi - 1000.0).abs() < 4.0 * f64::sqrt(2000.0), "{rate} {by_column}: {chi}");
        }
    }
}

#[test]
fn neighbours_in_every_direction_are_independent() {
    let (rows, cols) = (700, 700);
    for rate in [0.1, 0.5] {
        let one = Dropout { rate, ..ONE };
        let first = mask(one, rows, cols);
        let other = |dropout| mask(dropout, rows, cols);
        let rate = f64::from(rate);
        let all = |other: &Matrix<u8>| {
            let pairs = first.as_slice().iter().copied().zip(other.as_slice().iter().copied());
            deviation(rate, pairs)
        };
        let mut found = vec![
            ("seed", 1, all(&other(Dropout { seed: 2, ..one }))),
            ("step", 1, all(&other(Dropout { step: 3, ..one }))),
            ("place", 1, all(&other(Dropout { place: 4, ..one }))),
            ("high seed", 1, all(&other(Dropout { seed: 1 | 1 << 63, ..one }))),
            ("step and place exchanged", 1, all(&other(Dropout { step: 3, place: 2, ..one }))),
            ("seed and step exchanged", 1, all(&other(Dropout { seed: 2, step: 1, ..one }))),
        ];
        for distance in [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512] {
            let cells = |down: usize, right: usize| {
                let first = &first;
                (0..rows - down).flat_map(move |i| {
                    (0..cols - right)
                        .map(move |j| (first.row(i)[j], first.row(i + down)[j + right]))
                })
            };
            found.push(("columns", distance, deviation(rate, cells(0, distance))));
            found.push(("rows", distance, deviation(rate, cells(distance, 0))));
            found.push(("diagonal", distance, deviation(rate, cells(distance, distance))));
        }
        for (what, distance, deviation) in found {
            assert!(deviation.abs() < 4.5, "{what} {distance} at {rate}: {deviation} deviations");
        }
    }
}

/// The check of independence itself: masks that are the same, or opposite, or shifted, fail it.
#[test]
fn dependence_is_found() {
    let mask = mask(ONE, 100, 100);
    let x = mask.as_slice();
    let same = x.iter().map(|&x| (x, x));
    let opposite = x.iter().map(|&x| (x, 1 - x));
    assert!(deviation(0.1, same).abs() > 50.0 && deviation(0.1, opposite).abs() > 50.0);
}

/// The hash of the kernel, in scalars.
fn hash(key: u64, column: u32) -> u32 {
    let x = column.wrapping_add(key as u32);
    let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D).wrapping_add((key >> 32) as u32);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

#[test]
fn rows_of_every_length_have_the_same_mask_at_every_level() {
    for n in lengths().into_iter().filter(|&n| n < 4000) {
        let x = Random::new(n as u64).vector(n, 1.0, 2.0);
        for rate in [0.1, 0.5, 0.75] {
            let dropout = Dropout { rate, ..ONE };
            let key = dropout.key(0);
            let factor = (1.0 / (1.0 - f64::from(rate))) as f32;
            let falls =
                |col| f64::from(hash(key, col as u32) >> 8) < f64::from(rate) * 2f64.powi(24);
            let expected: Vec<f32> =
                (0..n).map(|col| if falls(col) { 0.0 } else { x[col] * factor }).collect();
            for_each_level(|level| {
                for edge in Edge::BOTH {
                    let mut y = Guarded::copy(&x, edge);
                    dropout.apply(level, MatMut::new(&mut y, 1, n, n));
                    assert_eq!(y[..], expected, "{level} {n}");
                }
            });
        }
    }
}

#[test]
fn threads_and_gaps_change_nothing() {
    let x = Random::new(2).vector(700 * 210, 1.0, 2.0);
    let mut at_levels = Vec::new();
    for_each_level(|level| {
        let y = same_on_any_threads(|| {
            let mut y = x.clone();
            ONE.apply(level, MatMut::new(&mut y, 700, 200, 210));
            y
        });
        for row in [0, 1, 350, 699] {
            let mut alone = x[row * 210..row * 210 + 200].to_vec();
            dispatch!(level, s => ONE.apply_row(s, row as u64, &mut alone));
            assert_eq!(y[row * 210..row * 210 + 200], alone, "{level} row {row}");
            let gap = row * 210 + 200..(row + 1) * 210;
            assert_eq!(y[gap.clone()], x[gap], "{level} gap after row {row}");
        }
        at_levels.push(y);
    });
    at_levels.dedup();
    assert_eq!(at_levels.len(), 1);
}

#[test]
fn what_falls_is_zero_and_a_rate_of_zero_is_the_identity() {
    for_each_level(|level| {
        let mut x = vec![f32::NAN; 1000];
        Dropout { rate: 0.5, ..ONE }.apply(level, MatMut::new(&mut x, 1, 1000, 1000));
        let zeros = x.iter().filter(|x| x.to_bits() == 0).count();
        assert!((400..600).contains(&zeros) && x.iter().all(|&x| x.is_nan() || x == 0.0));
        let mut x = [1.0, f32::NAN, -0.0];
        Dropout { rate: 0.0, ..ONE }.apply(level, MatMut::new(&mut x, 1, 3, 3));
        dispatch!(level, s => Dropout { rate: 0.0, ..ONE }.apply_row(s, 5, &mut x));
        assert_eq!(x.map(f32::to_bits), [1.0, f32::NAN, -0.0].map(f32::to_bits), "{level}");
    });
}

#[test]
#[should_panic(expected = "a dropout rate of 1")]
fn a_rate_of_one_is_refused() {
    Dropout { rate: 1.0, ..ONE }.apply(Level::current(), MatMut::new(&mut [], 0, 0, 0));
}

#[test]
fn a_part_is_treated_as_within_the_whole() {
    for_each_level(|level| {
        let x = Matrix::from_fn(40, 33, |row, col| (row * 33 + col) as f32 + 1.0);
        let (mut whole, mut parts) = (x.clone(), x);
        ONE.apply(level, whole.view_mut());
        for rows in [0..7, 7..8, 8..8, 8..40] {
            ONE.apply_from(level, rows.start, parts.view_mut().row_range(rows));
        }
        assert_eq!(whole, parts);
    });
}
