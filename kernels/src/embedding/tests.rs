use super::*;
use crate::Matrix;
use crate::testing::{Edge, Guarded, Random, for_each_level, lengths, same_on_any_threads};

fn table(rows: usize, cols: usize, seed: u64) -> Matrix {
    Matrix::from_slice(rows, cols, &Random::new(seed).vector(rows * cols, -2.0, 2.0))
}

#[test]
fn sums_are_those_of_scalar_arithmetic_in_the_stated_order() {
    for_each_level(|level| {
        for d in lengths() {
            let (word, position, segment) = (table(11, d, 1), table(5, d, 2), table(2, d, 3));
            let ids: [&[u32]; 3] = [&[10, 0, 3, 3], &[0, 1, 2, 4], &[0, 0, 1, 1]];
            for edge in Edge::BOTH {
                let tables =
                    [&word, &position, &segment].map(|x| Guarded::copy(x.as_slice(), edge));
                let lookup = |i: usize, name| Lookup {
                    name,
                    table: Mat::new(&tables[i], [11, 5, 2][i], d, d),
                    ids: ids[i],
                };
                for scale in [1.0, 3.3] {
                    for segments in [false, true] {
                        let mut out = Guarded::nan(4 * d, edge);
                        let segment_lookup = segments.then(|| lookup(2, "segment"));
                        let view = MatMut::new(&mut out, 4, d, d);
                        let (w, p) = (lookup(0, "word"), lookup(1, "position"));
                        embedding_sum(level, w, scale, p, segment_lookup, view);
                        for (i, &y) in out.iter().enumerate() {
                            let (t, j) = (i / d, i % d);
                            let row = |x: &Matrix, table: usize| x.row(ids[table][t] as usize)[j];
                            let mut expected = row(&word, 0) * scale + row(&position, 1);
                            if segments {
                                expected += row(&segment, 2);
                            }
                            assert_eq!(y, expected, "{level} d = {d}, token {t}, column {j}");
                        }
                    }
                    let mut out = Guarded::nan(4 * d, edge);
                    gather(level, lookup(0, "word"), scale, MatMut::new(&mut out, 4, d, d));
                    for (i, &y) in out.iter().enumerate() {
                        assert_eq!(y, word.row(ids[0][i / d] as usize)[i % d] * scale, "{level}");
                    }
                }
            }
        }
    });
}

#[test]
#[should_panic(expected = "word id 3 of token 1 is not below 3")]
fn an_id_beyond_the_table_is_named() {
    let word = table(3, 4, 1);
    let mut out = Matrix::zeros(2, 4);
    let lookup = Lookup { name: "word", table: word.view(), ids: &[2, 3] };
    gather(Level::current(), lookup, 1.0, out.view_mut());
}

#[test]
#[should_panic(expected = "shapes of the position embeddings")]
fn tables_of_another_width_are_refused() {
    let (word, position) = (table(3, 4, 1), table(3, 5, 1));
    let mut out = Matrix::zeros(1, 4);
    let word = Lookup { name: "word", table: word.view(), ids: &[0] };
    let position = Lookup { name: "position", table: position.view(), ids: &[0] };
    embedding_sum(Level::current(), word, 1.0, position, None, out.view_mut());
}

#[test]
fn rows_are_added_to_their_places_in_order() {
    let mut random = Random::new(4);
    let ids = [10, 0, 3, 3, 10, 3];
    for d in lengths().into_iter().filter(|&n| n < 2000) {
        let (before, rows) = (random.vector(11 * d, -2.0, 2.0), random.vector(6 * d, -2.0, 2.0));
        let mut expected = before.clone();
        for (t, &id) in ids.iter().enumerate() {
            for j in 0..d {
                expected[id as usize * d + j] += rows[t * d + j];
            }
        }
        for edge in Edge::BOTH {
            let (rows, mut out) = (Guarded::copy(&rows, edge), Guarded::copy(&before, edge));
            scatter_add(&ids, Mat::new(&rows, 6, d, d), MatMut::new(&mut out, 11, d, d));
            assert_eq!(out[..], expected, "d = {d}");
        }
    }
}

/// `<scatter(dy), table> = <dy, gather(table)>`: what it is to be a backward pass.
#[test]
fn scattering_is_the_transpose_of_gathering() {
    let mut random = Random::new(5);
    let ids: Vec<u32> = (0..50).map(|_| random.below(20) as u32).collect();
    // Integers, so that sums are exact.
    let word = Matrix::from_slice(20, 33, &random.integers(20 * 33, 9));
    let dy = Matrix::from_slice(50, 33, &random.integers(50 * 33, 9));
    let (mut y, mut d_word) = (Matrix::zeros(50, 33), Matrix::zeros(20, 33));
    let lookup = Lookup { name: "word", table: word.view(), ids: &ids };
    gather(Level::current(), lookup, 1.0, y.view_mut());
    scatter_add(&ids, dy.view(), d_word.view_mut());
    let dot = |a: &Matrix, b: &Matrix| -> f32 {
        a.as_slice().iter().zip(b.as_slice()).map(|(a, b)| a * b).sum()
    };
    assert_eq!(dot(&d_word, &word), dot(&dy, &y));
}

#[test]
fn threads_and_gaps_change_no_bit() {
    let mut random = Random::new(6);
    let ids: Vec<u32> = (0..800).map(|_| random.below(30) as u32).collect();
    let rows = random.vector(800 * 300, -1.0, 1.0);
    let table = same_on_any_threads(|| {
        let mut table = vec![0.5; 30 * 310];
        let rows = Mat::new(&rows, 800, 290, 300);
        scatter_add(&ids, rows, MatMut::new(&mut table, 30, 290, 310));
        table
    });
    let mut expected = vec![0.5; 30 * 310];
    for (t, &id) in ids.iter().enumerate() {
        for j in 0..290 {
            expected[id as usize * 310 + j] += rows[t * 300 + j];
        }
    }
    assert_eq!(table, expected);
}

#[test]
#[should_panic(expected = "id 3 of token 1 is not below 3")]
fn a_scattered_id_beyond_the_table_is_named() {
    scatter_add(&[2, 3], table(2, 4, 1).view(), table(3, 4, 1).view_mut());
}

#[test]
#[should_panic(expected = "shape of the rows")]
fn scattered_rows_of_another_width_are_refused() {
    scatter_add(&[2, 1], table(2, 5, 1).view(), table(3, 4, 1).view_mut());
}
