//! Pairs as token ids, all of them in memory.

/// The token ids of pairs of texts, numbered from 0, without special tokens.
///
/// A text of 4.5 million pairs, as many as the paper's English and German, takes about one
/// gigabyte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedPairs {
    /// Source, target, source, target.
    ids: Vec<u32>,
    /// Where the source and the target of each pair end.
    ends: Vec<[usize; 2]>,
    lines: Vec<u64>,
}

impl EncodedPairs {
    /// Adds a pair, which stands in this line of its file, from 1.
    pub fn push(&mut self, source: &[u32], target: &[u32], line: u64) {
        self.ids.extend_from_slice(source);
        let middle = self.ids.len();
        self.ids.extend_from_slice(target);
        self.ends.push([middle, self.ids.len()]);
        self.lines.push(line);
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The source and the target of a pair.
    ///
    /// # Panics
    /// If there is no such pair.
    #[track_caller]
    pub fn get(&self, number: usize) -> (&[u32], &[u32]) {
        let start = if number == 0 { 0 } else { self.ends[number - 1][1] };
        let [middle, end] = self.ends[number];
        (&self.ids[start..middle], &self.ids[middle..end])
    }

    /// What all of it takes in memory.
    pub fn bytes(&self) -> u64 {
        let ids = self.ids.capacity() * size_of::<u32>();
        let ends = self.ends.capacity() * size_of::<[usize; 2]>();
        (ids + ends + self.lines.capacity() * size_of::<u64>()) as u64
    }

    /// The line of a pair, from 1.
    ///
    /// # Panics
    /// If there is no such pair.
    #[track_caller]
    pub fn line(&self, number: usize) -> u64 {
        self.lines[number]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back() {
        let given: [(&[u32], &[u32], u64); 4] =
            [(&[1, 2], &[3], 1), (&[], &[4], 3), (&[], &[], 4), (&[5], &[], 9)];
        let mut pairs = EncodedPairs::default();
        assert!(pairs.is_empty());
        given.iter().for_each(|(source, target, line)| pairs.push(source, target, *line));
        assert_eq!(pairs.len(), 4);
        for (number, &(source, target, line)) in given.iter().enumerate() {
            assert_eq!((pairs.get(number), pairs.line(number)), ((source, target), line));
        }
    }
}
