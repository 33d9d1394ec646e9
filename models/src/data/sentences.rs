//! Where a sentence of raw prose ends.
//!
//! By [`SentenceRule::Split`] a sentence ends after a run of `.`, `!`, `?` or `…` and the closing quotes and brackets behind
//! it, if white space follows, and then a capital, a digit, an opening quote or an opening bracket.
//! A single full stop does not end it behind
//!
//! - one of [`ABBREVIATIONS`], in any case: "Mr. Smith";
//! - one letter, or letters with stops between them: "J. Smith", "J.R.R. Tolkien", "e.g. Rust".
//!
//! That is wrong now and then ("It was I. You knew."): two sentences are taken for one, which a
//! model can live with. Text of a language without these marks stays as it is in its lines.

/// Words whose full stop ends no sentence. Those that end one as often, "etc." or "Inc.", are not
/// here.
pub const ABBREVIATIONS: [&str; 40] = [
    "apr", "aug", "capt", "cf", "col", "dec", "dr", "eq", "feb", "fig", "figs", "gen", "gov",
    "hon", "jan", "jr", "lt", "messrs", "mr", "mrs", "ms", "mt", "nov", "oct", "op", "pp", "prof",
    "pres", "rep", "rev", "sen", "sept", "sgt", "sr", "st", "viz", "vol", "vols", "vs", "wm",
];

/// What a sentence is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SentenceRule {
    /// A line.
    Lines,
    /// A line, or a part of one: it ends after `.`, `!` or `?` and closing quotes, before white
    /// space and a capital, a digit or an opening quote, but for [`ABBREVIATIONS`] and initials.
    /// Lines are never joined.
    #[default]
    Split,
}

impl SentenceRule {
    /// The sentences of a line, without the white space around them; none if it is blank. Takes
    /// time linear in the line.
    ///
    /// ```
    /// use ferrite_models::data::SentenceRule;
    ///
    /// let line = "Dr. Watson, I presume? \"Quite so.\" He sat down, e.g. on a chair.";
    /// let sentences: Vec<&str> = SentenceRule::Split.split(line).collect();
    /// assert_eq!(
    ///     sentences,
    ///     ["Dr. Watson, I presume?", "\"Quite so.\"", "He sat down, e.g. on a chair."]
    /// );
    /// ```
    pub fn split(self, line: &str) -> impl Iterator<Item = &str> {
        let mut rest = line.trim();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let end = match self {
                SentenceRule::Lines => rest.len(),
                SentenceRule::Split => first_end(rest),
            };
            let (sentence, after) = rest.split_at(end);
            rest = after.trim_start();
            Some(sentence)
        })
    }
}

/// The byte after the first sentence of a text.
fn first_end(text: &str) -> usize {
    let mut word = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            word = at + c.len_utf8();
            continue;
        }
        if !is_mark(c) {
            continue;
        }
        let mut lone_stop = c == '.';
        while chars.next_if(|&(_, c)| is_mark(c)).is_some() {
            lone_stop = false;
        }
        while chars.next_if(|&(_, c)| is_closing(c)).is_some() {}
        let Some(&(end, space)) = chars.peek() else { return text.len() };
        if space.is_whitespace()
            && text[end..].trim_start().starts_with(begins_sentence)
            && !(lone_stop && is_abbreviation(&text[word..at]))
        {
            return end;
        }
    }
    text.len()
}

fn is_mark(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…')
}

fn is_closing(c: char) -> bool {
    matches!(c, '"' | '\'' | '”' | '’' | '»' | ')' | ']' | '}')
}

fn is_opening(c: char) -> bool {
    matches!(c, '"' | '\'' | '“' | '‘' | '„' | '«' | '(' | '[' | '{' | '¿' | '¡')
}

fn begins_sentence(c: char) -> bool {
    c.is_uppercase() || c.is_numeric() || is_opening(c)
}

/// Whether a word in front of a full stop is short for something.
fn is_abbreviation(word: &str) -> bool {
    let word = word.trim_start_matches(is_opening);
    let is_letter = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(char::is_alphabetic) && chars.next().is_none()
    };
    word.split('.').all(is_letter)
        || ABBREVIATIONS.iter().any(|known| known.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(line: &str) -> Vec<&str> {
        SentenceRule::Split.split(line).collect()
    }

    #[test]
    fn sentences_end_where_they_should() {
        for sentences in [
            &["One.", "Two!", "Three?", "4 is a number.", "Five"][..],
            &["Really?!", "Yes...", "No…", "Fine."],
            &["He said \"Go.\"", "She went.", "“Why?”", "(Nobody knew.)", "‘Well.’"],
            &["Über den Fluss.", "Äpfel.", "¿Qué?", "«Non.»", "Élan."],
        ] {
            assert_eq!(split(&sentences.join(" ")), sentences);
            assert_eq!(split(&format!(" \t{}\r\n", sentences.join(" \u{a0} "))), sentences);
        }
    }

    #[test]
    fn nothing_else_ends_one() {
        for line in [
            "Mr. Smith met Mrs. Brown and Dr. No at St. Pauls, cf. Vol. 2, pp. 3.",
            "(Prof. Moriarty) MR. HOLMES",
            "J. R. R. Tolkien and J.R.R. Tolkien, e.g. The Hobbit, i.e. This one, U.S. Army",
            "It cost 3.14 dollars, ver. two, and then. nothing",
            "no space.After it, www.Example.Com",
            "a single one",
        ] {
            assert_eq!(split(line), [line]);
        }
        // What is doubled is no abbreviation.
        assert_eq!(split("By J.. Smith").len(), 2);
        assert_eq!(split("Was it Mr.? No").len(), 2);
        for blank in ["", " ", "\t\r\n", "\u{3000}"] {
            assert_eq!(split(blank), [""; 0]);
        }
    }

    #[test]
    fn a_megabyte_takes_no_time() {
        for unit in ["a", ".", ". ", "A.", "A. ", "\". ", "...) A", "\u{2003}."] {
            let line = unit.repeat((1 << 20) / unit.len());
            let started = std::time::Instant::now();
            let bytes: usize = split(&line).iter().map(|sentence| sentence.len()).sum();
            assert!(bytes <= line.len());
            assert!(started.elapsed().as_secs() < 5, "{unit:?}");
        }
    }

    proptest! {
        /// Nothing but white space is lost, and no sentence is empty.
        #[test]
        fn all_text_is_kept(line in "([A-Za-z.!?…\"') \u{a0}é]|Mr\\. |\\PC){0,60}") {
            let bare = |text: &str| text.split_whitespace().collect::<String>();
            let sentences = split(&line);
            prop_assert_eq!(bare(&sentences.concat()), bare(&line));
            prop_assert!(sentences.iter().all(|s| !s.is_empty() && s.trim() == *s));
        }
    }
}
