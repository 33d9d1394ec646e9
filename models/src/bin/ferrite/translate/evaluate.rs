//! `ferrite translate evaluate`: how good translations are.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use ferrite_models::kernels::CrossEntropy;
use ferrite_models::metrics::{Bleu, BleuOptions, Chrf, ChrfOptions};
use ferrite_models::tasks::{Translated, Translator};
use ferrite_models::transformer::{Batch, DecodeOptions, DecodeWorkspace, Workspace};
use serde::Serialize;

use super::pairs::{Encoder, PairInput, Rejections};
use super::run::SearchOptions;
use crate::console::{Console, Progress};
use crate::model::{resolve_model, warn};
use crate::options::{ArithmeticOptions, Format};
use crate::outcome::{Failure, Outcome, write_text};
use crate::stream::{BATCH_TOKENS, write_out};

/// Translate texts whose translations are known, and compare
///
/// Tells the loss of the right tokens, given those before, and how near the model's own translations
/// come to the given ones: BLEU as sacreBLEU computes it by default, and chrF, both with their
/// signatures. Lines that are no pair, or too long for the model, are named on stderr and left out of
/// all numbers.
#[derive(Args)]
#[command(after_help = after_help!(
    "ferrite translate evaluate --model numbers --pairs numbers/test.tsv"
))]
pub(crate) struct Options {
    #[command(flatten)]
    pairs: PairInput,

    /// A folder, as `ferrite translate train` and `quickstart` write it
    #[arg(long, value_name = "DIR")]
    model: String,

    /// Write the translations to a file, a line for each pair
    #[arg(long, value_name = "FILE")]
    translations: Option<PathBuf>,

    #[command(flatten)]
    arithmetic: ArithmeticOptions,

    #[command(flatten)]
    search: SearchOptions,

    /// In what form to write the scores
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// A text, the translation that is right, and the tokens of both.
struct Known {
    target: String,
    source_ids: Vec<u32>,
    target_ids: Vec<u32>,
}

/// How good the translations of some texts are.
#[derive(Serialize)]
struct Scores {
    pairs: usize,
    rejected: u64,
    /// Of a target token, in nats, the ends of sentences among them.
    loss: f64,
    perplexity: f64,
    /// The part of the tokens that the model finds, given those before.
    accuracy: f64,
    /// How many translations are the given ones to the last letter.
    equal: usize,
    bleu: f64,
    bleu_signature: String,
    chrf: f64,
    chrf_signature: String,
    /// What the search of all translations took.
    seconds: f64,
}

pub(crate) fn run(options: &Options, console: &Console) -> Result<Outcome, Failure> {
    let search = options.search.options()?;
    let folder = resolve_model(&options.model, console)?;
    let translator = Translator::from_pretrained_at(options.arithmetic.arithmetic(), folder)
        .map_err(Failure::model(&options.model))?;
    warn(translator.tokenizer(), console);
    let config = translator.transformer().config();
    let mut rejections = Rejections::new(console, None);
    // The end of a sentence has a position, too.
    let longest = (config.max_position_embeddings - 1, "the model's limit");
    let mut known = Vec::new();
    let encoder = Encoder { tokenizer: translator.tokenizer(), longest };
    encoder.read(&options.pairs.files(), &mut rejections, |pair, source, target| {
        let mut source_ids = source.to_vec();
        source_ids.push(config.eos_token_id);
        let mut target_ids = target.to_vec();
        target_ids.push(config.eos_token_id);
        known.push(Known { target: pair.target, source_ids, target_ids });
    })?;
    let rejected = rejections.count();
    rejections.end()?;
    if known.is_empty() {
        return Err(Failure::Other("there is no pair to evaluate on".to_owned()));
    }

    let progress = console.download(Some(2 * known.len() as u64));
    let loss = loss(&translator, &known, &progress)?;
    let start = Instant::now();
    let found = translate(&translator, &known, &search, &progress)?;
    let seconds = start.elapsed().as_secs_f64();
    drop(progress);
    let scores = compare(&known, &found, &loss, rejected, seconds);
    let written = options.translations.as_ref().map_or(Ok(()), |path| {
        let lines: String = found.iter().flat_map(|text| [text, "\n"]).collect();
        write_text(path, &lines)
    });
    // The scores do not depend on whether the translations could be written.
    write_out(&options.format.report(&scores, Scores::text))?;
    written?;
    Ok(if rejected > 0 { Outcome::SomeRejected } else { Outcome::Done })
}

/// What the model makes of the right translations, a batch after the other.
fn loss(
    translator: &Translator,
    known: &[Known],
    progress: &Progress,
) -> Result<CrossEntropy, Failure> {
    let model = translator.transformer();
    let start = model.config().decoder_start_token_id;
    let (mut batch, mut workspace) = (Batch::default(), Workspace::default());
    let (mut sum, mut tokens) = (CrossEntropy::default(), 0);
    for (index, Known { source_ids, target_ids, .. }) in known.iter().enumerate() {
        batch.push(source_ids, target_ids, start);
        tokens += source_ids.len() + target_ids.len();
        if tokens >= BATCH_TOKENS || index + 1 == known.len() {
            sum += model.loss(&batch, 0.0, &mut workspace).map_err(Failure::other)?;
            batch.clear();
            tokens = 0;
            progress.show(index as u64 + 1, "the right translations");
        }
    }
    Ok(sum)
}

/// The best translation of each text.
fn translate(
    translator: &Translator,
    known: &[Known],
    search: &DecodeOptions,
    progress: &Progress,
) -> Result<Vec<String>, Failure> {
    let mut workspace = DecodeWorkspace::default();
    let mut texts = Vec::with_capacity(known.len());
    for some in known.chunks(search.batch.max(1)) {
        let sources: Vec<&[u32]> = some.iter().map(|known| &*known.source_ids).collect();
        let found =
            translator.translate(&sources, search, &mut workspace).map_err(Failure::other)?;
        let best = |found: Vec<Translated>| {
            found.into_iter().next().map_or_else(String::new, |best| best.text)
        };
        texts.extend(found.into_iter().map(best));
        progress.show((known.len() + texts.len()) as u64, "its own translations");
    }
    Ok(texts)
}

fn compare(
    known: &[Known],
    found: &[String],
    loss: &CrossEntropy,
    rejected: u64,
    seconds: f64,
) -> Scores {
    let mut bleu = Bleu::new(BleuOptions::default());
    let mut chrf = Chrf::new(ChrfOptions::default());
    let mut equal = 0;
    for (Known { target, .. }, found) in known.iter().zip(found) {
        bleu.add(found, &[target]);
        chrf.add(found, &[target]);
        equal += usize::from(found == target);
    }
    Scores {
        pairs: known.len(),
        rejected,
        loss: loss.mean(),
        perplexity: loss.mean().exp(),
        accuracy: loss.accuracy(),
        equal,
        bleu: bleu.score().score,
        bleu_signature: bleu.signature(),
        chrf: chrf.score().score,
        chrf_signature: chrf.signature(),
        seconds,
    }
}

impl Scores {
    fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            writeln!(out, "{text}").expect("a string takes everything");
        };
        let Scores { pairs, rejected, loss, perplexity, accuracy, equal, .. } = self;
        let rejected = match rejected {
            0 => String::new(),
            lines => format!(", {lines} lines left out"),
        };
        line(format_args!("{pairs} pairs{rejected}; translated in {:.1} s", self.seconds));
        let right = 100.0 * accuracy;
        line(format_args!("loss {loss:.4}   perplexity {perplexity:.3}   right {right:.1} %"));
        let part = 100.0 * *equal as f64 / *pairs as f64;
        line(format_args!("equal to the last letter  {equal} ({part:.1} %)"));
        line(format_args!("BLEU  {:.2}   {}", self.bleu, self.bleu_signature));
        line(format_args!("chrF  {:.2}   {}", self.chrf, self.chrf_signature));
        out
    }
}
