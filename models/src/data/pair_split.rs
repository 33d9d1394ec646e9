//! Which pairs are held out.

use super::encoded_pairs::EncodedPairs;
use super::error::DataError;
use super::fingerprint::Hasher;
use super::random::{Purpose, Random};

impl EncodedPairs {
    /// Decides for each source by itself whether its pairs are held out, with probability
    /// `held_out`: by a random number whose name is the seed and a hash of the source. So a source
    /// that there is twice is not trained on and held out, and what becomes of a pair does not depend
    /// on the others. Both parts, that for training first, are in the order of the pairs.
    ///
    /// # Errors
    /// If `held_out` is not between 0 and 1, or one of the two parts would have no pair.
    pub fn split(
        &self,
        held_out: f64,
        seed: u64,
    ) -> Result<(EncodedPairs, EncodedPairs), DataError> {
        if !(held_out > 0.0 && held_out < 1.0) {
            return Err(DataError::InvalidOption {
                option: "held_out",
                expected: "a fraction between 0 and 1",
                found: held_out.to_string(),
            });
        }
        let (mut training, mut held) = (EncodedPairs::default(), EncodedPairs::default());
        for number in 0..self.len() {
            let (source, target) = self.get(number);
            let mut hasher = Hasher::new();
            source.iter().for_each(|id| hasher.bytes(&id.to_le_bytes()));
            // Draw 0 is that of documents.
            let mut random = Random::new(seed, Purpose::HeldOut, 1, hasher.finish().0);
            let part = if random.chance(held_out) { &mut held } else { &mut training };
            part.push(source, target, self.line(number));
        }
        for (pairs, part) in [(&training, "for training"), (&held, "held out")] {
            if pairs.is_empty() {
                return Err(DataError::EmptyPairs { part, held_out, pairs: self.len() });
            }
        }
        Ok((training, held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of 1000 sources, each of which comes three times.
    fn pairs() -> EncodedPairs {
        let mut pairs = EncodedPairs::default();
        for number in 0..3000u32 {
            pairs.push(&[number % 1000, 7], &[number], u64::from(number) + 1);
        }
        pairs
    }

    fn all(pairs: &EncodedPairs) -> Vec<(u64, Vec<u32>, Vec<u32>)> {
        let one = |number| {
            let (source, target) = pairs.get(number);
            (pairs.line(number), source.to_vec(), target.to_vec())
        };
        (0..pairs.len()).map(one).collect()
    }

    #[test]
    fn every_pair_is_in_one_part_and_a_source_in_one_alone() {
        let pairs = pairs();
        let (training, held_out) = pairs.split(0.2, 5).unwrap();
        let mut both = [all(&training), all(&held_out)].concat();
        both.sort();
        assert_eq!(both, all(&pairs));
        assert!(all(&training).is_sorted() && all(&held_out).is_sorted());
        // Three deviations of a thousand choices.
        let part = held_out.len() as f64 / 3000.0;
        assert!((part - 0.2).abs() < 0.04, "{part}");
        let sources = |pairs: &EncodedPairs| -> std::collections::BTreeSet<Vec<u32>> {
            all(pairs).into_iter().map(|(_, source, _)| source).collect()
        };
        assert!(sources(&training).is_disjoint(&sources(&held_out)));
        assert_eq!(pairs.split(0.2, 5).unwrap(), (training, held_out.clone()));
        assert_ne!(pairs.split(0.2, 6).unwrap().1, held_out);
        // A larger part has all of a smaller one.
        let more = all(&pairs.split(0.4, 5).unwrap().1);
        assert!(all(&held_out).iter().all(|pair| more.contains(pair)));
    }

    #[test]
    fn a_part_without_a_pair_is_an_error() {
        let pairs = pairs();
        for held_out in [0.0, 1.0, -0.5, 2.0, f64::NAN] {
            let error = pairs.split(held_out, 1).unwrap_err();
            assert!(matches!(error, DataError::InvalidOption { .. }), "{error}");
        }
        for (held_out, left) in [(1e-9, "held out"), (1.0 - 1e-9, "for training")] {
            match pairs.split(held_out, 1).unwrap_err() {
                DataError::EmptyPairs { part, pairs: 3000, .. } => assert_eq!(part, left),
                error => panic!("{error}"),
            }
        }
        assert!(EncodedPairs::default().split(0.5, 1).is_err());
    }
}
