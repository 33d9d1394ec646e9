//! Matrix products of real models.

use ferrite_bench::timing::against_peak;
use ferrite_bench::{PRODUCTS, product::check, uniform};
use ferrite_kernels::{
    Activations, Arithmetic, Epilogue, Level, Matrix, PackedMatrix, Precision, matmul,
};

use crate::Setting;
use crate::table::{Cell, Table};

pub(crate) fn measure(setting: &Setting) -> Table {
    let mut rows = Vec::new();
    for (n, d_out, d_in) in PRODUCTS {
        let (x, w) = (uniform(n, d_in, 1), uniform(d_out, d_in, 2));
        let bias = vec![0.5; d_out];
        let mut y = Matrix::zeros(n, d_out);
        for pool in &setting.pools {
            let mut row = vec![
                Cell::text(format!("{n} x {d_out} x {d_in}")),
                Cell::count(pool.current_num_threads()),
            ];
            for precision in Precision::ALL {
                let arithmetic = Arithmetic::new(Level::current(), precision);
                let packed = PackedMatrix::new(arithmetic, w.view());
                let ready = Activations::from_rows(arithmetic, x.view());
                let operations = 2 * n * d_out * d_in;
                pool.install(|| matmul(&ready, &packed, Epilogue::Bias(&bias), y.view_mut()));
                check(precision, &x, &w, 0.5, &y);
                let run = || matmul(&ready, &packed, Epilogue::Bias(&bias), y.view_mut());
                let found =
                    pool.install(|| against_peak(arithmetic, operations, setting.rounds, run));
                row.push(Cell::against_peak(found));
            }
            rows.push(row);
        }
    }
    let names = ["n x d_out x d_in", "threads"].into_iter().map(String::from);
    Table {
        key: "products",
        title: "Products",
        note:
            "Gop/s of y = x Wᵀ + b with x (n, d_in) in the form in which the kernel reads it and \
               packed W (d_out, d_in), both in the caches where they fit; in brackets the part of \
               (threads x the peak of one core), measured in turn with it."
                .into(),
        columns: names.chain(Precision::ALL.map(|precision| precision.to_string())).collect(),
        rows,
    }
}
