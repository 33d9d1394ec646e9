//! Shards: a few hundred documents of an epoch, made into masked sequences.
//!
//! What a shard holds is a function of its epoch and its number, whoever asks when: of the epoch's
//! order, which is cut where there are documents or bytes enough. One thread in the background makes
//! the shard that comes next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use ferrite_tokenizer::{Dialect, EncodeOptions, Encoding, Rules, Scratch, Tokenizer};

use super::batches::PretrainingOptions;
use super::corpus::Corpus;
use super::error::DataError;
use super::fingerprint::{Fingerprint, Hasher};
use super::instances::{Instance, Pairing, TokenizedDocument};
use super::masking::{Masked, Masker, Masking};
use super::random::{Purpose, Random};

/// The draw of the documents that are held out: an epoch that training never has.
const HELD_OUT_DRAW: u64 = u64::MAX;

/// Tokenizers that differ in what has no name may differ here, if the vocabulary has the words.
const PROBE: &str = "The THE résumé RÉSUMÉ don't 日本 ΟΔΟΣ οδος 10% a-b [MASK]";

/// One of the two parts of a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Training,
    HeldOut,
}

/// A sequence with its masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MaskedInstance {
    /// Masked tokens are masked here.
    pub(super) instance: Instance,
    pub(super) masked: Masked,
}

/// All shards of a part of a corpus.
#[derive(Debug)]
pub(super) struct Shards {
    corpus: Arc<Corpus>,
    tokenizer: Arc<Tokenizer>,
    masker: Masker,
    options: PretrainingOptions,
    part: Part,
    /// The part's documents, ascending.
    documents: Vec<u32>,
    /// The last order that was asked for, and its draw: the shards of an epoch have one order.
    order: Mutex<Option<(u64, Arc<Order>)>>,
    fingerprint: Fingerprint,
}

/// The documents in the order of an epoch, four bytes for each, and where its shards end.
#[derive(Debug)]
struct Order {
    documents: Vec<u32>,
    ends: Vec<usize>,
}

impl Order {
    fn shard(&self, number: u64) -> &[u32] {
        let number = number as usize;
        let begin = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.documents[begin..self.ends[number]]
    }
}

/// What a shard holds.
#[derive(Debug)]
pub(super) struct Shard {
    /// In the order in which they are used.
    pub(super) instances: Vec<MaskedInstance>,
    /// Whether the epoch ends with it.
    pub(super) is_last: bool,
}

impl Shards {
    pub(super) fn new(
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
        options: PretrainingOptions,
        part: Part,
    ) -> Result<Shards, DataError> {
        options.check()?;
        let masker = Masker::new(&tokenizer, options.masking)?;
        let split = corpus.split(options.held_out, options.seed)?;
        let documents = match part {
            Part::Training => split.training,
            Part::HeldOut => split.held_out,
        };
        if documents.is_empty() {
            let (held_out, documents) = (options.held_out, corpus.len());
            return Err(DataError::EmptyPart { part: "held out", held_out, documents });
        }
        let fingerprint = fingerprint(&corpus, &tokenizer, &options, part);
        let order = Mutex::default();
        Ok(Shards { corpus, tokenizer, masker, options, part, documents, order, fingerprint })
    }

    /// The number of shards of an epoch: as few as have at most `shard_documents` each, and more
    /// where these are of more than `shard_bytes`.
    pub(super) fn count(&self, epoch: u64) -> u64 {
        self.order(self.draw(epoch)).ends.len() as u64
    }

    pub(super) fn documents(&self) -> usize {
        self.documents.len()
    }

    pub(super) fn part(&self) -> Part {
        self.part
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// A shard. If `stop` becomes true meanwhile, it may be empty.
    pub(super) fn make(
        &self,
        epoch: u64,
        shard: u64,
        stop: &AtomicBool,
    ) -> Result<Shard, DataError> {
        let draw = self.draw(epoch);
        let order = self.order(draw);
        let is_last = shard + 1 == order.ends.len() as u64;
        let mut documents = Vec::new();
        for &number in order.shard(shard) {
            if stop.load(Ordering::Relaxed) {
                return Ok(Shard { instances: Vec::new(), is_last });
            }
            documents.push(self.tokenize(number)?);
        }
        documents.retain(|document| !document.is_empty());
        let (cls, sep) = (self.masker.cls(), self.masker.sep());
        let options = self.options.instances;
        let pairing = Pairing { documents: &documents, options, cls, sep };
        let seed = self.options.seed;
        let instances = pairing.instances(&mut Random::new(seed, Purpose::Instances, draw, shard));
        let mut random = Random::new(seed, Purpose::Masking, draw, shard);
        let mask = |mut instance: Instance| {
            let masked = self.masker.mask(&mut instance.ids, &mut random);
            MaskedInstance { instance, masked }
        };
        let instances = instances.into_iter().map(mask).collect();
        Ok(Shard { instances, is_last })
    }

    fn draw(&self, epoch: u64) -> u64 {
        match self.part {
            Part::Training => self.options.masking.masking.draw(epoch),
            Part::HeldOut => HELD_OUT_DRAW,
        }
    }

    /// The order of the documents in a draw.
    fn order(&self, draw: u64) -> Arc<Order> {
        // What is poisoned is as good as before: it is replaced as a whole.
        let mut last = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((drawn, order)) if *drawn == draw => Arc::clone(order),
            _ => {
                let mut documents = self.documents.clone();
                Random::new(self.options.seed, Purpose::Order, draw, 0).shuffle(&mut documents);
                let ends = self.ends(&documents);
                let order = Arc::new(Order { documents, ends });
                *last = Some((draw, Arc::clone(&order)));
                order
            }
        }
    }

    /// Where shards of documents in this order end. All have the same number of documents, or one
    /// more, and those of too many bytes are cut into parts of about the same size: a last shard of a
    /// few left over would have nobody to draw random segments from.
    fn ends(&self, documents: &[u32]) -> Vec<usize> {
        let bytes = |of: &[u32]| of.iter().map(|&number| self.corpus.bytes(number)).sum::<u64>();
        let count = documents.len().div_ceil(self.options.shard_documents as usize);
        let bound = |shard| (shard as u128 * documents.len() as u128 / count as u128) as usize;
        let mut ends = Vec::with_capacity(count);
        for shard in 0..count {
            let all = &documents[bound(shard)..bound(shard + 1)];
            let (total, mut done) = (bytes(all), 0);
            let parts = total.div_ceil(u64::from(self.options.shard_bytes)).max(1);
            for (place, &number) in all.iter().enumerate() {
                // A part ends with the document that fills its share, so that it has one at least.
                let before = done * u128::from(parts) / u128::from(total.max(1));
                done += u128::from(self.corpus.bytes(number));
                if done * u128::from(parts) / u128::from(total.max(1)) > before {
                    ends.push(bound(shard) + place + 1);
                }
            }
        }
        ends
    }

    fn tokenize(&self, number: u32) -> Result<TokenizedDocument, DataError> {
        let text = self.corpus.read(number)?;
        let options = EncodeOptions { add_special_tokens: false, ..EncodeOptions::default() };
        let (mut encoding, mut scratch) = (Encoding::default(), Scratch::new());
        let mut document = TokenizedDocument::default();
        for sentence in self.corpus.sentences(&text) {
            let encoded =
                self.tokenizer.encode_into(sentence, None, &options, &mut encoding, &mut scratch);
            encoded.map_err(|source| {
                let (path, line) = self.corpus.place(number);
                DataError::Tokenizer { path: path.to_owned(), line, source }
            })?;
            document.push(&encoding.ids);
        }
        Ok(document)
    }
}

/// Of all that decides what the shards hold; the size of batches is not of it.
fn fingerprint(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    options: &PretrainingOptions,
    part: Part,
) -> Fingerprint {
    let PretrainingOptions {
        seed,
        held_out,
        shard_documents,
        shard_bytes,
        batch: _,
        instances,
        masking,
    } = options;
    let mut hasher = Hasher::new();
    hasher.number(corpus.fingerprint().0);
    hasher.number(match part {
        Part::Training => 0,
        Part::HeldOut => 1,
    });
    hasher.number(*seed);
    hasher.number(held_out.to_bits());
    hasher.number(u64::from(*shard_documents));
    hasher.number(u64::from(*shard_bytes));
    hasher.number(instances.max_seq_length as u64);
    hasher.number(instances.short_seq_prob.to_bits());
    hasher.number(masking.probability.to_bits());
    hasher.number(masking.max_predictions as u64);
    hasher.number(u64::from(masking.whole_words));
    hasher.number(match masking.masking {
        Masking::Dynamic => 0,
        Masking::Static { duplicates } => u64::from(duplicates),
    });
    for id in 0..tokenizer.vocab_size() as u32 {
        hasher.text(tokenizer.id_to_token(id).unwrap_or_default());
    }
    let Rules { dialect, clean_text, split_cjk, strip_accents, lowercase, .. } = tokenizer.rules();
    hasher.number(match dialect {
        Dialect::Google => 0,
        Dialect::HfSlow => 1,
        Dialect::HfFast => 2,
    });
    for rule in [clean_text, split_cjk, strip_accents, lowercase] {
        hasher.number(u64::from(rule));
    }
    // What else decides, such as tokens that were added, has no name here, but it may show.
    if let Ok(probe) = tokenizer.encode(PROBE, None, &EncodeOptions::default()) {
        probe.ids.iter().for_each(|&id| hasher.number(u64::from(id)));
    }
    hasher.finish()
}

/// A shard that is being made on a thread of its own. Dropped, it is given up.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) epoch: u64,
    pub(super) shard: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Shard, DataError>>>,
}

impl Pending {
    pub(super) fn new(shards: Arc<Shards>, epoch: u64, shard: u64) -> Pending {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("pre-training data".to_owned())
            .spawn(move || shards.make(epoch, shard, &seen))
            // Without a thread it is made when it is wanted.
            .ok();
        Pending { epoch, shard, stop, thread }
    }

    /// Waits for the shard; `None` if there was no thread to make it.
    pub(super) fn wait(mut self) -> Option<Result<Shard, DataError>> {
        let made = self.thread.take()?.join();
        Some(made.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The result is not wanted, nor is a panic: nobody relies on what it would have made.
            drop(thread.join());
        }
    }
}
