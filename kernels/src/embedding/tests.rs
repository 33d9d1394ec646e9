use super::*;
use crate::Matrix;
use crate::testing::{Edge, Guarded, Random, for_each_level, lengths};

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
