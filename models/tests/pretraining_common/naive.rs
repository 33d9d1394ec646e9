//! Pre-training data as the reference makes them, on lists of words: everything in memory, nothing
//! shared, no index that has to be right. Random numbers come from the same source, in the order
//! in which the reference draws them.

use ferrite_models::data::{Purpose, Random};

pub(crate) type Sentence = Vec<String>;
pub(crate) type Document = Vec<Sentence>;

/// The settings, by the names of the reference's flags.
#[derive(Clone, Debug)]
pub(crate) struct Flags {
    pub(crate) seed: u64,
    pub(crate) shard_documents: usize,
    pub(crate) shard_bytes: usize,
    pub(crate) max_seq_length: usize,
    pub(crate) short_seq_prob: f64,
    pub(crate) masked_lm_prob: f64,
    pub(crate) max_predictions_per_seq: usize,
    pub(crate) do_whole_word_mask: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) tokens: Vec<String>,
    pub(crate) segment_ids: Vec<u8>,
    pub(crate) is_random_next: bool,
    pub(crate) masked_lm_positions: Vec<usize>,
    pub(crate) masked_lm_labels: Vec<String>,
}

/// All instances of one draw, in order, shard by shard. `bytes` are those of each document's text.
pub(crate) fn epoch(
    documents: &[Document],
    bytes: &[usize],
    vocabulary: &[String],
    flags: &Flags,
    draw: u64,
) -> Vec<Vec<Instance>> {
    let mut documents: Vec<(Document, usize)> =
        documents.iter().cloned().zip(bytes.iter().copied()).collect();
    Random::new(flags.seed, Purpose::Order, draw, 0).shuffle(&mut documents);
    let mut shards = 1;
    while shards * flags.shard_documents < documents.len() {
        shards += 1;
    }
    let mut groups: Vec<Vec<Document>> = Vec::new();
    for shard in 0..shards {
        let (begin, end) =
            (shard * documents.len() / shards, (shard + 1) * documents.len() / shards);
        let total: usize = documents[begin..end].iter().map(|(_, bytes)| bytes).sum();
        let parts = total.div_ceil(flags.shard_bytes);
        // A document is of the part in which its first byte is.
        let (mut before, mut last) = (0, None);
        for (document, bytes) in &documents[begin..end] {
            let part = before * parts / total;
            if last != Some(part) {
                groups.push(Vec::new());
            }
            groups.last_mut().unwrap().push(document.clone());
            (before, last) = (before + bytes, Some(part));
        }
    }
    let mut all = Vec::new();
    for (shard, mut mine) in groups.into_iter().enumerate() {
        mine.retain(|document| !document.is_empty());
        let mut random = Random::new(flags.seed, Purpose::Instances, draw, shard as u64);
        let mut instances = Vec::new();
        for index in 0..mine.len() {
            from_document(&mine, index, flags, &mut random, &mut instances);
        }
        random.shuffle(&mut instances);
        let mut random = Random::new(flags.seed, Purpose::Masking, draw, shard as u64);
        for instance in &mut instances {
            mask(instance, vocabulary, flags, &mut random);
        }
        all.push(instances);
    }
    all
}

/// Steps 1 to 5: pairs of segments.
fn from_document(
    documents: &[Document],
    index: usize,
    flags: &Flags,
    random: &mut Random,
    instances: &mut Vec<Instance>,
) {
    let max_num_tokens = flags.max_seq_length - 3;
    let mut target = max_num_tokens;
    if random.chance(flags.short_seq_prob) {
        target = random.between(2, max_num_tokens);
    }
    let mut chunk: Vec<Sentence> = Vec::new();
    let mut i: i64 = 0;
    while i < documents[index].len() as i64 {
        chunk.push(documents[index][i as usize].clone());
        let length: usize = chunk.iter().map(Vec::len).sum();
        if i == documents[index].len() as i64 - 1 || length >= target {
            let mut a_end = 1;
            if chunk.len() >= 2 {
                a_end = random.between(1, chunk.len() - 1);
            }
            let mut a: Vec<String> = chunk[..a_end].concat();
            let mut b: Vec<String> = Vec::new();
            let is_random_next = chunk.len() == 1 || random.chance(0.5);
            if is_random_next {
                let wanted = target as i64 - a.len() as i64;
                let mut other = 0;
                for _ in 0..10 {
                    other = random.index(documents.len());
                    if other != index {
                        break;
                    }
                }
                let start = random.index(documents[other].len());
                for sentence in &documents[other][start..] {
                    b.extend(sentence.iter().cloned());
                    if b.len() as i64 >= wanted {
                        break;
                    }
                }
                i -= (chunk.len() - a_end) as i64;
            } else {
                b = chunk[a_end..].concat();
            }
            while a.len() + b.len() > max_num_tokens {
                let longer = if a.len() > b.len() { &mut a } else { &mut b };
                if random.chance(0.5) {
                    longer.remove(0);
                } else {
                    longer.pop();
                }
            }
            let mut tokens = vec!["[CLS]".to_owned()];
            let mut segment_ids = vec![0];
            for token in a {
                tokens.push(token);
                segment_ids.push(0);
            }
            tokens.push("[SEP]".to_owned());
            segment_ids.push(0);
            for token in b {
                tokens.push(token);
                segment_ids.push(1);
            }
            tokens.push("[SEP]".to_owned());
            segment_ids.push(1);
            let (masked_lm_positions, masked_lm_labels) = (Vec::new(), Vec::new());
            instances.push(Instance {
                tokens,
                segment_ids,
                is_random_next,
                masked_lm_positions,
                masked_lm_labels,
            });
            chunk.clear();
        }
        i += 1;
    }
}

/// Step 6: masked words.
fn mask(instance: &mut Instance, vocabulary: &[String], flags: &Flags, random: &mut Random) {
    let tokens = instance.tokens.clone();
    let mut candidates: Vec<Vec<usize>> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        if token == "[CLS]" || token == "[SEP]" {
            continue;
        }
        if flags.do_whole_word_mask && !candidates.is_empty() && token.starts_with("##") {
            candidates.last_mut().unwrap().push(i);
        } else {
            candidates.push(vec![i]);
        }
    }
    random.shuffle(&mut candidates);
    let share = half_to_even(tokens.len() as f64 * flags.masked_lm_prob);
    let num_to_predict = flags.max_predictions_per_seq.min(share.max(1));
    let mut masked: Vec<(usize, String)> = Vec::new();
    for places in candidates {
        if masked.len() >= num_to_predict {
            break;
        }
        if masked.len() + places.len() > num_to_predict {
            continue;
        }
        for place in places {
            instance.tokens[place] = if random.chance(0.8) {
                "[MASK]".to_owned()
            } else if random.chance(0.5) {
                tokens[place].clone()
            } else {
                vocabulary[random.index(vocabulary.len())].clone()
            };
            masked.push((place, tokens[place].clone()));
        }
    }
    masked.sort();
    (instance.masked_lm_positions, instance.masked_lm_labels) = masked.into_iter().unzip();
}

/// What Python's `round` gives.
fn half_to_even(x: f64) -> usize {
    let (whole, part) = (x.floor() as usize, x - x.floor());
    if part > 0.5 || (part == 0.5 && whole % 2 == 1) { whole + 1 } else { whole }
}
