//! Training as it is defined: everything is counted anew before each merge.

use std::collections::{BTreeMap, BTreeSet};

use super::PairScore;

/// The vocabulary of these words, each with the number of its occurrences.
pub(super) fn train(
    words: &BTreeMap<String, u64>,
    specials: &[&str],
    score: PairScore,
    min_frequency: u64,
    limit_alphabet: usize,
    size: usize,
) -> Vec<String> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    let mut inside: BTreeSet<char> = BTreeSet::new();
    for (word, count) in words {
        for (index, c) in word.chars().enumerate() {
            *counts.entry(c).or_default() += count;
            if index > 0 {
                inside.insert(c);
            }
        }
    }
    let mut alphabet: Vec<char> = counts.keys().copied().collect();
    // A stable sort of what is in the order of code points.
    alphabet.sort_by(|a, b| counts[b].cmp(&counts[a]));
    alphabet.truncate(limit_alphabet);
    alphabet.sort();

    let mut vocabulary: Vec<String> = specials.iter().map(|&token| token.into()).collect();
    vocabulary.extend(alphabet.iter().map(char::to_string));
    vocabulary.extend(alphabet.iter().filter(|&c| inside.contains(c)).map(|c| format!("##{c}")));

    let mut splits: Vec<(Vec<String>, u64)> = words
        .iter()
        .filter(|(word, _)| word.chars().all(|c| alphabet.contains(&c)))
        .map(|(word, &count)| {
            let piece = |(index, c): (usize, char)| match index {
                0 => c.to_string(),
                _ => format!("##{c}"),
            };
            (word.chars().enumerate().map(piece).collect(), count)
        })
        .collect();

    while vocabulary.len() < size {
        let mut pairs: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut symbols: BTreeMap<&String, u64> = BTreeMap::new();
        for (split, count) in &splits {
            for symbol in split {
                *symbols.entry(symbol).or_default() += count;
            }
            for two in split.windows(2) {
                *pairs.entry((two[0].clone(), two[1].clone())).or_default() += count;
            }
        }
        // In the order of the strings; only a better pair replaces the first one.
        let mut best: Option<(&(String, String), u64)> = None;
        for (pair, &count) in pairs.iter().filter(|&(_, &count)| count >= min_frequency) {
            let is_better = best.is_none_or(|(other, highest)| match score {
                PairScore::Count => count > highest,
                PairScore::Likelihood => {
                    // These tests have counts whose products of three fit into 128 bits.
                    let product = |pair: &(String, String)| {
                        u128::from(symbols[&pair.0]) * u128::from(symbols[&pair.1])
                    };
                    u128::from(count) * product(other) > u128::from(highest) * product(pair)
                }
            });
            if is_better {
                best = Some((pair, count));
            }
        }
        let Some(((left, right), _)) = best.map(|(pair, count)| (pair.clone(), count)) else {
            break;
        };
        let joined = format!("{left}{}", &right[2..]);
        if !vocabulary.contains(&joined) {
            vocabulary.push(joined.clone());
        }
        for (split, _) in &mut splits {
            let mut merged = Vec::new();
            let mut rest = &split[..];
            while let Some(symbol) = rest.first() {
                if *symbol == left && rest.get(1) == Some(&right) {
                    merged.push(joined.clone());
                    rest = &rest[2..];
                } else {
                    merged.push(symbol.clone());
                    rest = &rest[1..];
                }
            }
            *split = merged;
        }
    }
    vocabulary
}
