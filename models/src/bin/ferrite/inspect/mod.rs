//! `ferrite inspect`: what a model's folder has, and all that is wrong with it; what a machine has.

mod cost;
mod machine;
mod print;

use std::path::{Path, PathBuf};

use clap::Args;
use ferrite_models::Error;
use ferrite_models::bert::{BertConfig, Part};
use ferrite_models::checkpoint::{Checkpoint, Fate, LoadReport, Names, TensorInfo};
use ferrite_models::kernels::MAX_INT8_INPUTS;
use ferrite_models::sentence::{Pooling, SentenceModules};
use ferrite_models::tokenizer::Tokenizer;
use serde::Serialize;

use crate::console::Console;
use crate::model::{SENTENCES, resolve_model};
use crate::options::Format;
use crate::outcome::{Failure, Outcome};
use crate::stream::write_out;
use cost::{Cost, ProductBytes};
use machine::Machine;

/// Look at a model: every tensor, its size and cost, and all that is wrong with it; or at this CPU
///
/// Only headers are read, so this is quick for any size. A folder with faults is gone through to its
/// end; then the exit code is 4.
#[derive(Args)]
#[command(after_help = after_help!(
    "ferrite inspect --model path/to/model"
    "ferrite inspect --cpu"
))]
pub(crate) struct Options {
    /// A folder, or the name of a model on the hub
    #[arg(long, value_name = "DIR|NAME", default_value = SENTENCES)]
    model: String,

    /// Look at this machine and at no model: its CPU and threads, the instruction set levels that it
    /// has and lacks, and for each precision the instruction that multiplies
    #[arg(long, conflicts_with = "model")]
    cpu: bool,

    /// What to write: something to read, or all of it as one object of JSON
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Outcome, Failure> {
    if options.cpu {
        let machine = Machine::new();
        write(options.format, &machine, Machine::text)?;
        return Ok(Outcome::Done);
    }
    let folder = resolve_model(&options.model, console)?;
    let report = Report::new(&folder);
    write(options.format, &report, print::text)?;
    Ok(if report.faults.is_empty() { Outcome::Done } else { Outcome::InvalidModel })
}

/// Writes something in a format.
fn write<T: Serialize>(format: Format, what: &T, text: fn(&T) -> String) -> Result<(), Failure> {
    let out = match format {
        Format::Text => text(what),
        Format::Jsonl => serde_json::to_string(what).expect("all keys are strings") + "\n",
    };
    write_out(out.as_bytes())
}

/// What can be said of a folder. What cannot be read is absent, and among the faults.
#[derive(Serialize)]
struct Report {
    /// The folder of the encoder: that of the model, or one inside.
    folder: PathBuf,
    config: Option<BertConfig>,
    /// The parts that the weights have.
    parts: Vec<&'static str>,
    /// The elements of the tensors that are used.
    parameters: Option<usize>,
    /// Their bytes, as stored.
    bytes: Option<usize>,
    cost: Option<Cost>,
    product_bytes: Option<ProductBytes>,
    tokenizer: Option<Vocabulary>,
    sentence: Option<Sentence>,
    machine: Machine,
    tensors: Vec<Tensor>,
    /// What is odd, and does no harm.
    warnings: Vec<String>,
    faults: Vec<String>,
}

#[derive(Serialize)]
struct Vocabulary {
    /// The file it comes from.
    file: &'static str,
    /// The rows that an embedding table needs for it.
    tokens: usize,
    /// The tokens with a task, as far as there are such.
    special: Vec<String>,
}

/// How texts become vectors.
#[derive(Serialize)]
struct Sentence {
    pooling: Vec<&'static str>,
    normalize: bool,
    /// The most tokens of a text that count.
    max_length: Option<usize>,
}

/// A stored tensor, or one that is missing.
#[derive(Serialize)]
struct Tensor {
    name: String,
    file: Option<String>,
    dtype: Option<String>,
    shape: Vec<usize>,
    /// `used`, `renamed`, `ignored`, `wrong shape`, `wrong type`, `doubled`, `unexpected`,
    /// `missing`.
    fate: &'static str,
    /// The same with what there is to say of it.
    remark: String,
}

impl Report {
    fn new(folder: &Path) -> Report {
        let mut report = Report {
            folder: folder.to_owned(),
            config: None,
            parts: Vec::new(),
            parameters: None,
            bytes: None,
            cost: None,
            product_bytes: None,
            tokenizer: None,
            sentence: None,
            machine: Machine::new(),
            tensors: Vec::new(),
            warnings: Vec::new(),
            faults: Vec::new(),
        };
        let modules = report.keep(SentenceModules::from_folder(folder));
        if let Some(modules) = &modules {
            report.folder.clone_from(&modules.transformer);
        }
        let folder = report.folder.clone();
        report.config = report.keep(BertConfig::from_file(folder.join("config.json")));
        report.add_weights(&folder);
        let tokenizer = report.add_tokenizer(&folder);
        if let Some(modules) = modules {
            report.add_sentence(&modules, tokenizer.as_ref());
        }
        report
    }

    /// The value, or a fault more.
    fn keep<T, E: Into<Error>>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.faults.push(error.into().to_string())).ok()
    }

    fn add_weights(&mut self, folder: &Path) {
        let Some((checkpoint, faults)) = self.keep(Checkpoint::open_lenient(folder)) else {
            return;
        };
        self.faults.extend(faults.iter().map(Error::to_string));
        let Some(config) = &self.config else {
            // Nobody knows what the tensors are for.
            let tensors = checkpoint.tensors();
            self.tensors.extend(
                tensors.map(|tensor| Tensor::stored(&checkpoint, tensor, "unknown", "unknown")),
            );
            return;
        };
        let names = Names::new(&checkpoint);
        let parts = config.parts(&names);
        let LoadReport { tensors, faults, parameters, bytes, .. } = config.report(&names, &parts);
        self.cost = Some(Cost::new(config, &parts));
        self.product_bytes = Some(ProductBytes::new(config, &parts));
        for (field, size) in
            [("hidden_size", config.hidden_size), ("intermediate_size", config.intermediate_size)]
        {
            if size > MAX_INT8_INPUTS {
                let warning = format!("{field}: {size}, and int8 takes at most {MAX_INT8_INPUTS}");
                self.warnings.push(warning);
            }
        }
        self.parts.extend(parts.iter().map(|part| match part {
            Part::Encoder => "encoder",
            Part::Pooler => "pooler",
            Part::MaskedLm => "masked-LM head",
            Part::NextSentence => "next-sentence head",
            _ => "another part",
        }));
        (self.parameters, self.bytes) = (Some(parameters), Some(bytes));
        for (tensor, fate) in &tensors {
            let remark = fate.to_string();
            self.tensors.push(Tensor::stored(&checkpoint, tensor, kind(fate), &remark));
            if *fate == Fate::Unexpected {
                self.warnings.push(format!("{}: nothing the model knows", tensor.name()));
            }
        }
        for fault in &faults {
            if let Error::MissingTensor { tensor, expected, .. } = fault {
                self.tensors.push(Tensor::missing(tensor, expected));
            }
        }
        self.faults.extend(faults.iter().map(Error::to_string));
    }

    fn add_tokenizer(&mut self, folder: &Path) -> Option<Tokenizer> {
        let tokenizer = self.keep(Tokenizer::from_pretrained(folder))?;
        self.warnings.extend_from_slice(tokenizer.warnings());
        let tokens = tokenizer.vocab_size();
        if let Some(rows) = self.config.as_ref().map(|config| config.vocab_size) {
            if tokens > rows {
                self.faults.push(Error::VocabularyTooLarge { words: tokens, rows }.to_string());
            } else if tokens < rows {
                self.warnings.push(format!(
                    "the embedding table has {rows} rows, and only {tokens} tokens use it"
                ));
            }
        }
        let ids = [
            tokenizer.cls_id(),
            tokenizer.sep_id(),
            tokenizer.pad_id(),
            tokenizer.mask_id(),
            tokenizer.unk_id(),
        ];
        let special = ids.into_iter().flatten().filter_map(|id| tokenizer.id_to_token(id));
        let file = ["tokenizer.json", "vocab.txt"];
        self.tokenizer = Some(Vocabulary {
            file: file[usize::from(!folder.join(file[0]).exists())],
            tokens,
            special: special.map(str::to_owned).collect(),
        });
        Some(tokenizer)
    }

    fn add_sentence(&mut self, modules: &SentenceModules, tokenizer: Option<&Tokenizer>) {
        if let (Some(config), Some(tokenizer)) = (&self.config, tokenizer) {
            let fits = modules.max_length(config, tokenizer);
            self.keep(fits);
        }
        let positions = self.config.as_ref().map(|config| config.max_position_embeddings);
        let name = |pooling: &Pooling| match pooling {
            Pooling::Cls => "cls",
            Pooling::Max => "max",
            Pooling::Mean => "mean",
            Pooling::MeanSqrtLen => "mean_sqrt_len_tokens",
            _ => "another",
        };
        self.sentence = Some(Sentence {
            pooling: modules.pooling.iter().map(name).collect(),
            normalize: modules.normalize,
            max_length: modules.max_seq_length.into_iter().chain(positions).min(),
        });
    }
}

impl Tensor {
    fn stored(
        checkpoint: &Checkpoint,
        tensor: &TensorInfo,
        fate: &'static str,
        remark: &str,
    ) -> Tensor {
        let file = checkpoint.file(tensor).file_name();
        Tensor {
            name: tensor.name().to_owned(),
            file: file.map(|name| name.to_string_lossy().into_owned()),
            dtype: Some(tensor.dtype().to_string()),
            shape: tensor.shape().to_owned(),
            fate,
            remark: remark.to_owned(),
        }
    }

    fn missing(name: &str, shape: &[usize]) -> Tensor {
        let (name, shape) = (name.to_owned(), shape.to_owned());
        let (fate, remark) = ("missing", "missing".to_owned());
        Tensor { name, file: None, dtype: None, shape, fate, remark }
    }
}

/// A word for each fate.
fn kind(fate: &Fate) -> &'static str {
    match fate {
        Fate::Used => "used",
        Fate::Renamed(_) => "renamed",
        Fate::Ignored(_) => "ignored",
        Fate::WrongShape(_) => "wrong shape",
        Fate::WrongDtype => "wrong type",
        Fate::Doubled => "doubled",
        _ => "unexpected",
    }
}
