//! Decoding: from source sentences to target sentences.
//!
//! The decoder reads one position of each hypothesis in a step; what it knows of the positions before
//! is kept ([`Past`]). Many sentences are decoded at once, and leave when their search is over.
//!
//! | search | next tokens | over |
//! |---|---|---|
//! | [`Search::Greedy`] | the most probable one | when that is the end |
//! | [`Search::Beam`] | see below | see below |
//! | [`Search::Sample`] | one that is drawn | for each draw, when that is the end |
//!
//! All are over at the longest length, [`MaxLength`], which counts the end: what has no end by then is
//! a hypothesis that is not finished. The token that models pad with and the one that the decoder
//! begins with are never chosen, unless they are the end. Probabilities are those of the model, among
//! all tokens.
//!
//! # Beam search
//!
//! At each place all continuations of all k hypotheses by one token are ranked by their
//! log-probability, of equals that of the better hypothesis first, and then the smaller token.
//!
//! - One that ends is *finished* if it is among the first k; its score is its log-probability divided
//!   by the length penalty. The best `n_best` finished are kept, of equals the earlier.
//! - The first k that do not end go on.
//! - The search is over at the longest length; or as soon as `n_best` are finished and the worst of
//!   them is at least as good as the best that goes on would be at the longest length if all its
//!   further tokens were certain. Nothing that could still come would be among the best: a search
//!   that went on would find the same.
//!
//! What is finished comes before what is not, whatever the scores.
//!
//! # Promises
//!
//! Tokens and scores of a sentence depend on the sentence, the model and the options alone, to the
//! last bit: not on the other sentences, their order, [`DecodeOptions::batch`], or the threads. That
//! goes for draws as well: their random numbers have the name of the seed, the sentence's tokens and
//! the number of the draw, so that a sentence has the same draws wherever it stands. (The name of the
//! tokens is FNV-1a with 64 bits of their ids, each as eight little-endian bytes.)
//!
//! A draw takes a fraction of the sum of the probabilities of those tokens that may be drawn, in the
//! order of their ids.

mod choice;
mod options;
mod prefixes;
mod search;

use ferrite_kernels::{Matrix, VisibleRows, crew, flush_denormals};

pub use self::options::{DecodeOptions, LengthPenalty, MaxLength, Search};
pub use self::search::Hypothesis;

use self::choice::{Choices, Rule, SpecialTokens, choose};
use self::prefixes::Prefixes;
use self::search::SentenceSearch;
use super::{Batch, Past, Transformer, Visible, Workspace};
use crate::error::Error;

/// The memory that decoding works in. Made once, reused, it grows to what the largest batch needs.
#[derive(Clone, Debug, Default)]
pub struct DecodeWorkspace {
    passes: Workspace,
    past: Past,
    prefixes: Prefixes,
    /// What each hypothesis sees, of its own positions and of the memory.
    own: VisibleRows,
    memories: VisibleRows,
    /// What the decoder reads in a step: a token and its place for each hypothesis.
    tokens: Vec<u32>,
    places: Vec<u32>,
    path: Vec<u32>,
    choices: Vec<Choices>,
    sources: Batch,
}

impl Transformer {
    /// The targets of some source sentences: for each, in their order, its hypotheses, the best first:
    /// `n_best`, or fewer if a beam has not found as many. A source is what the encoder reads; if the
    /// model was trained with sources that have an end, with its end. An empty source is told by the
    /// decoder alone.
    ///
    /// How searches go, when they are over, and what is promised: see [`decode`](super::decode).
    ///
    /// ```
    /// use ferrite_models::kernels::Level;
    /// use ferrite_models::train::initialize_transformer;
    /// use ferrite_models::transformer::{
    ///     DecodeOptions, DecodeWorkspace, MaxLength, Transformer, TransformerConfig,
    /// };
    ///
    /// let config = TransformerConfig::tiny(100);
    /// let parameters = initialize_transformer(&config, 1);
    /// let transformer = Transformer::new(Level::current(), config, &parameters)?;
    /// let options = DecodeOptions { max_length: MaxLength::fixed(5), ..DecodeOptions::default() };
    /// let sources = [&[17, 18, 2][..], &[40, 2]];
    /// let found = transformer.translate(&sources, &options, &mut DecodeWorkspace::default())?;
    /// assert!(found.len() == 2 && found[0][0].tokens.len() <= 5);
    /// # Ok::<(), ferrite_models::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`]; [`Error::TooLong`] and [`Error::IdOutOfRange`] as
    /// [`Transformer::encode`]; [`Error::NoDistribution`] if a model's scores are not numbers.
    pub fn translate<S: AsRef<[u32]>>(
        &self,
        sources: &[S],
        options: &DecodeOptions,
        workspace: &mut DecodeWorkspace,
    ) -> Result<Vec<Vec<Hypothesis>>, Error> {
        let sources: Vec<&[u32]> = sources.iter().map(AsRef::as_ref).collect();
        options.check_for(&self.config)?;
        gather(&mut workspace.sources, sources.iter().copied());
        self.check_source(workspace.sources.pairs().source)?;
        // Sentences of about a length are over at about the same time.
        let mut order: Vec<usize> = (0..sources.len()).collect();
        order.sort_by_key(|&sentence| std::cmp::Reverse(sources[sentence].len()));
        let mut found = vec![Vec::new(); sources.len()];
        for batch in order.chunks((options.batch / options.width()).max(1)) {
            let searches =
                crew(|| flush_denormals(|| self.search(&sources, batch, options, workspace)))?;
            for search in searches {
                let sentence = search.sentence;
                found[sentence] = search.into_hypotheses();
            }
        }
        if let Some(layer) = options.attention {
            for batch in order.chunks((options.batch / options.n_best).max(1)) {
                self.add_attention(&sources, batch, layer, &mut found, workspace)?;
            }
        }
        Ok(found)
    }

    /// Decodes some of the sentences together. All that comes back is over.
    fn search(
        &self,
        sources: &[&[u32]],
        batch: &[usize],
        options: &DecodeOptions,
        workspace: &mut DecodeWorkspace,
    ) -> Result<Vec<SentenceSearch>, Error> {
        let DecodeWorkspace { passes, past, prefixes, memories, sources: packed, .. } =
            &mut *workspace;
        gather(packed, batch.iter().map(|&sentence| sources[sentence]));
        let source = packed.pairs().source;
        self.run_encoder(source, passes);
        self.decoder.begin(&passes.memory, past);
        memories.clear();
        for rows in source.sequences.iter() {
            memories.push_list(rows.start as u32..rows.end as u32);
        }
        prefixes.clear();

        let config = &self.config;
        let excluded = [config.pad_token_id, config.decoder_start_token_id];
        let special = SpecialTokens::new(config.eos_token_id, excluded, config.target_vocab_size());
        let rule = match options.search {
            Search::Greedy => Rule::Best(1),
            // As many that do not end as can go on, and the end.
            Search::Beam { width, .. } => Rule::Best(width + 1),
            Search::Sample { temperature, top_k, top_p, .. } => {
                Rule::Draw { temperature, top_k, top_p }
            }
        };
        let mut searches: Vec<SentenceSearch> = batch
            .iter()
            .map(|&sentence| {
                let (source, start) = (sources[sentence], config.decoder_start_token_id);
                let max_length =
                    options.max_length.of(source.len()).min(config.max_position_embeddings);
                SentenceSearch::new(sentence, source, max_length, options, start, prefixes)
            })
            .collect();
        loop {
            let rows = self.step(&searches, workspace);
            if rows == 0 {
                return Ok(searches);
            }
            let DecodeWorkspace { passes, prefixes, choices, .. } = &mut *workspace;
            choices.resize_with(rows.max(choices.len()), Choices::default);
            let mut rest = &mut choices[..rows];
            for search in &mut searches {
                let (of_search, others) = rest.split_at_mut(search.nodes().len());
                search.prepare(of_search);
                rest = others;
            }
            let choices = &mut choices[..rows];
            choose(self.level(), passes.logits.view_mut(), rule, &special, choices);
            let mut rest = &choices[..];
            for search in &mut searches {
                let (of_search, others) = rest.split_at(search.nodes().len());
                if !of_search.iter().all(|row| row.is_distribution) {
                    let (sequence, position) = (search.sentence, search.length());
                    return Err(Error::NoDistribution { sequence, position });
                }
                if !search.is_over() {
                    search.advance(of_search, &special, prefixes);
                }
                rest = others;
            }
        }
    }

    /// The logits of the next token of all hypotheses that are continued, in `passes.logits`: the number
    /// of rows.
    fn step(&self, searches: &[SentenceSearch], workspace: &mut DecodeWorkspace) -> usize {
        let DecodeWorkspace { passes, past, prefixes, own, memories, tokens, places, path, .. } =
            workspace;
        let Workspace { hidden, decoder, logits, .. } = passes;
        own.clear();
        memories.clear_queries();
        tokens.clear();
        places.clear();
        for (list, search) in searches.iter().enumerate() {
            for node in search.nodes() {
                prefixes.path(node, path);
                let seen = own.push_list(path.iter().copied());
                own.push_query(seen);
                memories.push_query(list);
                tokens.push(prefixes.token(node));
                places.push(search.length() as u32);
            }
        }
        if tokens.is_empty() {
            return 0;
        }
        hidden.resize(self.arithmetic, tokens.len(), self.config.d_model);
        self.target_embeddings().forward_at(tokens, places, hidden.values_mut());
        hidden.convert();
        self.decoder.step(hidden, Visible { prefixes: own, memories }, past, decoder);
        logits.resize(tokens.len(), self.generator.d_out());
        self.generator.forward(&*hidden, logits.view_mut());
        tokens.len()
    }

    /// Adds the attention of a layer to hypotheses: a pass over all their places at once.
    fn add_attention(
        &self,
        sources: &[&[u32]],
        sentences: &[usize],
        layer: usize,
        found: &mut [Vec<Hypothesis>],
        workspace: &mut DecodeWorkspace,
    ) -> Result<(), Error> {
        let config = &self.config;
        let pairs = &mut workspace.sources;
        pairs.clear();
        for &sentence in sentences {
            for one in &found[sentence] {
                let end = one.is_finished.then_some(config.eos_token_id);
                let target: Vec<u32> = one.tokens.iter().copied().chain(end).collect();
                pairs.push(sources[sentence], &target, config.decoder_start_token_id);
            }
        }
        let maps = self.attention_maps(&*pairs, layer, &mut workspace.passes)?;
        let hypotheses = sentences.iter().flat_map(|&n| (0..found[n].len()).map(move |i| (n, i)));
        let hypotheses: Vec<(usize, usize)> = hypotheses.collect();
        for ((sentence, place), map) in hypotheses.into_iter().zip(maps) {
            let heads = config.decoder_attention_heads;
            found[sentence][place].attention = Some(mean_of_heads(&map, heads));
        }
        Ok(())
    }
}

/// The mean of maps that lie one below the other.
fn mean_of_heads(maps: &Matrix<f32>, heads: usize) -> Matrix<f32> {
    let rows = maps.rows() / heads;
    Matrix::from_fn(rows, maps.cols(), |row, col| {
        let sum: f32 = (0..heads).map(|head| maps.row(head * rows + row)[col]).sum();
        sum / heads as f32
    })
}

/// The sources as a batch, without targets.
fn gather<'a>(batch: &mut Batch, sources: impl Iterator<Item = &'a [u32]>) {
    batch.clear();
    sources.for_each(|source| batch.push(source, &[], 0));
}
