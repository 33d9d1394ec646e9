//! Operands that several threads take side by side, each a part of every one.

use super::join;
use crate::MatMut;

/// Work that consists of items, rows or elements, and can be cut between two of them.
pub(crate) trait Divide: Send + Sized {
    /// How many items there are.
    fn items(&self) -> usize;

    /// The first `items` items, and the rest.
    fn divide(self, items: usize) -> (Self, Self);
}

impl<T: Send> Divide for MatMut<'_, T> {
    fn items(&self) -> usize {
        self.rows()
    }

    fn divide(self, rows: usize) -> (Self, Self) {
        self.split_rows(rows)
    }
}

impl<T: Send> Divide for &mut [T] {
    fn items(&self) -> usize {
        self.len()
    }

    fn divide(self, items: usize) -> (Self, Self) {
        self.split_at_mut(items)
    }
}

impl<T: Sync> Divide for &[T] {
    fn items(&self) -> usize {
        self.len()
    }

    fn divide(self, items: usize) -> (Self, Self) {
        self.split_at(items)
    }
}

/// Two operands that are cut at the same place; the first says how long both are.
impl<A: Divide, B: Divide> Divide for (A, B) {
    fn items(&self) -> usize {
        self.0.items()
    }

    fn divide(self, items: usize) -> (Self, Self) {
        let ((a, c), (b, d)) = (self.0.divide(items), self.1.divide(items));
        ((a, b), (c, d))
    }
}

/// Runs `f(first item, part)` for the parts of `work`, each of about `step` items, on several
/// threads. Parts begin at multiples of `unit` items, wherever else they are cut.
pub(crate) fn share<W: Divide>(work: W, step: usize, unit: usize, f: &(impl Fn(usize, W) + Sync)) {
    halve(0, work, step, unit, f);
}

fn halve<W: Divide>(
    first: usize,
    work: W,
    step: usize,
    unit: usize,
    f: &(impl Fn(usize, W) + Sync),
) {
    let items = work.items();
    let middle = (items / 2).next_multiple_of(unit);
    if items <= step || middle >= items {
        return f(first, work);
    }
    let (a, b) = work.divide(middle);
    join(|| halve(first, a, step, unit, f), || halve(first + middle, b, step, unit, f));
}
