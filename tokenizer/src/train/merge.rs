//! Merging the best pair of neighbours, again and again.
//!
//! Nothing is counted twice: each pair knows how often it occurs and in which words, a merge looks
//! at these words alone, and in them at the neighbourhood of what it merges. The result is that of
//! counting everything anew before each merge, which `reference.rs` does.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::queue::{Queue, Score};
use super::{PairScore, Stop, TrainProgress};

/// What marks a piece inside a word.
pub(super) const PREFIX: &str = "##";

/// How to merge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Which pair is the best.
    pub(super) score: PairScore,
    /// Pairs that occur less often are not merged.
    pub(super) min_frequency: u64,
    /// Tokens at which to stop.
    pub(super) size: usize,
}

/// Tokens by number, and numbers by token.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    tokens: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32>,
}

impl Symbols {
    /// The number of a token, which is a new one if need be.
    pub(super) fn intern(&mut self, token: &str) -> u32 {
        if let Some(&number) = self.numbers.get(token) {
            return number;
        }
        let number = self.tokens.len() as u32;
        self.tokens.push(token.into());
        self.numbers.insert(token.into(), number);
        number
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn into_tokens(self) -> Vec<String> {
        self.tokens.into_iter().map(String::from).collect()
    }

    fn token(&self, number: u32) -> &str {
        &self.tokens[number as usize]
    }

    /// The token that two neighbours are together. Another pair may have made it already.
    fn join(&mut self, left: u32, right: u32) -> u32 {
        let right = self.token(right);
        let token = [self.token(left), right.strip_prefix(PREFIX).unwrap_or(right)].concat();
        self.intern(&token)
    }
}

/// A word: its symbols in [`Learner::text`], and how often it occurs.
#[derive(Clone, Copy, Debug)]
struct Word {
    start: usize,
    len: usize,
    count: u64,
}

/// Two symbols that are, or were, next to each other somewhere.
#[derive(Debug)]
struct Pair {
    left: u32,
    right: u32,
    count: u64,
    /// The words that it came into. It may be gone from some, and some may be listed twice.
    words: Vec<u32>,
}

/// All words, cut into symbols.
#[derive(Debug)]
pub(super) struct Learner {
    rules: Rules,
    symbols: Symbols,
    /// The symbols of all words; what merges have made free is left unused.
    text: Vec<u32>,
    words: Vec<Word>,
    pairs: Vec<Pair>,
    numbers: HashMap<(u32, u32), u32>,
    queue: Queue,
    /// Pairs whose count the current merge has changed.
    touched: Vec<u32>,
    /// By symbol, how often it occurs.
    frequencies: Vec<u64>,
    /// By symbol, the pairs with it: their score by likelihood changes with its frequency.
    pairs_of: Vec<Vec<u32>>,
}

impl Learner {
    /// Cuts words into characters. `symbols` has those of the alphabet, as they are and with the
    /// prefix; a word with another character is left out, since it will be unknown whatever the
    /// vocabulary. Also returns how many were, and how often they occur.
    pub(super) fn new<'a>(
        rules: Rules,
        symbols: Symbols,
        words: impl Iterator<Item = (&'a str, u64)>,
    ) -> (Self, (u64, u64)) {
        let mut this = Self {
            rules,
            symbols,
            text: Vec::new(),
            words: Vec::new(),
            pairs: Vec::new(),
            numbers: HashMap::new(),
            queue: Queue::default(),
            touched: Vec::new(),
            frequencies: Vec::new(),
            pairs_of: Vec::new(),
        };
        let mut left_out = (0, 0);
        for (word, count) in words {
            if !this.add(word, count) {
                left_out = (left_out.0 + 1, left_out.1 + count);
            }
        }
        this.touched.clear();
        (0..this.pairs.len() as u32).for_each(|pair| this.update(pair));
        (this, left_out)
    }

    /// Adds a word, or returns false.
    fn add(&mut self, word: &str, count: u64) -> bool {
        let start = self.text.len();
        let mut token = String::new();
        for (index, c) in word.chars().enumerate() {
            token.clear();
            if index > 0 {
                token.push_str(PREFIX);
            }
            token.push(c);
            match self.symbols.numbers.get(token.as_str()) {
                Some(&number) => self.text.push(number),
                None => {
                    self.text.truncate(start);
                    return false;
                }
            }
        }
        let len = self.text.len() - start;
        let number = self.words.len() as u32;
        self.words.push(Word { start, len, count });
        for at in start..start + len {
            self.change_frequency(self.text[at], |frequency| frequency + count);
        }
        for at in start + 1..start + len {
            self.put(at, number, count);
        }
        true
    }

    /// Merges until the vocabulary has its size or no pair is left. Returns the tokens, the number
    /// of merges, and why it ended.
    pub(super) fn learn(
        mut self,
        mut progress: impl FnMut(TrainProgress),
    ) -> (Vec<String>, usize, Stop) {
        let wanted = self.rules.size;
        let mut merges = 0;
        let stop = loop {
            progress(TrainProgress { tokens: self.symbols.len(), wanted });
            if self.symbols.len() >= wanted {
                break Stop::Size;
            }
            match self.queue.best() {
                Some(pair) => self.merge(pair),
                None if self.pairs.iter().any(|pair| pair.count > 0) => break Stop::Rare,
                None => break Stop::Whole,
            }
            merges += 1;
        };
        (self.symbols.into_tokens(), merges, stop)
    }

    /// Makes one symbol of each occurrence of a pair.
    fn merge(&mut self, pair: u32) {
        let Pair { left, right, .. } = self.pairs[pair as usize];
        let joined = self.symbols.join(left, right);
        let mut words = std::mem::take(&mut self.pairs[pair as usize].words);
        words.sort_unstable();
        words.dedup();
        words.iter().for_each(|&word| self.merge_in(word, left, right, joined));

        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched.drain(..).for_each(|pair| self.update(pair));
        self.touched = touched;
        if self.rules.score == PairScore::Likelihood {
            for symbol in [left, right, joined] {
                let pairs = std::mem::take(&mut self.pairs_of[symbol as usize]);
                pairs.iter().for_each(|&pair| self.update(pair));
                self.pairs_of[symbol as usize] = pairs;
            }
        }
    }

    /// The same in one word, from the left.
    fn merge_in(&mut self, number: u32, left: u32, right: u32, joined: u32) {
        let Word { start, len, count } = self.words[number as usize];
        let symbols = &self.text[start..start + len];
        let is_pair = |two: &[u32]| two == [left, right];
        let Some(first) = symbols.windows(2).position(is_pair) else { return };
        let last = symbols.windows(2).rposition(is_pair).unwrap_or(first);
        // The symbols from the one before the first occurrence to the one after the last.
        let (from, to) = (start + first.saturating_sub(1), start + (last + 3).min(len));
        (from + 1..to).for_each(|at| self.take(at, count));

        let (mut read, mut write) = (start + first, start + first);
        while read < start + len {
            if read + 1 < start + len && is_pair(&self.text[read..read + 2]) {
                self.text[write] = joined;
                read += 2;
            } else {
                self.text[write] = self.text[read];
                read += 1;
            }
            write += 1;
        }
        let merged = read - write;
        self.words[number as usize].len -= merged;
        (from + 1..to - merged).for_each(|at| self.put(at, number, count));

        let occurrences = merged as u64 * count;
        self.change_frequency(left, |frequency| frequency - occurrences);
        self.change_frequency(right, |frequency| frequency - occurrences);
        self.change_frequency(joined, |frequency| frequency + occurrences);
    }

    fn change_frequency(&mut self, symbol: u32, change: impl Fn(u64) -> u64) {
        self.grow(symbol);
        let frequency = &mut self.frequencies[symbol as usize];
        *frequency = change(*frequency);
    }

    /// Makes room for what is known of a symbol.
    fn grow(&mut self, symbol: u32) {
        let count = symbol as usize + 1;
        if self.frequencies.len() < count {
            self.frequencies.resize(count, 0);
            self.pairs_of.resize(count, Vec::new());
        }
    }

    /// Counts the pair that ends at `at` of the text in a word.
    fn put(&mut self, at: usize, word: u32, count: u64) {
        let (left, right) = (self.text[at - 1], self.text[at]);
        let next = self.pairs.len() as u32;
        let number = *self.numbers.entry((left, right)).or_insert(next);
        if number == next {
            self.pairs.push(Pair { left, right, count: 0, words: Vec::new() });
            for symbol in [left, right] {
                self.grow(symbol);
                self.pairs_of[symbol as usize].push(number);
            }
        }
        let pair = &mut self.pairs[number as usize];
        pair.count += count;
        if pair.words.last() != Some(&word) {
            pair.words.push(word);
        }
        self.touched.push(number);
    }

    /// Takes back what [`put`](Self::put) did to the count.
    fn take(&mut self, at: usize, count: u64) {
        let number = self.numbers[&(self.text[at - 1], self.text[at])];
        self.pairs[number as usize].count -= count;
        self.touched.push(number);
    }

    /// Tells the queue the score of a pair.
    fn update(&mut self, number: u32) {
        let Self { rules, symbols, pairs, queue, frequencies, .. } = self;
        let Pair { left, right, count, .. } = pairs[number as usize];
        let product = match rules.score {
            PairScore::Count => 1,
            PairScore::Likelihood => {
                let frequency = |symbol: u32| u128::from(frequencies[symbol as usize]);
                frequency(left) * frequency(right)
            }
        };
        let merges = count > 0 && count >= rules.min_frequency;
        let tokens = |pair: u32| {
            let Pair { left, right, .. } = pairs[pair as usize];
            (symbols.token(left), symbols.token(right))
        };
        let order = |a: u32, b: u32| -> Ordering { tokens(a).cmp(&tokens(b)) };
        queue.set(number, merges.then_some(Score { count, product }), &order);
    }
}
