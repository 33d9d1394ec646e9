//! The small Transformers of the oracle: see `oracle/README.md`.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::PathBuf;

use ferrite_models::bert::Parameters;
use ferrite_models::checkpoint::{Checkpoint, Names};
use ferrite_models::kernels::{Arithmetic, Matrix};
use ferrite_models::train::{Trainer, TrainerOptions};
use ferrite_models::transformer::{
    Batch, TorchNames, Transformer, TransformerConfig, TranslationWeights, Workspace,
};
use safetensors::SafeTensors;

pub(crate) const MODELS: [&str; 3] = ["paper", "pre-norm", "torch"];
pub(crate) const PAIRS: usize = 6;
pub(crate) const NAMES: TorchNames<'static> = TorchNames {
    transformer: "transformer.",
    source: "source",
    target: "target",
    generator: "generator",
    generator_bias: "bias",
};

pub(crate) fn folder(model: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/transformer").join(model)
}

/// A model of the oracle, and what PyTorch makes of it.
pub(crate) struct Oracle {
    pub(crate) config: TransformerConfig,
    pub(crate) parameters: Parameters,
    bytes: Vec<u8>,
}

impl Oracle {
    pub(crate) fn load(model: &str) -> Oracle {
        let folder = folder(model);
        let config = TransformerConfig::from_file(folder.join("config.json")).unwrap();
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let names = Names::new(&checkpoint);
        let parameters = if model == "torch" {
            config.read_torch(&names, &NAMES).unwrap()
        } else {
            let mut parameters = config.zeros();
            parameters.read_all(&names).unwrap();
            parameters
        };
        let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
        Oracle { config, parameters, bytes }
    }

    fn data(&self, name: &str) -> Vec<u8> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).data().to_vec()
    }

    pub(crate) fn f64s(&self, name: &str) -> Vec<f64> {
        let number = |b: &[u8]| f64::from_le_bytes(b.try_into().unwrap());
        self.data(name).chunks_exact(8).map(number).collect()
    }

    pub(crate) fn f32s(&self, name: &str) -> Vec<f64> {
        let number = |b: &[u8]| f64::from(f32::from_le_bytes(b.try_into().unwrap()));
        self.data(name).chunks_exact(4).map(number).collect()
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        let number = |b: &[u8]| i64::from_le_bytes(b.try_into().unwrap()) as u32;
        self.data(name).chunks_exact(8).map(number).collect()
    }

    pub(crate) fn batch(&self, pairs: impl IntoIterator<Item = usize>) -> Batch {
        let mut batch = Batch::default();
        for n in pairs {
            let (source, target) =
                (self.ids(&format!("source.{n}")), self.ids(&format!("target.{n}")));
            batch.push(&source, &target, self.config.decoder_start_token_id);
        }
        batch
    }

    pub(crate) fn smoothing(&self) -> f32 {
        self.f64s("label_smoothing")[0] as f32
    }

    pub(crate) fn weights(&self, tokens: usize) -> TranslationWeights {
        TranslationWeights { label_smoothing: self.smoothing(), token: 1.0 / tokens as f32 }
    }

    pub(crate) fn trainable(&self, arithmetic: Arithmetic) -> Transformer {
        Transformer::trainable(arithmetic, self.config.clone(), &self.parameters).unwrap()
    }
}

pub(crate) fn logits(
    transformer: &Transformer,
    batch: &Batch,
    workspace: &mut Workspace,
) -> Matrix<f32> {
    let logits = transformer.forward(batch, workspace).unwrap();
    Matrix::from_fn(logits.rows(), logits.cols(), |row, col| logits.row(row)[col])
}

/// The paper's options, as the oracle has them.
pub(crate) fn options(oracle: &Oracle) -> TrainerOptions {
    let label_smoothing = oracle.smoothing();
    TrainerOptions { label_smoothing, ..TrainerOptions::transformer(32, 100, 20) }
}

pub(crate) fn trainer(
    oracle: &Oracle,
    arithmetic: Arithmetic,
    options: TrainerOptions,
) -> Trainer<Transformer> {
    Trainer::of(oracle.trainable(arithmetic), oracle.parameters.clone(), options)
}

/// Rates of all three kinds.
pub(crate) fn dropping(config: &mut TransformerConfig) {
    (config.dropout, config.attention_dropout, config.activation_dropout) = (0.3, 0.2, 0.25);
}
