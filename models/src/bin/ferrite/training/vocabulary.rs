//! The tokenizer of a run: a given one, or one that is made of its texts.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use ferrite_models::tokenizer::train::FILES;
use ferrite_models::tokenizer::{Tokenizer, TrainerOptions, WordPieceTrainer};
use ferrite_models::train::replace_file;
use serde_json::Value;

use super::{CourseOptions, failure};
use crate::console::Console;
use crate::outcome::Failure;
use crate::stream::counted;

/// What every training is told about its vocabulary.
#[derive(Args)]
pub(crate) struct VocabularyOptions {
    /// A folder with a tokenizer to use; else one is made of the text
    #[arg(long, value_name = "DIR")]
    vocab: Option<PathBuf>,

    /// Tokens of the vocabulary that is made
    #[arg(long, value_name = "N", default_value_t = 8192, conflicts_with = "vocab")]
    vocab_size: usize,
}

/// Where the tokenizer of a run comes from.
pub(crate) struct Vocabulary<'a> {
    pub(crate) options: &'a VocabularyOptions,
    /// How one is made, but for its size.
    pub(crate) settings: TrainerOptions,
    /// The positions of the model: a new tokenizer takes texts as long as that.
    pub(crate) positions: usize,
}

impl Vocabulary<'_> {
    /// The tokenizer that is given, or that of the run that goes on, or a new one of what `feed` feeds
    /// a trainer with; in any case its files are in the folder of the run afterwards.
    pub(crate) fn tokenizer(
        self,
        course: &CourseOptions,
        console: &Console,
        feed: impl FnOnce(&mut WordPieceTrainer) -> Result<(), Failure>,
    ) -> Result<Tokenizer, Failure> {
        let out = &course.out;
        let of_folder = |folder: &Path| Tokenizer::from_pretrained(folder).map_err(Failure::other);
        if let Some(folder) = &self.options.vocab {
            let tokenizer = of_folder(folder)?;
            if !course.resume && !same_file(folder, out) {
                keep(folder, out)?;
            }
            return Ok(tokenizer);
        }
        if course.resume {
            return of_folder(out);
        }
        let (start, vocab_size) = (Instant::now(), self.options.vocab_size);
        let settings = TrainerOptions { vocab_size, ..self.settings };
        let mut trainer = WordPieceTrainer::new(settings).map_err(Failure::other)?;
        feed(&mut trainer)?;
        let progress = console.download(Some(vocab_size as u64));
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
        set_length(&made.path().join("tokenizer_config.json"), self.positions)?;
        keep(made.path(), out)?;
        console.note(format!(
            "a vocabulary of {} in {:.1} s",
            counted(trained.tokens().len() as u64, "token"),
            start.elapsed().as_secs_f64()
        ));
        trained.tokenizer().map_err(Failure::other)
    }
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
