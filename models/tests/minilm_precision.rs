//! What precision costs: all-MiniLM-L6-v2 on 1,000 texts in bf16 and int8, with every kernel of
//! products, beside its f32. That is the oracle's, see `oracle/README.md`: every f32 kernel is
//! within 2e-6 of it, which `minilm.rs` tests.
#![cfg(feature = "hub")]

mod minilm_common;

use ferrite_kernels::testing::Random;
use ferrite_models::SentenceEncoder;
use ferrite_models::kernels::{Arithmetic, Level, Matrix, Precision};
use minilm_common::{dump, model, texts};

/// What is promised of a precision: at least this cosine of each embedding to that of f32, and
/// Spearman's rank correlation of all similarities between two texts with those of f32.
struct Promise {
    cosine: f64,
    spearman: f64,
}

/// Measured: cosines of 0.99995 at least and 0.99998 in the mean, rank correlation 0.99998.
const BF16: Promise = Promise { cosine: 0.9999, spearman: 0.9999 };

/// Measured: cosines of 0.9955 at least and 0.9987 in the mean, rank correlation 0.9989; where
/// attention is in bf16, 0.9952, 0.9987 and 0.9989. Rounding the weights alone gives 0.996 to 0.997
/// at least.
const INT8: Promise = Promise { cosine: 0.995, spearman: 0.998 };

impl Promise {
    /// Compares embeddings, the rows of a matrix, with those of f32.
    #[track_caller]
    fn check(&self, what: &str, vectors: &Matrix<f32>, exact: &Matrix<f32>) {
        let cosines = (0..exact.rows()).map(|row| cosine(vectors.row(row), exact.row(row)));
        let cosines: Vec<f64> = cosines.collect();
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        let (worst, least) = least(&cosines);
        let spearman = spearman(&similarities(vectors), &similarities(exact));
        println!(
            "{what}, {} texts: cosine {least:.6} at least, {mean:.6} in the mean; rank correlation \
             {spearman:.6}",
            cosines.len()
        );
        assert!(least >= self.cosine, "{what}: cosine {least} in row {worst}");
        assert!(spearman >= self.spearman, "{what}: rank correlation {spearman}");
    }
}

/// Every kernel of a precision, and what this machine chooses by itself, where more than the kernel
/// of products may be another.
fn arithmetics(precision: Precision) -> Vec<Arithmetic> {
    let mut all = Arithmetic::available();
    all.retain(|arithmetic| arithmetic.precision() == precision);
    let highest = *Level::available().last().expect("every machine has a level");
    let highest = Arithmetic::new(highest, precision);
    if !all.contains(&highest) {
        all.push(highest);
    }
    all
}

/// Checks all kernels of a precision, and gives the embeddings of all texts by the names of levels.
/// The portable kernel, which is slow, takes every fourth text alone where there are others.
fn check(precision: Precision, promise: &Promise) -> Vec<(&'static str, Matrix<f32>)> {
    let exact = dump("embeddings", f32::from_le_bytes);
    let texts = texts();
    assert_eq!((texts.len(), exact.len()), (1000, 384_000));
    let arithmetics = arithmetics(precision);
    let mut all = Vec::new();
    for &arithmetic in &arithmetics {
        let is_slow = arithmetic.level().name() == "portable" && arithmetics.len() > 1;
        let step = if is_slow { 4 } else { 1 };
        let some: Vec<&String> = texts.iter().step_by(step).collect();
        let exact = Matrix::from_fn(some.len(), 384, |row, col| exact[row * step * 384 + col]);
        let encoder = SentenceEncoder::from_pretrained_at(arithmetic, model()).unwrap();
        let vectors = encoder.embed(&some).unwrap().vectors;
        let what = format!("{arithmetic} ({})", arithmetic.instruction());
        promise.check(&what, &vectors, &exact);
        if step == 1 {
            all.push((arithmetic.level().name(), vectors));
        }
    }
    all
}

#[test]
fn embeddings_and_their_ranking_in_bf16_are_near_those_of_f32() {
    check(Precision::Bf16, &BF16);
}

/// And, since sums of integers are exact, the same bits whichever instruction sums them, as long as
/// the lanes of all else are the same: at `avx512` and at `avx512vnni`. (Levels above these may have
/// other instructions for more than the products of integers.)
#[test]
fn embeddings_and_their_ranking_in_int8_are_near_those_of_f32() {
    let all = check(Precision::Int8, &INT8);
    let at = |name: &str| all.iter().find(|(level, _)| *level == name).map(|(_, vectors)| vectors);
    match (at("avx512"), at("avx512vnni")) {
        (Some(without), Some(with)) => assert!(without == with, "other bits with vpdpbusd"),
        _ => println!("this machine has no vpdpbusd"),
    }
}

/// The smallest number, and where it is. What is no number is smaller than all.
fn least(numbers: &[f64]) -> (usize, f64) {
    let key = |x: f64| if x.is_nan() { f64::NEG_INFINITY } else { x };
    let all = numbers.iter().copied().map(key).enumerate();
    all.min_by(|(_, a), (_, b)| a.total_cmp(b)).expect("there are some")
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The cosine of each row to each row after it.
fn similarities(vectors: &Matrix<f32>) -> Vec<f64> {
    let rows = vectors.rows();
    let pairs = (0..rows).flat_map(|i| (i + 1..rows).map(move |j| (i, j)));
    pairs.map(|(i, j)| cosine(vectors.row(i), vectors.row(j))).collect()
}

/// Spearman's rank correlation: Pearson's, of the ranks.
fn spearman(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() + 1) as f64 / 2.0;
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(&b) {
        let (a, b) = (a - mean, b - mean);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    ab / (aa * bb).sqrt()
}

/// The place of each number among all, from 1; equal ones share the mean of theirs.
fn ranks(numbers: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
    let mut ranks = vec![0.0; numbers.len()];
    let mut below = 0;
    for equal in order.chunk_by(|&a, &b| numbers[a] == numbers[b]) {
        let mean = below as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|&index| ranks[index] = mean);
        below += equal.len();
    }
    ranks
}

#[test]
fn equal_numbers_share_their_ranks() {
    assert_eq!(ranks(&[3.0, -1.0, 3.0, 7.0, 3.0]), [3.0, 1.0, 3.0, 5.0, 3.0]);
    assert_eq!(ranks(&[2.0, 1.0, 2.0]), [2.5, 1.0, 2.5]);
}

#[test]
fn rank_correlations_are_those_of_the_books() {
    // Without equal numbers it is 1 - 6 Σd² / (n (n² - 1)), here with Σd² = 194 and n = 10.
    let iq = [106.0, 86.0, 100.0, 101.0, 99.0, 103.0, 97.0, 113.0, 112.0, 110.0];
    let hours = [7.0, 0.0, 27.0, 50.0, 28.0, 29.0, 20.0, 12.0, 6.0, 17.0];
    assert!((spearman(&iq, &hours) + 29.0 / 165.0).abs() < 1e-12);
    // With some: Σ(a - 2.5)(b - 2.5) = 4.5, squares 4.5 and 5.
    let ties = spearman(&[1.0, 2.0, 2.0, 4.0], &[10.0, 20.0, 30.0, 40.0]);
    assert!((ties - 4.5 / (4.5f64 * 5.0).sqrt()).abs() < 1e-12);
    // It knows the order and nothing else.
    assert_eq!(spearman(&iq, &iq.map(|x| (x / 9.0).exp())), 1.0);
    assert_eq!(spearman(&iq, &iq.map(|x| -x)), -1.0);
}

/// Rows of length about 1 in nearly one direction, and the same with another noise.
fn rows(noise: f32, seed: u64) -> Matrix<f32> {
    let mut random = Random::new(seed);
    let values = random.vector(40 * 8, -noise, noise);
    Matrix::from_fn(40, 8, |row, col| values[row * 8 + col] + f32::from(u8::from(col == 0)))
}

#[test]
fn what_is_equal_keeps_every_promise() {
    Promise { cosine: 1.0 - 1e-12, spearman: 1.0 }.check("equal", &rows(0.5, 1), &rows(0.5, 1));
}

#[test]
#[should_panic(expected = "in row 17")]
fn one_wrong_embedding_breaks_the_promise() {
    let mut wrong = rows(0.1, 1);
    wrong.row_mut(17)[3] += 0.3;
    INT8.check("wrong", &wrong, &rows(0.1, 1));
}

#[test]
#[should_panic(expected = "in row 17")]
fn an_embedding_that_is_no_number_breaks_the_promise() {
    let mut wrong = rows(0.1, 1);
    wrong.row_mut(17)[3] = f32::NAN;
    INT8.check("wrong", &wrong, &rows(0.1, 1));
}

/// Embeddings can be as near as you like while their order is another.
#[test]
#[should_panic(expected = "rank correlation 0.")]
fn another_ranking_breaks_the_promise() {
    let vectors = Matrix::from_fn(40, 8, |row, col| {
        rows(1e-3, 1).row(row)[col] + rows(1e-3, 2).row(row)[col]
    });
    BF16.check("wrong", &vectors, &rows(1e-3, 1));
}
