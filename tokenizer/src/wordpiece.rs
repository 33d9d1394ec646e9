//! WordPiece: a word into the longest pieces of the vocabulary, from the left.
//!
//! The algorithm is LinMaxMatch (Song et al., Fast WordPiece Tokenization,
//! arXiv:2012.15524). Where the trie has no edge for the next byte, the plain
//! algorithm goes back to the end of the longest match and reads the same
//! bytes again. Here each node `v`, read as the string from the root to it,
//! knows ahead of time
//!
//! - `pops(v)`, the pieces that the plain algorithm would cut from the front
//!   of that string until what remains is the beginning of a piece, and
//! - `fail(v)`, the node of that remainder,
//!
//! so that no byte is read twice: linear time for any text and vocabulary.
//!
//! Two departures from the paper. The trie works on bytes; since every piece
//! ends between characters, so does every match. And pops are chains that
//! share their beginnings, so that their size is linear in the vocabulary too.

use crate::trie::{NONE, Trie};
use crate::vocab::Vocab;

/// A piece of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Its id.
    pub(crate) id: u32,
    /// How many bytes of the word it covers.
    pub(crate) len: u32,
}

/// A piece at the end of a chain of pieces.
#[derive(Clone, Copy, Debug)]
struct Link {
    piece: Piece,
    before: u32,
}

/// What to do at a node that has no edge for the next byte.
#[derive(Clone, Copy, Debug)]
struct Failure {
    /// The node to go to; [`NONE`] where no pieces fit.
    node: u32,
    /// The last link of the pieces to emit.
    pops: u32,
}

/// The matcher.
///
/// One trie holds two sets of keys, told apart by a first byte of their own:
/// the tokens as they are, for the beginning of a word, and those with the
/// continuation prefix, without it, for the rest.
#[derive(Clone, Debug)]
pub(crate) struct WordPiece {
    trie: Trie,
    failures: Vec<Failure>,
    links: Vec<Link>,
    /// Where words begin.
    start: u32,
    /// Where continuations begin.
    middle: u32,
    /// The largest number of characters in a word that is not unknown.
    max_chars: usize,
}

const START: u8 = 0;
const MIDDLE: u8 = 1;

impl WordPiece {
    pub(crate) fn new(vocab: &Vocab, prefix: &str, max_chars: usize) -> Self {
        // The two first bytes alone, so that both nodes are there.
        let mut keys = vec![(vec![START], 0), (vec![MIDDLE], 0)];
        for (token, id) in vocab.iter().filter(|(token, _)| !token.is_empty()) {
            let mut key = |first, rest: &str| keys.push(([&[first], rest.as_bytes()].concat(), id));
            key(START, token);
            match token.strip_prefix(prefix) {
                Some(rest) if !rest.is_empty() => key(MIDDLE, rest),
                _ => {}
            }
        }
        keys.sort();
        let (trie, order) = Trie::build(&keys.iter().map(|(key, _)| key).collect::<Vec<_>>());
        let nowhere = Failure { node: NONE, pops: NONE };
        let mut this = Self {
            failures: vec![nowhere; trie.len()],
            start: trie.child(Trie::ROOT, START),
            middle: trie.child(Trie::ROOT, MIDDLE),
            trie,
            links: Vec::new(),
            max_chars,
        };
        for placed in order {
            if placed.parent == Trie::ROOT {
                continue;
            }
            let failure = match placed.key {
                Some(key) => {
                    let (key, id) = &keys[key as usize];
                    let piece = Piece { id: *id, len: key.len() as u32 - 1 };
                    Failure { node: this.middle, pops: this.link(NONE, piece) }
                }
                None => this.fail(this.failures[placed.parent as usize], placed.byte),
            };
            this.failures[placed.node as usize] = failure;
        }
        this
    }

    fn link(&mut self, before: u32, piece: Piece) -> u32 {
        self.links.push(Link { piece, before });
        self.links.len() as u32 - 1
    }

    /// The failure of a node that ends no token, from its parent's: go on
    /// failing until there is an edge along `byte`.
    fn fail(&mut self, parent: Failure, byte: u8) -> Failure {
        let mut popped = Vec::new();
        let mut node = parent.node;
        while node != NONE {
            let child = self.trie.child(node, byte);
            if child != NONE {
                let pops = popped.into_iter().fold(parent.pops, |mut chain, pops| {
                    for at in self.chain(pops) {
                        chain = self.link(chain, self.links[at as usize].piece);
                    }
                    chain
                });
                return Failure { node: child, pops };
            }
            let failure = self.failures[node as usize];
            popped.push(failure.pops);
            node = failure.node;
        }
        Failure { node: NONE, pops: NONE }
    }

    /// The links of a chain, first one first.
    fn chain(&self, last: u32) -> Vec<u32> {
        let some = |at: u32| (at != NONE).then_some(at);
        let before = |&at: &u32| some(self.links[at as usize].before);
        let mut links: Vec<u32> = std::iter::successors(some(last), before).collect();
        links.reverse();
        links
    }

    /// The pieces of a word, or false if it is unknown.
    ///
    /// `word` has `chars` characters; `pieces` is overwritten.
    pub(crate) fn encode(&self, word: &[u8], chars: usize, pieces: &mut Vec<Piece>) -> bool {
        pieces.clear();
        if chars > self.max_chars {
            return false;
        }
        let mut node = self.start;
        for &byte in word {
            loop {
                let child = self.trie.child(node, byte);
                if child != NONE {
                    node = child;
                    break;
                }
                match self.pop(node, pieces) {
                    NONE => return false,
                    next => node = next,
                }
            }
        }
        // No byte is left: every remainder has to be made of whole pieces.
        while node != self.middle {
            match self.pop(node, pieces) {
                NONE => return false,
                next => node = next,
            }
        }
        true
    }

    /// Emits the pops of `node` and returns where it fails to.
    #[inline]
    fn pop(&self, node: u32, pieces: &mut Vec<Piece>) -> u32 {
        let failure = self.failures[node as usize];
        let first = pieces.len();
        let mut at = failure.pops;
        while at != NONE {
            let link = self.links[at as usize];
            pieces.push(link.piece);
            at = link.before;
        }
        pieces[first..].reverse();
        failure.node
    }

    /// The id of a token, the whole of it.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        let node = token.bytes().try_fold(self.start, |node, byte| {
            Some(self.trie.child(node, byte)).filter(|&child| child != NONE)
        })?;
        let link = self.links.get(self.failures[node as usize].pops as usize)?;
        let whole = link.before == NONE && link.piece.len as usize == token.len();
        whole.then_some(link.piece.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::Place;
    use proptest::prelude::*;

    fn wordpiece(tokens: &[&str], max_chars: usize) -> WordPiece {
        let tokens = tokens.iter().enumerate().map(|(i, t)| (t.to_string(), i as u32)).collect();
        WordPiece::new(&Vocab::new("v", Place::Id, tokens).expect("valid"), "##", max_chars)
    }

    fn encode(model: &WordPiece, word: &str) -> Option<Vec<u32>> {
        let mut pieces = Vec::new();
        model
            .encode(word.as_bytes(), word.chars().count(), &mut pieces)
            .then(|| pieces.iter().map(|piece| piece.id).collect())
    }

    /// The algorithm as it is usually written down.
    fn longest_match_first(tokens: &[&str], word: &str) -> Option<Vec<u32>> {
        let mut ids = Vec::new();
        let mut start = 0;
        while start < word.len() {
            let (id, end) = (start + 1..=word.len()).rev().find_map(|end| {
                let prefix = if start > 0 { "##" } else { "" };
                let piece = format!("{prefix}{}", word.get(start..end)?);
                Some((tokens.iter().position(|&token| token == piece)?, end))
            })?;
            ids.push(id as u32);
            start = end;
        }
        Some(ids)
    }

    #[test]
    fn example_of_the_paper() {
        let tokens = ["a", "abcdx", "##b", "##c", "##cdy", "##dz"];
        let model = wordpiece(&tokens, 100);
        assert_eq!(encode(&model, "abcdz"), Some(vec![0, 2, 3, 5]));
        assert_eq!(encode(&model, "abcz"), None);
        assert_eq!(encode(&model, "abcd"), None);
    }

    #[test]
    fn length_counts_characters() {
        let model = wordpiece(&["é", "##é"], 3);
        assert_eq!(encode(&model, "ééé"), Some(vec![0, 1, 1]));
        assert_eq!(encode(&model, "éééé"), None);
    }

    #[test]
    fn without_continuations() {
        let model = wordpiece(&["a", "abc"], 100);
        assert_eq!(encode(&model, "abc"), Some(vec![1]));
        assert_eq!(encode(&model, "ab"), None);
        assert_eq!(encode(&model, "aa"), None);
        assert_eq!(encode(&wordpiece(&[], 100), "a"), None);
    }

    #[test]
    fn ids() {
        let model = wordpiece(&["a", "##a", "[UNK]"], 100);
        assert_eq!(model.id("##a"), Some(1));
        assert_eq!(model.id("[UNK]"), Some(2));
        assert_eq!(model.id("[UN"), None);
        assert_eq!(model.id("##"), None);
        assert_eq!(model.id(""), None);
    }

    /// A token of 20,000 characters under single ones: its chains of pops
    /// would be quadratic if they did not share.
    #[test]
    fn long_tokens_take_linear_room() {
        let long = "a".repeat(20_000);
        let model = wordpiece(&["a", "##a", &long], usize::MAX);
        assert!(model.links.len() < 60_000);
        assert_eq!(encode(&model, &long), Some(vec![2]));
        let mut almost = vec![1; 19_998];
        almost.insert(0, 0);
        assert_eq!(encode(&model, &long[1..]), Some(almost));
    }

    proptest! {
        #[test]
        fn equals_longest_match_first(
            tokens in proptest::collection::btree_set("(##)?[ab#é]{1,4}", 0..20),
            words in proptest::collection::vec("[ab#é]{1,10}", 20),
        ) {
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            let model = wordpiece(&tokens, 100);
            for word in &words {
                prop_assert_eq!(encode(&model, word), longest_match_first(&tokens, word));
            }
            for (id, token) in tokens.iter().enumerate() {
                prop_assert_eq!(model.id(token), Some(id as u32));
            }
        }
    }
}
