//! What decoding promises about bits, limits, errors and attention; and that a model that has learnt
//! something says it.

mod decoding_common;

use decoding_common::{END, Kind, PAD, POSITIONS, START};
use ferrite_kernels::testing::{Random, all_arithmetics, same_on_any_threads};
use ferrite_models::Error;
use ferrite_models::kernels::{Activations, Level, Matrix};
use ferrite_models::train::{Trainer, TrainerOptions, initialize_transformer};
use ferrite_models::transformer::{
    Batch, DecodeOptions, DecodeWorkspace, DecoderBlock, Hypothesis, LengthPenalty, MaxLength,
    Memory, Search, Transformer, TransformerConfig, Workspace,
};

const KIND: Kind =
    Kind { pre_norm: false, tied: true, layers: 2, heads: 2, vocabulary: 30, seed: 5 };

fn searches() -> [DecodeOptions; 3] {
    let greedy = DecodeOptions::greedy();
    let beam = DecodeOptions { n_best: 3, ..DecodeOptions::default() };
    let sample = Search::Sample { temperature: 0.9, top_k: Some(12), top_p: 0.95, seed: 3 };
    [greedy, beam, DecodeOptions { search: sample, n_best: 2, ..greedy }].map(|options| {
        DecodeOptions { max_length: MaxLength { per_token: 1.5, plus: 6 }, ..options }
    })
}

fn translate(
    model: &Transformer,
    sources: &[Vec<u32>],
    options: &DecodeOptions,
) -> Vec<Vec<Hypothesis>> {
    model.translate(sources, options, &mut DecodeWorkspace::default()).unwrap()
}

/// Everything that a hypothesis is, to the last bit.
type Bits = (Vec<u32>, u64, u64, bool);

fn bits(found: &[Vec<Hypothesis>]) -> Vec<Vec<Bits>> {
    let of_one = |one: &Hypothesis| {
        let (score, sum) = (one.score.to_bits(), one.log_probability.to_bits());
        (one.tokens.clone(), score, sum, one.is_finished)
    };
    found.iter().map(|of_sentence| of_sentence.iter().map(of_one).collect()).collect()
}

#[test]
fn bits_depend_on_the_sentence_alone() {
    for arithmetic in all_arithmetics() {
        // Instructions that are emulated take long.
        let emulated = !ferrite_models::kernels::Arithmetic::available().contains(&arithmetic);
        let sources = KIND.sources(if emulated { 3 } else { 9 });
        for pre_norm in [false, true] {
            let model = Kind { pre_norm, ..KIND }.model(arithmetic);
            for options in searches() {
                let alone: Vec<_> = sources
                    .iter()
                    .flat_map(|source| {
                        bits(&translate(&model, std::slice::from_ref(source), &options))
                    })
                    .collect();
                for batch in [1, 7, 128] {
                    let together = translate(&model, &sources, &DecodeOptions { batch, ..options });
                    assert!(bits(&together) == alone, "{arithmetic} {options:?}");
                }
                let backwards: Vec<_> = sources.iter().rev().cloned().collect();
                let mut found = bits(&translate(&model, &backwards, &options));
                found.reverse();
                assert!(found == alone, "{arithmetic} {options:?}");
            }
        }
    }
}

/// As large as it takes for threads to share the work.
#[test]
fn bits_do_not_depend_on_threads() {
    let kind = Kind { heads: 8, vocabulary: 3000, ..KIND };
    let (model, sources) = (kind.model(Level::current()), kind.sources(60));
    for options in searches() {
        same_on_any_threads(|| bits(&translate(&model, &sources, &options)));
    }
}

#[test]
fn a_workspace_of_another_model_leaves_no_trace() {
    let mut workspace = DecodeWorkspace::default();
    for heads in [3, 1, 2] {
        for pre_norm in [true, false] {
            let kind = Kind { heads, pre_norm, layers: heads, ..KIND };
            let (model, sources) = (kind.model(Level::current()), kind.sources(2 + heads));
            for options in searches() {
                let found = model.translate(&sources, &options, &mut workspace).unwrap();
                assert_eq!(bits(&found), bits(&translate(&model, &sources, &options)));
            }
        }
    }
}

/// The log-probability of a hypothesis is the loss of the pair.
#[test]
fn a_hypothesis_costs_what_it_says() {
    let model = KIND.model(Level::current());
    let sources = KIND.sources(12);
    for options in searches() {
        for (source, found) in sources.iter().zip(translate(&model, &sources, &options)) {
            for one in found {
                let end = one.is_finished.then_some(END);
                let target: Vec<u32> = one.tokens.iter().copied().chain(end).collect();
                let mut batch = Batch::default();
                batch.push(source, &target, START);
                let loss = model.loss(&batch, 0.0, &mut Workspace::default()).unwrap().loss;
                assert!((loss + one.log_probability).abs() < 1e-4, "{loss} {one:?}");
            }
        }
    }
}

#[test]
fn lengths_and_excluded_tokens_are_kept() {
    let model = KIND.model(Level::current());
    let sources = KIND.sources(20);
    for options in searches() {
        for (least, most) in [(0, 1), (3, 8), (8, 8), (9, 4), (0, 1000)] {
            let options =
                DecodeOptions { min_length: least, max_length: MaxLength::fixed(most), ..options };
            for one in translate(&model, &sources, &options).iter().flatten() {
                assert!(one.tokens.iter().all(|&id| id != PAD && id != START && id != END));
                let (n, most) = (one.tokens.len(), most.min(POSITIONS));
                let length = n + usize::from(one.is_finished);
                assert!(length <= most && (n >= least || !one.is_finished), "{one:?}");
                assert!(one.is_finished || n == most, "{one:?}");
            }
        }
    }
}

#[test]
fn hypotheses_are_ranked_and_different() {
    let model = KIND.model(Level::current());
    for length_penalty in [LengthPenalty::Gnmt(0.6), LengthPenalty::Plain(1.0)] {
        let search = Search::Beam { width: 6, length_penalty };
        let options = DecodeOptions { search, n_best: 6, ..searches()[1] };
        for found in translate(&model, &KIND.sources(10), &options) {
            assert_eq!(found.len(), 6);
            for (place, one) in found.iter().enumerate() {
                let n = one.tokens.len() + usize::from(one.is_finished);
                assert_eq!(one.score, length_penalty.score(one.log_probability, n));
                assert!(found[..place].iter().all(|before| {
                    (before.is_finished, before.score) >= (one.is_finished, one.score)
                        && (&before.tokens, before.is_finished) != (&one.tokens, one.is_finished)
                }));
            }
        }
    }
}

#[test]
fn limits_have_their_meaning() {
    let model = KIND.model(Level::current());
    for options in searches() {
        assert!(translate(&model, &[], &options).is_empty());
        // No token: one hypothesis of nothing, as many as draws.
        let nothing = DecodeOptions { max_length: MaxLength::fixed(0), ..options };
        for found in translate(&model, &[vec![], vec![5, 6]], &nothing) {
            let draws = matches!(options.search, Search::Sample { .. });
            assert_eq!(found.len(), if draws { options.n_best } else { 1 });
            let one = &found[0];
            assert!(one.tokens.is_empty() && !one.is_finished);
            assert_eq!((one.score, one.log_probability), (0.0, 0.0));
        }
        // A sentence that has ended before it began is in nobody's way.
        let per_token =
            DecodeOptions { max_length: MaxLength { per_token: 1.0, plus: 0 }, ..options };
        let found = translate(&model, &[vec![5, 6, 7], vec![], vec![8]], &per_token);
        assert_eq!(bits(&found[2..]), bits(&translate(&model, &[vec![8]], &per_token)));
        assert!(found[1][0].tokens.is_empty());
    }
}

/// Three tokens, two of which are excluded: a beam has nothing but the end, and then nothing at all.
#[test]
fn a_beam_may_be_wider_than_the_vocabulary() {
    let kind = Kind { vocabulary: 3, ..KIND };
    let (model, sources) = (kind.model(Level::current()), vec![vec![2], vec![]]);
    for width in [1, 4, 1024] {
        let search = Search::Beam { width, length_penalty: LengthPenalty::None };
        let options = DecodeOptions { search, n_best: width.min(5), ..DecodeOptions::default() };
        for found in translate(&model, &sources, &options) {
            assert!(found.len() == 1 && found[0].tokens.is_empty() && found[0].is_finished);
        }
    }
    for options in searches() {
        for found in translate(&model, &sources, &DecodeOptions { min_length: 2, ..options }) {
            let one = &found[0];
            assert!(one.tokens.is_empty() && !one.is_finished && one.log_probability == 0.0);
        }
    }
}

/// The start may be the end, as in models of fairseq: it is not excluded then.
#[test]
fn the_token_that_begins_may_end() {
    let mut config = KIND.config();
    (config.decoder_start_token_id, config.pad_token_id) = (END, 77);
    let parameters = initialize_transformer(&config, 9);
    let model = Transformer::new(Level::current(), config, &parameters).unwrap();
    let found = translate(&model, &KIND.sources(30), &searches()[1]);
    assert!(found.iter().flatten().any(|one| one.is_finished));
}

#[test]
fn options_that_make_no_sense_are_named() {
    let model = KIND.model(Level::current());
    let error = |options: DecodeOptions| {
        let found = model.translate(&[[5]], &options, &mut DecodeWorkspace::default());
        found.unwrap_err().to_string()
    };
    let default = DecodeOptions::default();
    let beam = |width, length_penalty| Search::Beam { width, length_penalty };
    let sample = |temperature, top_k, top_p| Search::Sample { temperature, top_k, top_p, seed: 0 };
    for (search, expected) in [
        (beam(0, LengthPenalty::None), "width: at least 1 expected, 0 found"),
        (beam(2, LengthPenalty::Gnmt(f32::NAN)), "length_penalty: an alpha from 0 to 10 expected"),
        (beam(2, LengthPenalty::Plain(-1.0)), "length_penalty: an alpha from 0 to 10 expected"),
        (sample(0.0, None, 1.0), "temperature: a number above 0 expected, 0 found"),
        (sample(f32::INFINITY, None, 1.0), "temperature: a number above 0 expected, inf found"),
        (sample(1.0, Some(0), 1.0), "top_k: at least 1 expected, 0 found"),
        (sample(1.0, None, 0.0), "top_p: a number above 0, at most 1 expected, 0 found"),
        (sample(1.0, None, f32::NAN), "top_p: a number above 0, at most 1 expected, NaN found"),
    ] {
        let found = error(DecodeOptions { search, ..default });
        assert!(found.starts_with(expected), "{found}");
    }
    let found = error(DecodeOptions { n_best: 5, ..default });
    assert_eq!(found, "n_best: at most the width 4 expected, 5 found");
    assert!(error(DecodeOptions { n_best: 2, ..DecodeOptions::greedy() }).starts_with("n_best: 1"));
    assert!(error(DecodeOptions { n_best: 0, ..default }).starts_with("n_best: at least 1"));
    let found = error(DecodeOptions { search: beam(1025, LengthPenalty::None), ..default });
    assert_eq!(found, "width: at most 1024 expected, 1025 found");
    assert!(
        error(DecodeOptions { n_best: usize::MAX, ..default }).starts_with("n_best: at most 1024")
    );
    assert!(error(DecodeOptions { batch: 0, ..default }).starts_with("batch: at least 1"));
    let max_length = MaxLength { per_token: f32::NAN, plus: 1 };
    assert!(error(DecodeOptions { max_length, ..default }).starts_with("max_length.per_token"));
    let found = error(DecodeOptions { attention: Some(2), ..default });
    assert_eq!(found, "attention: a layer below 2 expected, 2 found");
}

#[test]
fn what_is_wrong_with_a_sentence_or_a_model_is_named() {
    let model = KIND.model(Level::current());
    let error = |model: &Transformer, sources: &[Vec<u32>]| {
        let options = DecodeOptions::default();
        model.translate(sources, &options, &mut DecodeWorkspace::default()).unwrap_err()
    };
    let found = error(&model, &[vec![3], vec![4, 30]]).to_string();
    assert_eq!(found, "sequence 1, position 1: source token id 30 is not below 30");
    let found = error(&model, &[vec![3], vec![4; POSITIONS + 1]]).to_string();
    assert_eq!(found, "sequence 1 has 25 tokens, the model has 24 positions");

    let config = KIND.config();
    let mut parameters = initialize_transformer(&config, 1);
    // Of token 7 alone, whose scores are then none, and which the second source has.
    for (row, bad) in [(7, f32::NAN), (7, f32::INFINITY)] {
        let d_model = config.d_model;
        parameters.values_mut()[row * d_model..(row + 1) * d_model].fill(bad);
        let model = Transformer::new(Level::current(), config.clone(), &parameters).unwrap();
        for options in searches() {
            let mut workspace = DecodeWorkspace::default();
            let found = model.translate(&[[3], [7]], &options, &mut workspace).unwrap_err();
            assert!(matches!(found, Error::NoDistribution { position: 0, .. }), "{found}");
        }
    }
}

/// Layer by layer, with the layers' own maps.
#[test]
fn attention_is_that_of_a_pass_over_the_pair() {
    for pre_norm in [false, true] {
        let kind = Kind { pre_norm, ..KIND };
        let (model, sources) = (kind.model(Level::current()), kind.sources(8));
        for (layer, options) in (0..2).flat_map(|layer| searches().map(|options| (layer, options)))
        {
            let options = DecodeOptions { attention: Some(layer), batch: 5, ..options };
            let found = translate(&model, &sources, &options);
            let without =
                translate(&model, &sources, &DecodeOptions { attention: None, ..options });
            assert_eq!(bits(&found), bits(&without));
            assert!(without.iter().flatten().all(|one| one.attention.is_none()));
            for (source, one) in
                sources.iter().zip(&found).flat_map(|(s, of)| of.iter().map(move |one| (s, one)))
            {
                let map = one.attention.as_ref().unwrap();
                let n = one.tokens.len() + usize::from(one.is_finished);
                assert_eq!(map.shape(), (n, source.len()));
                let expected = mean_map(&model, source, one, layer);
                for (x, y) in map.as_slice().iter().zip(expected.as_slice()) {
                    assert!((x - y).abs() < 1e-5, "{x} {y}");
                }
                for row in (0..n).filter(|_| !source.is_empty()) {
                    assert!((map.row(row).iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
            }
        }
    }
}

fn mean_map(model: &Transformer, source: &[u32], one: &Hypothesis, layer: usize) -> Matrix<f32> {
    let end = one.is_finished.then_some(END);
    let target: Vec<u32> = one.tokens.iter().copied().chain(end).collect();
    let mut batch = Batch::default();
    batch.push(source, &target, START);
    let (pairs, mut workspace) = (batch.pairs(), Workspace::default());
    let memory = model.encode(pairs.source, &mut workspace).unwrap();
    let memory = Memory { hidden: memory, sequences: pairs.source.sequences };
    let (ids, sequences) = (pairs.inputs.ids, pairs.inputs.sequences);
    let mut x = Activations::default();
    x.resize(model.arithmetic(), ids.len(), model.config().d_model);
    model.target_embeddings().forward(ids, sequences, x.values_mut());
    x.convert();
    let mut cache = Default::default();
    let mut maps = Vec::new();
    for block in &model.decoder().layers[..=layer] {
        match block {
            DecoderBlock::PostNorm(layer) => layer.forward(&mut x, sequences, memory, &mut cache),
            DecoderBlock::PreNorm(layer) => layer.forward(&mut x, sequences, memory, &mut cache),
        }
        let kv = cache.kv.clone();
        let attention = block.cross_attention();
        maps = attention.maps(sequences, kv.view(), memory.sequences, &mut cache.cross_attention);
    }
    let (map, n) = (&maps[0], target.len());
    Matrix::from_fn(n, source.len(), |row, col| (map.row(row)[col] + map.row(n + row)[col]) / 2.0)
}

/// Lines of letters, and the same backwards: what was learnt is said, by all searches.
#[test]
fn a_model_that_turns_sentences_round_says_them_backwards() {
    let mut config = TransformerConfig::tiny(13);
    (config.d_model, config.encoder_ffn_dim, config.decoder_ffn_dim) = (64, 128, 128);
    config.dropout = 0.0;
    let mut random = Random::new(1);
    let mut pair = || {
        let length = 2 + random.below(5);
        let mut source: Vec<u32> = (0..length).map(|_| 3 + random.below(10) as u32).collect();
        let mut target: Vec<u32> = source.iter().rev().copied().collect();
        [&mut source, &mut target].into_iter().for_each(|ids| ids.push(END));
        (source, target)
    };
    let parameters = initialize_transformer(&config, 1);
    let transformer = Transformer::trainable(Level::current(), config, &parameters).unwrap();
    let options = TrainerOptions::transformer(64, 200, 1000);
    let mut trainer = Trainer::of(transformer, parameters, options);
    for _ in 0..1000 {
        let mut batch = Batch::default();
        (0..32).map(|_| pair()).for_each(|(source, target)| batch.push(&source, &target, START));
        trainer.translate_step(&[batch]).unwrap();
    }
    let (sources, targets): (Vec<_>, Vec<_>) = (0..200).map(|_| pair()).unzip();
    for options in
        [searches()[0], searches()[1], DecodeOptions { attention: Some(1), ..searches()[1] }]
    {
        let found = translate(trainer.model(), &sources, &options);
        let right = targets.iter().zip(&found).filter(|(target, found)| {
            found[0].is_finished && found[0].tokens == target[..target.len() - 1]
        });
        let right = right.count();
        println!("{right} of 200 right by {:?}", options.search);
        assert!(right >= 190, "{right} of 200");
    }
}
