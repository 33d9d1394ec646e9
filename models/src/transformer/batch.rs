//! What goes into a Transformer: packed sentences, and pairs of them.

use ferrite_kernels::Segments;

/// Token ids of several sentences, end to end, and where each begins and ends. Nothing is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentences<'a> {
    /// The ids, sentence after sentence.
    pub ids: &'a [u32],
    /// Where the sentences begin and end.
    pub sequences: &'a Segments,
}

/// Pairs of sentences to learn from: what the encoder reads, what the decoder reads, and what it
/// should say at each place: the next token (Attention Is All You Need, section 3.1: "the output
/// embeddings are offset by one position").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairs<'a> {
    /// What the encoder reads.
    pub source: Sentences<'a>,
    /// What the decoder reads, a sentence for each of the source: the target behind a start token.
    pub inputs: Sentences<'a>,
    /// What it should say, a token for each that it reads.
    pub outputs: &'a [u32],
}

/// Pairs of sentences that are put together by hand.
///
/// ```
/// use ferrite_models::transformer::Batch;
///
/// let mut batch = Batch::default();
/// // "ab" to "xyz", where 2 ends a sentence and the decoder begins with 1.
/// batch.push(&[10, 11, 2], &[20, 21, 22, 2], 1);
/// assert_eq!(batch.pairs().inputs.ids, [1, 20, 21, 22]);
/// assert_eq!(batch.pairs().outputs, [20, 21, 22, 2]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    source_ids: Vec<u32>,
    sources: Segments,
    input_ids: Vec<u32>,
    output_ids: Vec<u32>,
    targets: Segments,
}

impl Batch {
    /// Adds a pair: the source and the target as they end, with the token of their end. The decoder
    /// reads the target shifted right, `start` before it.
    pub fn push(&mut self, source: &[u32], target: &[u32], start: u32) {
        self.source_ids.extend_from_slice(source);
        self.sources.push(source.len());
        // An empty target has no place, and no start.
        let shifted = std::iter::once(&start).chain(target);
        self.input_ids.extend(shifted.take(target.len()));
        self.output_ids.extend_from_slice(target);
        self.targets.push(target.len());
    }

    /// Forgets all pairs, keeping the memory.
    pub fn clear(&mut self) {
        for ids in [&mut self.source_ids, &mut self.input_ids, &mut self.output_ids] {
            ids.clear();
        }
        self.sources.clear();
        self.targets.clear();
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// What a model reads of it.
    pub fn pairs(&self) -> Pairs<'_> {
        let Batch { source_ids, sources, input_ids, output_ids, targets } = self;
        Pairs {
            source: Sentences { ids: source_ids, sequences: sources },
            inputs: Sentences { ids: input_ids, sequences: targets },
            outputs: output_ids,
        }
    }
}

impl<'a> From<&'a Batch> for Pairs<'a> {
    fn from(batch: &'a Batch) -> Pairs<'a> {
        batch.pairs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_lie_end_to_end() {
        let mut batch = Batch::default();
        batch.push(&[5, 2], &[7, 8, 2], 1);
        batch.push(&[], &[2], 1);
        batch.push(&[6], &[], 1);
        assert_eq!((batch.len(), batch.is_empty()), (3, false));
        let Pairs { source, inputs, outputs } = batch.pairs();
        assert_eq!(source.ids, [5, 2, 6]);
        assert_eq!(source.sequences, &Segments::from_lengths([2, 0, 1]));
        assert_eq!((inputs.ids, outputs), (&[1, 7, 8, 1][..], &[7, 8, 2, 2][..]));
        assert_eq!(inputs.sequences, &Segments::from_lengths([3, 1, 0]));
        batch.clear();
        assert_eq!(batch, Batch::default());
    }
}
