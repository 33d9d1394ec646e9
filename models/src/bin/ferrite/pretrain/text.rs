//! What a run reads: the corpus, and the tokenizer that is made of it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use ferrite_models::data::{Corpus, CorpusOptions, DocumentRule, SentenceRule};
use ferrite_models::tokenizer::train::FILES;
use ferrite_models::tokenizer::{self, Tokenizer, WordPieceTrainer};
use ferrite_models::train::replace_file;
use serde_json::Value;

use super::failure;
use super::options::{Documents, Options};
use crate::console::Console;
use crate::outcome::Failure;
use crate::stream::counted;

/// The text, read once.
pub(super) fn open_corpus(options: &Options, console: &Console) -> Result<Corpus, Failure> {
    let rules = CorpusOptions {
        sentences: if options.lines { SentenceRule::Lines } else { SentenceRule::Split },
        documents: match options.documents {
            Documents::BlankLines => DocumentRule::BlankLines,
            Documents::Files => DocumentRule::Files,
        },
        ..CorpusOptions::default()
    };
    let corpus = Corpus::open(&options.files, rules).map_err(|error| failure(error.into()))?;
    let report = corpus.report();
    let mut text = format!(
        "{} in {}, {:.1} MB",
        counted(report.documents, "document"),
        counted(report.files, "file"),
        report.bytes as f64 / 1e6
    );
    if report.invalid_utf8 > 0 {
        text += &format!("; {} not in UTF-8", counted(report.invalid_utf8, "place"));
    }
    console.note(text);
    Ok(corpus)
}

/// The tokenizer of --vocab, or of the run that goes on, or a new one; in any case its files are in
/// the folder of the run afterwards. A new one takes texts as long as the model has positions.
pub(super) fn tokenizer(
    options: &Options,
    positions: usize,
    console: &Console,
) -> Result<Tokenizer, Failure> {
    let out = &options.out;
    let of_folder = |folder: &Path| Tokenizer::from_pretrained(folder).map_err(Failure::other);
    if let Some(folder) = &options.vocab {
        let tokenizer = of_folder(folder)?;
        if !options.resume && !same_file(folder, out) {
            keep(folder, out)?;
        }
        return Ok(tokenizer);
    }
    if options.resume {
        return of_folder(out);
    }
    let settings = tokenizer::TrainerOptions {
        vocab_size: options.vocab_size,
        lowercase: !options.cased,
        ..tokenizer::TrainerOptions::default()
    };
    let start = Instant::now();
    let mut trainer = WordPieceTrainer::new(settings).map_err(Failure::other)?;
    for path in &options.files {
        let file = File::open(path).map_err(Failure::file(path))?;
        // As the corpus reads it, which has told of what is not UTF-8.
        trainer.feed_lossy(&path.display().to_string(), file).map_err(Failure::other)?;
    }
    let progress = console.download(Some(options.vocab_size as u64));
    let trained = trainer
        .train(|now| {
            if now.tokens % 128 == 0 {
                progress.show(now.tokens as u64, "making a vocabulary");
            }
        })
        .map_err(Failure::other)?;
    drop(progress);
    let made = tempfile::tempdir().map_err(Failure::file(&std::env::temp_dir()))?;
    trained.save(made.path()).map_err(Failure::other)?;
    set_length(&made.path().join("tokenizer_config.json"), positions)?;
    keep(made.path(), out)?;
    console.note(format!(
        "a vocabulary of {} in {:.1} s",
        counted(trained.tokens().len() as u64, "token"),
        start.elapsed().as_secs_f64()
    ));
    trained.tokenizer().map_err(Failure::other)
}

/// Says in a tokenizer's configuration how long texts may be, so that `transformers` cuts them there.
fn set_length(path: &Path, positions: usize) -> Result<(), Failure> {
    let text = fs::read(path).map_err(Failure::file(path))?;
    let mut config: Value = serde_json::from_slice(&text).map_err(Failure::other)?;
    config["model_max_length"] = positions.into();
    let text = serde_json::to_vec_pretty(&config).map_err(Failure::other)?;
    fs::write(path, text).map_err(Failure::file(path))
}

/// Copies the tokenizer's files into a folder. Another tokenizer there is not replaced.
fn keep(from: &Path, out: &Path) -> Result<(), Failure> {
    let mut files = Vec::new();
    for name in FILES {
        let (from, to) = (from.join(name), out.join(name));
        let new =
            if from.exists() { Some(fs::read(&from).map_err(Failure::file(&from))?) } else { None };
        match to.exists() {
            true if new != Some(fs::read(&to).map_err(Failure::file(&to))?) => {
                return Err(Failure::Other(format!(
                    "{}: of another tokenizer than this run's\n--vocab {} takes that one; or take \
                     another --out.",
                    to.display(),
                    out.display()
                )));
            }
            true => {}
            false => files.extend(new.map(|new| (to, new))),
        }
    }
    for (to, content) in files {
        replace_file(&to, |file| file.write_all(&content)).map_err(failure)?;
    }
    Ok(())
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
