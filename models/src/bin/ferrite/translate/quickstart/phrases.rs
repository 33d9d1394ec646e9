//! Sentences with numbers, dates and times in them, in English and in German, drawn at random. A
//! sentence has one translation: what is right is known exactly.

use std::collections::HashSet;

use ferrite_models::data::{Purpose, Random};

use super::{english, german};

/// A sentence in both languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phrase {
    pub(super) english: String,
    pub(super) german: String,
}

/// Something to count: one and many of it in English; "a" before it in the German accusative, one
/// and many of it in German.
struct Thing([&'static str; 5]);

const THINGS: [Thing; 20] = [
    Thing(["apple", "apples", "einen", "Apfel", "Äpfel"]),
    Thing(["pear", "pears", "eine", "Birne", "Birnen"]),
    Thing(["book", "books", "ein", "Buch", "Bücher"]),
    Thing(["letter", "letters", "einen", "Brief", "Briefe"]),
    Thing(["lamp", "lamps", "eine", "Lampe", "Lampen"]),
    Thing(["horse", "horses", "ein", "Pferd", "Pferde"]),
    Thing(["tree", "trees", "einen", "Baum", "Bäume"]),
    Thing(["cup", "cups", "eine", "Tasse", "Tassen"]),
    Thing(["house", "houses", "ein", "Haus", "Häuser"]),
    Thing(["chair", "chairs", "einen", "Stuhl", "Stühle"]),
    Thing(["clock", "clocks", "eine", "Uhr", "Uhren"]),
    Thing(["egg", "eggs", "ein", "Ei", "Eier"]),
    Thing(["table", "tables", "einen", "Tisch", "Tische"]),
    Thing(["flower", "flowers", "eine", "Blume", "Blumen"]),
    Thing(["picture", "pictures", "ein", "Bild", "Bilder"]),
    Thing(["key", "keys", "einen", "Schlüssel", "Schlüssel"]),
    Thing(["cat", "cats", "eine", "Katze", "Katzen"]),
    Thing(["glass", "glasses", "ein", "Glas", "Gläser"]),
    Thing(["dog", "dogs", "einen", "Hund", "Hunde"]),
    Thing(["bridge", "bridges", "eine", "Brücke", "Brücken"]),
];

/// Days of the week, in both languages.
const WEEKDAYS: [[&str; 2]; 7] = [
    ["Monday", "Montag"],
    ["Tuesday", "Dienstag"],
    ["Wednesday", "Mittwoch"],
    ["Thursday", "Donnerstag"],
    ["Friday", "Freitag"],
    ["Saturday", "Samstag"],
    ["Sunday", "Sonntag"],
];

/// Days of the months, of a year that is no leap year.
const DAYS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// What a sentence is about, and both languages' words around it.
type Frame = (Content, &'static str, &'static str);

/// What stands for `{}` in a frame.
#[derive(Clone, Copy)]
enum Content {
    /// 0 to 999,999.
    Number,
    /// 1 to 999 of a thing.
    Things,
    /// A day with its weekday.
    Weekday,
    /// A day with its year.
    Date,
    Year,
    Time,
}

const FRAMES: [Frame; 15] = [
    (Content::Number, "{}", "{}"),
    (Content::Number, "{}", "{}"),
    (Content::Number, "The number is {}.", "Die Zahl ist {}."),
    (Content::Number, "We counted up to {}.", "Wir haben bis {} gezählt."),
    (Content::Things, "He buys {}.", "Er kauft {}."),
    (Content::Things, "She has drawn {}.", "Sie hat {} gezeichnet."),
    (Content::Things, "I can see {} from here.", "Von hier aus sehe ich {}."),
    (Content::Weekday, "The concert is on {}.", "Das Konzert ist am {}."),
    (Content::Weekday, "On {}, we stay at home.", "Am {}, bleiben wir zu Hause."),
    (Content::Date, "She was born on {}.", "Sie wurde am {} geboren."),
    (Content::Date, "On {} it was snowing.", "Am {} schneite es."),
    (Content::Year, "The bridge was built in {}.", "Die Brücke wurde {} gebaut."),
    (Content::Time, "The train leaves at {}.", "Der Zug fährt um {} ab."),
    (Content::Time, "At {} he was still asleep.", "Um {} schlief er noch."),
    (Content::Time, "It is {}.", "Es ist {}."),
];

/// A number with one to six digits, all numbers of digits alike.
fn number(random: &mut Random) -> u32 {
    let limit = 10u32.pow(random.between(1, 6) as u32);
    let least = if limit == 10 { 0 } else { limit / 10 };
    least + random.below(limit - least)
}

fn content(content: Content, random: &mut Random) -> [String; 2] {
    match content {
        Content::Number => {
            let n = number(random);
            [english::cardinal(n), german::cardinal(n)]
        }
        Content::Things => {
            let Thing([one, many, a, eins, viele]) = THINGS[random.index(THINGS.len())];
            match 1 + number(random) % 999 {
                1 => [format!("one {one}"), format!("{a} {eins}")],
                n => [
                    format!("{} {many}", english::cardinal(n)),
                    format!("{} {viele}", german::cardinal(n)),
                ],
            }
        }
        Content::Weekday => {
            let [weekday, wochentag] = WEEKDAYS[random.index(WEEKDAYS.len())];
            let (day, month) = day(random);
            [
                format!("{weekday}, {}", english::day(day, month)),
                format!("{wochentag}, dem {}", german::day(day, month)),
            ]
        }
        Content::Date => {
            let ((day, month), [year, jahr]) = (day(random), year(random));
            [
                format!("{}, {year}", english::day(day, month)),
                format!("{} {jahr}", german::day(day, month)),
            ]
        }
        Content::Year => year(random),
        Content::Time => {
            let (hour, minute) = (1 + random.below(12), 5 * random.below(12));
            [english::time(hour, minute), german::time(hour, minute)]
        }
    }
}

fn day(random: &mut Random) -> (u32, usize) {
    let month = random.between(1, 12);
    (1 + random.below(DAYS[month - 1]), month)
}

fn year(random: &mut Random) -> [String; 2] {
    let year = 1100 + random.below(1000);
    [english::year(year), german::year(year)]
}

/// One sentence.
fn phrase(random: &mut Random) -> Phrase {
    let (what, english, german) = FRAMES[random.index(FRAMES.len())];
    let [in_english, in_german] = content(what, random);
    Phrase { english: english.replace("{}", &in_english), german: german.replace("{}", &in_german) }
}

/// So many sentences to learn from, and others to be tested with: none of the ones is among the
/// others, and none of the others is there twice.
pub(super) fn phrases(seed: u64, training: usize, test: usize) -> (Vec<Phrase>, Vec<Phrase>) {
    let mut random = Random::new(seed, Purpose::Phrases, 0, 0);
    let first: Vec<Phrase> = (0..training).map(|_| phrase(&mut random)).collect();
    let mut seen: HashSet<String> = first.iter().map(|phrase| phrase.english.clone()).collect();
    let mut second = Vec::with_capacity(test);
    while second.len() < test {
        let phrase = phrase(&mut random);
        if seen.insert(phrase.english.clone()) {
            second.push(phrase);
        }
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_sentence_has_one_translation() {
        let (training, test) = phrases(1, 20_000, 500);
        let mut translations: HashMap<&str, &str> = HashMap::new();
        for Phrase { english, german } in training.iter().chain(&test) {
            let before = translations.insert(english, german);
            assert!(before.is_none_or(|before| before == german), "{english}");
            assert!(!english.contains(['{', '}']) && !german.contains(['{', '}']), "{german}");
        }
        // Half of them and more are different ones.
        assert!(translations.len() > 10_000, "{}", translations.len());
    }

    #[test]
    fn what_is_tested_was_not_learnt() {
        let (training, test) = phrases(2, 5_000, 500);
        let learnt: HashSet<&str> = training.iter().map(|phrase| &*phrase.english).collect();
        let tested: HashSet<&str> = test.iter().map(|phrase| &*phrase.english).collect();
        assert_eq!((training.len(), tested.len()), (5_000, 500));
        assert!(learnt.is_disjoint(&tested));
        assert_eq!(phrases(2, 5_000, 500), (training.clone(), test));
        assert_ne!(phrases(3, 5_000, 0).0, training);
    }

    #[test]
    fn one_is_an_article_and_many_have_a_plural() {
        let mut random = Random::new(1, Purpose::Phrases, 0, 0);
        let mut ones = 0;
        for _ in 0..3_000 {
            let [english, german] = content(Content::Things, &mut random);
            match english.strip_prefix("one ").filter(|rest| !rest.contains(' ')) {
                Some(_) => {
                    ones += 1;
                    assert!(german.starts_with("ein"), "{german}");
                    assert!(german.split_once(' ').unwrap().0.len() <= 5, "{german}");
                }
                None => assert!(!german.starts_with("ein "), "{german}"),
            }
        }
        assert!(ones > 0);
    }
}
