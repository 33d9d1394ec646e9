//! Where the sequences of a packed batch begin and end.

use std::fmt;
use std::ops::Range;

/// The offsets of sequences that lie end to end in the rows of a matrix: n + 1 ascending numbers
/// from zero to the number of rows. Ferrite never pads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    starts: Vec<usize>,
}

/// Offsets that are not ascending from zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSegments {
    /// The first offset that is out of order.
    pub position: usize,
}

impl fmt::Display for InvalidSegments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} of the sequences is out of order", self.position)
    }
}

impl std::error::Error for InvalidSegments {}

impl Default for Segments {
    /// No sequence.
    fn default() -> Segments {
        Segments { starts: vec![0] }
    }
}

impl Segments {
    /// The segments of sequences of these lengths.
    ///
    /// # Panics
    /// If the number of rows overflows.
    pub fn from_lengths(lengths: impl IntoIterator<Item = usize>) -> Segments {
        let mut segments = Segments::default();
        lengths.into_iter().for_each(|length| segments.push(length));
        segments
    }

    /// The segments with these offsets.
    ///
    /// # Errors
    /// If they do not begin with zero and ascend (equal neighbours are an empty sequence).
    pub fn from_starts(starts: Vec<usize>) -> Result<Segments, InvalidSegments> {
        if starts.first() != Some(&0) {
            return Err(InvalidSegments { position: 0 });
        }
        match starts.windows(2).position(|pair| pair[0] > pair[1]) {
            Some(before) => Err(InvalidSegments { position: before + 1 }),
            None => Ok(Segments { starts }),
        }
    }

    /// Adds a sequence at the end.
    ///
    /// # Panics
    /// If the number of rows overflows.
    #[track_caller]
    pub fn push(&mut self, length: usize) {
        let total = self.total().checked_add(length);
        self.starts.push(total.expect("rows within the address space"));
    }

    /// Forgets all sequences, keeping the memory.
    pub fn clear(&mut self) {
        self.starts.truncate(1);
    }

    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of rows, of all sequences together.
    pub fn total(&self) -> usize {
        self.starts[self.len()]
    }

    /// The longest sequence's length, 0 if there is none.
    pub fn longest(&self) -> usize {
        self.iter().map(|range| range.len()).max().unwrap_or(0)
    }

    /// The rows of sequence `index`.
    ///
    /// # Panics
    /// If there is no such sequence.
    #[track_caller]
    pub fn range(&self, index: usize) -> Range<usize> {
        self.starts[index]..self.starts[index + 1]
    }

    /// The rows of each sequence.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.starts.windows(2).map(|pair| pair[0]..pair[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_become_ranges() {
        let segments = Segments::from_lengths([3, 0, 2]);
        assert_eq!(segments.iter().collect::<Vec<_>>(), [0..3, 3..3, 3..5]);
        assert_eq!((segments.len(), segments.total(), segments.longest()), (3, 5, 3));
        assert_eq!(Segments::from_starts(vec![0, 3, 3, 5]), Ok(segments));
    }

    /// In release builds a sum wraps, and offsets would descend.
    #[test]
    #[should_panic(expected = "rows within the address space")]
    fn lengths_beyond_the_address_space_are_refused() {
        Segments::from_lengths([usize::MAX, 2]);
    }

    #[test]
    fn offsets_out_of_order_are_refused() {
        assert_eq!(Segments::from_starts(vec![]), Err(InvalidSegments { position: 0 }));
        assert_eq!(Segments::from_starts(vec![1, 2]), Err(InvalidSegments { position: 0 }));
        assert_eq!(Segments::from_starts(vec![0, 5, 4]), Err(InvalidSegments { position: 2 }));
    }
}
