//! Pairs by their score: the best is at hand, and any may change.
//!
//! A binary heap that knows where each pair is in it. A merge changes the scores of pairs in both
//! directions, and by likelihood those of all pairs that share a symbol; leaving outdated entries
//! behind, as is usual where scores only fall, would fill the memory with them.

use std::cmp::Ordering;

/// A score: the fraction `count / product`. By count alone, the product is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Score {
    pub(super) count: u64,
    pub(super) product: u128,
}

impl Score {
    /// Compares the fractions exactly, by their cross products of 192 bits.
    fn compare(&self, other: &Self) -> Ordering {
        times(other.product, self.count).cmp(&times(self.product, other.count))
    }
}

/// The product's upper 128 bits and its lower 64.
fn times(a: u128, b: u64) -> (u128, u64) {
    let low = (a & u128::from(u64::MAX)) * u128::from(b);
    let high = (a >> 64) * u128::from(b);
    (high + (low >> 64), low as u64)
}

const ABSENT: u32 = u32::MAX;

/// The queue. Pairs are named by their numbers, counted from 0.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// A heap of pairs.
    heap: Vec<u32>,
    /// By pair, its score while it is in the heap.
    scores: Vec<Score>,
    /// By pair, its place in the heap, or [`ABSENT`].
    places: Vec<u32>,
}

impl Queue {
    /// The pair with the highest score.
    pub(super) fn best(&self) -> Option<u32> {
        self.heap.first().copied()
    }

    /// Gives a pair this score, or takes it out. Of pairs with equal scores the one that `order`
    /// puts first is the better one; it must be a total order that does not change.
    pub(super) fn set(
        &mut self,
        pair: u32,
        score: Option<Score>,
        order: &impl Fn(u32, u32) -> Ordering,
    ) {
        let index = pair as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, ABSENT);
            self.scores.resize(index + 1, Score { count: 0, product: 1 });
        }
        let place = self.places[index];
        match (score, place) {
            (None, ABSENT) => {}
            (None, place) => {
                let place = place as usize;
                self.heap.swap_remove(place);
                self.places[index] = ABSENT;
                if let Some(&moved) = self.heap.get(place) {
                    self.places[moved as usize] = place as u32;
                    self.settle(place, order);
                }
            }
            (Some(score), ABSENT) => {
                self.scores[index] = score;
                self.places[index] = self.heap.len() as u32;
                self.heap.push(pair);
                self.settle(self.heap.len() - 1, order);
            }
            (Some(score), place) => {
                if self.scores[index] != score {
                    self.scores[index] = score;
                    self.settle(place as usize, order);
                }
            }
        }
    }

    /// Moves the pair at `place` up or down to where it belongs.
    fn settle(&mut self, mut place: usize, order: &impl Fn(u32, u32) -> Ordering) {
        while place > 0 && self.is_better(place, (place - 1) / 2, order) {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        loop {
            let mut child = 2 * place + 1;
            if child >= self.heap.len() {
                return;
            }
            if child + 1 < self.heap.len() && self.is_better(child + 1, child, order) {
                child += 1;
            }
            if !self.is_better(child, place, order) {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }

    fn is_better(&self, a: usize, b: usize, order: &impl Fn(u32, u32) -> Ordering) -> bool {
        let (a, b) = (self.heap[a], self.heap[b]);
        let scores = self.scores[a as usize].compare(&self.scores[b as usize]);
        scores.then_with(|| order(b, a)) == Ordering::Greater
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.places[self.heap[a] as usize] = a as u32;
        self.places[self.heap[b] as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn score(count: u64, product: u128) -> Score {
        Score { count, product }
    }

    #[test]
    fn fractions_are_compared_exactly() {
        let max = u128::from(u64::MAX);
        // They differ in the 127th binary place, where a double sees them as equal.
        let a = score(u64::MAX, max * max);
        let b = score(u64::MAX - 1, max * (max - 1));
        assert_eq!(a.compare(&b), Ordering::Equal);
        let c = score(u64::MAX - 1, max * (max - 1) - 1);
        assert_eq!(a.compare(&c), Ordering::Less);
        assert_eq!(c.compare(&a), Ordering::Greater);
        assert_eq!(score(1, 3).compare(&score(2, 6)), Ordering::Equal);
        assert_eq!(score(1, 3).compare(&score(2, 5)), Ordering::Less);
    }

    proptest! {
        #[test]
        fn products_are_those_of_long_multiplication(a: u128, b: u64) {
            // By 32 bits at a time, as at school.
            let mut digits = [0u64; 6];
            for i in 0..4 {
                let mut carry = 0;
                for j in 0..2 {
                    let (x, y) = ((a >> (32 * i)) as u32, (b >> (32 * j)) as u32);
                    let sum = u64::from(x) * u64::from(y) + digits[i + j] + carry;
                    digits[i + j] = sum & 0xFFFF_FFFF;
                    carry = sum >> 32;
                }
                digits[i + 2] += carry;
            }
            let high = digits[2..].iter().rev().fold(0u128, |n, &d| (n << 32) | u128::from(d));
            prop_assert_eq!(times(a, b), (high, digits[0] | (digits[1] << 32)));
        }

        #[test]
        fn the_best_is_that_of_a_search(
            steps in proptest::collection::vec((0..20u32, 0..6u64, 1..4u128), 1..200),
        ) {
            let mut queue = Queue::default();
            let mut plain = [None; 20];
            // Any total order: here, even pairs come before odd ones.
            let order = |a: u32, b: u32| (a % 2, a).cmp(&(b % 2, b));
            for (pair, count, product) in steps {
                let score = (count > 0).then_some(score(count, product));
                queue.set(pair, score, &order);
                plain[pair as usize] = score;
                let mut best: Option<(u32, Score)> = None;
                for (pair, score) in (0..).zip(plain) {
                    let Some(score) = score else { continue };
                    if best.is_none_or(|(other, highest)| {
                        score.compare(&highest).then_with(|| order(other, pair)).is_gt()
                    }) {
                        best = Some((pair, score));
                    }
                }
                prop_assert_eq!(queue.best(), best.map(|(pair, _)| pair));
            }
        }
    }
}
