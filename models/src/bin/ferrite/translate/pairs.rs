//! Pairs of texts, as training and evaluation read them: what cannot be used is named with its line.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use ferrite_models::data::{EncodedPairs, Pair, PairFiles, PairOptions, Pairs, control_token};
use ferrite_models::tokenizer::{EncodeOptions, Tokenizer, WordPieceTrainer};

use crate::console::Console;
use crate::outcome::Failure;
use crate::stream::counted;
use crate::training::failure;

/// Where pairs come from.
#[derive(Args)]
pub(super) struct PairInput {
    /// A file of pairs, a line each: the source, a tab, the target; or, if its name ends in .jsonl,
    /// {"source": ..., "target": ...}
    #[arg(long, value_name = "FILE", required_unless_present = "source")]
    #[arg(conflicts_with_all = ["source", "target"])]
    pairs: Option<PathBuf>,

    /// A file of sources, a line each
    #[arg(long, value_name = "FILE", requires = "target")]
    source: Option<PathBuf>,

    /// The file of their translations, line by line
    #[arg(long, value_name = "FILE", requires = "source")]
    target: Option<PathBuf>,
}

impl PairInput {
    pub(super) fn files(&self) -> PairFiles {
        match (&self.pairs, &self.source, &self.target) {
            (Some(path), ..) => files_of(path),
            (None, Some(source), Some(target)) => two_files(source, target),
            _ => unreachable!("one of them is required"),
        }
    }
}

/// A file of both sides, of the form that its name tells.
pub(super) fn files_of(path: &Path) -> PairFiles {
    match path.extension().is_some_and(|extension| extension == "jsonl") {
        true => PairFiles::JsonLines(path.to_owned()),
        false => PairFiles::Tsv(path.to_owned()),
    }
}

pub(super) fn two_files(source: &Path, target: &Path) -> PairFiles {
    PairFiles::Lines { source: source.to_owned(), target: target.to_owned() }
}

/// Counts the words of both sides for a vocabulary. What is no pair is passed over.
pub(super) fn count_words(
    files: &PairFiles,
    trainer: &mut WordPieceTrainer,
) -> Result<(), Failure> {
    for entry in Pairs::open(files, PairOptions::default()).map_err(failure)? {
        if let Ok(Pair { source, target, .. }) = entry.map_err(failure)? {
            trainer.count(&source);
            trainer.count(&target);
        }
    }
    Ok(())
}

/// Lines that give no pair: the first of them are shown, and all of them kept in a file if there is one.
pub(super) struct Rejections<'a> {
    console: &'a Console,
    path: Option<PathBuf>,
    file: Option<BufWriter<File>>,
    count: u64,
}

impl<'a> Rejections<'a> {
    /// How many are shown.
    const SHOWN: u64 = 10;

    /// With a path, the file is made when there is something to write; if in the end there is none,
    /// one that was there before is removed.
    pub(super) fn new(console: &'a Console, path: Option<PathBuf>) -> Rejections<'a> {
        Rejections { console, path, file: None, count: 0 }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn add(&mut self, rejected: &str) -> Result<(), Failure> {
        self.count += 1;
        if self.count <= Rejections::SHOWN {
            self.console.note(rejected);
        }
        let Some(path) = &self.path else { return Ok(()) };
        if self.file.is_none() {
            self.file = Some(BufWriter::new(File::create(path).map_err(Failure::file(path))?));
        }
        let file = self.file.as_mut().expect("it was made");
        writeln!(file, "{rejected}").map_err(Failure::file(path))
    }

    /// Says how many were not shown, and where they are.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        let more = self.count.saturating_sub(Rejections::SHOWN);
        match (&mut self.file, &self.path) {
            (Some(file), Some(path)) => {
                file.flush().map_err(Failure::file(path))?;
                let lines = counted(self.count, "line");
                self.console.note(format!("{lines} left out are listed in {}", path.display()));
            }
            (None, Some(path)) => match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Failure::file(path)(error));
                }
                _ => {}
            },
            _ if more > 0 => self.console.note(format!("and {} more", counted(more, "line"))),
            _ => {}
        }
        Ok(())
    }
}

/// The texts of pairs, and their tokens.
pub(super) struct Encoder<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    /// The most tokens of a side, without special ones, and the name of what says so.
    pub(super) longest: (usize, &'a str),
}

impl Encoder<'_> {
    /// All pairs of some files, in their order, each with what `keep` makes of it.
    pub(super) fn read(
        &self,
        files: &PairFiles,
        rejections: &mut Rejections<'_>,
        mut keep: impl FnMut(Pair, &[u32], &[u32]),
    ) -> Result<(), Failure> {
        let console = rejections.console;
        let progress = console.download(None);
        let mut pairs = Pairs::open(files, PairOptions::default()).map_err(failure)?;
        while let Some(entry) = pairs.next() {
            match entry.map_err(failure)? {
                Err(rejected) => progress.aside(|| rejections.add(&rejected.to_string()))?,
                Ok(pair) => match self.both(&pair) {
                    Ok([source, target]) => keep(pair, &source, &target),
                    Err(fault) => {
                        let name = name_of(files);
                        let rejected = format!("{}:{}: {fault}", name.display(), pair.line);
                        progress.aside(|| rejections.add(&rejected))?;
                    }
                },
            }
            let lines = pairs.report().lines;
            if lines.is_multiple_of(1024) {
                progress.show(lines, &format!("{lines} lines read"));
            }
        }
        drop(progress);
        console.note(format!("{}: {}", name_of(files).display(), pairs.report()));
        Ok(())
    }

    /// The same, as pairs to be made into batches.
    pub(super) fn pairs(
        &self,
        files: &PairFiles,
        rejections: &mut Rejections<'_>,
    ) -> Result<EncodedPairs, Failure> {
        let mut encoded = EncodedPairs::default();
        self.read(files, rejections, |pair, source, target| {
            encoded.push(source, target, pair.line);
        })?;
        Ok(encoded)
    }

    fn both(&self, pair: &Pair) -> Result<[Vec<u32>; 2], String> {
        Ok([self.ids("source", &pair.source)?, self.ids("target", &pair.target)?])
    }

    /// The tokens of a text, or why it cannot be used.
    fn ids(&self, side: &str, text: &str) -> Result<Vec<u32>, String> {
        let options = EncodeOptions { add_special_tokens: false, ..EncodeOptions::default() };
        let ids =
            self.tokenizer.encode(text, None, &options).map_err(|error| error.to_string())?.ids;
        if let Some(token) = control_token(self.tokenizer, &ids) {
            return Err(format!("the {side} holds {token}, which ends or begins sentences"));
        }
        let (longest, option) = self.longest;
        match ids.len() {
            0 => Err(format!("the {side} has no token")),
            tokens if tokens > longest => {
                Err(format!("the {side} has {tokens} tokens, and {option} is {longest}"))
            }
            _ => Ok(ids),
        }
    }
}

/// The file that lines are counted in: of two, that of the sources.
fn name_of(files: &PairFiles) -> &Path {
    match files {
        PairFiles::Tsv(path) | PairFiles::JsonLines(path) => path,
        PairFiles::Lines { source, .. } => source,
    }
}
