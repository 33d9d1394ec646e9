//! BERT in f64, naive: the reference layers in the order of the paper, with the weights of a folder.

use std::collections::BTreeMap;
use std::path::Path;

use ferrite_layers::reference::{
    BertEmbeddings, FeedForward, LayerNorm, Linear, MultiHeadAttention, activate, sum,
};
use ferrite_layers::{Activation, Mask};
use ferrite_models::bert::{Batch, BertConfig, HiddenAct};
use ferrite_models::kernels::Matrix;
use safetensors::SafeTensors;

/// The whole of a BERT for pre-training, or as much of it as a folder has.
pub(crate) struct NaiveBert {
    embeddings: BertEmbeddings,
    blocks: Vec<Block>,
    activation: Activation,
    pub(crate) pooler: Option<Linear>,
    pub(crate) masked_lm: Option<(Linear, LayerNorm, Linear)>,
    pub(crate) next_sentence: Option<Linear>,
}

struct Block {
    attention: MultiHeadAttention,
    attention_norm: LayerNorm,
    feed_forward: FeedForward,
    output_norm: LayerNorm,
}

/// What a pass gives: see `ferrite_models::bert::Trace`.
pub(crate) struct NaiveTrace {
    pub(crate) hidden_states: Vec<Matrix<f64>>,
    pub(crate) attentions: Vec<Vec<Matrix<f64>>>,
}

impl NaiveBert {
    /// The model of a folder with one file of f32 weights.
    pub(crate) fn load(folder: &Path) -> NaiveBert {
        NaiveBert::load_changed(folder, |x| x)
    }

    /// The same with other weights: what `change` makes of each.
    pub(crate) fn load_changed(folder: &Path, change: impl FnMut(f64) -> f64) -> NaiveBert {
        let config = BertConfig::from_file(folder.join("config.json")).unwrap();
        let tensors = Tensors::load(&folder.join("model.safetensors"), change);
        let activation = match config.hidden_act {
            HiddenAct::Gelu => Activation::Gelu,
            HiddenAct::GeluTanh => Activation::GeluTanh,
            HiddenAct::Relu => Activation::Relu,
            HiddenAct::Tanh => Activation::Tanh,
            other => panic!("no reference for {other:?}"),
        };
        let linear = |name: &str| Linear {
            weight: tensors.matrix(&format!("{name}.weight")),
            bias: tensors.vector(&format!("{name}.bias")),
        };
        let norm = |name: &str| LayerNorm {
            gamma: tensors.vector(&format!("{name}.weight")),
            beta: tensors.vector(&format!("{name}.bias")),
            epsilon: f64::from(config.layer_norm_eps),
        };
        let has = |name: &str| tensors.0.contains_key(name);
        let block = |layer: usize| {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            Block {
                attention: MultiHeadAttention {
                    query: linear(&name("attention.self.query")),
                    key: linear(&name("attention.self.key")),
                    value: linear(&name("attention.self.value")),
                    output: linear(&name("attention.output.dense")),
                    heads: config.num_attention_heads,
                    mask: Mask::Full,
                },
                attention_norm: norm(&name("attention.output.LayerNorm")),
                feed_forward: FeedForward {
                    inner: linear(&name("intermediate.dense")),
                    outer: linear(&name("output.dense")),
                    activation,
                },
                output_norm: norm(&name("output.LayerNorm")),
            }
        };
        let masked_lm = || {
            let table = match config.tie_word_embeddings {
                true => "embeddings.word_embeddings.weight",
                false => "cls.predictions.decoder.weight",
            };
            let bias = tensors.vector("cls.predictions.bias");
            let transform = linear("cls.predictions.transform.dense");
            let norm = norm("cls.predictions.transform.LayerNorm");
            (transform, norm, Linear { weight: tensors.matrix(table), bias })
        };
        NaiveBert {
            embeddings: BertEmbeddings {
                token: tensors.matrix("embeddings.word_embeddings.weight"),
                segment: tensors.matrix("embeddings.token_type_embeddings.weight"),
                position: tensors.matrix("embeddings.position_embeddings.weight"),
                norm: norm("embeddings.LayerNorm"),
            },
            blocks: (0..config.num_hidden_layers).map(block).collect(),
            activation,
            pooler: has("pooler.dense.weight").then(|| linear("pooler.dense")),
            masked_lm: has("cls.predictions.bias").then(masked_lm),
            next_sentence: has("cls.seq_relationship.weight")
                .then(|| linear("cls.seq_relationship")),
        }
    }

    /// All hidden states and attention maps.
    pub(crate) fn trace(&self, batch: &Batch) -> NaiveTrace {
        let sequences = batch.sequences();
        let mut x = self.embeddings.forward(batch.ids(), batch.type_ids(), sequences);
        let mut trace = NaiveTrace { hidden_states: vec![x.clone()], attentions: Vec::new() };
        for block in &self.blocks {
            trace.attentions.push(block.attention.maps(&x, sequences, &x, sequences));
            let attended = block.attention.forward(&x, sequences, &x, sequences);
            let a = block.attention_norm.forward(&sum(&x, &attended));
            x = block.output_norm.forward(&sum(&a, &block.feed_forward.forward(&a)));
            trace.hidden_states.push(x.clone());
        }
        trace
    }

    /// The pooled first rows; zeros in place of the first row of an empty sequence.
    pub(crate) fn pool(&self, batch: &Batch, hidden: &Matrix<f64>) -> Option<Matrix<f64>> {
        let starts: Vec<_> = batch.sequences().iter().collect();
        let first = Matrix::from_fn(batch.len(), hidden.cols(), |sequence, col| {
            let rows = &starts[sequence];
            if rows.is_empty() { 0.0 } else { hidden.row(rows.start)[col] }
        });
        let mut pooled = self.pooler.as_ref()?.forward(&first);
        pooled.as_mut_slice().iter_mut().for_each(|x| *x = x.tanh());
        Some(pooled)
    }

    /// The scores of all words at all positions.
    pub(crate) fn words(&self, hidden: &Matrix<f64>) -> Option<Matrix<f64>> {
        let (transform, norm, decoder) = self.masked_lm.as_ref()?;
        let mut x = transform.forward(hidden);
        x.as_mut_slice().iter_mut().for_each(|x| *x = activate(self.activation, *x));
        Some(decoder.forward(&norm.forward(&x)))
    }
}

/// Tensors by name, without the prefix `bert.`.
struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f64>)>);

impl Tensors {
    fn load(path: &Path, mut change: impl FnMut(f64) -> f64) -> Tensors {
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter().map(|(name, tensor)| {
            assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
            let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
            let numbers = tensor.data().chunks_exact(4).map(|x| change(number(x).into()));
            let numbers = numbers.collect();
            let name = name.strip_prefix("bert.").unwrap_or(&name).to_owned();
            (name, (tensor.shape().to_vec(), numbers))
        });
        Tensors(tensors.collect())
    }

    fn get(&self, name: &str) -> (&[usize], &[f64]) {
        let (shape, numbers) = self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
        (shape, numbers)
    }

    fn vector(&self, name: &str) -> Vec<f64> {
        self.get(name).1.to_vec()
    }

    fn matrix(&self, name: &str) -> Matrix<f64> {
        let (shape, numbers) = self.get(name);
        Matrix::from_slice(shape[0], shape[1], numbers)
    }
}
