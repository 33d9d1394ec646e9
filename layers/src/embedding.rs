//! Tokens to rows.

use ferrite_kernels::{
    Activations, Level, Lookup, Mat, MatMut, Matrix, Segments, elementwise, embedding_sum,
    scatter_add, share_rows,
};

use crate::{LayerNorm, LayerNormGradients};

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

    /// Names the token whose id has no row: the kernel sees parts of a batch only.
    #[track_caller]
    fn check(&self, name: &str, ids: &[u32]) {
        let rows = self.len();
        if let Some(token) = ids.iter().position(|&id| id as usize >= rows) {
            panic!("{name} id {} of token {token} is not below {rows}", ids[token]);
        }
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
    /// d_model), overwritten and ready for the next product. `ids` and `types` have an element for each of the n tokens.
    ///
    /// # Panics
    /// If an id, a type or a place is beyond its table, or the shapes do not fit.
    #[track_caller]
    pub fn forward(&self, ids: &[u32], types: &[u32], sequences: &Segments, x: &mut Activations) {
        let places = self.check(ids, types, sequences, x.shape());
        x.scale_columns(self.norm.columns());
        x.write_rows(|first, mut x| {
            self.sum(ids, types, &places, first, x.reborrow());
            self.norm.forward(x);
        });
    }

    /// Makes sure that everything fits; returns the place of each token in its sequence.
    #[track_caller]
    fn check(
        &self,
        ids: &[u32],
        types: &[u32],
        sequences: &Segments,
        x: (usize, usize),
    ) -> Vec<u32> {
        assert_eq!(types.len(), ids.len(), "elements of the types and of the ids");
        check_shapes(ids, sequences, x, self.d_model());
        let places = places(sequences);
        self.token.check("token", ids);
        self.segment.check("segment", types);
        self.position.check("position", &places);
        places
    }

    /// What is normalised, of the rows from `first` on.
    fn sum(&self, ids: &[u32], types: &[u32], places: &[u32], first: usize, x: MatMut<'_>) {
        let range = first..first + x.rows();
        let token = self.token.lookup("token", &ids[range.clone()]);
        let segment = self.segment.lookup("segment", &types[range.clone()]);
        let position = self.position.lookup("position", &places[range]);
        embedding_sum(self.level, token, 1.0, position, Some(segment), x);
    }
}

/// The gradients of the parameters of [`BertEmbeddings`], to which a backward pass adds.
#[derive(Debug)]
pub struct BertEmbeddingsGradients<'a> {
    /// Of the tokens' table.
    pub token: MatMut<'a>,
    /// Of the segments' table.
    pub segment: MatMut<'a>,
    /// Of the positions' table.
    pub position: MatMut<'a>,
    /// Of the norm.
    pub norm: LayerNormGradients<'a>,
}

impl BertEmbeddings {
    /// The same as [`BertEmbeddings::forward`], keeping in `sum`, (n, d_model), what is normalised:
    /// [`BertEmbeddings::backward`] will need it.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn forward_taped(
        &self,
        ids: &[u32],
        types: &[u32],
        sequences: &Segments,
        sum: &mut Matrix<f32>,
        x: &mut Activations,
    ) {
        let places = self.check(ids, types, sequences, x.shape());
        sum.resize(ids.len(), self.d_model());
        share_rows(sum.view_mut(), |first, sum| self.sum(ids, types, &places, first, sum));
        self.norm.forward_from(sum.view(), x);
    }

    /// The gradients of all parameters, where dx is that of x, (n, d_model), and `sum` what the
    /// forward pass kept; `d_sum` is memory to work in.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn backward(
        &self,
        ids: &[u32],
        types: &[u32],
        sequences: &Segments,
        (sum, d_sum): (Mat<'_>, &mut Matrix<f32>),
        dx: Mat<'_>,
        gradients: BertEmbeddingsGradients<'_>,
    ) {
        let BertEmbeddingsGradients { token, segment, position, norm } = gradients;
        d_sum.resize(dx.rows(), dx.cols());
        self.norm.backward(sum, dx, d_sum.view_mut(), norm);
        scatter_add(ids, d_sum.view(), token);
        scatter_add(types, d_sum.view(), segment);
        scatter_add(&places(sequences), d_sum.view(), position);
    }
}

/// The Transformer's input (Attention Is All You Need, sections 3.4 and 3.5): what the token stands
/// for, times √d_model, plus its position.
///
/// ```
/// use ferrite_kernels::{Matrix, Segments};
/// use ferrite_layers::{Embedding, Level, SinusoidLayout, TransformerEmbeddings, sinusoidal};
///
/// let embeddings = TransformerEmbeddings {
///     token: Embedding { table: Matrix::from_fn(10, 4, |id, _| id as f32) },
///     position: Embedding { table: sinusoidal(512, 4, SinusoidLayout::Interleaved) },
///     scale: 2.0, // √d_model
///     level: Level::current(),
/// };
/// let mut x = Matrix::zeros(3, 4);
/// embeddings.forward(&[7, 7, 2], &Segments::from_lengths([2, 1]), x.view_mut());
/// assert_eq!(x.row(0), [14.0, 15.0, 14.0, 15.0]); // position 0 is sin 0, cos 0, ...
/// assert_eq!(x.row(2), [4.0, 5.0, 4.0, 5.0]); //      and here another sequence begins
/// ```
#[derive(Clone, Debug)]
pub struct TransformerEmbeddings {
    /// A row for each token of the vocabulary, often also the weight of the layer before the
    /// softmax.
    pub token: Embedding,
    /// A row for each position in a sequence: [`sinusoidal`](crate::sinusoidal), not learned.
    pub position: Embedding,
    /// √d_model in the paper. There are models that do without: one.
    pub scale: f32,
    /// The instruction set level.
    pub level: Level,
}

impl TransformerEmbeddings {
    /// The columns of the tables.
    pub fn d_model(&self) -> usize {
        self.token.d_model()
    }

    /// `x = scale token[id] + position[place in its sequence]`; x: (n, d_model), overwritten.
    ///
    /// # Panics
    /// If an id or a place is beyond its table, or the shapes do not fit.
    #[track_caller]
    pub fn forward(&self, ids: &[u32], sequences: &Segments, x: MatMut<'_>) {
        check_shapes(ids, sequences, x.shape(), self.d_model());
        self.forward_at(ids, &places(sequences), x);
    }

    /// The same for tokens at these places of whatever sequences, one for each; x: (n, d_model),
    /// overwritten.
    ///
    /// # Panics
    /// If an id or a place is beyond its table, or the shapes do not fit.
    #[track_caller]
    pub fn forward_at(&self, ids: &[u32], places: &[u32], x: MatMut<'_>) {
        assert_eq!(places.len(), ids.len(), "places of the tokens");
        assert_eq!(x.shape(), (ids.len(), self.d_model()), "shape of the embedded tokens");
        self.token.check("token", ids);
        self.position.check("position", places);
        share_rows(x, |first, x| {
            let range = first..first + x.rows();
            let token = self.token.lookup("token", &ids[range.clone()]);
            let position = self.position.lookup("position", &places[range]);
            embedding_sum(self.level, token, self.scale, position, None, x);
        });
    }

    /// The gradient of the tokens' table, (ids, d_model), to which it adds; dx is that of x, (n,
    /// d_model), and used up.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn backward(&self, ids: &[u32], mut dx: MatMut<'_>, table: MatMut<'_>) {
        assert_eq!(table.shape(), self.token.table.shape(), "shape of a table's gradient");
        share_rows(dx.reborrow(), |_, mut dx| {
            (0..dx.rows())
                .for_each(|row| elementwise::scale(self.level, dx.row_mut(row), self.scale));
        });
        scatter_add(ids, dx.as_mat(), table);
    }
}

/// The place of each token in its sequence.
fn places(sequences: &Segments) -> Vec<u32> {
    sequences.iter().flat_map(|rows| 0..rows.len() as u32).collect()
}

#[track_caller]
fn check_shapes(ids: &[u32], sequences: &Segments, x: (usize, usize), d_model: usize) {
    assert_eq!(ids.len(), sequences.total(), "token ids and the length of their sequences");
    assert_eq!(x, (ids.len(), d_model), "shape of the embedded tokens");
}

#[cfg(test)]
mod tests;
