//! What the cores can do out of registers.

use ferrite_kernels::{Arithmetic, peak};

use crate::Setting;
use crate::table::{Cell, Table};

pub(crate) fn measure(setting: &Setting) -> Table {
    let rows = Arithmetic::available().into_iter().map(|arithmetic| {
        let alone = peak(arithmetic, setting.rounds);
        // In each round all threads begin together and take as long, so that what they share shows.
        let together = (0..setting.rounds)
            .map(|_| setting.all().broadcast(|_| peak(arithmetic, 1)).iter().sum())
            .fold(0.0, f64::max);
        vec![
            Cell::text(arithmetic.to_string()),
            Cell::text(arithmetic.instruction()),
            Cell::number(alone / 1e9),
            Cell::number(together / 1e9),
            Cell::number(together / alone),
        ]
    });
    Table {
        key: "peaks",
        title: "What the cores can do",
        note: format!(
            "Gop/s of each kernel's instruction out of registers, the best of {} runs: on one core \
             and on all {} threads at once. A multiply-add is two operations, of floats or integers.",
            setting.rounds,
            setting.all().current_num_threads()
        ),
        columns: ["arithmetic", "instruction", "one core", "all", "all / one"]
            .map(Into::into)
            .into(),
        rows: rows.collect(),
    }
}
