//! What numbers to expect in the columns of x, from the parameters of a model alone.

use ferrite_kernels::{Activation, Level, Mat};

use crate::LayerNorm;

/// The mean and the variance of each column of x over all rows that a model may meet.
///
/// No data are needed: they are known of the rows of a table, and each layer makes those of its
/// output from those of its input, as if columns were independent. That is a rough estimate, but it
/// finds the few columns that are far larger than the others, which is what
/// [`LayerNorm::balance`] has to know.
#[derive(Clone, Debug)]
pub struct Moments {
    mean: Vec<f32>,
    variance: Vec<f32>,
}

/// Sums that the compiler may keep in registers side by side.
const LANES: usize = 8;

impl Moments {
    /// Those of the rows of a table, all equally likely; table: (n, d_model).
    pub fn of_rows(table: Mat<'_>) -> Moments {
        let rows = || (0..table.rows()).map(|row| table.row(row));
        let share = 1.0 / table.rows().max(1) as f32;
        let mut mean = vec![0.0; table.cols()];
        for row in rows() {
            mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x * share);
        }
        let mut variance = vec![0.0; table.cols()];
        for row in rows() {
            let pairs = row.iter().zip(&mean);
            let squares = pairs.map(|(x, mean)| (x - mean) * (x - mean) * share);
            variance.iter_mut().zip(squares).for_each(|(variance, square)| *variance += square);
        }
        Moments { mean, variance }
    }

    /// Those of the sum of two rows.
    ///
    /// # Panics
    /// If they have not the same number of columns.
    #[track_caller]
    pub fn plus(mut self, other: &Moments) -> Moments {
        assert_eq!(self.mean.len(), other.mean.len(), "columns of the summands");
        self.mean.iter_mut().zip(&other.mean).for_each(|(x, y)| *x += y);
        self.variance.iter_mut().zip(&other.variance).for_each(|(x, y)| *x += y);
        self
    }

    /// Those of `x Wᵀ + b`; weight: (d_out, columns of x), bias: d_out elements.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn linear(&self, weight: Mat<'_>, bias: &[f32]) -> Moments {
        assert_eq!(weight.cols(), self.mean.len(), "columns of a weight and of x");
        assert_eq!(weight.rows(), bias.len(), "outputs of a weight and of its bias");
        let output = |row: usize| {
            let (mut mean, mut variance) = ([0.0; LANES], [0.0; LANES]);
            let of_x = self.mean.chunks(LANES).zip(self.variance.chunks(LANES));
            for (w, (m, v)) in weight.row(row).chunks(LANES).zip(of_x) {
                for (lane, ((w, m), v)) in w.iter().zip(m).zip(v).enumerate() {
                    mean[lane] += w * m;
                    variance[lane] += w * w * v;
                }
            }
            (mean.iter().sum::<f32>() + bias[row], variance.iter().sum::<f32>())
        };
        let (mean, variance) = (0..weight.rows()).map(output).unzip();
        Moments { mean, variance }
    }

    /// Those of what an activation makes of normally distributed columns, by Gauss-Hermite
    /// quadrature with three points.
    pub fn activation(&self, activation: Activation) -> Moments {
        let level = *Level::available().first().expect("every machine has a level");
        let deviation = || self.variance.iter().map(|variance| variance.sqrt());
        let at = |point: f32| {
            let pairs = self.mean.iter().zip(deviation());
            let mut y: Vec<f32> = pairs.map(|(mean, deviation)| mean + point * deviation).collect();
            activation.apply(level, &mut y);
            y
        };
        let end = 3.0f32.sqrt();
        let points = [(at(-end), 1.0 / 6.0), (at(0.0), 2.0 / 3.0), (at(end), 1.0 / 6.0)];
        let average = |column: usize, of: &dyn Fn(f32) -> f32| -> f32 {
            points.iter().map(|(y, weight)| weight * of(y[column])).sum()
        };
        let column = |column: usize| {
            let mean = average(column, &|y| y);
            (mean, average(column, &|y| (y - mean) * (y - mean)))
        };
        let (mean, variance) = (0..self.mean.len()).map(column).unzip();
        Moments { mean, variance }
    }

    /// Those of LayerNorm(x), as if every row had the standard deviation that is to be expected.
    ///
    /// # Panics
    /// If x does not have d_model columns.
    #[track_caller]
    pub fn layer_norm(&self, norm: &LayerNorm) -> Moments {
        let (gamma, beta, epsilon) = norm.parameters();
        assert_eq!(self.mean.len(), gamma.len(), "columns that are normalised, and d_model");
        let n = gamma.len().max(1) as f32;
        let centre = self.mean.iter().sum::<f32>() / n;
        let squares = self.mean.iter().map(|mean| (mean - centre) * (mean - centre));
        let square = squares.zip(&self.variance).map(|(a, b)| a + b).sum::<f32>() / n;
        let inverse = 1.0 / (square + epsilon).sqrt();
        let columns = self.mean.iter().zip(&self.variance).zip(gamma.iter().zip(beta));
        let column = |((mean, variance), (gamma, beta)): ((&f32, &f32), (&f32, &f32))| {
            let factor = gamma * inverse;
            (factor * (mean - centre) + beta, factor * factor * variance)
        };
        let (mean, variance) = columns.map(column).unzip();
        Moments { mean, variance }
    }

    /// A magnitude that few numbers of each column exceed: three standard deviations from the mean.
    pub fn magnitudes(&self) -> Vec<f32> {
        let columns = self.mean.iter().zip(&self.variance);
        columns.map(|(mean, variance)| mean.abs() + 3.0 * variance.sqrt()).collect()
    }
}

#[cfg(test)]
mod tests {
    use ferrite_kernels::Matrix;

    use super::*;

    fn near(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a} for {b}");
        }
    }

    /// Rows of which every combination of columns is there, so that columns are independent, and
    /// what a layer makes of all of them.
    #[test]
    fn those_of_a_linear_layer_are_exact() {
        let n = 10;
        let x = Matrix::from_fn(
            1 << n,
            n,
            |row, col| {
                if row >> col & 1 == 1 { col as f32 } else { -0.5 }
            },
        );
        let w = Matrix::from_fn(3, n, |row, col| (row as f32 - 1.3) * (col as f32 - 4.2));
        let bias = [0.5, -2.0, 1.0];
        let y = Matrix::from_fn(1 << n, 3, |row, output| {
            let products = x.row(row).iter().zip(w.row(output)).map(|(x, w)| x * w);
            products.sum::<f32>() + bias[output]
        });
        let (found, exact) =
            (Moments::of_rows(x.view()).linear(w.view(), &bias), Moments::of_rows(y.view()));
        near(&found.mean, &exact.mean);
        near(&found.variance, &exact.variance);
        let magnitude = exact.mean[1].abs() + 3.0 * exact.variance[1].sqrt();
        near(&found.magnitudes()[1..2], &[magnitude]);
    }

    #[test]
    fn those_of_a_sum_of_tables_are_exact() {
        let table = |rows, by: f32| Matrix::from_fn(rows, 2, |r, c| by * (r * r + 3 * c) as f32);
        let (a, b) = (table(4, 0.5), table(3, -1.5));
        let sums = Matrix::from_fn(12, 2, |r, c| a.row(r / 3)[c] + b.row(r % 3)[c]);
        let found = Moments::of_rows(a.view()).plus(&Moments::of_rows(b.view()));
        let exact = Moments::of_rows(sums.view());
        near(&found.mean, &exact.mean);
        near(&found.variance, &exact.variance);
    }

    #[test]
    fn a_row_that_is_certain_is_normalised_as_it_is() {
        let x = Matrix::from_slice(1, 4, &[1.0, -2.0, 0.5, 30.0]);
        let level = Level::current();
        let (gamma, beta) = (vec![0.5, 1.0, -2.0, 0.1], vec![0.0, 1.0, 2.0, 3.0]);
        let norm = LayerNorm::new(level, gamma, beta, 1e-3);
        let found = Moments::of_rows(x.view()).layer_norm(&norm);
        let mut exact = x.clone();
        norm.forward(exact.view_mut());
        near(&found.mean, exact.as_slice());
        near(&found.variance, &[0.0; 4]);
        // Where nothing is certain it is the square to be expected that becomes one.
        let norm = LayerNorm::new(level, vec![1.0; 4], vec![0.0; 4], 0.0);
        let uncertain = Moments { mean: x.as_slice().to_vec(), variance: vec![1.0, 9.0, 0.1, 4.0] };
        let found = uncertain.layer_norm(&norm);
        let squares = found.mean.iter().zip(&found.variance).map(|(mean, var)| mean * mean + var);
        near(&[squares.sum::<f32>() / 4.0], &[1.0]);
    }

    #[test]
    fn those_of_an_activation_are_near() {
        let x = Moments { mean: vec![9.0, -9.0, 0.0], variance: vec![4.0, 4.0, 0.25] };
        let y = x.activation(Activation::Relu);
        near(&y.mean[..2], &[9.0, 0.0]);
        near(&y.variance[..2], &[4.0, 0.0]);
        // tanh is odd; E tanh²(x / 2) of normally distributed x is 0.1735.
        let y = x.activation(Activation::Tanh);
        assert!(y.mean[2].abs() < 1e-6 && (y.variance[2] - 0.1735).abs() < 0.02, "{y:?}");
    }
}
