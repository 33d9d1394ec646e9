//! The encoder: embeddings and a stack of blocks.

use std::ops::Range;
use std::sync::Mutex;

use ferrite_kernels::{
    Activations, Arithmetic, Mat, MatMut, Matrix, Segments, crew, flush_denormals,
};
use ferrite_layers::BertEmbeddings;

use super::{Batch, Block, BlockCache};

/// A batch with at least this many tokens for each thread is cut into pieces of whole sequences,
/// and each thread takes its pieces through all layers by itself: nobody waits for anybody. A
/// smaller batch stays whole, and the threads share each product, as a crew.
const TOKENS_WORTH_A_THREAD: usize = 192;

/// The tokens of such a piece, about: enough to use each weight often, few enough that what the
/// layers hand on stays in the caches.
const PIECE_TOKENS: usize = 512;

/// BERT's encoder (BERT, section 3; Attention Is All You Need, section 3.1).
#[derive(Debug)]
pub struct Encoder {
    /// Token + segment + position, normalised.
    pub embeddings: BertEmbeddings,
    /// The layers, from the first to the last.
    pub blocks: Vec<Block>,
}

/// The memory the encoder works in. Made once, reused, it grows to what the largest batch needs
/// and no further.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// One for each thread that works on pieces of a batch.
    pieces: Vec<Piece>,
    /// The last hidden state of the whole batch.
    hidden: Matrix<f32>,
}

#[derive(Clone, Debug, Default)]
struct Piece {
    sequences: Segments,
    x: Activations,
    cache: BlockCache,
}

/// What the encoder computes on the way, of a whole batch.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The embeddings and then each layer's output: layers + 1 matrices of shape (n, d_model).
    pub hidden_states: Vec<Matrix<f32>>,
    /// For each layer and each sequence a matrix of shape (heads * length, length), the heads one
    /// below the other. Empty unless asked for.
    pub attentions: Vec<Vec<Matrix<f32>>>,
}

impl Encoder {
    /// The last hidden state, (n, d_model). Each sequence's rows depend on that sequence alone,
    /// to the last bit: not on the others, on their order, or on the number of threads. Numbers
    /// below 2^-126 count as zero on the way ([`flush_denormals`]).
    ///
    /// # Panics
    /// If an id or a length is out of range; [`super::Bert::encode`] returns an error instead.
    pub fn forward<'w>(&self, batch: &Batch, workspace: &'w mut Workspace) -> Mat<'w> {
        let Workspace { pieces, hidden } = workspace;
        hidden.resize(batch.tokens(), self.embeddings.d_model());
        let threads = rayon::current_num_threads();
        let plan = plan(batch.sequences(), threads);
        let workers = plan.len().min(threads);
        pieces.resize_with(workers.max(pieces.len()), Piece::default);
        let mut work = Vec::with_capacity(plan.len());
        let mut rest = hidden.view_mut();
        for sequences in plan.iter().cloned() {
            let rows = sequences.clone().map(|index| batch.sequences().range(index).len()).sum();
            let (out, others) = rest.split_rows(rows);
            work.push((sequences, out));
            rest = others;
        }
        if workers == 1 {
            let piece = &mut pieces[0];
            crew(|| {
                for (sequences, out) in work {
                    self.forward_piece(batch, sequences, piece, out);
                }
            });
            return hidden.view();
        }
        let work = Mutex::new(work.into_iter());
        rayon::scope(|scope| {
            for piece in &mut pieces[..workers] {
                scope.spawn(|_| {
                    // Which pieces of the batch it gets is chance; the memory it takes is not.
                    plan.iter().for_each(|sequences| self.reserve(batch, sequences, piece));
                    let next = || work.lock().expect("nobody panics while holding it").next();
                    while let Some((sequences, out)) = next() {
                        self.forward_piece(batch, sequences, piece, out);
                    }
                });
            }
        });
        hidden.view()
    }

    /// The same numbers, to the last bit, with everything on the way to them.
    ///
    /// # Panics
    /// As [`Encoder::forward`].
    pub fn trace(&self, batch: &Batch, attentions: bool) -> Trace {
        crew(|| flush_denormals(|| self.trace_whole(batch, attentions)))
    }

    fn trace_whole(&self, batch: &Batch, attentions: bool) -> Trace {
        let mut trace = Trace::default();
        let mut cache = BlockCache::default();
        let mut x = Activations::default();
        self.embed(batch.ids(), batch.type_ids(), batch.sequences(), &mut x);
        trace.hidden_states.push(copy(x.values()));
        for block in &self.blocks {
            block.forward(&mut x, batch.sequences(), &mut cache);
            trace.hidden_states.push(copy(x.values()));
            if attentions {
                let maps = block.attention.maps(batch.sequences(), &mut cache.attention);
                trace.attentions.push(maps);
            }
        }
        trace
    }

    /// Takes some sequences of the batch through all layers; `out` are their rows of the result.
    fn forward_piece(
        &self,
        batch: &Batch,
        sequences: Range<usize>,
        piece: &mut Piece,
        mut out: MatMut<'_>,
    ) {
        let Piece { sequences: own, x, cache } = piece;
        cut(batch, &sequences, own);
        let start = batch.sequences().range(sequences.start).start;
        let tokens = start..start + own.total();
        let (ids, types) = (&batch.ids()[tokens.clone()], &batch.type_ids()[tokens]);
        flush_denormals(|| {
            self.embed(ids, types, own, x);
            for block in &self.blocks {
                block.forward(x, own, cache);
            }
        });
        (0..out.rows()).for_each(|row| out.row_mut(row).copy_from_slice(x.values().row(row)));
    }

    /// Makes room in `piece` for what [`Encoder::forward_piece`] writes to it with these sequences.
    fn reserve(&self, batch: &Batch, sequences: &Range<usize>, piece: &mut Piece) {
        let Piece { sequences: own, x, cache } = piece;
        cut(batch, sequences, own);
        x.resize(self.arithmetic(), own.total(), self.embeddings.d_model());
        // All blocks are of one size, and use the same memory.
        if let Some(block) = self.blocks.first() {
            block.reserve(own, cache);
        }
    }

    fn arithmetic(&self) -> Arithmetic {
        self.blocks.first().map_or(Arithmetic::default(), Block::arithmetic)
    }

    /// What goes into the first block.
    fn embed(&self, ids: &[u32], types: &[u32], sequences: &Segments, x: &mut Activations) {
        x.resize(self.arithmetic(), ids.len(), self.embeddings.d_model());
        self.embeddings.forward(ids, types, sequences, x);
    }
}

/// Some sequences of a batch, as those of a batch of its own.
fn cut(batch: &Batch, sequences: &Range<usize>, own: &mut Segments) {
    own.clear();
    sequences.clone().for_each(|index| own.push(batch.sequences().range(index).len()));
}

fn copy(x: Mat<'_>) -> Matrix<f32> {
    Matrix::from_fn(x.rows(), x.cols(), |row, col| x.row(row)[col])
}

/// Cuts a batch into ranges of sequences.
fn plan(sequences: &Segments, threads: usize) -> Vec<Range<usize>> {
    let tokens = sequences.total();
    if threads == 1 && tokens <= PIECE_TOKENS || tokens < threads * TOKENS_WORTH_A_THREAD {
        return (!sequences.is_empty()).then_some(0..sequences.len()).into_iter().collect();
    }
    // Equal shares, so that the threads end together.
    let pieces = tokens.div_ceil(PIECE_TOKENS).next_multiple_of(threads);
    let target = tokens.div_ceil(pieces);
    let mut plan = Vec::new();
    let mut first = 0;
    for index in 0..sequences.len() {
        let held = sequences.range(index).end - sequences.range(first).start;
        if held >= target || index + 1 == sequences.len() {
            plan.push(first..index + 1);
            first = index + 1;
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use ferrite_kernels::{Level, Precision};

    use super::*;
    use crate::bert::{Bert, BertConfig, Part};
    use crate::train::initialize;

    #[test]
    fn a_plan_takes_every_sequence_once_and_in_order() {
        for lengths in [vec![], vec![0], vec![3], vec![0, 0, 9], vec![128; 32], vec![1000, 1, 700]]
        {
            let sequences = Segments::from_lengths(lengths.iter().copied());
            for threads in [1, 2, 5] {
                let plan = plan(&sequences, threads);
                let visited: Vec<usize> = plan.iter().cloned().flatten().collect();
                assert_eq!(visited, (0..lengths.len()).collect::<Vec<_>>(), "{lengths:?}");
            }
        }
    }

    /// A worker has room for any piece of the batch before it has seen one.
    #[test]
    fn no_piece_of_a_batch_makes_what_was_reserved_move() {
        let config = BertConfig {
            vocab_size: 11,
            hidden_size: 32,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 64,
            max_position_embeddings: 700,
            ..BertConfig::default()
        };
        let parts = [Part::Encoder];
        let parameters = initialize(&config, &parts, 1);
        for precision in [Precision::F32, Precision::Bf16] {
            let arithmetic = Arithmetic::new(Level::current(), precision);
            let bert = Bert::trainable(arithmetic, config.clone(), &parts, &parameters).unwrap();
            let encoder = &bert.encoder;
            let ids: Vec<Vec<u32>> = [200, 3, 650, 1, 90, 400, 180, 30, 512]
                .map(|length| (0..length).map(|n| n % 11).collect())
                .to_vec();
            let batch = Batch::from_ids(ids.iter().map(Vec::as_slice));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
            pool.install(|| {
                let plan = plan(batch.sequences(), 2);
                assert!(plan.len() > 2, "{plan:?}");
                let mut piece = Piece::default();
                plan.iter().for_each(|range| encoder.reserve(&batch, range, &mut piece));
                let places = |piece: &Piece| {
                    let Piece { x, cache, .. } = piece;
                    [x, &cache.attended, &cache.feed_forward.hidden]
                        .map(|of| of.values().row(0).as_ptr())
                };
                let reserved = places(&piece);
                for range in plan {
                    let rows = range.clone().map(|i| batch.sequences().range(i).len()).sum();
                    let mut out = Matrix::zeros(rows, 32);
                    encoder.forward_piece(&batch, range, &mut piece, out.view_mut());
                    assert_eq!(places(&piece), reserved, "{arithmetic}");
                }
            });
        }
    }

    #[test]
    fn equal_sequences_give_every_thread_the_same_share() {
        let plan = plan(&Segments::from_lengths(vec![128; 32]), 2);
        assert_eq!(plan.len() % 2, 0);
        assert!(plan.iter().all(|piece| piece.len() == plan[0].len()), "{plan:?}");
    }
}
