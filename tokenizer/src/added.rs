//! Added tokens: strings looked for in the text before anything else.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::unicode::is_word;

/// A token that is found in the text as it is written, such as `[MASK]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// The string.
    pub content: String,
    /// Whether it only counts where no letter, digit or `_` touches it.
    pub single_word: bool,
    /// Whether white space before it belongs to it.
    pub lstrip: bool,
    /// Whether white space after it belongs to it.
    pub rstrip: bool,
    /// Whether to look for it, normalised, in the normalised text.
    pub normalized: bool,
    /// Whether [`decode`](crate::Tokenizer::decode) can leave it out.
    pub special: bool,
}

impl AddedToken {
    /// A special token, found only as it is written.
    pub fn special(content: impl Into<String>) -> Self {
        Self {
            content: content.into(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }
}

/// The added tokens of a tokenizer.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    /// With their ids, by id.
    tokens: Vec<(AddedToken, u32)>,
    /// The indices of the tokens, by content.
    by_content: Vec<usize>,
    /// The contents of the special ones, sorted.
    specials: Vec<String>,
    written: Option<Matcher>,
    normalized: Option<Matcher>,
}

/// Finds the leftmost added token, and there the longest.
#[derive(Clone, Debug)]
struct Matcher {
    automaton: AhoCorasick,
    /// For each pattern, the index of its token.
    tokens: Vec<usize>,
}

impl Matcher {
    /// The most bytes of patterns for which the fastest automaton is built: it takes up to a
    /// kilobyte for each.
    const FAST_BYTES: usize = 1 << 14;

    /// Patterns that normalisation has emptied are left out.
    fn new(patterns: Vec<(String, usize)>) -> Option<Self> {
        let (patterns, tokens): (Vec<_>, Vec<_>) =
            patterns.into_iter().filter(|(pattern, _)| !pattern.is_empty()).unzip();
        if patterns.is_empty() {
            return None;
        }
        let bytes: usize = patterns.iter().map(String::len).sum();
        let automaton = AhoCorasick::builder()
            .kind((bytes > Self::FAST_BYTES).then_some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::LeftmostLongest)
            .build(&patterns)
            .expect("the added tokens are far fewer than an automaton can hold");
        Some(Self { automaton, tokens })
    }
}

/// A part of a text cut at the added tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text without any.
    Text(Range<usize>),
    /// An added token, by id.
    Token(u32, Range<usize>),
}

impl Added {
    /// `normalize` is applied to tokens that are looked for in normalised text.
    pub(crate) fn new(
        mut tokens: Vec<(AddedToken, u32)>,
        mut normalize: impl FnMut(&str) -> String,
    ) -> Self {
        tokens.sort_by_key(|&(_, id)| id);
        // Of tokens that normalise to the same, a special one comes first.
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|&i| !tokens[i].0.special);
        let (mut written, mut normalized) = (Vec::new(), Vec::new());
        for i in order {
            let token = &tokens[i].0;
            if token.normalized {
                normalized.push((normalize(&token.content), i));
            } else {
                written.push((token.content.clone(), i));
            }
        }
        Self {
            written: Matcher::new(written),
            normalized: Matcher::new(normalized),
            ..Self::not_found(tokens)
        }
    }

    /// Tokens that are not looked for in texts.
    pub(crate) fn not_found(mut tokens: Vec<(AddedToken, u32)>) -> Self {
        tokens.sort_by_key(|&(_, id)| id);
        let special = tokens.iter().filter(|(token, _)| token.special);
        let mut specials: Vec<_> = special.map(|(token, _)| token.content.clone()).collect();
        specials.sort();
        let mut by_content: Vec<usize> = (0..tokens.len()).collect();
        by_content.sort_by(|&a, &b| tokens[a].0.content.cmp(&tokens[b].0.content));
        Self { tokens, by_content, specials, written: None, normalized: None }
    }

    /// Whether this is the content of a special token.
    pub(crate) fn is_special(&self, content: &str) -> bool {
        self.specials.binary_search_by(|special| special.as_str().cmp(content)).is_ok()
    }

    /// All of them, with their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&AddedToken, u32)> {
        self.tokens.iter().map(|(token, id)| (token, *id))
    }

    /// The added token with this id.
    pub(crate) fn token(&self, id: u32) -> Option<&AddedToken> {
        let at = self.tokens.binary_search_by_key(&id, |&(_, id)| id).ok()?;
        Some(&self.tokens[at].0)
    }

    /// The id of an added token.
    pub(crate) fn id(&self, content: &str) -> Option<u32> {
        let order = |&index: &usize| self.tokens[index].0.content.as_str().cmp(content);
        let at = self.by_content.binary_search_by(order).ok()?;
        Some(self.tokens[self.by_content[at]].1)
    }

    /// Whether some are looked for in normalised text.
    pub(crate) fn need_normalized_text(&self) -> bool {
        self.normalized.is_some()
    }

    /// Cuts a text as it is written.
    pub(crate) fn split_written(&self, text: &str, emit: impl FnMut(Part)) {
        self.split(self.written.as_ref(), text, emit);
    }

    /// Cuts a normalised text.
    pub(crate) fn split_normalized(&self, text: &str, emit: impl FnMut(Part)) {
        self.split(self.normalized.as_ref(), text, emit);
    }

    fn split(&self, matcher: Option<&Matcher>, text: &str, mut emit: impl FnMut(Part)) {
        let mut done = 0;
        for found in matcher.iter().flat_map(|m| m.automaton.find_iter(text).map(move |f| (m, f))) {
            let (matcher, found) = found;
            let (token, id) = &self.tokens[matcher.tokens[found.pattern()]];
            let (before, after) = (&text[..found.start()], &text[found.end()..]);
            let touched = |c: Option<char>| c.is_some_and(is_word);
            if token.single_word
                && (touched(before.chars().next_back()) || touched(after.chars().next()))
            {
                continue;
            }
            let (mut start, mut end) = (found.start(), found.end());
            if token.lstrip {
                // White space that the token before has taken is gone.
                start = before.trim_end().len().max(done);
            }
            if token.rstrip {
                end = text.len() - after.trim_start().len();
            }
            if start >= end {
                // And with it a token that was nothing else.
                continue;
            }
            if done < start {
                emit(Part::Text(done..start));
            }
            emit(Part::Token(*id, start..end));
            done = end;
        }
        if done < text.len() {
            emit(Part::Text(done..text.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(tokens: &[AddedToken], text: &str) -> Vec<Part> {
        let tokens = tokens.iter().cloned().zip(100..).collect();
        let mut parts = Vec::new();
        Added::new(tokens, str::to_lowercase).split_written(text, |part| parts.push(part));
        parts
    }

    #[test]
    fn leftmost_longest() {
        let tokens = [AddedToken::special("[M]"), AddedToken::special("[M][M]")];
        let parts = split(&tokens, "a[M][M]b[M]");
        use Part::{Text, Token};
        assert_eq!(parts, [Text(0..1), Token(101, 1..7), Text(7..8), Token(100, 8..11)]);
        assert_eq!(split(&tokens, ""), []);
        assert_eq!(split(&[], "ab"), [Text(0..2)]);
    }

    #[test]
    fn flags() {
        use Part::{Text, Token};
        let strip = AddedToken { lstrip: true, rstrip: true, ..AddedToken::special("x") };
        assert_eq!(
            split(&[strip], "a  x x\u{3000}b"),
            [Text(0..1), Token(100, 1..5), Token(100, 5..9), Text(9..10)]
        );
        // The reference gives the second its own place again.
        let strip = AddedToken { rstrip: true, ..AddedToken::special("x") };
        let space = AddedToken::special(" ");
        assert_eq!(
            split(&[strip.clone(), space.clone()], "x "),
            [Token(100, 0..2), Token(101, 1..2)]
        );
        let space = AddedToken { lstrip: true, ..space };
        assert_eq!(split(&[strip, space], "x "), [Token(100, 0..2)]);
        let single = AddedToken { single_word: true, ..AddedToken::special("x") };
        assert_eq!(split(&[single], "ax x-x_"), [Text(0..3), Token(100, 3..4), Text(4..7)]);
    }
}
