//! Attention, to itself and to a memory, with dropout of its weights and without.

use ferrite_kernels::testing::Random;
use ferrite_kernels::{Arithmetic, Dropout, Mask, Matrix, Segments};

use super::{
    DROPOUT, Found, LinearSums, Numbers, check, factors, for_each_trained, numbers, trainable,
    weigh,
};
use crate::reference::{self, narrow, narrow_matrix};
use crate::testing::random;
use crate::{
    AttentionBackwardScratch, AttentionCache, AttentionGradients, CrossAttention,
    CrossAttentionCache, CrossAttentionGradients, InputGradient, Linear, LinearScratch,
    SelfAttention,
};

/// The layers of one product, weights first, then biases, as they lie side by side.
fn side_by_side<const N: usize>(numbers: &mut Numbers<'_>, d: usize) -> [reference::Linear; N] {
    let weights = [(); N].map(|()| numbers.matrix(d, d));
    let biases = [(); N].map(|()| numbers.vector(d));
    std::array::from_fn(|i| reference::Linear {
        weight: weights[i].clone(),
        bias: biases[i].clone(),
    })
}

fn trainable_side_by_side(arithmetic: Arithmetic, parts: &[&reference::Linear]) -> Linear {
    let d = parts[0].weight.rows();
    let stacked = Matrix::from_fn(parts.len() * d, d, |row, col| {
        parts[row / d].weight.row(row % d)[col] as f32
    });
    let bias: Vec<f32> = parts.iter().flat_map(|part| narrow(&part.bias)).collect();
    Linear::trainable(arithmetic, stacked.view(), &bias)
}

/// What dropout multiplies the weights of n queries by: one row of it for each query and head.
fn factor(
    dropout: Option<Dropout>,
    n: usize,
    heads: usize,
    keys: usize,
) -> impl Fn(usize, usize, usize) -> f64 {
    let factors = factors(dropout, n * heads, keys);
    move |query, head, key| f64::from(factors.row(query * heads + head)[key])
}

#[test]
fn self_attention() {
    for_each_trained(|arithmetic, limit| {
        for (mask, dropout) in
            [Mask::Full, Mask::Causal].into_iter().flat_map(|m| [(m, None), (m, Some(DROPOUT))])
        {
            let (heads, d_model, lengths) = (2, 6, [4, 1, 0, 3]);
            let sequences = Segments::from_lengths(lengths);
            let n = sequences.total();
            let at = numbers(n * d_model + 4 * (d_model * d_model + d_model), 8);
            let d = random::matrix(&mut Random::new(9), n, d_model, 1.0);
            let read = |at: &[f64]| {
                let mut numbers = Numbers(at);
                let x = numbers.matrix(n, d_model);
                let [query, key, value] = side_by_side(&mut numbers, d_model);
                let output = numbers.linear(d_model, d_model);
                (x, reference::MultiHeadAttention { query, key, value, output, heads, mask })
            };
            let (x, of) = read(&at);
            let (x, d32) = (narrow_matrix(&x), narrow_matrix(&d));
            let layer = SelfAttention {
                qkv: trainable_side_by_side(arithmetic, &[&of.query, &of.key, &of.value]),
                output: trainable(arithmetic, &of.output),
                heads,
                mask,
            };
            let (mut y, mut cache) = (Matrix::zeros(n, d_model), AttentionCache::default());
            layer.forward_dropped(x.view(), &sequences, dropout, &mut cache, y.view_mut());
            let mut sums = (LinearSums::new(&layer.qkv), LinearSums::new(&layer.output));
            let gradients =
                AttentionGradients { qkv: sums.0.gradients(), output: sums.1.gradients() };
            let mut dx = Matrix::from_fn(n, d_model, |_, _| f32::NAN);
            let mut scratch = (AttentionBackwardScratch::default(), LinearScratch::default());
            let set = InputGradient::Set(dx.view_mut());
            let parts = (&mut scratch.0, &mut scratch.1);
            let (x, d32) = (x.view(), d32.view());
            layer.backward(x, &sequences, dropout, &cache, d32, set, gradients, parts);
            let mut found = Found::default();
            found.add(dx.as_slice());
            sums.0.add_to(&mut found);
            sums.1.add_to(&mut found);
            let factor = factor(dropout, n, heads, 4);
            let loss = |at: &[f64]| {
                let (x, of) = read(at);
                weigh(&of.forward_dropped(&x, &sequences, &x, &sequences, &factor), &d)
            };
            check(&format!("{mask:?} {arithmetic}"), &at, loss, &found, limit);
        }
    });
}

#[test]
fn cross_attention() {
    for_each_trained(|arithmetic, limit| {
        for dropout in [None, Some(DROPOUT)] {
            // A query without keys among them, keys without a query, and nothing at all.
            let (heads, d_model) = (2, 6);
            let sequences = Segments::from_lengths([4, 1, 0, 3, 0]);
            let memories = Segments::from_lengths([2, 0, 1, 5, 0]);
            let (n, m) = (sequences.total(), memories.total());
            let at = numbers((n + m) * d_model + 4 * (d_model * d_model + d_model), 15);
            let d = random::matrix(&mut Random::new(16), n, d_model, 1.0);
            let read = |at: &[f64]| {
                let mut numbers = Numbers(at);
                let (x, memory) = (numbers.matrix(n, d_model), numbers.matrix(m, d_model));
                let query = numbers.linear(d_model, d_model);
                let [key, value] = side_by_side(&mut numbers, d_model);
                let output = numbers.linear(d_model, d_model);
                let mask = Mask::Full;
                let of = reference::MultiHeadAttention { query, key, value, output, heads, mask };
                (x, memory, of)
            };
            let (x, memory, of) = read(&at);
            let (x, memory, d32) = (narrow_matrix(&x), narrow_matrix(&memory), narrow_matrix(&d));
            let layer = CrossAttention {
                q: trainable(arithmetic, &of.query),
                kv: trainable_side_by_side(arithmetic, &[&of.key, &of.value]),
                output: trainable(arithmetic, &of.output),
                heads,
            };
            let (mut y, mut cache) = (Matrix::zeros(n, d_model), CrossAttentionCache::default());
            let mut kv = Matrix::default();
            layer.keys_and_values(memory.view(), &mut kv);
            let (out, kv_view) = (y.view_mut(), kv.view());
            let x_view = x.view();
            layer.forward_dropped(x_view, &sequences, kv_view, &memories, dropout, &mut cache, out);
            let mut sums = [&layer.q, &layer.kv, &layer.output].map(LinearSums::new);
            let [q, kv_sums, output] = sums.each_mut().map(LinearSums::gradients);
            let gradients = CrossAttentionGradients { q, kv: kv_sums, output };
            let mut dx = Matrix::from_fn(n, d_model, |_, _| f32::NAN);
            // Added to what is there.
            let mut d_memory = Matrix::from_fn(m, d_model, |_, _| 1.0);
            let mut scratch = (AttentionBackwardScratch::default(), LinearScratch::default());
            layer.backward(
                (x.view(), &sequences),
                (memory.view(), kv.view(), &memories),
                dropout,
                &cache,
                d32.view(),
                (InputGradient::Set(dx.view_mut()), InputGradient::Add(d_memory.view_mut())),
                gradients,
                (&mut scratch.0, &mut scratch.1),
            );
            let mut found = Found::default();
            found.add(dx.as_slice());
            found.add(&d_memory.as_slice().iter().map(|x| x - 1.0).collect::<Vec<_>>());
            sums.iter().for_each(|sum| sum.add_to(&mut found));
            let factor = factor(dropout, n, heads, 5);
            let loss = |at: &[f64]| {
                let (x, memory, of) = read(at);
                let y = of.forward_dropped(&x, &sequences, &memory, &memories, &factor);
                weigh(&y, &d)
            };
            check(&format!("cross-attention {arithmetic}"), &at, loss, &found, limit);
        }
    });
}
