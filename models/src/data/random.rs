//! Random numbers that are the same on every machine and in every version.
//!
//! ChaCha8 (Bernstein 2008) is a counter under a key: a stream is a pure function of its name, so
//! that no generator has to be saved to continue a run. Integers are sampled here and not by the
//! crate `rand`, whose samplers may change from version to version.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What random numbers are for. Purposes share no numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Which documents are held out; one stream a document.
    HeldOut,
    /// The order of the documents.
    Order,
    /// Pairs of segments; one stream a shard.
    Instances,
    /// Masked words; one stream a shard.
    Masking,
    /// The parameters that a training begins with; one stream a tensor.
    Weights,
    /// Texts that are made up; one stream a text.
    Stories,
    /// The order of pairs of texts: stream 0 that of the pairs, then one a window for its batches.
    Pairs,
    /// Sentences and their translations that are made up.
    Phrases,
    /// The tokens of translations that are drawn: one draw a sentence, one stream a translation.
    Tokens,
}

impl Purpose {
    /// Its number in the key. Numbers are never given anew.
    fn number(self) -> u64 {
        match self {
            Purpose::HeldOut => 1,
            Purpose::Order => 2,
            Purpose::Instances => 3,
            Purpose::Masking => 4,
            Purpose::Weights => 5,
            Purpose::Stories => 6,
            Purpose::Pairs => 7,
            Purpose::Phrases => 9,
            Purpose::Tokens => 8,
        }
    }
}

/// A stream of random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream with this name. The key is `seed`, the purpose, `draw` and zero, each as eight
    /// little-endian bytes; `stream` is the nonce. All names have streams of their own.
    pub fn new(seed: u64, purpose: Purpose, draw: u64, stream: u64) -> Random {
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose.number(), draw]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(stream);
        Random(generator)
    }

    /// A number below `n`, each with the same probability: the upper half of a product of 32 bits
    /// and `n`, drawn again in the rare case that would favour some (Lemire 2019, "Fast Random
    /// Integer Generation in an Interval").
    ///
    /// # Panics
    /// If `n` is 0.
    #[track_caller]
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "no number is below 0");
        // 2^32 mod n lower halves are one too many.
        let surplus = n.wrapping_neg() % n;
        loop {
            let product = u64::from(self.0.next_u32()) * u64::from(n);
            if product as u32 >= surplus {
                return (product >> 32) as u32;
            }
        }
    }

    /// An index below `length`.
    ///
    /// # Panics
    /// If `length` is 0 or above 2^32 - 1.
    #[track_caller]
    pub fn index(&mut self, length: usize) -> usize {
        self.below(u32::try_from(length).expect("at most 2^32 - 1 to choose from")) as usize
    }

    /// A number from `low` to `high`, both included.
    ///
    /// # Panics
    /// If `low > high`, or they are 2^32 - 1 or more apart.
    #[track_caller]
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        assert!(low <= high, "from {low} to {high}");
        low + self.index(high - low + 1)
    }

    /// A multiple of 2^-53 from 0 up to and without 1.
    pub fn fraction(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with probability `p`: never for 0, always for 1.
    pub fn chance(&mut self, p: f64) -> bool {
        self.fraction() < p
    }

    /// Every order with the same probability (Fisher and Yates, from the end).
    ///
    /// # Panics
    /// If there are more than 2^32 - 1 items.
    #[track_caller]
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of a second ChaCha8, written from its paper. Another version of anything must
    /// give the same.
    #[test]
    fn streams_never_change() {
        let mut random = Random::new(1, Purpose::Order, 2, 3);
        let numbers: Vec<u32> = (0..8).map(|_| random.below(1000)).collect();
        let fraction = random.fraction();
        let mut items: Vec<u32> = (0..10).collect();
        random.shuffle(&mut items);
        assert_eq!(numbers, [329, 472, 602, 958, 549, 351, 314, 965]);
        assert_eq!(fraction.to_bits(), 0x3fde_392f_8827_f8e0);
        assert_eq!(items, [0, 8, 7, 6, 3, 5, 2, 9, 4, 1]);
    }

    /// ChaCha8 with the zero key, as the eSTREAM test vectors have it: the first eight bytes.
    #[test]
    fn the_generator_is_chacha8() {
        let mut generator = ChaCha8Rng::from_seed([0; 32]);
        let bytes = generator.next_u64().to_le_bytes();
        assert_eq!(bytes, [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6]);
    }

    #[test]
    fn every_name_has_a_stream_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..3 {
            for purpose in [Purpose::HeldOut, Purpose::Order, Purpose::Instances, Purpose::Masking]
            {
                for (draw, stream) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
                    let mut random = Random::new(seed, purpose, draw, stream);
                    assert!(seen.insert(random.fraction().to_bits()), "{seed} {purpose:?}");
                }
            }
        }
    }

    /// The chi-squared statistic of uniform numbers has mean `n - 1` and variance `2 (n - 1)`.
    fn assert_uniform(counts: &[u32]) {
        let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
        let squared: f64 =
            counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        let freedom = counts.len() as f64 - 1.0;
        assert!((squared - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(), "{squared}: {counts:?}");
    }

    #[test]
    fn numbers_and_orders_are_uniform() {
        let mut random = Random::new(5, Purpose::Order, 0, 0);
        for n in [2, 3, 7, 10, 64, 100] {
            let mut counts = vec![0; n];
            (0..20_000).for_each(|_| counts[random.index(n)] += 1);
            assert_uniform(&counts);
        }
        let mut orders = [0; 24];
        for _ in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            random.shuffle(&mut items);
            // The order's number: for each item how many later ones are smaller.
            let smaller = |at: usize| items[at..].iter().filter(|&&x| x < items[at]).count();
            orders[smaller(0) * 6 + smaller(1) * 2 + smaller(2)] += 1;
        }
        assert_uniform(&orders);
    }

    /// Of 3 * 2^30 numbers a biased sampler gives those of one residue twice as often.
    #[test]
    fn large_ranges_are_not_biased() {
        let mut random = Random::new(6, Purpose::Order, 0, 0);
        let mut counts = [0; 3];
        (0..30_000).for_each(|_| counts[(random.below(3 << 30) % 3) as usize] += 1);
        assert_uniform(&counts);
        assert!((0..1000).all(|_| random.below(u32::MAX) < u32::MAX));
    }

    #[test]
    fn chances_and_bounds() {
        let mut random = Random::new(7, Purpose::Order, 0, 0);
        assert!((0..1000).all(|_| !random.chance(0.0) && random.chance(1.0)));
        let hits = (0..100_000).filter(|_| random.chance(0.15)).count() as i64;
        // Five standard deviations of a binomial: 5 * sqrt(100,000 * 0.15 * 0.85).
        assert!((hits - 15_000).abs() < 565, "{hits}");
        let drawn: Vec<_> = (0..200).map(|_| random.between(2, 4)).collect();
        assert_eq!(drawn.iter().min().zip(drawn.iter().max()), Some((&2, &4)));
        assert_eq!(random.between(9, 9), 9);
    }
}
