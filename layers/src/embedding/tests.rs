use ferrite_kernels::testing::{Random, Tolerance, U, for_each_level};
use ferrite_kernels::{Activations, Level, Matrix, Segments};
use proptest::prelude::*;

use super::{BertEmbeddings, TransformerEmbeddings};
use crate::reference;
use crate::testing::{Bounded, assert_same_bits, random};

/// Rows of the tables of tokens, segments and positions.
const ROWS: (usize, usize, usize) = (40, 3, 90);

fn bert(random: &mut Random, d_model: usize) -> reference::BertEmbeddings {
    let (token, segment, position) = ROWS;
    let mut table = |rows| random::matrix(random, rows, d_model, 1.0);
    let (token, segment, position) = (table(token), table(segment), table(position));
    let norm = random::layer_norm(random, d_model, 1e-12);
    reference::BertEmbeddings { token, segment, position, norm }
}

fn transformer(random: &mut Random, d_model: usize) -> reference::TransformerEmbeddings {
    let token = random::matrix(random, ROWS.0, d_model, 1.0);
    // As the layer has them: rounded to f32.
    let position = crate::sinusoidal(ROWS.2, d_model, crate::SinusoidLayout::Interleaved);
    let position = ferrite_kernels::reference::widen_matrix(position.view());
    reference::TransformerEmbeddings { token, position, scale: (d_model as f64).sqrt() }
}

/// Tokens of packed sequences.
struct Tokens {
    ids: Vec<u32>,
    types: Vec<u32>,
    sequences: Segments,
}

impl Tokens {
    fn new(random: &mut Random, lengths: &[usize]) -> Tokens {
        let sequences = Segments::from_lengths(lengths.iter().copied());
        let mut below = |end| (0..sequences.total()).map(|_| random.below(end) as u32).collect();
        Tokens { ids: below(ROWS.0), types: below(ROWS.1), sequences }
    }

    /// These sequences alone, in this order.
    fn select(&self, batch: &[usize]) -> Tokens {
        let ranges = || batch.iter().map(|&i| self.sequences.range(i));
        Tokens {
            ids: ranges().flat_map(|rows| self.ids[rows].to_vec()).collect(),
            types: ranges().flat_map(|rows| self.types[rows].to_vec()).collect(),
            sequences: Segments::from_lengths(ranges().map(|rows| rows.len())),
        }
    }
}

fn run_bert(layer: &BertEmbeddings, tokens: &Tokens) -> Matrix<f32> {
    let nan = Matrix::from_fn(tokens.ids.len(), layer.d_model(), |_, _| f32::NAN);
    let mut x = Activations::from_rows(layer.level, nan.view());
    layer.forward(&tokens.ids, &tokens.types, &tokens.sequences, &mut x);
    x.into_values()
}

fn run_transformer(layer: &TransformerEmbeddings, tokens: &Tokens) -> Matrix<f32> {
    let mut x = Matrix::from_fn(tokens.ids.len(), layer.d_model(), |_, _| f32::NAN);
    layer.forward(&tokens.ids, &tokens.sequences, x.view_mut());
    x
}

/// A step reads a token at a place: the row that a pass over its sequence gives.
#[test]
fn tokens_at_their_places_are_those_of_their_sequence() {
    let random = &mut Random::new(6);
    let layer = transformer(random, 24).to_layer(Level::current());
    let tokens = Tokens::new(random, &[3, 5]);
    let expected = run_transformer(&layer, &tokens);
    let mut x = Matrix::zeros(3, 24);
    let (ids, places) = ([5, 0, 7].map(|row| tokens.ids[row]), [2, 0, 4]);
    layer.forward_at(&ids, &places, x.view_mut());
    for (row, of) in [5, 0, 7].into_iter().enumerate() {
        assert_eq!(x.row(row), expected.row(of));
    }
}

#[test]
#[should_panic(expected = "places of the tokens")]
fn another_number_of_places_is_refused() {
    let layer = transformer(&mut Random::new(7), 4).to_layer(Level::current());
    layer.forward_at(&[1, 2], &[0], Matrix::zeros(2, 4).view_mut());
}

/// BERT: two roundings of sums of three terms below one each, so within 6 u before
/// the norm. Transformer: the rounded √d_model, the product and the sum, 3 u (√d_model + 1).
fn check(level: Level, tolerance: &mut Tolerance, d_model: usize, lengths: &[usize], seed: u64) {
    let mut random = Random::new(seed);
    let tokens = Tokens::new(&mut random, lengths);
    let Tokens { ids, types, sequences } = &tokens;
    let shape = (ids.len(), d_model);
    let about = format!("{level} {shape:?}");

    let reference = bert(&mut random, d_model);
    let bound = |limit: f64| Matrix::from_fn(shape.0, shape.1, |_, _| limit);
    let sums = Bounded { exact: reference.sum(ids, types, sequences), error: bound(6.0 * U) };
    let exact = sums.layer_norm(&reference.norm);
    assert_eq!(exact.exact, reference.forward(ids, types, sequences));
    let layer = reference.to_layer(level);
    exact.check(tolerance, &run_bert(&layer, &tokens), &about);

    let reference = transformer(&mut random, d_model);
    let limit = 3.0 * U * ((d_model as f64).sqrt() + 1.0);
    let exact = Bounded { exact: reference.forward(ids, sequences), error: bound(limit) };
    let layer = reference.to_layer(level);
    exact.check(tolerance, &run_transformer(&layer, &tokens), &about);
}

#[test]
fn fixed_shapes_are_within_their_bounds() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("embeddings {level}"));
        for d_model in [0, 1, 2, 7, 16, 33, 384] {
            for lengths in [&[][..], &[0], &[1], &[3, 0, 5], &[0, 0], &[90, 1, 2]] {
                check(level, &mut tolerance, d_model, lengths, 1);
            }
        }
        tolerance.finish();
    });
}

#[test]
fn bits_depend_on_the_sequence_alone() {
    for_each_level(|level| {
        let mut random = Random::new(2);
        let tokens = Tokens::new(&mut random, &[90, 0, 1, 88, 17, 90, 90, 60]);
        let count = tokens.sequences.len();
        let bert = bert(&mut random, 770).to_layer(level);
        let transformer = transformer(&mut random, 770).to_layer(level);
        assert_same_bits(count, |batch| {
            let tokens = tokens.select(batch);
            (run_bert(&bert, &tokens), tokens.sequences)
        });
        assert_same_bits(count, |batch| {
            let tokens = tokens.select(batch);
            (run_transformer(&transformer, &tokens), tokens.sequences)
        });
    });
}

/// A batch whose ids, types or length do not fit.
fn refused(change: impl Fn(&mut Tokens)) {
    let mut random = Random::new(3);
    let mut tokens = Tokens::new(&mut random, &[2, 3]);
    change(&mut tokens);
    run_bert(&bert(&mut random, 4).to_layer(Level::current()), &tokens);
}

#[test]
#[should_panic(expected = "token id 40 of token 3 is not below 40")]
fn an_id_beyond_the_table_is_refused() {
    refused(|tokens| tokens.ids[3] = 40);
}

#[test]
#[should_panic(expected = "segment id 9 of token 0 is not below 3")]
fn a_type_beyond_the_table_is_refused() {
    refused(|tokens| tokens.types[0] = 9);
}

#[test]
#[should_panic(expected = "position id 90 of token 90 is not below 90")]
fn a_place_beyond_the_table_is_refused() {
    refused(|tokens| *tokens = Tokens::new(&mut Random::new(4), &[91]));
}

#[test]
#[should_panic(expected = "elements of the types and of the ids")]
fn too_many_types_are_refused() {
    refused(|tokens| tokens.types.push(0));
}

#[test]
#[should_panic(expected = "token ids and the length of their sequences")]
fn sequences_of_another_length_are_refused() {
    refused(|tokens| tokens.sequences.push(1));
}

#[test]
#[should_panic(expected = "shape of the embedded tokens")]
fn fewer_rows_than_tokens_are_refused() {
    let layer = transformer(&mut Random::new(5), 4).to_layer(Level::current());
    layer.forward(&[1, 2], &Segments::from_lengths([2]), Matrix::zeros(1, 4).view_mut());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_shapes_are_within_their_bounds(
        d_model in 0usize..130, lengths in prop::collection::vec(0usize..20, 0..6), seed: u64,
    ) {
        for level in Level::available() {
            let mut tolerance = Tolerance::new("embeddings");
            check(level, &mut tolerance, d_model, &lengths, seed);
            tolerance.finish();
        }
    }
}
