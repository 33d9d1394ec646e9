//! Multi-head attention.

use std::ops::Range;

use ferrite_kernels::{Arithmetic, Mask, Matrix, Segments, reference};

use super::Linear;

/// Concat(head_1 ... head_h) W_O + b_O, with head_i = softmax(Q_i K_iᵀ / √d_k) V_i, the queries from
/// x, keys and values from a memory: x itself, or another layer's output.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiHeadAttention {
    /// W_Q and b_Q, of all heads.
    pub query: Linear,
    /// W_K and b_K, of all heads.
    pub key: Linear,
    /// W_V and b_V, of all heads.
    pub value: Linear,
    /// W_O and b_O.
    pub output: Linear,
    /// h.
    pub heads: usize,
    /// Which keys a query sees.
    pub mask: Mask,
}

impl MultiHeadAttention {
    /// y, (n, d_model), for x (n, d_model) with its sequences and a memory (m, d_model) with as
    /// many.
    pub fn forward(
        &self,
        x: &Matrix<f64>,
        sequences: &Segments,
        memory: &Matrix<f64>,
        memories: &Segments,
    ) -> Matrix<f64> {
        self.forward_dropped(x, sequences, memory, memories, |_, _, _| 1.0)
    }

    /// The same, where each weight is multiplied by a factor (its query's row in x, its head, its
    /// key's place in the sequence).
    pub fn forward_dropped(
        &self,
        x: &Matrix<f64>,
        sequences: &Segments,
        memory: &Matrix<f64>,
        memories: &Segments,
        factor: impl Fn(usize, usize, usize) -> f64,
    ) -> Matrix<f64> {
        let value = self.value.forward(memory);
        let maps = self.maps(x, sequences, memory, memories);
        let mut context = Matrix::zeros(x.rows(), value.cols());
        for (map, (queries, keys)) in maps.iter().zip(sequences.iter().zip(memories.iter())) {
            for head in 0..self.heads {
                for (i, query) in queries.clone().enumerate() {
                    let weights = map.row(head * queries.len() + i);
                    for col in self.columns(head) {
                        let terms =
                            keys.clone().zip(weights).enumerate().map(|(place, (key, weight))| {
                                weight * factor(query, head, place) * value.row(key)[col]
                            });
                        context.row_mut(query)[col] = terms.sum();
                    }
                }
            }
        }
        self.output.forward(&context)
    }

    /// For each sequence the weights softmax(Q_i K_iᵀ / √d_k) of all heads, one below the other: a
    /// matrix of shape (h * queries, keys).
    pub fn maps(
        &self,
        x: &Matrix<f64>,
        sequences: &Segments,
        memory: &Matrix<f64>,
        memories: &Segments,
    ) -> Vec<Matrix<f64>> {
        let (query, key) = (self.query.forward(x), self.key.forward(memory));
        let mut maps = Vec::new();
        for (queries, keys) in sequences.iter().zip(memories.iter()) {
            let mut map = Matrix::zeros(self.heads * queries.len(), keys.len());
            for head in 0..self.heads {
                let columns = self.columns(head);
                let scale = 1.0 / (columns.len() as f64).sqrt();
                let q = part(&query, queries.clone(), columns.clone());
                let k = part(&key, keys.clone(), columns);
                // What the weights make of the unit vectors are the weights.
                let unit = |i, j| if i == j { 1.0 } else { 0.0 };
                let v = Matrix::from_fn(keys.len(), keys.len(), unit);
                let weights = reference::attention(&q, &k, &v, scale, self.mask == Mask::Causal);
                for i in 0..queries.len() {
                    map.row_mut(head * queries.len() + i).copy_from_slice(weights.row(i));
                }
            }
            maps.push(map);
        }
        maps
    }

    /// The columns of a head.
    fn columns(&self, head: usize) -> Range<usize> {
        let d_k = self.query.weight.rows() / self.heads;
        head * d_k..(head + 1) * d_k
    }

    /// The self-attention layer with these parameters.
    pub fn to_self_attention(&self, arithmetic: impl Into<Arithmetic>) -> crate::SelfAttention {
        let arithmetic = arithmetic.into();
        crate::SelfAttention {
            qkv: Linear::side_by_side(arithmetic, &[&self.query, &self.key, &self.value]),
            output: self.output.to_layer(arithmetic),
            heads: self.heads,
            mask: self.mask,
        }
    }

    /// The cross-attention layer with these parameters, which has no mask.
    ///
    /// # Panics
    /// If there is one.
    pub fn to_cross_attention(&self, arithmetic: impl Into<Arithmetic>) -> crate::CrossAttention {
        let arithmetic = arithmetic.into();
        assert_eq!(self.mask, Mask::Full, "the mask of cross-attention");
        crate::CrossAttention {
            q: self.query.to_layer(arithmetic),
            kv: Linear::side_by_side(arithmetic, &[&self.key, &self.value]),
            output: self.output.to_layer(arithmetic),
            heads: self.heads,
        }
    }
}

/// A copy of some rows and columns.
fn part(x: &Matrix<f64>, rows: Range<usize>, cols: Range<usize>) -> Matrix<f64> {
    Matrix::from_fn(rows.len(), cols.len(), |i, j| x.row(rows.start + i)[cols.start + j])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two heads of one column each, worked out by hand: the first looks at keys 0 and ln 3, so it
    /// weighs them 1 : 3 for a query of 1; the second has keys 0 and takes the mean.
    #[test]
    fn two_heads_by_hand() {
        let linear = |weight: [f64; 4], bias: [f64; 2]| Linear {
            weight: Matrix::from_slice(2, 2, &weight),
            bias: bias.to_vec(),
        };
        let attention = MultiHeadAttention {
            query: linear([0.0; 4], [1.0, 5.0]),
            key: linear([3f64.ln(), 0.0, 0.0, 0.0], [0.0; 2]),
            value: linear([8.0, 0.0, 0.0, 2.0], [0.0, 1.0]),
            output: linear([0.0, 1.0, 1.0, 0.0], [0.0, 0.5]),
            heads: 2,
            mask: Mask::Full,
        };
        let x = Matrix::from_slice(2, 2, &[0.0, 3.0, 1.0, 5.0]);
        let one = Segments::from_lengths([2]);
        let maps = attention.maps(&x, &one, &x, &one);
        for (weight, expected) in
            maps[0].as_slice().iter().zip([0.25, 0.75, 0.25, 0.75, 0.5, 0.5, 0.5, 0.5])
        {
            assert!((weight - expected).abs() < 1e-15, "{maps:?}");
        }
        // Values of the heads 0, 8 and 7, 11: contexts 6 and 9, swapped by the output.
        let y = attention.forward(&x, &one, &x, &one);
        for (y, expected) in y.as_slice().iter().zip([9.0, 6.5, 9.0, 6.5]) {
            assert!((y - expected).abs() < 1e-14, "{y}");
        }
    }
}
