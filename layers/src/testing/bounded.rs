//! Running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, section 3.3):
//! how far a computation in f32 may be from the exact one, element by element.

use std::ops::Range;

use ferrite_kernels::reference::{matmul, transpose};
use ferrite_kernels::testing::{Tolerance, U, ulp};
use ferrite_kernels::{Activation, Matrix, Segments};

use crate::reference::{FeedForward, LayerNorm, Linear, MultiHeadAttention, activate, sum};

/// What a reference computes, exactly, and the largest error that f32 kernels may make on the way
/// there: the bounds that the kernels state, and what each makes of the errors of its operands.
///
/// Nothing here is estimated or measured: an f32 result outside of it breaks a kernel's promise.
#[derive(Clone, Debug)]
pub struct Bounded {
    /// The reference's result.
    pub exact: Matrix<f64>,
    /// The bound of each element's error.
    pub error: Matrix<f64>,
}

impl Bounded {
    /// Numbers that f32 holds exactly.
    pub fn input(x: &Matrix<f64>) -> Bounded {
        Bounded { exact: x.clone(), error: Matrix::zeros(x.rows(), x.cols()) }
    }

    /// [`Linear`]: products of k terms and a bias err by γ_(k+1) (Σ|x w| + |b|), and an error of x
    /// arrives weighed by |w|.
    pub fn linear(&self, layer: &Linear) -> Bounded {
        let weight = absolute(&transpose(&layer.weight));
        let operands = sum(&absolute(&self.exact), &self.error);
        let (terms, passed) = (matmul(&operands, &weight), matmul(&self.error, &weight));
        let gamma = gamma(layer.weight.cols() + 1);
        let error = Matrix::from_fn(terms.rows(), terms.cols(), |row, col| {
            gamma * (terms.row(row)[col] + layer.bias[col].abs()) + passed.row(row)[col]
        });
        Bounded { exact: layer.forward(&self.exact), error }
    }

    /// [`activate`]: the error of x times the largest slope, and the function's own bound.
    pub fn activated(&self, f: Activation) -> Bounded {
        let exact = self.map(|x, _| activate(f, x));
        let error = self.map(|x, error| {
            let slope = if matches!(f, Activation::Relu | Activation::Tanh) { 1.0 } else { 1.13 };
            let largest = activate(f, x).abs() + slope * error;
            let own = match f {
                Activation::Relu => 0.0,
                Activation::Tanh => 3.0 * ulp(largest),
                _ => (4.0 * ulp(largest)).max(1e-7),
            };
            slope * error + own
        });
        Bounded { exact, error }
    }

    /// [`FeedForward`].
    pub fn feed_forward(&self, layer: &FeedForward) -> Bounded {
        let hidden = self.linear(&layer.inner).activated(layer.activation);
        hidden.linear(&layer.outer)
    }

    /// The sum of two: one rounding.
    pub fn plus(&self, other: &Bounded) -> Bounded {
        let exact = sum(&self.exact, &other.exact);
        let error = sum(&self.error, &other.error);
        let error = Matrix::from_fn(exact.rows(), exact.cols(), |row, col| {
            (1.0 + U) * error.row(row)[col] + U * exact.row(row)[col].abs()
        });
        Bounded { exact, error }
    }

    /// [`LayerNorm`]. Errors δ of a row move its mean by at most mean(δ) and its standard deviation
    /// by at most rms(δ); the kernel adds 16 u (1 + |mean| / sd) times the size of the row's result.
    pub fn layer_norm(&self, layer: &LayerNorm) -> Bounded {
        let exact = layer.forward(&self.exact);
        let mut error = Matrix::zeros(exact.rows(), exact.cols());
        let largest = |x: &[f64]| x.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        for row in 0..exact.rows() {
            let (x, delta) = (self.exact.row(row), self.error.row(row));
            let n = x.len() as f64;
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
            let sd = (variance + layer.epsilon).sqrt();
            let mean_delta = delta.iter().sum::<f64>() / n;
            let rms_delta = (delta.iter().map(|d| d * d).sum::<f64>() / n).sqrt();
            let least_sd = (sd - rms_delta).max(0.0);
            let z: Vec<f64> = x.iter().map(|x| (x - mean).abs() / sd).collect();
            // The size of the result, whatever the errors of x have made of it.
            let passed = |i: usize| (delta[i] + mean_delta + z[i] * rms_delta) / least_sd;
            let largest_z = (0..x.len()).map(|i| z[i] + passed(i)).fold(0.0, f64::max);
            let size = (largest(&layer.gamma) * largest_z).max(largest(&layer.beta)).max(1.0);
            let own = 16.0 * U * (1.0 + (mean.abs() + mean_delta) / least_sd) * size;
            for i in 0..x.len() {
                error.row_mut(row)[i] = layer.gamma[i].abs() * passed(i) + own;
            }
        }
        Bounded { exact, error }
    }

    /// [`MultiHeadAttention`] of x, and the memory: see [`Bounded::maps`] for the weights; the
    /// context is a product with one term a key.
    pub fn attention(
        &self,
        sequences: &Segments,
        memory: &Bounded,
        memories: &Segments,
        layer: &MultiHeadAttention,
    ) -> Bounded {
        let maps = self.maps(sequences, memory, memories, layer);
        let value = memory.linear(&layer.value);
        let mut context = Bounded::input(&Matrix::zeros(self.exact.rows(), value.exact.cols()));
        let ranges = sequences.iter().zip(memories.iter());
        for (map, (queries, keys)) in maps.iter().zip(ranges) {
            let gamma = gamma(keys.len());
            for head in 0..layer.heads {
                for (i, query) in queries.clone().enumerate() {
                    let (weights, delta) = map.row(head * queries.len() + i);
                    for col in head_columns(layer, head) {
                        let (mut exact, mut error) = (0.0, 0.0);
                        for (j, key) in keys.clone().enumerate() {
                            let (v, dv) = (value.exact.row(key)[col], value.error.row(key)[col]);
                            let largest = (weights[j] + delta[j]) * (v.abs() + dv);
                            exact += weights[j] * v;
                            error += largest - weights[j] * v.abs() + gamma * largest;
                        }
                        context.exact.row_mut(query)[col] = exact;
                        context.error.row_mut(query)[col] = error;
                    }
                }
            }
        }
        context.linear(&layer.output)
    }

    /// The weights of each sequence, all heads one below the other. Scores that are off by at most
    /// ε move a weight by a factor of at most e^(2ε); softmax adds 4 ULP and 1e-7.
    pub fn maps(
        &self,
        sequences: &Segments,
        memory: &Bounded,
        memories: &Segments,
        layer: &MultiHeadAttention,
    ) -> Vec<Bounded> {
        let (query, key) = (self.linear(&layer.query), memory.linear(&layer.key));
        let exact = layer.maps(&self.exact, sequences, &memory.exact, memories);
        let ranges = sequences.iter().zip(memories.iter());
        let bounded = exact.into_iter().zip(ranges).map(|(exact, (queries, keys))| {
            let mut error = Matrix::zeros(exact.rows(), exact.cols());
            for head in 0..layer.heads {
                let columns = head_columns(layer, head);
                for (i, q) in queries.clone().enumerate() {
                    let row = head * queries.len() + i;
                    let of_key = |k| score_error(&query, q, &key, k, columns.clone());
                    let worst = keys.clone().map(of_key).fold(0.0, f64::max);
                    for (error, &weight) in error.row_mut(row).iter_mut().zip(exact.row(row)) {
                        let moved = weight * (2.0 * worst).exp_m1();
                        *error = moved + 4.0 * ulp(weight + moved) + 1e-7;
                    }
                }
            }
            Bounded { exact, error }
        });
        bounded.collect()
    }

    /// Checks an f32 result, and adds what it finds to `tolerance`.
    ///
    /// # Panics
    /// If the shapes differ.
    #[track_caller]
    pub fn check(&self, tolerance: &mut Tolerance, actual: &Matrix<f32>, about: &str) {
        assert_eq!(actual.shape(), self.exact.shape(), "{about}");
        for row in 0..actual.rows() {
            for col in 0..actual.cols() {
                let (exact, limit) = (self.exact.row(row)[col], self.error.row(row)[col]);
                assert!(!limit.is_nan(), "{about}: no bound at ({row}, {col})");
                let case = || format!("{about} at ({row}, {col})");
                tolerance.check(actual.row(row)[col], exact, limit, case);
            }
        }
    }

    /// A row: the exact numbers, and the bounds of their errors.
    fn row(&self, row: usize) -> (&[f64], &[f64]) {
        (self.exact.row(row), self.error.row(row))
    }

    fn map(&self, f: impl Fn(f64, f64) -> f64) -> Matrix<f64> {
        Matrix::from_fn(self.exact.rows(), self.exact.cols(), |row, col| {
            f(self.exact.row(row)[col], self.error.row(row)[col])
        })
    }
}

/// k u / (1 - k u): k roundings after each other, u = 2^-24.
fn gamma(k: usize) -> f64 {
    let ku = k as f64 * U;
    ku / (1.0 - ku)
}

fn absolute(x: &Matrix<f64>) -> Matrix<f64> {
    Matrix::from_fn(x.rows(), x.cols(), |row, col| x.row(row)[col].abs())
}

fn head_columns(layer: &MultiHeadAttention, head: usize) -> Range<usize> {
    let d_k = layer.query.weight.rows() / layer.heads;
    head * d_k..(head + 1) * d_k
}

/// The error of one score q k / √d_k: γ of its terms and of the two roundings of k / √d_k, and the
/// errors of q and k, each weighed by the other.
fn score_error(q: &Bounded, query: usize, k: &Bounded, key: usize, columns: Range<usize>) -> f64 {
    let gamma = gamma(columns.len() + 2);
    let scale = 1.0 / (columns.len() as f64).sqrt();
    let ((q, dq), (k, dk)) = (q.row(query), k.row(key));
    let error = columns.map(|col| {
        let largest = (q[col].abs() + dq[col]) * (k[col].abs() + dk[col]);
        largest - (q[col] * k[col]).abs() + gamma * largest
    });
    scale * error.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use ferrite_kernels::testing::Random;

    use super::*;
    use crate::testing::random;

    /// Bounds that allow everything would let every test pass. Where every rounding went the worst
    /// way, attention would still have three digits at the size of a small model.
    #[test]
    fn bounds_are_narrow() {
        let mut random = Random::new(1);
        let x = Bounded::input(&random::matrix(&mut random, 20, 64, 1.0));
        let one = Segments::from_lengths([20]);
        let attention = random::attention(&mut random, 4, 16, ferrite_kernels::Mask::Full);
        let feed_forward = random::feed_forward(&mut random, 64, 256, Activation::Gelu);
        let norm = random::layer_norm(&mut random, 64, 1e-12);
        for (name, y) in [
            ("attention", x.attention(&one, &x, &one, &attention)),
            ("feed-forward", x.feed_forward(&feed_forward)),
            ("norm", x.layer_norm(&norm)),
        ] {
            let widest = y.error.as_slice().iter().copied().fold(0.0, f64::max);
            println!("{name}: {widest:e}");
            assert!(widest < 2e-3, "{name}: {widest:e}");
            let off = Matrix::from_fn(20, 64, |row, col| (y.exact.row(row)[col] + 2e-3) as f32);
            let check = || {
                let mut tolerance = Tolerance::new("must fail");
                y.check(&mut tolerance, &off, name);
                tolerance.finish()
            };
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err());
        }
    }
}
