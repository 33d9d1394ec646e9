//! `ferrite translate quickstart`: from nothing to a translator of numbers, dates and times.
//!
//! ```text
//! english german    numbers, dates and times in words
//! phrases           sentences with them, in both languages
//! recipe            sizes, rates, steps
//! alignment         what attention looks at, as a picture
//! report            what is shown in the end
//! ```

mod alignment;
mod english;
mod german;
mod phrases;
mod recipe;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use ferrite_models::data::{EncodedPairs, PairBatches, SpecialIds};
use ferrite_models::kernels::{Arithmetic, CrossEntropy};
use ferrite_models::metrics::{Bleu, BleuOptions};
use ferrite_models::tasks::{Source, Translated, Translator};
use ferrite_models::tokenizer::train::FILES;
use ferrite_models::tokenizer::{EncodeOptions, Tokenizer};
use ferrite_models::train::{Chart, Curve, Trainer, export_transformer, initialize_transformer};
use ferrite_models::transformer::{DecodeOptions, DecodeWorkspace, Transformer, TransformerConfig};

use crate::console::{Console, Progress};
use crate::options::{Format, TrainingArithmeticOptions};
use crate::outcome::{Failure, Outcome, prepare, write_text};
use crate::stream::write_out;
use crate::vocab::tokenizer_of;

use phrases::Phrase;
use report::{Example, Report};

/// What is written besides the tokenizer's files.
const TRAINING: &str = "training.tsv";
const TEST: &str = "test.tsv";
const LOSS: &str = "loss.svg";
const ATTENTION: &str = "attention.svg";
const MODEL: [&str; 2] = ["config.json", "model.safetensors"];

/// What is shown in the end, and what of it the picture is of.
const SHOWN: [&str; 6] = [
    "forty-two",
    "The number is six hundred and seventeen thousand three hundred and one.",
    "She was born on the twenty-ninth of February, nineteen eighty-four.",
    "The train leaves at twenty-five to four.",
    "I can see ninety-one bridges from here.",
    "On Sunday, the first of August, we stay at home.",
];
const PICTURED: usize = 2;

/// Train a small Transformer from nothing, in about two minutes, to translate numbers and dates
///
/// Makes up English sentences with numbers, dates and times in words and their German translations,
/// trains a vocabulary of both languages and a Transformer, and translates sentences that it has never
/// seen. Writes training.tsv, test.tsv, loss.svg, attention.svg and a folder that
/// `ferrite translate run` opens. Translations, and how many of the unseen sentences are right to the
/// last letter, go to stdout.
///
/// The same seed gives the same bits at one instruction set, whatever the number of threads.
#[derive(Args)]
#[command(after_help = after_help!("ferrite translate quickstart --out numbers"))]
pub(crate) struct Options {
    /// The folder to write to; it is made if it is not there
    #[arg(long, value_name = "DIR", default_value = "numbers")]
    out: PathBuf,

    /// Replace what is already there
    #[arg(long)]
    overwrite: bool,

    /// Whatever is random follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Steps of training; with fewer it is sooner done, and learns less
    #[arg(long, value_name = "N", default_value_t = recipe::STEPS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    steps: u64,

    #[command(flatten)]
    arithmetic: TrainingArithmeticOptions,

    /// What to write to stdout: a table, or one object of JSON
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let Options { out, seed, steps, .. } = &options;
    let written = FILES.into_iter().chain(MODEL).chain([TRAINING, TEST, LOSS, ATTENTION]);
    prepare(out, written, options.overwrite)?;
    let say = |what: &str| {
        console.note(format_args!("{:6.1} s  {what}", start.elapsed().as_secs_f64()));
    };
    let arithmetic = options.arithmetic.arithmetic_or_fastest();

    say("1 of 5: sentences in both languages");
    let (training, test) = phrases::phrases(*seed, recipe::TRAINING, recipe::TEST);
    write_text(&out.join(TRAINING), &tsv(&training))?;
    write_text(&out.join(TEST), &tsv(&test))?;

    say("2 of 5: a vocabulary of both");
    let both = training.iter().flat_map(|phrase| [&*phrase.english, &*phrase.german]);
    let tokenizer = tokenizer_of(both, recipe::vocabulary(), out)?;
    let config = config(&tokenizer);
    let special = SpecialIds::from(&config);
    let pairs = Arc::new(encode(&tokenizer, &training)?);
    let mut batches =
        PairBatches::new(pairs, recipe::batches(*seed, special)).map_err(Failure::other)?;

    let parameters = initialize_transformer(&config, *seed);
    say(&format!(
        "3 of 5: training of {:.2} million parameters ({arithmetic}), {steps} steps, {} sentences, {} \
         tokens",
        parameters.count() as f64 / 1e6,
        training.len(),
        tokenizer.vocab_size()
    ));
    let model =
        Transformer::trainable(arithmetic, config.clone(), &parameters).map_err(Failure::other)?;
    let mut trainer = Trainer::of(model, parameters, recipe::trainer(*seed, *steps));
    let progress = console.download(Some(*steps));
    let curve = train(&mut trainer, &mut batches, *steps, &progress, say)?;
    drop(progress);

    say("4 of 5: the folder");
    export_transformer(out, &config, trainer.parameters()).map_err(Failure::other)?;
    let title = "Translation of numbers, dates and times".to_owned();
    let unit = "loss of a token (nats)".to_owned();
    write_text(&out.join(LOSS), &Chart { title, unit, curves: vec![curve] }.to_svg())?;

    say("5 of 5: translation of sentences that it has never seen");
    let f32 = Arithmetic::from(arithmetic.level());
    let model = Transformer::new(f32, config, trainer.parameters()).map_err(Failure::other)?;
    let translator = Translator::new(model, tokenizer).map_err(Failure::other)?;
    write_text(&out.join(ATTENTION), &picture(&translator)?)?;
    write_out(&report(&translator, &test)?.write(options.format))?;
    let out = out.display();
    console.note(format_args!(
        "the losses are in {out}/{LOSS}, what a sentence looks at is in {out}/{ATTENTION}. What to try \
         next:\n  \
         ferrite translate run --model {out} \"The concert is on Friday, the ninth of May.\"\n  \
         cut -f 1 {out}/{TEST} | ferrite translate run --model {out}"
    ));
    Ok(Outcome::Done)
}

/// A pair a line.
fn tsv(phrases: &[Phrase]) -> String {
    phrases.iter().map(|Phrase { english, german }| format!("{english}\t{german}\n")).collect()
}

/// The decoder begins with [CLS], sentences end with [SEP].
fn config(tokenizer: &Tokenizer) -> TransformerConfig {
    let special = [tokenizer.cls_id(), tokenizer.sep_id(), tokenizer.pad_id()];
    let [start, end, pad] = special.map(|id| id.expect("a vocabulary has its special tokens"));
    recipe::config(tokenizer.vocab_size(), start, end, pad)
}

fn encode(tokenizer: &Tokenizer, phrases: &[Phrase]) -> Result<EncodedPairs, Failure> {
    let options = EncodeOptions { add_special_tokens: false, ..EncodeOptions::default() };
    let ids = |text: &str| {
        tokenizer.encode(text, None, &options).map(|encoding| encoding.ids).map_err(Failure::other)
    };
    let mut pairs = EncodedPairs::default();
    for (index, Phrase { english, german }) in phrases.iter().enumerate() {
        pairs.push(&ids(english)?, &ids(german)?, index as u64 + 1);
    }
    Ok(pairs)
}

/// Trains, and returns the losses between one note and the next.
fn train(
    trainer: &mut Trainer<Transformer>,
    batches: &mut PairBatches,
    steps: u64,
    progress: &Progress,
    say: impl Fn(&str),
) -> Result<Curve, Failure> {
    let interval = (steps / recipe::MEASUREMENTS).max(1);
    let (mut points, mut since) = (Vec::new(), CrossEntropy::default());
    for batch in batches.take(steps as usize) {
        since += trainer.translate_step(&[batch]).map_err(Failure::other)?.loss;
        let step = trainer.steps();
        progress.position(step);
        if step.is_multiple_of(interval) || step == steps {
            let loss = std::mem::take(&mut since);
            let now = format!("loss {:.4}, {:.2} % right", loss.mean(), 100.0 * loss.accuracy());
            progress.show(step, &now);
            progress.aside(|| say(&format!("        step {step}: {now}")));
            points.push((step as f64, loss.mean()));
        }
    }
    Ok(Curve { name: "training".to_owned(), points })
}

/// The attention of the decoder's last layer while it writes one of the examples.
fn picture(translator: &Translator) -> Result<String, Failure> {
    let last = translator.transformer().config().decoder_layers - 1;
    let options = DecodeOptions { attention: Some(last), ..DecodeOptions::default() };
    let text = SHOWN[PICTURED];
    let source = translator.encode(text).map_err(Failure::other)?;
    let (found, _) = translate(translator, &[&source], &options)?;
    let best = &found[0][0];
    let tokens = |ids: &[u32]| -> Vec<String> {
        let token = |&id: &u32| translator.tokenizer().id_to_token(id).unwrap_or("?").to_owned();
        ids.iter().map(token).collect()
    };
    let mut target = tokens(&best.hypothesis.tokens);
    if best.hypothesis.is_finished {
        target.extend(tokens(&[translator.transformer().config().eos_token_id]));
    }
    let weights = best.hypothesis.attention.as_ref().expect("it was asked for");
    let title = format!("{text}  ·  {}", best.text);
    Ok(alignment::to_svg(&title, &tokens(&source.ids), &target, weights.view()))
}

/// Translations, the best first, and how many seconds they took.
fn translate(
    translator: &Translator,
    sources: &[&Source],
    options: &DecodeOptions,
) -> Result<(Vec<Vec<Translated>>, f64), Failure> {
    let start = Instant::now();
    let found = translator
        .translate(sources, options, &mut DecodeWorkspace::default())
        .map_err(Failure::other)?;
    Ok((found, start.elapsed().as_secs_f64()))
}

/// What becomes of the examples and of the sentences to be tested with.
fn report(translator: &Translator, test: &[Phrase]) -> Result<Report, Failure> {
    let encode = |text: &str| translator.encode(text).map_err(Failure::other);
    let shown = SHOWN.into_iter().map(encode).collect::<Result<Vec<_>, _>>()?;
    let tested = test.iter().map(|phrase| encode(&phrase.english));
    let tested = tested.collect::<Result<Vec<_>, _>>()?;
    let options = DecodeOptions::default();
    let (examples, _) = translate(translator, &Vec::from_iter(&shown), &options)?;
    let (found, seconds) = translate(translator, &Vec::from_iter(&tested), &options)?;
    let mut bleu = Bleu::new(BleuOptions::default());
    let (mut right, mut wrong) = (0, None);
    for (found, Phrase { english, german }) in found.iter().zip(test) {
        let text = &found[0].text;
        bleu.add(text, &[german]);
        if text == german {
            right += 1;
        } else if wrong.is_none() {
            wrong = Some(Example { english: english.clone(), german: text.clone() });
        }
    }
    let example = |(english, found): (&str, Vec<Translated>)| Example {
        english: english.to_owned(),
        german: found[0].text.clone(),
    };
    Ok(Report {
        examples: SHOWN.into_iter().zip(examples).map(example).collect(),
        unseen: test.len(),
        right,
        wrong,
        bleu: bleu.score().score,
        seconds,
    })
}
