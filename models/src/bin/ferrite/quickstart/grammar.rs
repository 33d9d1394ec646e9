//! Little stories in English, drawn at random: who and what a story is about, and its plot filled in
//! with that.

use ferrite_models::data::{Purpose, Random};

use super::plots::PLOTS;
use super::words::{
    ANIMALS, Animal, COLOURS, DAYS, FOODS, Food, HIDING, JOBS, Job, NUMBERS, PEOPLE, PETS, PLACES,
    Person, Place, THINGS, Thing, WEATHER, Weather,
};

/// Who and what a story is about. Nobody and nothing is there twice.
#[derive(Clone, Debug)]
pub(super) struct Cast {
    /// The heroes, a woman and a man in any order, so that "he" and "she" say who is meant.
    pub(super) a: &'static Person,
    pub(super) b: &'static Person,
    pub(super) animal: &'static Animal,
    pub(super) animal2: &'static Animal,
    pub(super) pet: &'static str,
    pub(super) thing: &'static Thing,
    pub(super) colour: &'static str,
    pub(super) place: &'static Place,
    pub(super) hiding: &'static str,
    pub(super) food: &'static Food,
    pub(super) job: &'static Job,
    pub(super) job2: &'static Job,
    pub(super) weather: &'static Weather,
    pub(super) day: &'static str,
    /// A price, 2 to 9.
    pub(super) price: usize,
}

/// One of some.
pub(super) fn one<T>(of: &'static [T], random: &mut Random) -> &'static T {
    &of[random.index(of.len())]
}

/// One of some texts.
pub(super) fn one_text(of: &'static [&'static str], random: &mut Random) -> &'static str {
    of[random.index(of.len())]
}

/// Two different ones.
fn two<T>(of: &'static [T], random: &mut Random) -> [&'static T; 2] {
    let first = random.index(of.len());
    let step = random.between(1, of.len() - 1);
    [&of[first], &of[(first + step) % of.len()]]
}

impl Cast {
    /// A cast, drawn at random.
    pub(super) fn draw(random: &mut Random) -> Cast {
        let mut person = |is_female: bool| loop {
            let person = one(&PEOPLE, random);
            if person.is_female == is_female {
                return person;
            }
        };
        let (woman, man) = (person(true), person(false));
        let (a, b) = if random.chance(0.5) { (woman, man) } else { (man, woman) };
        let [animal, animal2] = two(&ANIMALS, random);
        let [job, job2] = two(&JOBS, random);
        Cast {
            a,
            b,
            animal,
            animal2,
            pet: one_text(&PETS, random),
            thing: one(&THINGS, random),
            colour: one_text(&COLOURS, random),
            place: one(&PLACES, random),
            hiding: one_text(&HIDING, random),
            food: one(&FOODS, random),
            job,
            job2,
            weather: one(&WEATHER, random),
            day: one_text(&DAYS, random),
            price: random.between(2, 9),
        }
    }

    /// The word for a slot.
    ///
    /// # Panics
    /// If there is no such slot: the templates are constants, and a test fills all of them.
    fn word(&self, slot: &str) -> &'static str {
        if let Some((who, form)) = slot.split_once('.') {
            let person = self.person(who);
            return match (form, person.is_female) {
                ("he", false) => "he",
                ("he", true) => "she",
                ("him", false) => "him",
                ("him" | "his", true) => "her",
                ("his", false) => "his",
                _ => panic!("no form {form} of a person"),
            };
        }
        match slot {
            "A" | "B" => self.person(slot).name,
            "pet" => self.pet,
            "animal" => self.animal.noun,
            "animal2" => self.animal2.noun,
            "cried" => self.animal.cried,
            "moved" => self.animal.moved,
            "fodder" => self.animal.food,
            "home" => self.animal.home,
            "thing" => self.thing.noun,
            "used" => self.thing.used,
            "colour" => self.colour,
            "place" => self.place.noun,
            "sight" => self.place.sight,
            "hiding" => self.hiding,
            "food" => self.food.noun,
            "made" => self.food.made,
            "ate" => self.food.ate,
            "dish" => self.food.dish,
            "taste" => self.food.taste,
            "hungry" => {
                if self.food.ate == "drank" {
                    "thirsty"
                } else {
                    "hungry"
                }
            }
            "job" => self.job.noun,
            "job2" => self.job2.noun,
            "workplace" => self.job.place,
            "tool" => self.job.tool,
            "produced" => self.job.made,
            "product" => self.job.product,
            "begins" => self.weather.begins,
            "effect" => self.weather.effect,
            "gear" => self.weather.gear,
            "ends" => self.weather.ends,
            "day" => self.day,
            "n" => NUMBERS[self.price],
            _ => panic!("no slot {slot}"),
        }
    }

    fn person(&self, who: &str) -> &'static Person {
        match who {
            "A" => self.a,
            "B" => self.b,
            _ => panic!("nobody is called {who}"),
        }
    }

    /// A template with its slots filled: sentences with a capital at the beginning, and "an" where
    /// a vowel follows.
    pub(super) fn fill(&self, template: &str) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (slot, after) = after.split_once('}').expect("a slot is closed");
            text.push_str(before);
            text.push_str(self.word(slot));
            rest = after;
        }
        text.push_str(rest);
        polish(&text)
    }
}

/// "a apple." to "An apple."
fn polish(text: &str) -> String {
    let mut polished = String::new();
    let mut words = text.split(' ').peekable();
    let mut begins = true;
    while let Some(word) = words.next() {
        let vowel = words.peek().is_some_and(|next| next.starts_with(['a', 'e', 'i', 'o', 'u']));
        let word = if word == "a" && vowel { "an" } else { word };
        if !polished.is_empty() {
            polished.push(' ');
        }
        let mut letters = word.chars();
        if let (true, Some(first)) = (begins, letters.next()) {
            polished.extend(first.to_uppercase());
            polished.push_str(letters.as_str());
        } else {
            polished.push_str(word);
        }
        begins = word.ends_with(['.', '?']);
    }
    polished
}

/// Story number `number`: some sentences, each a text of its own. Numbers have streams of their own,
/// so that a story does not depend on how many there are.
pub(super) fn story(seed: u64, number: u64) -> Vec<String> {
    let mut random = Random::new(seed, Purpose::Stories, 0, number);
    let cast = Cast::draw(&mut random);
    let mut sentences = Vec::new();
    for beat in *one(&PLOTS, &mut random) {
        let text = cast.fill(one_text(beat, &mut random));
        sentences.extend(text.split_inclusive(['.', '?']).map(|part| part.trim().to_owned()));
    }
    sentences
}

/// Stories 0 up to `stories` as a corpus: a sentence a line, a blank line after each story.
pub(super) fn corpus(seed: u64, stories: u64) -> String {
    let mut text = String::new();
    for number in 0..stories {
        for sentence in story(seed, number) {
            text.push_str(&sentence);
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_template_can_be_filled() {
        let mut random = Random::new(1, Purpose::Stories, 0, 0);
        for _ in 0..50 {
            let cast = Cast::draw(&mut random);
            for template in PLOTS.iter().copied().flatten().copied().flatten() {
                let text = cast.fill(template);
                assert!(text.ends_with(['.', '?']), "{text}");
                assert!(text.starts_with(char::is_uppercase), "{text}");
                assert!(!text.contains(['{', '}']) && !text.contains("  "), "{text}");
                for wrong in [" a a", " a e", " a i", " a o", " a u", " an b", " an s"] {
                    assert!(!text.contains(wrong), "{text}");
                }
            }
        }
    }

    #[test]
    fn nobody_and_nothing_is_there_twice() {
        let mut random = Random::new(2, Purpose::Stories, 0, 0);
        for _ in 0..2000 {
            let cast = Cast::draw(&mut random);
            assert_ne!(cast.a.is_female, cast.b.is_female);
            assert!(cast.animal != cast.animal2 && cast.job != cast.job2);
            assert!((2..=9).contains(&cast.price));
        }
    }

    #[test]
    fn stories_have_an_order_and_keep_to_their_people() {
        let people: Vec<_> = PEOPLE.iter().map(|person| person.name).collect();
        for number in 0..500 {
            let story = story(3, number);
            assert!((6..=16).contains(&story.len()), "{story:?}");
            let text = story.join(" ");
            let words: Vec<&str> = text.split(|c: char| !c.is_alphabetic()).collect();
            let named = people.iter().filter(|name| words.contains(name)).count();
            assert_eq!(named, 2, "people in {text}");
        }
    }

    #[test]
    fn sentences_are_polished() {
        assert_eq!(polish("a owl saw a hen. a egg?"), "An owl saw a hen. An egg?");
    }

    #[test]
    fn there_are_thousands_of_sentences_and_hundreds_of_words() {
        let text = corpus(1, 4000);
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let sentences: BTreeSet<&str> = lines.iter().copied().collect();
        assert!(sentences.len() > 5_000, "{} of {}", sentences.len(), lines.len());
        let words: BTreeSet<&str> =
            text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).collect();
        assert!((300..600).contains(&words.len()), "{}", words.len());
    }

    #[test]
    fn a_seed_has_its_stories() {
        assert_eq!(corpus(1, 20), corpus(1, 20));
        assert!(corpus(1, 20).starts_with(&corpus(1, 10)));
        assert_ne!(story(1, 5), story(2, 5));
        assert_ne!(story(1, 5), story(1, 6));
    }
}
