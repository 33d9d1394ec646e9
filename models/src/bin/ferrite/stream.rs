//! Texts become batches, and batches results, in the order of the texts.
//!
//! A batch is worked off when it is full, and also when no further text is there at once: so a fast
//! source gets full batches, and nobody who writes to a pipe line by line waits for the next line.
//! No more is ever held than a batch and what [`input`](crate::input) reads ahead.

use std::io::{ErrorKind, Write, stdout};

use crate::console::Console;
use crate::input::{Input, Next};
use crate::lines::Text;
use crate::options::OnTruncate;
use crate::outcome::{Failure, Outcome};

/// Tokens that a model takes at once. More gain nothing, and cost memory.
pub(crate) const BATCH_TOKENS: usize = 8192;

/// Why a text is rejected whose result has NaN or infinite elements.
pub(crate) const NOT_NUMBERS: &str =
    "the result is not made of finite numbers: are the weights sound?";

/// The most lines of a batch, bad ones included.
const MAX_LINES: usize = 4096;

/// What is done with each text.
pub(crate) trait Verb {
    /// Takes the text of a line into the batch, or says why it cannot.
    fn push(&mut self, line: u64, text: Text) -> Result<(), String>;

    /// Whether the batch should not grow further.
    fn is_full(&self) -> bool;

    /// The result for each text of the batch, in their order. The batch is empty afterwards.
    fn run(&mut self) -> Result<Answers, Failure>;

    /// What is written in the place of a result. The line may have been pushed, and answered.
    fn rejection(&mut self, line: u64, reason: &str) -> Vec<u8>;
}

/// The result for a text.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// What is written.
    pub(crate) output: Vec<u8>,
    /// The tokens of the text.
    pub(crate) tokens: usize,
    /// How many more there were beyond the limit.
    pub(crate) truncated: usize,
    /// The words that the vocabulary does not know.
    pub(crate) unknown: usize,
}

/// What a verb has for each text of a batch: the result, or why there is none.
pub(crate) type Answers = Vec<Result<Answer, String>>;

/// Takes all texts through a verb.
pub(crate) struct Stream<'a> {
    pub(crate) console: &'a Console,
    pub(crate) on_truncate: OnTruncate,
    /// The most tokens of a text that count.
    pub(crate) limit: usize,
}

/// What happened on the way.
#[derive(Default)]
struct Tally {
    texts: u64,
    tokens: u64,
    rejected: u64,
    truncated: Mishaps,
    unknown: Mishaps,
}

/// Something that happened to some texts.
#[derive(Default)]
struct Mishaps {
    texts: u64,
    /// Tokens or words.
    pieces: u64,
    /// The line of the first such text.
    first: u64,
}

impl Mishaps {
    fn add(&mut self, line: u64, pieces: usize) {
        if pieces > 0 {
            self.texts += 1;
            self.pieces += pieces as u64;
            if self.first == 0 {
                self.first = line;
            }
        }
    }
}

/// A line that waits for the batch: its number, and if it is bad the reason.
type Waiting = (u64, Option<String>);

impl Stream<'_> {
    /// Reads to the end of the input.
    pub(crate) fn run(&self, verb: &mut impl Verb, input: &Input) -> Result<Outcome, Failure> {
        let progress = self.console.progress(input.total());
        let mut tally = Tally::default();
        let mut waiting: Vec<Waiting> = Vec::new();
        let end = loop {
            match input.next(waiting.is_empty()) {
                Ok(Next::Lines(lines, bytes)) => {
                    for line in lines {
                        let taken = line.text.and_then(|text| verb.push(line.number, text));
                        waiting.push((line.number, taken.err()));
                        if verb.is_full() || waiting.len() == MAX_LINES {
                            let work = self.work_off(verb, input, &mut waiting, &mut tally)?;
                            progress.aside(|| work.write(self.console))?;
                            progress.update(bytes, tally.texts, tally.tokens);
                        }
                    }
                }
                next => {
                    // What was read before the end, or before a fault, has its results.
                    if !waiting.is_empty() {
                        let work = self.work_off(verb, input, &mut waiting, &mut tally)?;
                        progress.aside(|| work.write(self.console))?;
                    }
                    match next {
                        Ok(Next::End) => break Ok(()),
                        Err(failure) => break Err(failure),
                        Ok(_) => {}
                    }
                }
            }
        };
        drop(progress);
        self.report(&tally, input.unit());
        end?;
        Ok(if tally.rejected > 0 { Outcome::SomeRejected } else { Outcome::Done })
    }

    fn work_off(
        &self,
        verb: &mut impl Verb,
        input: &Input,
        waiting: &mut Vec<Waiting>,
        tally: &mut Tally,
    ) -> Result<Work, Failure> {
        let mut answers = verb.run()?.into_iter();
        let mut work = Work::default();
        for (number, rejection) in waiting.drain(..) {
            let answer = match rejection {
                Some(reason) => Err(reason),
                None => answers.next().expect("a verb answers every text"),
            };
            tally.texts += 1;
            match answer.and_then(|answer| self.check(answer)) {
                Ok(answer) => {
                    tally.tokens += answer.tokens as u64;
                    tally.truncated.add(number, answer.truncated);
                    tally.unknown.add(number, answer.unknown);
                    work.output.extend_from_slice(&answer.output);
                }
                Err(reason) => {
                    tally.rejected += 1;
                    work.output.extend(verb.rejection(number, &reason));
                    work.messages.push(format!("{} {number}: {reason}", input.unit()));
                }
            }
        }
        Ok(work)
    }

    /// Rejects a text that is too long, if that is what the user wants.
    fn check(&self, answer: Answer) -> Result<Answer, String> {
        if answer.truncated > 0 && self.on_truncate == OnTruncate::Error {
            return Err(too_long(answer.tokens + answer.truncated, self.limit));
        }
        Ok(answer)
    }

    /// Tells the user what did not go as they may believe.
    fn report(&self, Tally { texts, truncated, unknown, .. }: &Tally, unit: &str) {
        if truncated.texts > 0 && self.on_truncate == OnTruncate::Warn {
            self.console.note(format_args!(
                "{} of {} had more than {} tokens and lost the rest, {} in all (the first: {unit} \
                 {})",
                truncated.texts,
                counted(*texts, "text"),
                self.limit,
                counted(truncated.pieces, "token"),
                truncated.first
            ));
        }
        if unknown.texts > 0 {
            self.console.note(format_args!(
                "{} in {} of {} not in the vocabulary (the first: {unit} {})",
                counted(unknown.pieces, "word"),
                unknown.texts,
                counted(*texts, "text"),
                unknown.first
            ));
        }
    }
}

/// Why a text is rejected that has more tokens than the model takes.
pub(crate) fn too_long(tokens: usize, limit: usize) -> String {
    format!("{tokens} tokens, and the model takes {limit}")
}

/// `1 word`, `2 words`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// What a batch has given.
#[derive(Default)]
struct Work {
    /// For stdout.
    output: Vec<u8>,
    /// For stderr.
    messages: Vec<String>,
}

impl Work {
    fn write(&self, console: &Console) -> Result<(), Failure> {
        self.messages.iter().for_each(|message| console.error(message));
        write_out(&self.output)
    }
}

/// Writes results, and sees to it that they arrive.
pub(crate) fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::PipeClosed),
        Err(error) => Err(Failure::Other(format!("stdout: {error}"))),
    }
}
