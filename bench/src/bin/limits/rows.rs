//! The kernels of rows, beside a copy of the same bytes.

use std::hint::black_box;

use ferrite_bench::timing::{TURN, median, seconds};
use ferrite_bench::uniform;
use ferrite_kernels::{Activation, Level, Matrix, add_layer_norm, reference, softmax};

use crate::Setting;
use crate::table::{Cell, Table};

/// A kernel that works in place.
struct Kernel {
    name: &'static str,
    /// The matrices that it reads and writes, counted each time.
    moved: f64,
    run: fn(&mut Matrix, &Operands),
    /// The exact row.
    exact: fn(&Operands, usize) -> Vec<f64>,
    rows: usize,
    cols: usize,
}

struct Operands {
    x: Matrix,
    residual: Matrix,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl Operands {
    fn wide(&self, row: usize) -> Vec<f64> {
        reference::widen(self.x.row(row))
    }
}

fn softmax_of(rows: usize, cols: usize) -> Kernel {
    Kernel {
        name: "softmax",
        moved: 2.0,
        run: |y, _| softmax(Level::current(), y.view_mut()),
        exact: |operands, row| reference::softmax(&operands.wide(row)),
        rows,
        cols,
    }
}

fn add_layer_norm_of(rows: usize, cols: usize) -> Kernel {
    Kernel {
        name: "add and LayerNorm",
        moved: 3.0,
        run: |y, Operands { residual, gamma, beta, .. }| {
            add_layer_norm(Level::current(), y.view_mut(), residual.view(), gamma, beta, 1e-12);
        },
        exact: |operands, row| {
            let [gamma, beta] = [&operands.gamma, &operands.beta].map(|x| reference::widen(x));
            let residual = reference::widen(operands.residual.row(row));
            let sum: Vec<f64> =
                operands.wide(row).iter().zip(residual).map(|(x, r)| x + r).collect();
            reference::layer_norm(&sum, &gamma, &beta, 1e-12)
        },
        rows,
        cols,
    }
}

fn gelu_of(rows: usize, cols: usize) -> Kernel {
    Kernel {
        name: "GELU",
        moved: 2.0,
        run: |y, _| Activation::Gelu.apply_rows(Level::current(), y.view_mut()),
        exact: |operands, row| operands.wide(row).into_iter().map(reference::gelu).collect(),
        rows,
        cols,
    }
}

pub(crate) fn measure(setting: &Setting) -> Table {
    let kernels = [
        softmax_of(1536, 128),
        softmax_of(6144, 512),
        add_layer_norm_of(128, 768),
        add_layer_norm_of(4096, 768),
        gelu_of(128, 3072),
        gelu_of(4096, 3072),
    ];
    Table {
        key: "rows",
        title: "Rows",
        note:
            "GB/s that a kernel reads and writes on one thread, working in place on what was just \
               written, and its time over that of copying as many bytes, measured in turn with it."
                .into(),
        columns: ["kernel", "rows x columns", "us", "GB/s", "copy, GB/s", "time / copy"]
            .map(Into::into)
            .into(),
        rows: kernels.iter().map(|kernel| row(kernel, setting.rounds)).collect(),
    }
}

fn row(kernel: &Kernel, rounds: usize) -> Vec<Cell> {
    let Kernel { name, moved, run, rows, cols, .. } = *kernel;
    let mut x = uniform(rows, cols, 1);
    x.as_mut_slice().iter_mut().for_each(|x| *x *= 4.0);
    let operands = Operands {
        x,
        residual: uniform(rows, cols, 2),
        gamma: vec![1.1; cols],
        beta: vec![0.1; cols],
    };
    let mut y = operands.x.clone();
    run(&mut y, &operands);
    check(kernel, &operands, &y);

    let matrix = (rows * cols * size_of::<f32>()) as f64;
    let mut measured = Vec::new();
    for _ in 0..rounds {
        let (mut of_copy, mut of_kernel, mut times) = (0.0, 0.0, 0.0);
        while of_kernel < TURN {
            of_copy += seconds(|| copy(&mut y, &operands.x));
            of_kernel += seconds(|| run(black_box(&mut y), &operands));
            times += 1.0;
        }
        measured.push((of_kernel / times, of_copy / times * moved / 2.0));
    }
    let over = |f: fn(f64, f64) -> f64| median(measured.iter().map(|&(k, c)| f(k, c)).collect());
    let seconds = over(|kernel, _| kernel);
    vec![
        Cell::text(name),
        Cell::text(format!("{rows} x {cols}")),
        Cell::number(seconds * 1e6),
        Cell::number(moved * matrix / seconds / 1e9),
        Cell::number(moved * matrix / over(|_, copy| copy) / 1e9),
        Cell::number(over(|kernel, copy| kernel / copy)),
    ]
}

fn copy(to: &mut Matrix, from: &Matrix) {
    to.as_mut_slice().copy_from_slice(black_box(from.as_slice()));
    black_box(to);
}

/// Compares a few rows.
fn check(kernel: &Kernel, operands: &Operands, y: &Matrix) {
    for row in (0..y.rows()).step_by(y.rows() / 16) {
        for (&y, exact) in y.row(row).iter().zip((kernel.exact)(operands, row)) {
            let error = (f64::from(y) - exact).abs();
            assert!(error <= 2e-6 * exact.abs().max(1.0), "{}: {y} for {exact}", kernel.name);
        }
    }
}
