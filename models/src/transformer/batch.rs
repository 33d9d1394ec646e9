//! What goes into a Transformer: packed sentences, and pairs of them.

use ferrite_kernels::Segments;

/// Token ids of several sentences, end to end, and where each begins. Nothing is padded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentences {
    ids: Vec<u32>,
    sequences: Segments,
}

impl Sentences {
    /// These sentences of token ids.
    pub fn from_ids<'a>(sentences: impl IntoIterator<Item = &'a [u32]>) -> Sentences {
        let mut all = Sentences::default();
        sentences.into_iter().for_each(|ids| all.push(ids.iter().copied()));
        all
    }

    /// Adds a sentence.
    pub fn push(&mut self, ids: impl IntoIterator<Item = u32>) {
        let before = self.ids.len();
        self.ids.extend(ids);
        self.sequences.push(self.ids.len() - before);
    }

    /// Forgets all sentences, keeping the memory.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.sequences.clear();
    }

    /// The number of sentences.
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Whether there is no sentence.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// The number of tokens of all sentences.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The token ids, sentence after sentence.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Where the sentences begin and end.
    pub fn sequences(&self) -> &Segments {
        &self.sequences
    }
}

/// Pairs of sentences to learn from: what the encoder reads, what the decoder reads, and what it
/// should say at each place, the next token (Attention Is All You Need, section 3.1: "the output
/// embeddings are offset by one position").
///
/// ```
/// use ferrite_models::transformer::PairBatch;
///
/// let mut batch = PairBatch::default();
/// // "ab" to "xyz", where 2 ends a sentence and the decoder begins with 1.
/// batch.push(&[10, 11, 2], &[20, 21, 22, 2], 1);
/// assert_eq!(batch.inputs().ids(), [1, 20, 21, 22]);
/// assert_eq!(batch.outputs(), [20, 21, 22, 2]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairBatch {
    source: Sentences,
    inputs: Sentences,
    outputs: Vec<u32>,
}

impl PairBatch {
    /// Adds a pair: the source and the target as they end, with the token of their end. The decoder
    /// reads the target shifted right, `start` before it.
    pub fn push(&mut self, source: &[u32], target: &[u32], start: u32) {
        self.source.push(source.iter().copied());
        // An empty target has no place, and no start.
        let shifted = std::iter::once(start).chain(target.iter().copied());
        self.inputs.push(shifted.take(target.len()));
        self.outputs.extend_from_slice(target);
    }

    /// Forgets all pairs, keeping the memory.
    pub fn clear(&mut self) {
        self.source.clear();
        self.inputs.clear();
        self.outputs.clear();
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// What the encoder reads.
    pub fn source(&self) -> &Sentences {
        &self.source
    }

    /// What the decoder reads.
    pub fn inputs(&self) -> &Sentences {
        &self.inputs
    }

    /// What the decoder should say, a token for each that it reads.
    pub fn outputs(&self) -> &[u32] {
        &self.outputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_lie_end_to_end() {
        let mut batch = PairBatch::default();
        batch.push(&[5, 2], &[7, 8, 2], 1);
        batch.push(&[], &[2], 1);
        batch.push(&[6], &[], 1);
        assert_eq!((batch.len(), batch.is_empty()), (3, false));
        assert_eq!(batch.source(), &Sentences::from_ids([&[5, 2][..], &[], &[6]]));
        assert_eq!(batch.inputs(), &Sentences::from_ids([&[1, 7, 8][..], &[1], &[]]));
        assert_eq!(batch.outputs(), [7, 8, 2, 2]);
        batch.clear();
        assert_eq!(batch, PairBatch::default());
    }
}
