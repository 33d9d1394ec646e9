//! Tokens to rows.

use ferrite_kernels::{Level, Lookup, MatMut, Matrix, Segments, embedding_sum, share_rows};

use crate::LayerNorm;

/// A table with a row of d_model elements for each id.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// The rows, (ids, d_model).
    pub table: Matrix<f32>,
}

impl Embedding {
    /// The number of ids.
    pub fn len(&self) -> usize {
        self.table.rows()
    }

    /// Whether there is no id.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The columns of the table.
    pub fn d_model(&self) -> usize {
        self.table.cols()
    }

    fn lookup<'a>(&'a self, name: &'a str, ids: &'a [u32]) -> Lookup<'a> {
        Lookup { name, table: self.table.view(), ids }
    }
}

/// BERT's input representation (BERT, section 3, figure 2): the sum of what the token, the segment
/// and the position stand for, normalised.
#[derive(Clone, Debug)]
pub struct BertEmbeddings {
    /// A row for each word piece.
    pub token: Embedding,
    /// A row for each segment: sentence A, sentence B.
    pub segment: Embedding,
    /// A row for each position in a sequence, learned.
    pub position: Embedding,
    /// Normalises the sum.
    pub norm: LayerNorm,
    /// The instruction set level.
    pub level: Level,
}

impl BertEmbeddings {
    /// The columns of the tables.
    pub fn d_model(&self) -> usize {
        self.token.d_model()
    }

    /// `x = LayerNorm(token[id] + segment[type] + position[place in its sequence])`; x: (n,
    /// d_model), overwritten.
    ///
    /// # Panics
    /// If an id or a position is beyond its table, or the lengths differ.
    #[track_caller]
    pub fn forward(&self, ids: &[u32], types: &[u32], sequences: &Segments, x: MatMut<'_>) {
        assert_eq!(ids.len(), sequences.total(), "token ids and the length of their sequences");
        let positions: Vec<u32> = sequences.iter().flat_map(|rows| 0..rows.len() as u32).collect();
        share_rows(x, |first, mut x| {
            let range = first..first + x.rows();
            let word = self.token.lookup("token", &ids[range.clone()]);
            let segment = self.segment.lookup("segment", &types[range.clone()]);
            let position = self.position.lookup("position", &positions[range]);
            embedding_sum(self.level, word, 1.0, position, Some(segment), x.reborrow());
            self.norm.forward(x);
        });
    }
}
