//! A labelled task over the language of the stories: does a statement follow from what was told?
//!
//! Who gave and who got, who is "she", how many are left, which animal barks: the words alone mostly
//! do not say. (A test trains a bag of words to see how far they go.)

use std::collections::HashSet;
use std::ops::Range;

use ferrite_models::data::{Purpose, Random};

use super::grammar::{Cast, one, one_text};

/// Whether a statement follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Label {
    /// It follows.
    Yes,
    /// Its opposite follows.
    No,
    /// Nothing is said about it.
    Unknown,
}

impl Label {
    pub(super) const ALL: [Label; 3] = [Label::Yes, Label::No, Label::Unknown];

    pub(super) fn name(self) -> &'static str {
        match self {
            Label::Yes => "yes",
            Label::No => "no",
            Label::Unknown => "unknown",
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
    unknown: &'static [&'static str],
}

const QUESTIONS: [Question; 8] = [
    // Who has it?
    Question {
        told: &[
            "{A} gave the {colour} {thing} to {B}.",
            "{A} sold the {colour} {thing} to {B}.",
            "{A} lent the {colour} {thing} to {B}.",
            "{B} bought the {colour} {thing} from {A}.",
            "{B} took the {colour} {thing} from {A}.",
            "{B} got the {colour} {thing} from {A}.",
        ],
        yes: &["Now {B} had the {thing}.", "{A} did not have the {thing}."],
        no: &["Now {A} had the {thing}.", "{B} did not have the {thing}."],
        unknown: &["Now {B} had the {other}.", "{A} did not have the {other}."],
    },
    // Who is more, and who is less?
    Question {
        told: &["{A} was {more} than {B}.", "{B} was {less} than {A}.", "{proof}"],
        yes: &["{A} was {more} than {B}.", "{B} was {less} than {A}."],
        no: &["{B} was {more} than {A}.", "{A} was {less} than {B}."],
        unknown: &["{C} was {more} than {B}.", "{A} was {less} than {C}."],
    },
    // Who is he, who is she?
    Question {
        told: &[
            "There was one {colour} {thing} for {A} and {B}. Only {A.he} {used} it.",
            "{B} and {A} saw a {colour} {thing}. Only {A.he} {used} it.",
            "{A} came with {B}. Somebody gave {A.him} a {colour} {thing}. {A.he} {used} it.",
        ],
        yes: &["{A} {used} the {thing}."],
        no: &["{B} {used} the {thing}."],
        unknown: &["{A} had a {other}.", "{B} had a {other}."],
    },
    // Which animal is it?
    Question {
        told: &[
            "The animal of {A} {cried}.",
            "{A} gave {A.his} animal some {fodder}. {B} had no animal.",
            "{pet} slept in the {home}. {A} called {pet}, and {B} was not there.",
        ],
        yes: &["{A} had a {animal}."],
        no: &["{A} had a {animal2}."],
        unknown: &["{C} had a {animal}.", "{C} had a {animal2}."],
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
        unknown: &["{B} was a {job}.", "{B} was a {job2}."],
    },
    // How many are left?
    Question {
        told: &[
            "{A} had {had} {counted} and gave {B} {gave}.",
            "{B} had no {counted}. {A} had {had} and gave {B.him} {gave}.",
        ],
        yes: &["Now {A} had {left} {counted}.", "Now {B} had {gave} {counted}."],
        no: &["Now {B} had {left} {counted}.", "Now {A} had {gave} {counted}."],
        unknown: &["Now {C} had {left} {counted}.", "Now {C} had {gave} {counted}."],
    },
    // From where to where?
    Question {
        told: &[
            "{A} went from the {place} to the {place2}.",
            "{A} came to the {place2} from the {place}.",
            "{A} left the {place} and went to the {place2}.",
            "The {vehicle} {travelled} from the {place} to the {place2}. {A} was in it.",
        ],
        yes: &["Now {A} was at the {place2}."],
        no: &["Now {A} was at the {place}."],
        unknown: &["Now {B} was at the {place}.", "Now {B} was at the {place2}."],
    },
    // Who is where?
    Question {
        told: &[
            "{A} went to the {place}, and {B} stayed at the {place2}.",
            "At the {place} {A} saw the {sight}. {B} was at the {place2}.",
        ],
        yes: &["{A} was at the {place}.", "{B} was at the {place2}."],
        no: &["{B} was at the {place}.", "{A} was at the {place2}."],
        unknown: &["{C} was at the {place}.", "{C} was at the {place2}."],
    },
];

/// The questions that are asked: of animals and of trades. The others are beyond what so small a
/// model learns in so short a time.
const ASKED: Range<usize> = 3..5;

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
    // Where half is given away, "yes" and "no" would be the same.
    let cast = loop {
        let cast = Cast::draw(random);
        if cast.had != 2 * cast.gave {
            break cast;
        }
    };
    let question = one(&QUESTIONS[ASKED], random);
    let label = *one(&Label::ALL, random);
    let statements = match label {
        Label::Yes => question.yes,
        Label::No => question.no,
        Label::Unknown => question.unknown,
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
                assert!((0.27..0.4).contains(&fraction), "{label:?}: {fraction}");
            }
        }
        assert_eq!(examples(1), (training, test));
        assert_ne!(examples(2).1, examples(1).1);
    }

    #[test]
    fn roles_decide() {
        let mut random = Random::new(3, Purpose::Stories, 2, 0);
        let cast = Cast::draw(&mut random);
        let question = &QUESTIONS[0];
        let words = |told: &str, statement: &str| {
            let text = cast.fill(&format!("{told} {statement}"));
            let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            words.iter_mut().for_each(|word| *word = word.replace('.', ""));
            words.sort();
            words
        };
        // The same words in another order, and the opposite label.
        let yes = words("{A} gave the {thing} to {B}.", question.yes[0]);
        let no = words("{B} gave the {thing} to {A}.", question.yes[0]);
        assert_eq!(yes, no);
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

    /// A perceptron for three classes, its weights averaged over all steps.
    #[test]
    fn a_bag_of_words_does_not_solve_it() {
        let (training, test) = examples(1);
        let mut weights: BTreeMap<String, [f64; 3]> = BTreeMap::new();
        let mut sums = weights.clone();
        let guess = |weights: &BTreeMap<String, [f64; 3]>, bag: &[String]| {
            let score = |class: usize| {
                bag.iter().filter_map(|word| weights.get(word)).map(|of| of[class]).sum::<f64>()
            };
            (0..3).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap()
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
            (0..3).for_each(|class| of[class] -= sums[word][class] / step);
        }
        let right = test.iter().filter(|e| guess(&weights, &bag(e)) == e.label as usize).count();
        let accuracy = right as f64 / TEST as f64;
        println!("a bag of words: {accuracy}");
        assert!((0.4..0.75).contains(&accuracy), "{accuracy}");
    }
}
