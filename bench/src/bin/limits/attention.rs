//! The attention kernel.

use ferrite_bench::timing::{AgainstPeak, against_peak};
use ferrite_bench::uniform;
use ferrite_kernels::{
    Arithmetic, Attention, AttentionScratch, Level, Mask, Mat, Matrix, Precision, Segments,
    reference,
};

use crate::Setting;
use crate::table::{Cell, Table};

const HEADS: usize = 12;

/// Sequences of a batch, as whole encoders have them.
const SEQUENCES: usize = 8;

pub(crate) fn measure(setting: &Setting) -> Table {
    let level = Level::current();
    let mut precisions = vec![Precision::F32, Precision::Bf16];
    precisions.dedup_by_key(|precision| Arithmetic::new(level, *precision).of_attention());
    let mut rows = Vec::new();
    for d_k in [64, 32] {
        for length in [16, 128, 512] {
            for pool in &setting.pools {
                let mut row = vec![
                    Cell::text(format!("{SEQUENCES} x {length}, {HEADS} heads of {d_k}")),
                    Cell::count(pool.current_num_threads()),
                ];
                for &precision in &precisions {
                    let arithmetic = Arithmetic::new(level, precision);
                    let found = pool.install(|| run(arithmetic, length, d_k, setting.rounds));
                    row.push(Cell::against_peak(found));
                }
                rows.push(row);
            }
        }
    }
    let names = ["batch", "threads"].into_iter().map(String::from);
    Table {
        key: "attention",
        title: "Attention",
        note: "Gop/s of softmax(Q Kᵀ / √d_k) V, counting the two products alone, and in brackets \
               the part of (threads x the peak of one core) that this is; int8 computes it as bf16 \
               does."
            .into(),
        columns: names.chain(precisions.iter().map(Precision::to_string)).collect(),
        rows,
    }
}

fn run(arithmetic: Arithmetic, length: usize, d_k: usize, rounds: usize) -> AgainstPeak {
    let sequences = Segments::from_lengths([length; SEQUENCES]);
    let width = HEADS * d_k;
    // Side by side, as the product that makes them leaves them.
    let qkv = uniform(sequences.total(), 3 * width, 1);
    let part = |i: usize| qkv.view().col_range(i * width..(i + 1) * width);
    let attention = Attention {
        q: part(0),
        k: part(1),
        v: part(2),
        heads: HEADS,
        queries: &sequences,
        keys: &sequences,
        mask: Mask::Full,
        dropout: None,
    };
    let mut scratch = AttentionScratch::default();
    let mut out = Matrix::zeros(sequences.total(), width);
    attention.run(arithmetic, &mut scratch, out.view_mut());
    check(arithmetic, &attention, d_k, &out);
    let operations = SEQUENCES * HEADS * 2 * (2 * length * length * d_k);
    against_peak(arithmetic.of_attention(), operations, rounds, || {
        attention.run(arithmetic, &mut scratch, out.view_mut());
    })
}

/// Compares the last head of the second sequence.
fn check(arithmetic: Arithmetic, attention: &Attention<'_>, d_k: usize, out: &Matrix) {
    let (rows, cols) = (attention.queries.range(1), (HEADS - 1) * d_k..HEADS * d_k);
    let operand =
        |of: Mat<'_>| reference::widen_matrix(of.row_range(rows.clone()).col_range(cols.clone()));
    let [q, k, v] = [attention.q, attention.k, attention.v].map(operand);
    let exact = reference::attention(&q, &k, &v, 1.0 / (d_k as f64).sqrt(), false);
    let limit = if arithmetic.precision() == Precision::F32 { 1e-5 } else { 0.03 };
    for (i, row) in rows.enumerate() {
        for (&y, exact) in out.row(row)[cols.clone()].iter().zip(exact.row(i)) {
            assert!((f64::from(y) - exact).abs() <= limit, "{arithmetic}: {y} for {exact}");
        }
    }
}
