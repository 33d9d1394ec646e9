//! The backward pass of every layer against central differences of its f64 reference.
//!
//! The loss is the sum of the outputs, each times a number d: so d is the gradient of the outputs.
//! A layer's input and parameters are one list of numbers; moving one of them moves the loss.

mod attention;

use ferrite_kernels::testing::{Random, for_each_arithmetic};
use ferrite_kernels::{
    Activation, Activations, Arithmetic, Dropout, Level, Matrix, Precision, Segments,
};

use crate::reference::{self, narrow, narrow_matrix};
use crate::testing::random;
use crate::{
    BertEmbeddingsGradients, FeedForwardCache, FeedForwardGradients, FeedForwardScratch,
    FeedForwardTape, InputGradient, LayerNormGradients, Linear, LinearGradients, LinearScratch,
};

/// Half of all numbers fall, so that what is forgotten is seen.
const DROPOUT: Dropout = Dropout { rate: 0.5, seed: 1, step: 2, place: 3 };

/// What dropout multiplies (rows, cols) numbers by.
fn factors(dropout: Option<Dropout>, rows: usize, cols: usize) -> Matrix<f32> {
    let mut factors = Matrix::from_fn(rows, cols, |_, _| 1.0);
    if let Some(dropout) = dropout {
        dropout.apply(Level::current(), factors.view_mut());
    }
    factors
}

/// Hands out a list of numbers piece by piece.
struct Numbers<'a>(&'a [f64]);

impl Numbers<'_> {
    fn vector(&mut self, len: usize) -> Vec<f64> {
        let (front, back) = self.0.split_at(len);
        self.0 = back;
        front.to_vec()
    }

    fn matrix(&mut self, rows: usize, cols: usize) -> Matrix<f64> {
        Matrix::from_slice(rows, cols, &self.vector(rows * cols))
    }

    fn linear(&mut self, d_in: usize, d_out: usize) -> reference::Linear {
        let weight = self.matrix(d_out, d_in);
        reference::Linear { weight, bias: self.vector(d_out) }
    }

    fn norm(&mut self, d_model: usize) -> reference::LayerNorm {
        let gamma = self.vector(d_model);
        reference::LayerNorm { gamma, beta: self.vector(d_model), epsilon: 1e-3 }
    }
}

/// The numbers of a gradient, in the same order.
#[derive(Default)]
struct Found(Vec<f32>);

impl Found {
    fn add(&mut self, part: &[f32]) {
        self.0.extend_from_slice(part);
    }
}

/// Some numbers that f32 has, so that a layer and its reference begin with the same.
fn numbers(len: usize, seed: u64) -> Vec<f64> {
    random::vector(&mut Random::new(seed), len, 1.0)
}

fn weigh(y: &Matrix<f64>, d: &Matrix<f64>) -> f64 {
    y.as_slice().iter().zip(d.as_slice()).map(|(y, d)| y * d).sum()
}

/// Compares a gradient with differences of the loss at `at`.
#[track_caller]
fn check(about: &str, at: &[f64], loss: impl Fn(&[f64]) -> f64, found: &Found, limit: f64) {
    assert_eq!(found.0.len(), at.len(), "{about}: numbers of the gradient");
    let mut moved = at.to_vec();
    let mut exact = Vec::with_capacity(at.len());
    for index in 0..at.len() {
        let mut value = |step: f64| {
            moved[index] = at[index] + step;
            let value = loss(&moved);
            moved[index] = at[index];
            value
        };
        exact.push((value(1e-5) - value(-1e-5)) / 2e-5);
    }
    let largest = exact.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
    for (index, (&found, exact)) in found.0.iter().zip(&exact).enumerate() {
        let error = (f64::from(found) - exact).abs();
        assert!(error <= limit * largest, "{about}: {index}: {found} for {exact}");
    }
}

/// Runs `test` with every arithmetic that is trained, and the error that it may have.
fn for_each_trained(mut test: impl FnMut(Arithmetic, f64)) {
    for_each_arithmetic(|arithmetic| match arithmetic.precision() {
        Precision::F32 => test(arithmetic, 2e-6),
        Precision::Bf16 => test(arithmetic, 0.03),
        _ => {}
    });
}

fn trainable(arithmetic: Arithmetic, of: &reference::Linear) -> Linear {
    Linear::trainable(arithmetic, narrow_matrix(&of.weight).view(), &narrow(&of.bias))
}

/// Gradients of a linear layer, which begin with ones: a backward pass adds to them.
struct LinearSums(Matrix<f32>, Vec<f32>);

impl LinearSums {
    fn new(layer: &Linear) -> LinearSums {
        let ones = Matrix::from_fn(layer.d_out(), layer.d_in(), |_, _| 1.0);
        LinearSums(ones, vec![1.0; layer.d_out()])
    }

    fn gradients(&mut self) -> LinearGradients<'_> {
        LinearGradients { weight: self.0.view_mut(), bias: &mut self.1 }
    }

    fn add_to(&self, found: &mut Found) {
        let less = |part: &[f32]| part.iter().map(|x| x - 1.0).collect::<Vec<_>>();
        found.add(&less(self.0.as_slice()));
        found.add(&less(&self.1));
    }
}

#[test]
fn linear() {
    for_each_trained(|arithmetic, limit| {
        for (n, d_in, d_out) in [(0, 3, 2), (1, 1, 1), (5, 7, 3), (40, 19, 33)] {
            let at = numbers(n * d_in + d_in * d_out + d_out, 1);
            let d = random::matrix(&mut Random::new(2), n, d_out, 1.0);
            let read = |at: &[f64]| {
                let mut numbers = Numbers(at);
                (numbers.matrix(n, d_in), numbers.linear(d_in, d_out))
            };
            let (x, of) = read(&at);
            let (x, d32) = (narrow_matrix(&x), narrow_matrix(&d));
            let layer = trainable(arithmetic, &of);
            let mut sums = LinearSums::new(&layer);
            let mut dx = Matrix::from_fn(n, d_in, |_, _| f32::NAN);
            let mut scratch = LinearScratch::default();
            let set = InputGradient::Set(dx.view_mut());
            layer.backward(x.view(), d32.view(), set, sums.gradients(), &mut scratch);
            let mut found = Found::default();
            found.add(dx.as_slice());
            sums.add_to(&mut found);
            let loss = |at: &[f64]| {
                let (x, of) = read(at);
                weigh(&of.forward(&x), &d)
            };
            check(&format!("linear {arithmetic} {n}"), &at, loss, &found, limit);

            // Added to what is there: the same, to rounding.
            let mut added = Matrix::from_fn(n, d_in, |_, _| 1.0);
            let add = InputGradient::Add(added.view_mut());
            layer.backward_input(d32.view(), add, &mut scratch);
            for (x, y) in added.as_slice().iter().zip(dx.as_slice()) {
                assert!((x - 1.0 - y).abs() < 1e-5, "{arithmetic} {x} {y}");
            }
        }
    });
}

/// The check itself: a gradient that is a little wrong must fail.
#[test]
#[should_panic(expected = "for")]
fn a_wrong_gradient_fails() {
    check("wrong", &[3.0, 2.0], |x| x[0] * x[1], &Found(vec![2.0, 3.001]), 1e-5);
}

#[test]
fn an_updated_layer_is_a_new_one() {
    for_each_trained(|arithmetic, _| {
        let mut random = Random::new(3);
        let (old, new) = (random::linear(&mut random, 20, 35), random::linear(&mut random, 20, 35));
        let mut layer = trainable(arithmetic, &old);
        layer.update(narrow_matrix(&new.weight).view(), &narrow(&new.bias));
        let expected = trainable(arithmetic, &new);
        let x = narrow_matrix(&random::matrix(&mut random, 9, 20, 1.0));
        let d = narrow_matrix(&random::matrix(&mut random, 9, 35, 1.0));
        let run = |layer: &Linear| {
            let (mut y, mut dx) = (Matrix::zeros(9, 35), Matrix::zeros(9, 20));
            layer.forward(x.view(), y.view_mut());
            let set = InputGradient::Set(dx.view_mut());
            layer.backward_input(d.view(), set, &mut LinearScratch::default());
            (y, dx)
        };
        assert_eq!(run(&layer), run(&expected), "{arithmetic}");
    });
}

#[test]
fn feed_forward() {
    for_each_trained(|arithmetic, limit| {
        let activations =
            [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Tanh];
        for (activation, dropout) in
            activations.into_iter().flat_map(|f| [(f, None), (f, Some(DROPOUT))])
        {
            let (n, d_model, d_ff) = (5, 4, 9);
            let at = numbers(n * d_model + 2 * d_model * d_ff + d_ff + d_model, 4);
            let d = random::matrix(&mut Random::new(5), n, d_model, 1.0);
            let read = |at: &[f64]| {
                let mut numbers = Numbers(at);
                let x = numbers.matrix(n, d_model);
                let inner = numbers.linear(d_model, d_ff);
                let outer = numbers.linear(d_ff, d_model);
                (x, reference::FeedForward { inner, outer, activation })
            };
            let (x, of) = read(&at);
            let (x, d32) = (narrow_matrix(&x), narrow_matrix(&d));
            let layer = crate::FeedForward {
                inner: trainable(arithmetic, &of.inner),
                outer: trainable(arithmetic, &of.outer),
                activation,
            };
            let (mut y, mut plain) = (Matrix::zeros(n, d_model), Matrix::zeros(n, d_model));
            let (mut tape, mut cache) = (FeedForwardTape::default(), FeedForwardCache::default());
            layer.forward_taped(x.view(), dropout, &mut cache, &mut tape, y.view_mut());
            layer.forward(x.view(), &mut cache, plain.view_mut());
            assert_eq!(y == plain, dropout.is_none(), "inference is training without dropout");
            let mut sums = (LinearSums::new(&layer.inner), LinearSums::new(&layer.outer));
            let gradients =
                FeedForwardGradients { inner: sums.0.gradients(), outer: sums.1.gradients() };
            let mut dx = Matrix::from_fn(n, d_model, |_, _| f32::NAN);
            let mut scratch = (FeedForwardScratch::default(), LinearScratch::default());
            let set = InputGradient::Set(dx.view_mut());
            let parts = (&mut scratch.0, &mut scratch.1);
            layer.backward(x.view(), dropout, &mut tape, d32.view(), set, gradients, parts);
            let mut found = Found::default();
            found.add(dx.as_slice());
            sums.0.add_to(&mut found);
            sums.1.add_to(&mut found);
            let factors = factors(dropout, n, d_ff);
            let factor = |row: usize, col: usize| f64::from(factors.row(row)[col]);
            let loss = |at: &[f64]| {
                let (x, of) = read(at);
                weigh(&of.forward_dropped(&x, factor), &d)
            };
            check(&format!("{activation:?} {arithmetic}"), &at, loss, &found, limit);
        }
    });
}

#[test]
fn layer_norm() {
    let level = Level::current();
    let (n, d_model) = (6, 7);
    let at = numbers(n * d_model + 2 * d_model, 6);
    let d = random::matrix(&mut Random::new(7), n, d_model, 1.0);
    let read = |at: &[f64]| {
        let mut numbers = Numbers(at);
        (numbers.matrix(n, d_model), numbers.norm(d_model))
    };
    let (x, of) = read(&at);
    let (x, layer) = (narrow_matrix(&x), of.to_layer(level));
    let mut y = Activations::default();
    y.resize(level, n, d_model);
    layer.forward_from(x.view(), &mut y);
    let mut plain = x.clone();
    layer.forward(plain.view_mut());
    assert_eq!(y.into_values(), plain);
    let mut sums = (vec![0.0; d_model], vec![0.0; d_model]);
    let mut dx = Matrix::from_fn(n, d_model, |_, _| f32::NAN);
    let gradients = LayerNormGradients { gamma: &mut sums.0, beta: &mut sums.1 };
    layer.backward(x.view(), narrow_matrix(&d).view(), dx.view_mut(), gradients);
    let mut found = Found::default();
    found.add(dx.as_slice());
    found.add(&sums.0);
    found.add(&sums.1);
    let loss = |at: &[f64]| {
        let (x, of) = read(at);
        weigh(&of.forward(&x), &d)
    };
    check("layer norm", &at, loss, &found, 2e-6);
}

#[test]
fn embeddings() {
    let level = Level::current();
    let (ids, types, d_model) = ([3, 1, 3, 0, 3], [0, 0, 1, 1, 0], 4);
    let sequences = Segments::from_lengths([3, 2]);
    let (words, segments, places) = (5, 2, 3);
    let at = numbers((words + places + segments) * d_model + 2 * d_model, 10);
    let d = random::matrix(&mut Random::new(11), ids.len(), d_model, 1.0);
    let read = |at: &[f64]| {
        let mut numbers = Numbers(at);
        let token = numbers.matrix(words, d_model);
        let position = numbers.matrix(places, d_model);
        let segment = numbers.matrix(segments, d_model);
        reference::BertEmbeddings { token, segment, position, norm: numbers.norm(d_model) }
    };
    let layer = read(&at).to_layer(level);
    let (mut sum, mut d_sum) = (Matrix::default(), Matrix::default());
    let mut x = Activations::default();
    x.resize(level, ids.len(), d_model);
    layer.forward_taped(&ids, &types, &sequences, &mut sum, &mut x);
    let zeros = |rows| Matrix::zeros(rows, d_model);
    let (mut token, mut position, mut segment) = (zeros(words), zeros(places), zeros(segments));
    let (mut gamma, mut beta) = (vec![0.0; d_model], vec![0.0; d_model]);
    let gradients = BertEmbeddingsGradients {
        token: token.view_mut(),
        segment: segment.view_mut(),
        position: position.view_mut(),
        norm: LayerNormGradients { gamma: &mut gamma, beta: &mut beta },
    };
    let d32 = narrow_matrix(&d);
    let kept = (sum.view(), &mut d_sum);
    layer.backward(&ids, &types, &sequences, kept, d32.view(), gradients);
    let mut found = Found::default();
    [token, position, segment].iter().for_each(|table| found.add(table.as_slice()));
    found.add(&gamma);
    found.add(&beta);
    let loss = |at: &[f64]| weigh(&read(at).forward(&ids, &types, &sequences), &d);
    check("embeddings", &at, loss, &found, 2e-6);
}

#[test]
fn transformer_embeddings() {
    let level = Level::current();
    let (ids, d_model, words) = ([3, 1, 3, 0, 3], 4, 5);
    let sequences = Segments::from_lengths([3, 2]);
    let at = numbers(words * d_model, 12);
    let d = random::matrix(&mut Random::new(13), ids.len(), d_model, 1.0);
    let position = Matrix::from_slice(3, d_model, &numbers(3 * d_model, 14));
    let read = |at: &[f64]| {
        let token = Numbers(at).matrix(words, d_model);
        reference::TransformerEmbeddings { token, position: position.clone(), scale: 2.5 }
    };
    let mut table = Matrix::from_fn(words, d_model, |_, _| 1.0);
    let mut dx = narrow_matrix(&d);
    read(&at).to_layer(level).backward(&ids, dx.view_mut(), table.view_mut());
    let found = Found(table.as_slice().iter().map(|x| x - 1.0).collect());
    let loss = |at: &[f64]| weigh(&read(at).forward(&ids, &sequences), &d);
    check("embeddings", &at, loss, &found, 2e-6);
}
