//! What goes into a BERT: the tokens of several sequences, end to end.

use ferrite_kernels::Segments;

/// Token ids and segment ids of a packed batch, and where its sequences begin. There is no
/// attention mask to forget: a batch has no padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    ids: Vec<u32>,
    type_ids: Vec<u32>,
    sequences: Segments,
}

impl Batch {
    /// The batch of these sequences of token ids, all of segment A.
    pub fn from_ids<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Batch {
        let mut batch = Batch::default();
        sequences.into_iter().for_each(|ids| batch.push(ids, None));
        batch
    }

    /// Adds a sequence. Without `type_ids` all of it is segment A.
    ///
    /// # Panics
    /// If there is not one type id for each token id.
    #[track_caller]
    pub fn push(&mut self, ids: &[u32], type_ids: Option<&[u8]>) {
        match type_ids {
            Some(type_ids) => {
                assert_eq!(type_ids.len(), ids.len(), "type ids of {} tokens", ids.len());
                self.type_ids.extend(type_ids.iter().map(|&id| u32::from(id)));
            }
            None => self.type_ids.resize(self.type_ids.len() + ids.len(), 0),
        }
        self.ids.extend_from_slice(ids);
        self.sequences.push(ids.len());
    }

    /// Forgets all sequences, keeping the memory.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.type_ids.clear();
        self.sequences.clear();
    }

    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// The number of tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The token ids, sequence after sequence.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The segment of each token: 0 for A, 1 for B.
    pub fn type_ids(&self) -> &[u32] {
        &self.type_ids
    }

    /// Where the sequences begin and end.
    pub fn sequences(&self) -> &Segments {
        &self.sequences
    }
}
