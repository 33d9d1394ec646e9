//! A labelled task over the language of the stories: does a statement follow from what was told?
//!
//! Which animal barks, and who needs an oven? No word says by itself whether it is yes or no; which of
//! them belong together does, and that can be read in the stories. (A test trains a bag of words to
//! see how far it comes.)

use std::collections::HashSet;

use ferrite_models::data::{Purpose, Random};

use super::grammar::{Cast, one, one_text};

/// Whether a statement follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Label {
    /// It follows.
    Yes,
    /// What was told speaks against it.
    No,
}

impl Label {
    pub(super) const ALL: [Label; 2] = [Label::Yes, Label::No];

    pub(super) fn name(self) -> &'static str {
        match self {
            Label::Yes => "yes",
            Label::No => "no",
        }
    }
}

/// What was told, a statement, and whether it follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Example {
    pub(super) told: String,
    pub(super) statement: String,
    pub(super) label: Label,
}

/// Ways to tell something, and statements of each label about it.
struct Question {
    told: &'static [&'static str],
    yes: &'static [&'static str],
    no: &'static [&'static str],
}

const QUESTIONS: [Question; 2] = [
    // Which animal is it?
    Question {
        told: &[
            "The animal of {A} {cried}.",
            "{A} gave {A.his} animal some {fodder}. {B} had no animal.",
            "{pet} slept in the {home}. {A} called {pet}, and {B} was not there.",
        ],
        yes: &["{A} had a {animal}."],
        no: &["{A} had a {animal2}."],
    },
    // Whose trade is it?
    Question {
        told: &[
            "{A} {produced} a {colour} {product} for {B}.",
            "{B} came to the {workplace} of {A}.",
            "{A} lent {A.his} {tool} to {B}.",
            "{B} bought a {colour} {product} from {A}.",
        ],
        yes: &["{A} was a {job}."],
        no: &["{A} was a {job2}."],
    },
];

/// Examples to learn from.
pub(super) const TRAINING: usize = 6_000;
/// Examples to be tested with.
pub(super) const TEST: usize = 500;

/// Examples to learn from and others to be tested with. What is told is never told twice.
pub(super) fn examples(seed: u64) -> (Vec<Example>, Vec<Example>) {
    // Stories have draw 0.
    let mut random = Random::new(seed, Purpose::Stories, 1, 0);
    let mut told = HashSet::new();
    let mut all = Vec::with_capacity(TRAINING + TEST);
    while all.len() < TRAINING + TEST {
        let example = example(&mut random);
        if told.insert(example.told.clone()) {
            all.push(example);
        }
    }
    let test = all.split_off(TRAINING);
    (all, test)
}

fn example(random: &mut Random) -> Example {
    let cast = Cast::draw(random);
    let question = one(&QUESTIONS, random);
    let label = *one(&Label::ALL, random);
    let statements = match label {
        Label::Yes => question.yes,
        Label::No => question.no,
    };
    let mut fill = |templates: &'static [&'static str]| cast.fill(one_text(templates, random));
    Example { told: fill(question.told), statement: fill(statements), label }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn nothing_is_told_twice_and_labels_are_balanced() {
        let (training, test) = examples(1);
        assert_eq!((training.len(), test.len()), (TRAINING, TEST));
        let told: HashSet<&str> =
            training.iter().chain(&test).map(|example| example.told.as_str()).collect();
        assert_eq!(told.len(), TRAINING + TEST);
        for part in [&training, &test] {
            for label in Label::ALL {
                let count = part.iter().filter(|example| example.label == label).count();
                let fraction = count as f64 / part.len() as f64;
                assert!((0.42..0.58).contains(&fraction), "{label:?}: {fraction}");
            }
        }
        assert_eq!(examples(1), (training, test));
        assert_ne!(examples(2).1, examples(1).1);
    }

    /// What a text has as a bag of words: those of each part by themselves, and whether a word of
    /// the statement was told.
    fn bag(example: &Example) -> Vec<String> {
        let words = |text: &str| -> Vec<String> {
            text.split([' ', '.']).filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
        };
        let (told, statement) = (words(&example.told), words(&example.statement));
        let both = statement.iter().map(|word| format!("both {}", told.contains(word)));
        let told_words = told.iter().map(|word| format!("told {word}"));
        let statement_words = statement.iter().map(|word| format!("statement {word}"));
        both.chain(told_words).chain(statement_words).collect()
    }

    /// A perceptron for both classes, its weights averaged over all steps.
    #[test]
    fn a_bag_of_words_does_not_solve_it() {
        let (training, test) = examples(1);
        let mut weights: BTreeMap<String, [f64; 2]> = BTreeMap::new();
        let mut sums = weights.clone();
        let guess = |weights: &BTreeMap<String, [f64; 2]>, bag: &[String]| {
            let score = |class: usize| {
                bag.iter().filter_map(|word| weights.get(word)).map(|of| of[class]).sum::<f64>()
            };
            (0..2).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap()
        };
        let mut step = 0.0;
        for _ in 0..20 {
            for example in &training {
                let (bag, class) = (bag(example), example.label as usize);
                let guessed = guess(&weights, &bag);
                step += 1.0;
                if guessed != class {
                    for word in bag {
                        for (of, by) in [(&mut weights, 1.0), (&mut sums, step)] {
                            let entry = of.entry(word.clone()).or_default();
                            entry[class] += by;
                            entry[guessed] -= by;
                        }
                    }
                }
            }
        }
        for (word, of) in &mut weights {
            (0..2).for_each(|class| of[class] -= sums[word][class] / step);
        }
        let right = test.iter().filter(|e| guess(&weights, &bag(e)) == e.label as usize).count();
        let accuracy = right as f64 / TEST as f64;
        println!("a bag of words: {accuracy}");
        assert!((0.4..0.65).contains(&accuracy), "{accuracy}");
    }
}
