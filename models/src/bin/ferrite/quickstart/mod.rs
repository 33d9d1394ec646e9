//! `ferrite quickstart`: from nothing to a BERT that has learnt a little language.
//!
//! ```text
//! words plots grammar    the language: words, plots, stories
//! task                   a labelled task over it
//! recipe                 sizes, rates, steps
//! learn                  pre-training, fine-tuning, what models know
//! report                 what is shown in the end
//! ```

mod grammar;
mod learn;
mod plots;
mod recipe;
mod report;
mod task;
mod words;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use ferrite_models::Error;
use ferrite_models::data::{
    Corpus, CorpusOptions, DataError, PretrainingBatch, PretrainingBatches, SentenceRule,
};
use ferrite_models::tokenizer::train::FILES;
use ferrite_models::tokenizer::{Tokenizer, TrainerOptions as VocabularyOptions};
use ferrite_models::train::{Chart, Curve, Trainer, export};

use crate::console::Console;
use crate::options::{Format, TrainingArithmeticOptions};
use crate::outcome::{Failure, Outcome, prepare, write_text};
use crate::stream::write_out;
use crate::vocab::tokenizer_of;

use learn::{Encoded, Point, School};
use report::{GAPS, Gap, Report, Score, commonest};

/// What is written besides the tokenizer's files.
const CORPUS: &str = "corpus.txt";
const LOSS: &str = "loss.svg";
const MODEL: [&str; 2] = ["config.json", "model.safetensors"];
/// The folder of the fine-tuned model, in the other.
const TASK: &str = "task";

/// Train a small BERT from nothing, in about two minutes, and see what it learns
///
/// Makes up a corpus of little stories, trains a vocabulary and pre-trains a BERT on it, and then
/// fine-tunes all of it on a task over the same language: does a statement follow from what was told?
/// Writes corpus.txt, loss.svg and a folder that transformers loads, and in it another one, task, with
/// the fine-tuned model. The guesses and the accuracies, beside those of the same model without
/// pre-training, go to stdout.
///
/// The same seed gives the same bits at one instruction set, whatever the number of threads.
#[derive(Args)]
#[command(after_help = after_help!("ferrite quickstart --out my-first-bert"))]
pub(crate) struct Options {
    /// The folder to write to; it is made if it is not there
    #[arg(long, value_name = "DIR", default_value = "quickstart")]
    out: PathBuf,

    /// Replace what is already there
    #[arg(long)]
    overwrite: bool,

    /// Whatever is random follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Steps of pre-training; with fewer it is sooner done, and learns less
    #[arg(long, value_name = "N", default_value_t = recipe::STEPS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    steps: u64,

    #[command(flatten)]
    arithmetic: TrainingArithmeticOptions,

    /// What to write to stdout: tables, or one object of JSON
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let Options { out, seed, .. } = &options;
    let written = FILES.into_iter().chain(MODEL).chain([CORPUS, LOSS, TASK]);
    prepare(out, written, options.overwrite)?;
    let say = |what: &str| {
        console.note(format_args!("{:6.1} s  {what}", start.elapsed().as_secs_f64()));
    };
    let arithmetic = options.arithmetic.arithmetic_or_fastest();
    let school = School { arithmetic, seed: *seed, steps: options.steps };

    say("1 of 6: a corpus");
    let text = grammar::corpus(*seed, recipe::STORIES);
    let path = out.join(CORPUS);
    write_text(&path, &text)?;

    say("2 of 6: a vocabulary");
    let vocabulary = VocabularyOptions { vocab_size: recipe::VOCABULARY, ..Default::default() };
    let tokenizer = Arc::new(tokenizer_of([&*text], vocabulary, out)?);

    let corpus = CorpusOptions { sentences: SentenceRule::Lines, ..CorpusOptions::default() };
    let corpus = Arc::new(Corpus::open([&path], corpus).map_err(Failure::other)?);
    let report = corpus.report();
    say(&format!(
        "        {} stories, {} lines, {} tokens",
        report.documents,
        report.lines,
        tokenizer.vocab_size()
    ));

    let data = recipe::data(*seed);
    let mut batches =
        PretrainingBatches::new(corpus.clone(), tokenizer.clone(), data).map_err(Failure::other)?;
    let held_out =
        PretrainingBatches::held_out(corpus, tokenizer.clone(), data).map_err(Failure::other)?;
    let held_out = held_out.collect::<Result<Vec<_>, DataError>>().map_err(Failure::other)?;
    let config = recipe::config(tokenizer.vocab_size());
    let mut trainer = school.beginner(config.clone()).map_err(Failure::other)?;
    say(&format!(
        "3 of 6: pre-training of {:.2} million parameters ({arithmetic}), {} steps",
        trainer.parameters().count() as f64 / 1e6,
        options.steps
    ));
    let mut report = before(&trainer, &tokenizer, &held_out)?;
    let watched = &held_out[..held_out.len().min(recipe::WATCHED)];
    let progress = console.download(Some(options.steps));
    let curve = school
        .pretrain(&mut trainer, &mut batches, watched, |step, point| match point {
            Some(Point { training: [words, _], held_out: [held_out, next], .. }) => {
                let now = format!("loss {words:.3}, held out {held_out:.3} and {next:.3}");
                progress.show(step, &now);
                progress.aside(|| say(&format!("        step {step}: {now}")));
            }
            None => progress.position(step),
        })
        .map_err(|error: DataError| Failure::other(error))?;
    drop(progress);
    after(&mut report, &trainer, &tokenizer, &held_out)?;

    say("4 of 6: the folder");
    write_text(&out.join(LOSS), &picture(&curve))?;
    export(out, &config, trainer.parameters()).map_err(Failure::other)?;

    let (training, test) = task::examples(*seed);
    let [training, test] = [&training, &test].map(|examples| learn::encode(&tokenizer, examples));
    let (training, test) = (training.map_err(Failure::other)?, test.map_err(Failure::other)?);
    let config = recipe::classifier(tokenizer.vocab_size());
    say("5 of 6: fine-tuning of all parameters, with pre-training and without");
    let progress = console.download(Some(2 * recipe::TASK_STEPS.min(options.steps)));
    let from = [Some(trainer.parameters()), None].into_iter().enumerate();
    let tuned = from.map(|(turn, from)| {
        let before = turn as u64 * recipe::TASK_STEPS.min(options.steps);
        school.fine_tune(config.clone(), from, &training, |step| progress.position(before + step))
    });
    let tuned: Vec<Trainer> = tuned.collect::<Result<_, Error>>().map_err(Failure::other)?;
    drop(progress);
    let accuracy = |of: &Trainer| learn::accuracy(of.bert(), &test).map_err(Failure::other);
    report.scores.push(Score {
        what: "does it follow: yes or no",
        questions: test.len(),
        commonest: commonest(test.iter().map(Encoded::label)),
        untrained: accuracy(&tuned[1])?,
        trained: accuracy(&tuned[0])?,
    });
    let folder = out.join(TASK);
    std::fs::create_dir_all(&folder).map_err(Failure::file(&folder))?;
    for name in FILES {
        let copy = folder.join(name);
        std::fs::copy(out.join(name), &copy).map_err(Failure::file(&copy))?;
    }
    export(&folder, &config, tuned[0].parameters()).map_err(Failure::other)?;

    say("6 of 6: what it has learnt");
    write_out(&report.write(options.format))?;
    let out = out.display();
    console.note(format_args!(
        "the losses are in {out}/{LOSS}, the stories in {out}/{CORPUS}. What to try next:\n  \
         ferrite fill-mask --model {out} \"Nora had a cat. The cat [MASK].\"\n  \
         ferrite inspect --model {out}/{TASK}\n  \
         ferrite pretrain --help    (the same with texts of your own)"
    ));
    Ok(Outcome::Done)
}

/// The report of a model that has learnt nothing.
fn before(
    trainer: &Trainer,
    tokenizer: &Tokenizer,
    held_out: &[PretrainingBatch],
) -> Result<Report, Failure> {
    let gap = |text| {
        let untrained = learn::guess(trainer.bert(), tokenizer, text, 3)?;
        Ok(Gap { text, untrained, trained: Vec::new() })
    };
    let gaps = GAPS.into_iter().map(gap).collect::<Result<_, Error>>().map_err(Failure::other)?;
    let loss = learn::measure(trainer.bert(), held_out).map_err(Failure::other)?;
    let words = held_out.iter().flat_map(|batch| batch.targets.iter().copied());
    let pairs = held_out.iter().flat_map(|batch| batch.next_sentence.iter().copied());
    let score = |what, questions, commonest, untrained| Score {
        what,
        questions,
        commonest,
        untrained,
        trained: 0.0,
    };
    let (masked, next) = (loss.masked, loss.next_sentence);
    let scores = vec![
        score("masked words", masked.counted, commonest(words), masked.accuracy()),
        score("next sentence or not", next.counted, commonest(pairs), next.accuracy()),
    ];
    Ok(Report { gaps, scores })
}

/// The same of the model that was trained.
fn after(
    report: &mut Report,
    trainer: &Trainer,
    tokenizer: &Tokenizer,
    held_out: &[PretrainingBatch],
) -> Result<(), Failure> {
    for gap in &mut report.gaps {
        gap.trained =
            learn::guess(trainer.bert(), tokenizer, gap.text, 3).map_err(Failure::other)?;
    }
    let loss = learn::measure(trainer.bert(), held_out).map_err(Failure::other)?;
    let right = [loss.masked.accuracy(), loss.next_sentence.accuracy()];
    report.scores.iter_mut().zip(right).for_each(|(score, right)| score.trained = right);
    Ok(())
}

/// The curves of pre-training.
fn picture(points: &[Point]) -> String {
    let curve = |name: &str, loss: fn(&Point) -> f64| Curve {
        name: name.to_owned(),
        points: points.iter().map(|point| (point.step as f64, loss(point))).collect(),
    };
    let curves = vec![
        curve("words, training", |point| point.training[0]),
        curve("words, held out", |point| point.held_out[0]),
        curve("sentences, training", |point| point.training[1]),
        curve("sentences, held out", |point| point.held_out[1]),
    ];
    let title = "Pre-training: masked words and next sentences".to_owned();
    Chart { title, unit: "loss (nats)".to_owned(), curves }.to_svg()
}
