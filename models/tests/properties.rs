//! BERTs of random sizes with random weights: the numbers of a naive BERT in f64, the same bits in
//! every batch, and errors, not panics, for whatever a batch may hold.

mod naive;

use std::path::{Path, PathBuf};

use ferrite_kernels::testing::{Random, Tolerance, U, for_each_arithmetic, for_each_level};
use ferrite_layers::testing::{Bounded, assert_same_bits, in_pool};
use ferrite_models::Error;
use ferrite_models::bert::{Batch, Bert, BertConfig, Part, Workspace};
use ferrite_models::kernels::{Arithmetic, Level, Mat, Matrix, Precision, Segments};
use naive::NaiveBert;
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

/// The sizes of a model.
#[derive(Clone, Debug)]
struct Sizes {
    heads: usize,
    head_size: usize,
    layers: usize,
    intermediate: usize,
    activation: &'static str,
    vocabulary: usize,
    positions: usize,
    types: usize,
    tied: bool,
    /// Of rows of two or three numbers the standard deviation is often a thousandth of the mean,
    /// and the rounding of the mean shows: those get an epsilon that keeps the divisor above 0.3.
    epsilon: f32,
}

impl Sizes {
    fn json(&self) -> String {
        format!(
            r#"{{"model_type": "bert", "hidden_size": {}, "num_attention_heads": {},
                "num_hidden_layers": {}, "intermediate_size": {}, "hidden_act": "{}",
                "vocab_size": {}, "max_position_embeddings": {}, "type_vocab_size": {},
                "tie_word_embeddings": {}, "layer_norm_eps": {:e}}}"#,
            self.heads * self.head_size,
            self.heads,
            self.layers,
            self.intermediate,
            self.activation,
            self.vocabulary,
            self.positions,
            self.types,
            self.tied,
            self.epsilon,
        )
    }

    /// A folder with these sizes and random weights for all parts: matrices of variance 1 / inputs,
    /// as trained ones are about, gains around one.
    fn write(&self, seed: u64) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), self.json()).unwrap();
        let config = BertConfig::from_json_str(&self.json()).unwrap();
        let mut random = Random::new(seed);
        let mut tensors = Vec::new();
        for wanted in Part::ALL.iter().flat_map(|&part| config.tensors(part)) {
            let (mean, width) = match wanted.shape[..] {
                _ if wanted.name.ends_with("LayerNorm.weight") => (1.0, 0.5),
                [_, inputs] if !wanted.name.starts_with("embeddings.") => {
                    (0.0, (3.0 / inputs as f32).sqrt())
                }
                _ => (0.0, 0.5),
            };
            let elements = wanted.shape.iter().product();
            let values = random.vector(elements, mean - width, mean + width);
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            tensors.push((wanted.name, wanted.shape, bytes));
        }
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        });
        let path = folder.path().join("model.safetensors");
        safetensors::serialize_to_file(views, None, &path).unwrap();
        folder
    }

    /// Sequences of these lengths, of random tokens.
    fn batch(&self, lengths: &[usize], seed: u64) -> Batch {
        let mut random = Random::new(seed);
        let mut batch = Batch::default();
        for &length in lengths {
            let ids: Vec<_> = (0..length).map(|_| random.below(self.vocabulary) as u32).collect();
            let types: Vec<_> = (0..length).map(|_| random.below(self.types) as u8).collect();
            batch.push(&ids, Some(&types));
        }
        batch
    }
}

/// Large enough that five threads share its products, its attention and its batches.
const SHARED: Sizes = Sizes {
    heads: 4,
    head_size: 16,
    layers: 2,
    intermediate: 200,
    activation: "gelu",
    vocabulary: 50,
    positions: 300,
    types: 2,
    tied: true,
    epsilon: 1e-12,
};

/// Some of the sequences of a batch.
fn select(batch: &Batch, sequences: &[usize]) -> Batch {
    let mut selected = Batch::default();
    for &sequence in sequences {
        let tokens = batch.sequences().range(sequence);
        let types: Vec<_> = batch.type_ids()[tokens.clone()].iter().map(|&id| id as u8).collect();
        selected.push(&batch.ids()[tokens], Some(&types));
    }
    selected
}

fn copy(x: Mat<'_>) -> Matrix<f32> {
    Matrix::from_fn(x.rows(), x.cols(), |row, col| x.row(row)[col])
}

fn encode(bert: &Bert, batch: &Batch) -> Matrix<f32> {
    copy(bert.encode(batch, &mut Workspace::default()).unwrap())
}

/// Everything that a BERT gives, by name: hidden states, maps, and what the heads make of them.
fn outputs(bert: &Bert, batch: &Batch) -> Vec<(String, Matrix<f32>)> {
    let trace = bert.trace(batch, true).unwrap();
    let last = encode(bert, batch);
    assert_eq!(Some(&last), trace.hidden_states.last());
    let pooled = bert.pool(batch, last.view()).unwrap();
    let sentences = bert.next_sentence().unwrap().forward(pooled.view());
    let words = bert.masked_lm().unwrap().forward(last.view());
    let maps = trace.attentions.into_iter().flatten();
    named(trace.hidden_states, maps, [pooled, sentences, words])
}

/// The same of the naive BERT.
fn naive_outputs(bert: &NaiveBert, batch: &Batch) -> Vec<(String, Matrix<f64>)> {
    let trace = bert.trace(batch);
    let last = trace.hidden_states.last().unwrap();
    let pooled = bert.pool(batch, last).unwrap();
    let sentences = bert.next_sentence.as_ref().unwrap().forward(&pooled);
    let words = bert.words(last).unwrap();
    let maps = trace.attentions.into_iter().flatten();
    named(trace.hidden_states, maps, [pooled, sentences, words])
}

fn named<T>(
    hidden_states: Vec<T>,
    maps: impl Iterator<Item = T>,
    heads: [T; 3],
) -> Vec<(String, T)> {
    let hidden = hidden_states.into_iter().enumerate();
    let hidden = hidden.map(|(layer, x)| (format!("hidden state {layer}"), x));
    let maps = maps.enumerate().map(|(index, x)| (format!("map {index}"), x));
    let heads =
        ["pooled", "next sentence", "masked words"].map(str::to_owned).into_iter().zip(heads);
    hidden.chain(maps).chain(heads).collect()
}

/// All outputs of the naive BERT, with the largest error allowed.
///
/// Each must be within 1e-5 of its largest element, or of one if all are smaller. One rounding errs
/// by 6e-8. A sub-layer adds products of up to some hundred terms, whose roundings partly cancel: a
/// few 1e-7. LayerNorm passes on what it gets, divided by the standard deviation of a row, about
/// one, so that errors add up from layer to layer and do not multiply: some 1e-6 after three, in
/// PyTorch's f32 as well. What is wrong, a scale, a mask, a head in another's place, is off by 1e-2
/// and more.
///
/// In narrow models the numbers of a row often nearly agree, and the small divisor makes large
/// errors of small ones, whoever computes. The naive BERT says by how much: with every weight
/// changed by one rounding of f32, up or down, its results move. 50 times as much, for the many
/// roundings on the way, is allowed as well.
fn expected(folder: &Path, batch: &Batch) -> Vec<(String, Bounded)> {
    let mut random = Random::new(1);
    let mut round = |x: f64| if random.below(2) == 0 { x * (1.0 + U) } else { x * (1.0 - U) };
    let moved: Vec<_> = (0..8)
        .map(|_| naive_outputs(&NaiveBert::load_changed(folder, &mut round), batch))
        .collect();
    let limited = |(index, (name, exact)): (usize, (String, Matrix<f64>))| {
        let (mut scale, mut moves): (f64, f64) = (1.0, 0.0);
        for (element, x) in exact.as_slice().iter().enumerate() {
            scale = scale.max(x.abs());
            for moved in &moved {
                moves = moves.max((moved[index].1.as_slice()[element] - x).abs());
            }
        }
        let limit = 1e-5 * scale + 50.0 * moves;
        let error = Matrix::from_fn(exact.rows(), exact.cols(), |_, _| limit);
        (name, Bounded { exact, error })
    };
    naive_outputs(&NaiveBert::load(folder), batch).into_iter().enumerate().map(limited).collect()
}

/// Compares all outputs with what is expected.
fn check(
    level: Level,
    folder: &Path,
    batch: &Batch,
    expected: &[(String, Bounded)],
    tolerance: &mut Tolerance,
) {
    let actual = outputs(&Bert::from_pretrained_at(level, folder).unwrap(), batch);
    assert_eq!(actual.len(), expected.len());
    for ((name, actual), (_, expected)) in actual.iter().zip(expected) {
        expected.check(tolerance, actual, &format!("{level} {name}"));
    }
}

/// Before anything is measured by the naive BERT, it is measured itself: by what PyTorch computes
/// in f64 (see `oracle/README.md`). Both have all digits, so they agree in nearly all.
#[test]
fn the_naive_bert_is_that_of_pytorch() {
    for name in ["a-pretraining", "b-base"] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name);
        let naive = NaiveBert::load(&folder);
        let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let eights = |name: &str| -> Vec<[u8; 8]> {
            let data = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).data();
            data.chunks_exact(8).map(|bytes| bytes.try_into().unwrap()).collect()
        };
        let numbers = |name: &str| eights(name).into_iter().map(f64::from_le_bytes);
        let ids = |name: &str| eights(name).into_iter().map(i64::from_le_bytes);
        let mut worst: f64 = 0.0;
        let mut compare = |actual: &[f64], expected: &str| {
            let expected: Vec<f64> = numbers(expected).collect();
            assert_eq!(actual.len(), expected.len());
            let errors = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            worst = errors.fold(worst, f64::max);
        };
        for n in 0..11 {
            let mut batch = Batch::default();
            let tokens: Vec<u32> = ids(&format!("ids.{n}")).map(|id| id as u32).collect();
            let types: Vec<u8> = ids(&format!("type_ids.{n}")).map(|id| id as u8).collect();
            batch.push(&tokens, Some(&types));
            let trace = naive.trace(&batch);
            for (layer, hidden) in trace.hidden_states.iter().enumerate() {
                compare(hidden.as_slice(), &format!("hidden.{layer}.{n}"));
            }
            for (layer, maps) in trace.attentions.iter().enumerate().filter(|_| tokens.len() == 17)
            {
                compare(maps[0].as_slice(), &format!("attentions.{layer}.{n}"));
            }
            let last = trace.hidden_states.last().unwrap();
            let pooled = naive.pool(&batch, last).unwrap();
            compare(pooled.as_slice(), &format!("pooler.{n}"));
            if let (Some(words), Some(head)) = (naive.words(last), &naive.next_sentence) {
                compare(words.as_slice(), &format!("mlm.{n}"));
                compare(head.forward(&pooled).as_slice(), &format!("nsp.{n}"));
            }
        }
        println!("{name}: off by {worst:e} at worst");
        assert!(worst < 1e-12, "{name}: {worst:e}");
    }
}

#[test]
fn a_model_that_threads_share_is_the_naive_one() {
    let folder = SHARED.write(1);
    let batch = SHARED.batch(&[129, 0, 1, 64, 30], 2);
    let expected = expected(folder.path(), &batch);
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("shared {level}"));
        in_pool(3, || check(level, folder.path(), &batch, &expected, &mut tolerance));
        tolerance.finish();
    });
}

/// Permuted, split and merged batches on 1, 2, 3 and 5 threads; and on each the last hidden state
/// of `trace`, and the maps.
#[test]
fn bits_depend_on_the_sequence_alone() {
    let folder = SHARED.write(3);
    let batch = SHARED.batch(&[128, 1, 0, 300, 65, 40, 200, 17, 129], 4);
    for_each_arithmetic(|arithmetic| {
        let bert = Bert::from_pretrained_at(arithmetic, folder.path()).unwrap();
        assert_same_bits(batch.len(), |sequences| {
            let batch = select(&batch, sequences);
            (encode(&bert, &batch), batch.sequences().clone())
        });
        assert_same_bits(batch.len(), |sequences| {
            let batch = select(&batch, sequences);
            let last = bert.trace(&batch, false).unwrap().hidden_states.pop().unwrap();
            assert!(last == encode(&bert, &batch), "{arithmetic}: trace and encode differ");
            let pooled = bert.pool(&batch, last.view()).unwrap();
            (pooled, Segments::from_lengths(batch.sequences().iter().map(|_| 1)))
        });
    });
}

#[test]
fn maps_and_words_depend_on_the_sequence_alone() {
    let folder = SHARED.write(5);
    let batch = SHARED.batch(&[30, 1, 0, 65], 6);
    for_each_arithmetic(|arithmetic| {
        let bert = Bert::from_pretrained_at(arithmetic, folder.path()).unwrap();
        assert_same_bits(batch.len(), |sequences| {
            let batch = select(&batch, sequences);
            let maps = bert.trace(&batch, true).unwrap().attentions.swap_remove(1);
            let weights: Vec<f32> = maps.iter().flat_map(|map| map.as_slice().to_vec()).collect();
            let lengths = maps.iter().map(|map| map.as_slice().len());
            (Matrix::from_slice(weights.len(), 1, &weights), Segments::from_lengths(lengths))
        });
        assert_same_bits(batch.len(), |sequences| {
            let batch = select(&batch, sequences);
            let words = bert.masked_lm().unwrap().forward(encode(&bert, &batch).view());
            (words, batch.sequences().clone())
        });
    });
}

/// Integers are summed exactly, so that it is of no matter which instruction sums them, as long as
/// the lanes of all else are the same. (Levels above these may have other instructions for more than
/// the products of integers.)
#[test]
fn int8_has_the_same_bits_with_and_without_its_own_instruction() {
    let folder = SHARED.write(9);
    let batch = SHARED.batch(&[129, 0, 1, 64, 30], 10);
    let at = |name: &str| Level::available().into_iter().find(|level| level.name() == name);
    let Some((without, with)) = at("avx512").zip(at("avx512vnni")) else {
        println!("this machine has no vpdpbusd");
        return;
    };
    let outputs = |level| {
        let arithmetic = Arithmetic::new(level, Precision::Int8);
        outputs(&Bert::from_pretrained_at(arithmetic, folder.path()).unwrap(), &batch)
    };
    assert_eq!(outputs(without), outputs(with));
}

/// Whatever a workspace was used for before, a bad batch and other precisions included.
#[test]
fn a_used_workspace_leaves_no_trace() {
    let folder = SHARED.write(7);
    let berts = Precision::ALL.map(|precision| {
        let arithmetic = Arithmetic::new(Level::current(), precision);
        Bert::from_pretrained_at(arithmetic, folder.path()).unwrap()
    });
    let mut workspace = Workspace::default();
    let bad = SHARED.batch(&[301], 8);
    for (round, lengths) in
        [&[300, 20, 150][..], &[1], &[], &[0, 7, 0], &[40; 25], &[2, 300]].into_iter().enumerate()
    {
        let batch = SHARED.batch(lengths, round as u64);
        for (threads, bert) in [1, 5, 2].into_iter().flat_map(|n| berts.iter().map(move |b| (n, b)))
        {
            let used = in_pool(threads, || copy(bert.encode(&batch, &mut workspace).unwrap()));
            assert_eq!(used, encode(bert, &batch), "{} {lengths:?}", bert.arithmetic());
            assert!(bert.encode(&bad, &mut workspace).is_err());
        }
    }
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let sizes = (1usize..5, 1usize..20, 1usize..4, 1usize..70);
    let tables = (1usize..60, 1usize..40, 1usize..4);
    let switches = (prop::sample::select(vec!["gelu", "gelu_new", "relu", "tanh"]), any::<bool>());
    (sizes, tables, switches, prop::sample::select(vec![1e-12f32, 1e-5])).prop_map(
        |(sizes, (vocabulary, positions, types), (activation, tied), epsilon)| {
            let (heads, head_size, layers, intermediate) = sizes;
            let epsilon = if heads * head_size < 4 { 0.1 } else { epsilon };
            Sizes {
                heads,
                head_size,
                layers,
                intermediate,
                activation,
                vocabulary,
                positions,
                types,
                tied,
                epsilon,
            }
        },
    )
}

/// Lengths as fractions of the model's positions.
fn lengths(sizes: &Sizes, fractions: &[f64]) -> Vec<usize> {
    fractions.iter().map(|f| (f * (sizes.positions + 1) as f64) as usize).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 50, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn random_models_are_the_naive_ones(
        sizes in sizes(), fractions in prop::collection::vec(0f64..1.0, 0..5), seed: u64,
    ) {
        let folder = sizes.write(seed);
        let batch = sizes.batch(&lengths(&sizes, &fractions), !seed);
        let expected = expected(folder.path(), &batch);
        for level in Level::available() {
            let mut tolerance = Tolerance::new("bert");
            check(level, folder.path(), &batch, &expected, &mut tolerance);
            tolerance.finish();
        }
    }

    #[test]
    fn a_bad_batch_is_an_error_that_names_the_place(
        sizes in sizes(), fractions in prop::collection::vec(0f64..1.0, 1..5), seed: u64,
        beyond in prop::sample::select(vec![0u32, 1, 1000, u32::MAX / 2]),
    ) {
        let folder = sizes.write(seed);
        let bert = Bert::from_pretrained(folder.path()).unwrap();
        let lengths = lengths(&sizes, &fractions);
        let batch = sizes.batch(&lengths, seed);
        let mut random = Random::new(seed);
        let place = random.below(lengths.len());
        let refused = |ids: &[u32], types: &[u8]| {
            let mut bad = select(&batch, &(0..place).collect::<Vec<_>>());
            bad.push(ids, Some(types));
            (place + 1..batch.len()).for_each(|sequence| {
                bad.push(&batch.ids()[batch.sequences().range(sequence)], None);
            });
            let error = bert.encode(&bad, &mut Workspace::default()).unwrap_err();
            let traced = bert.trace(&bad, true).unwrap_err();
            assert_eq!(error.to_string(), traced.to_string());
            error
        };

        let too_long = sizes.positions + 1 + random.below(3);
        let error = refused(&vec![0; too_long], &vec![0; too_long]);
        let is_right = matches!(error, Error::TooLong { sequence, tokens, limit }
            if (sequence, tokens, limit) == (place, too_long, sizes.positions));
        prop_assert!(is_right, "{error}");

        let position = random.below(sizes.positions);
        let mut ids = vec![0; sizes.positions];
        let bad_id = sizes.vocabulary as u32 + beyond;
        ids[position] = bad_id;
        let error = refused(&ids, &vec![0; ids.len()]);
        let found = (place, position, bad_id, sizes.vocabulary);
        let is_right = matches!(
            error, Error::IdOutOfRange { table: "token", sequence, position, id, rows }
            if (sequence, position, id, rows) == found
        );
        prop_assert!(is_right, "{error}");
        let names_the_place = error.to_string().starts_with(&format!("sequence {place}, position"));
        prop_assert!(names_the_place, "{error}");

        let mut types = vec![0; sizes.positions];
        let bad_type = sizes.types as u8 + (beyond % 200) as u8;
        types[position] = bad_type;
        let error = refused(&vec![0; types.len()], &types);
        let found = (place, position, u32::from(bad_type), sizes.types);
        let is_right = matches!(
            error, Error::IdOutOfRange { table: "segment", sequence, position, id, rows }
            if (sequence, position, id, rows) == found
        );
        prop_assert!(is_right, "{error}");
    }
}
