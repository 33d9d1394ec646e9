//! Rows of tables: token, segment and position embeddings.

use crate::parallel::{Divide, rows_per_thread, share};
use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd, dispatch};
use crate::{Level, Mat, MatMut};

/// A table of embeddings and the row that each token takes from it.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// What the table is called in a panic, such as `word`.
    pub name: &'a str,
    /// One row for each id.
    pub table: Mat<'a>,
    /// The row of each token.
    pub ids: &'a [u32],
}

impl<'a> Lookup<'a> {
    /// The row of token `token`.
    #[track_caller]
    #[inline(always)]
    fn row(&self, token: usize) -> &'a [f32] {
        let id = self.ids[token] as usize;
        if id >= self.table.rows() {
            self.no_such_row(token);
        }
        self.table.row(id)
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn no_such_row(&self, token: usize) -> ! {
        let (rows, id) = (self.table.rows(), self.ids[token]);
        panic!("{} id {id} of token {token} is not below {rows}", self.name)
    }

    #[track_caller]
    fn check_shape(&self, out: (usize, usize)) {
        let shape = (self.ids.len(), self.table.cols());
        assert_eq!(shape, out, "shapes of the {} embeddings and of the output", self.name);
    }
}

/// Gathers rows: `out[t] = scale * table[ids[t]]`.
///
/// A scale of sqrt(d_model) is the Transformer's (Vaswani et al. 2017, section 3.4); one copies.
///
/// # Panics
/// If the shapes do not fit, or an id is not in the table.
#[track_caller]
pub fn gather(level: Level, lookup: Lookup<'_>, scale: f32, mut out: MatMut<'_>) {
    lookup.check_shape(out.shape());
    dispatch!(level, s => {
        let scale = s.splat(scale);
        for token in 0..out.rows() {
            let (row, out) = (lookup.row(token), out.row_mut(token));
            for_each_vector(
                s,
                row.len(),
                #[inline(always)]
                |at| (s.load_or(&row[at.clone()], 0.0) * scale).store_prefix(&mut out[at]),
            );
        }
    })
}

/// The input of the first block: `out[t] = scale * word[w[t]] + position[p[t]] + segment[s[t]]`,
/// added in this order (Devlin et al. 2018, figure 2, with scale one; Vaswani et al. 2017, section
/// 3.4, with scale sqrt(d_model), sinusoidal positions and no segments).
///
/// # Panics
/// If the shapes do not fit, or an id is not in its table.
#[track_caller]
pub fn embedding_sum(
    level: Level,
    word: Lookup<'_>,
    scale: f32,
    position: Lookup<'_>,
    segment: Option<Lookup<'_>>,
    mut out: MatMut<'_>,
) {
    word.check_shape(out.shape());
    position.check_shape(out.shape());
    if let Some(segment) = segment {
        segment.check_shape(out.shape());
    }
    dispatch!(level, s => {
        let scale = s.splat(scale);
        for token in 0..out.rows() {
            let (word, position) = (word.row(token), position.row(token));
            let segment = segment.map(
                #[inline(always)]
                |segment| segment.row(token),
            );
            let out = out.row_mut(token);
            for_each_vector(
                s,
                word.len(),
                #[inline(always)]
                |at| {
                    let mut sum = s.load_or(&word[at.clone()], 0.0) * scale
                        + s.load_or(&position[at.clone()], 0.0);
                    if let Some(segment) = segment {
                        sum = sum + s.load_or(&segment[at.clone()], 0.0);
                    }
                    sum.store_prefix(&mut out[at]);
                },
            );
        }
    })
}

/// Scatters rows: `table[ids[t]] += rows[t]`, in the order of t. The backward pass of [`gather`] with
/// scale one: the gradient of a table from that of what was taken out of it.
///
/// Threads share the columns, so that each sum has the order of t whoever computes it.
///
/// # Panics
/// If the shapes do not fit, or an id is not in the table.
#[track_caller]
pub fn scatter_add(ids: &[u32], rows: Mat<'_>, table: MatMut<'_>) {
    assert_eq!(
        (ids.len(), table.cols()),
        rows.shape(),
        "scatter_add: ids and columns of the table, and the shape of the rows"
    );
    let height = table.rows();
    if let Some(token) = ids.iter().position(|&id| id as usize >= height) {
        panic!("scatter_add: id {} of token {token} is not below {height}", ids[token]);
    }
    let step = rows_per_thread(table.cols(), ids.len());
    share(Columns(table), step, LINE, &|first, Columns(mut table)| {
        let rows = rows.col_range(first..first + table.cols());
        for (token, &id) in ids.iter().enumerate() {
            let sums = table.row_mut(id as usize);
            sums.iter_mut().zip(rows.row(token)).for_each(|(sum, x)| *sum += x);
        }
    });
}

/// Threads take whole cache lines of a row.
const LINE: usize = 16;

/// A matrix that is cut between two columns.
struct Columns<'a>(MatMut<'a>);

impl Divide for Columns<'_> {
    fn items(&self) -> usize {
        self.0.cols()
    }

    fn divide(self, cols: usize) -> (Self, Self) {
        let (a, b) = self.0.split_cols(cols);
        (Columns(a), Columns(b))
    }
}

#[cfg(test)]
mod tests;
