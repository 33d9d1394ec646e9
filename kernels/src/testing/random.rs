//! Reproducible numbers.

/// SplitMix64 (Steele, Lea, Flood 2014): a counter and a mixing function, the same everywhere.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The generator with this seed.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A number in [`low`, `high`).
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.bits() >> 40) as f32 * 2f32.powi(-24);
        low + (high - low) * unit
    }

    /// `n` numbers in [`low`, `high`).
    pub fn vector(&mut self, n: usize, low: f32, high: f32) -> Vec<f32> {
        (0..n).map(|_| self.uniform(low, high)).collect()
    }

    /// `n` integers in [-`limit`, `limit`], whose sums and products are exact.
    pub fn integers(&mut self, n: usize, limit: usize) -> Vec<f32> {
        (0..n).map(|_| self.below(2 * limit + 1) as f32 - limit as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_range_and_vary() {
        let mut random = Random::new(1);
        let x = random.vector(1000, -2.0, 3.0);
        assert!(x.iter().all(|&x| (-2.0..3.0).contains(&x)));
        assert!(x.iter().any(|&x| x < -1.9) && x.iter().any(|&x| x > 2.9));
        let x = random.integers(1000, 4);
        assert!(x.contains(&-4.0) && x.contains(&4.0) && x.iter().all(|x| x.abs() <= 4.0));
    }
}
