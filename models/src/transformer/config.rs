//! `config.json`: the sizes and switches of a Transformer.

use std::collections::BTreeMap;
use std::path::Path;

use ferrite_layers::{Activation, SinusoidLayout};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::{self, HiddenAct, activation_of, invalid, null_is_default, of_family};
use crate::error::Error;
use crate::files;

/// The configuration of a Transformer, by the field names that Marian and BART models have in
/// `config.json`.
///
/// The default is the paper's base model. A field that is absent from a file has its default, but in
/// a file of a Marian model, whose positions are [`SinusoidLayout::Halves`]. A key that is not a field
/// is kept in [`extra`](TransformerConfig::extra) and written back.
///
/// ```
/// use ferrite_models::transformer::TransformerConfig;
///
/// let config = TransformerConfig::from_json_str(r#"{"d_model": 128, "encoder_layers": 2}"#)?;
/// assert_eq!((config.encoder_layers, config.decoder_layers, config.dropout), (2, 6, 0.1));
/// # Ok::<(), ferrite_models::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct TransformerConfig {
    /// The model's family: `"transformer"`, or `"marian"`, whose models are Transformers.
    pub model_type: String,
    /// The classes that the weights were saved from.
    #[serde(deserialize_with = "null_is_default")]
    pub architectures: Vec<String>,

    /// Tokens of the source language, or of both.
    pub vocab_size: usize,
    /// Tokens of the target language; absent where they are the source's.
    pub decoder_vocab_size: Option<usize>,
    /// The width of every position's vector.
    pub d_model: usize,
    /// N of the encoder.
    pub encoder_layers: usize,
    /// N of the decoder.
    pub decoder_layers: usize,
    /// h of the encoder; a head is d_model / h wide.
    pub encoder_attention_heads: usize,
    /// h of the decoder.
    pub decoder_attention_heads: usize,
    /// d_ff of the encoder.
    pub encoder_ffn_dim: usize,
    /// d_ff of the decoder.
    pub decoder_ffn_dim: usize,
    /// The activation of the feed-forward networks.
    pub activation_function: HiddenAct,
    /// The ε that the norms add to the variance.
    pub layer_norm_eps: f32,

    /// Whether layers are pre-norm. The paper's are post-norm.
    pub normalize_before: bool,
    /// Whether a norm follows the last layer of encoder and decoder, as pre-norm layers need it.
    pub add_final_layer_norm: bool,
    /// Whether embeddings are normalised; not supported.
    pub normalize_embedding: bool,

    /// The longest sequence: rows of the table of positions.
    pub max_position_embeddings: usize,
    /// Whether positions are sines and cosines; nothing else is supported.
    pub static_position_embeddings: bool,
    /// Where the sines and cosines stand: `"interleaved"`, `"halves"` or `"tensor2tensor"`.
    #[serde(with = "LayoutName")]
    pub position_layout: SinusoidLayout,
    /// Whether embeddings are multiplied by √d_model.
    pub scale_embedding: bool,

    /// Whether source and target have one table of embeddings.
    pub share_encoder_decoder_embeddings: bool,
    /// Whether the generator's weight is the target's table of embeddings. With both, one matrix
    /// serves three times (Attention Is All You Need, section 3.4).
    pub tie_word_embeddings: bool,
    /// Whether the generator adds a bias: `final_logits_bias`.
    pub generator_bias: bool,

    /// P_drop: of embeddings and of what sub-layers give, in training (section 5.4).
    pub dropout: f32,
    /// Of the weights of attention, in training; the paper has none.
    pub attention_dropout: f32,
    /// Of what the activation gives, in training; the paper has none.
    pub activation_dropout: f32,

    /// The token that other implementations pad with; nothing is padded here.
    #[serde(deserialize_with = "null_is_default")]
    pub pad_token_id: u32,
    /// The token before a sentence, if there is one.
    pub bos_token_id: Option<u32>,
    /// The token after a sentence.
    pub eos_token_id: u32,
    /// The token that the decoder begins with: what stands before the first one of the target.
    pub decoder_start_token_id: u32,

    /// The keys that are none of the above, as their JSON text. Only [`TransformerConfig::from_file`]
    /// and [`TransformerConfig::from_json_str`] fill it; a plain `Deserialize` leaves it empty.
    #[serde(flatten, skip_deserializing)]
    pub extra: BTreeMap<String, Box<RawValue>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SinusoidLayout", rename_all = "lowercase")]
enum LayoutName {
    Interleaved,
    Halves,
    Tensor2Tensor,
}

impl Default for TransformerConfig {
    fn default() -> TransformerConfig {
        TransformerConfig::base(37_000)
    }
}

/// The families whose models are Transformers: this crate's own, and that of `transformers`.
const FAMILIES: [&str; 2] = ["transformer", MARIAN];
const MARIAN: &str = "marian";

impl TransformerConfig {
    /// The paper's base model (table 3) for one vocabulary of both languages.
    pub fn base(vocab_size: usize) -> TransformerConfig {
        TransformerConfig {
            model_type: FAMILIES[0].to_owned(),
            architectures: Vec::new(),
            vocab_size,
            decoder_vocab_size: None,
            d_model: 512,
            encoder_layers: 6,
            decoder_layers: 6,
            encoder_attention_heads: 8,
            decoder_attention_heads: 8,
            encoder_ffn_dim: 2048,
            decoder_ffn_dim: 2048,
            activation_function: HiddenAct::Relu,
            layer_norm_eps: 1e-5,
            normalize_before: false,
            add_final_layer_norm: false,
            normalize_embedding: false,
            max_position_embeddings: 1024,
            static_position_embeddings: true,
            position_layout: SinusoidLayout::Interleaved,
            scale_embedding: true,
            share_encoder_decoder_embeddings: true,
            tie_word_embeddings: true,
            generator_bias: false,
            dropout: 0.1,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            pad_token_id: 0,
            bos_token_id: None,
            eos_token_id: 2,
            decoder_start_token_id: 1,
            extra: BTreeMap::new(),
        }
    }

    /// The paper's big model (table 3).
    pub fn big(vocab_size: usize) -> TransformerConfig {
        TransformerConfig {
            dropout: 0.3,
            ..TransformerConfig::sized(vocab_size, 6, 1024, 4096, 16)
        }
    }

    /// A model for a hundred thousand pairs of sentences: 3 layers of 256.
    pub fn small(vocab_size: usize) -> TransformerConfig {
        TransformerConfig::sized(vocab_size, 3, 256, 1024, 4)
    }

    /// A model for some thousand pairs, or a toy task: 2 layers of 128.
    pub fn tiny(vocab_size: usize) -> TransformerConfig {
        TransformerConfig::sized(vocab_size, 2, 128, 512, 4)
    }

    fn sized(vocab_size: usize, n: usize, d: usize, d_ff: usize, h: usize) -> TransformerConfig {
        TransformerConfig {
            d_model: d,
            encoder_layers: n,
            decoder_layers: n,
            encoder_attention_heads: h,
            decoder_attention_heads: h,
            encoder_ffn_dim: d_ff,
            decoder_ffn_dim: d_ff,
            ..TransformerConfig::base(vocab_size)
        }
    }

    /// The same model with pre-norm layers and a norm after the last of them.
    pub fn pre_norm(self) -> TransformerConfig {
        TransformerConfig { normalize_before: true, add_final_layer_norm: true, ..self }
    }

    /// Tokens of the target language.
    pub fn target_vocab_size(&self) -> usize {
        self.decoder_vocab_size.unwrap_or(self.vocab_size)
    }

    /// What embeddings are multiplied by (section 3.4).
    pub(crate) fn embedding_scale(&self) -> f32 {
        if self.scale_embedding { (self.d_model as f64).sqrt() as f32 } else { 1.0 }
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// If it cannot be read or is not JSON of this form; [`Error::WrongModelType`] if it is another
    /// family's; [`Error::Unsupported`] and [`Error::InvalidValue`] as they say.
    pub fn from_file(path: impl AsRef<Path>) -> Result<TransformerConfig, Error> {
        let path = path.as_ref();
        TransformerConfig::from_json_slice(path, &files::read(path, files::CONFIG_LIMIT)?)
    }

    /// The same from text. Errors call it `config.json`.
    ///
    /// # Errors
    /// Those of [`TransformerConfig::from_file`].
    pub fn from_json_str(json: &str) -> Result<TransformerConfig, Error> {
        TransformerConfig::from_json_slice(Path::new("config.json"), json.as_bytes())
    }

    fn from_json_slice(path: &Path, json: &[u8]) -> Result<TransformerConfig, Error> {
        #[derive(Deserialize)]
        struct Layout {
            position_layout: Option<IgnoredAny>,
        }
        let family = of_family(path, json, &FAMILIES)?;
        let not_json = |source| Error::Json { path: path.to_owned(), source };
        let mut config: TransformerConfig = serde_json::from_slice(json).map_err(not_json)?;
        let layout: Layout = serde_json::from_slice(json).map_err(not_json)?;
        if family.as_deref() == Some(MARIAN) && layout.position_layout.is_none() {
            config.position_layout = SinusoidLayout::Halves;
        }
        config.extra = config::extra(path, json, &FIELDS)?;
        config.check(path)?;
        Ok(config)
    }

    /// The activation of the feed-forward networks.
    pub(crate) fn activation(&self, path: &Path) -> Result<Activation, Error> {
        activation_of(&self.activation_function, "activation_function", path)
    }

    /// Refuses what cannot be a Transformer, or is not one that this crate can run.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Error> {
        // As for BERT: far above any model's size, and low enough that no product of two overflows.
        for (field, value, limit) in [
            ("vocab_size", self.vocab_size, 1 << 28),
            ("decoder_vocab_size", self.target_vocab_size(), 1 << 28),
            ("d_model", self.d_model, 1 << 20),
            ("encoder_layers", self.encoder_layers, 1 << 10),
            ("decoder_layers", self.decoder_layers, 1 << 10),
            ("encoder_attention_heads", self.encoder_attention_heads, 1 << 20),
            ("decoder_attention_heads", self.decoder_attention_heads, 1 << 20),
            ("encoder_ffn_dim", self.encoder_ffn_dim, 1 << 22),
            ("decoder_ffn_dim", self.decoder_ffn_dim, 1 << 22),
            ("max_position_embeddings", self.max_position_embeddings, MAX_POSITIONS),
        ] {
            if value == 0 || value > limit {
                return invalid(path, field, format_args!("1 to {limit}"), value);
            }
        }
        // The only table that no file has to hold: it is computed.
        if self.max_position_embeddings.saturating_mul(self.d_model) > MAX_TABLE {
            let expected = format_args!("at most {MAX_TABLE} numbers in the table of positions");
            let found = self.max_position_embeddings;
            return invalid(path, "max_position_embeddings", expected, found);
        }
        for heads in [self.encoder_attention_heads, self.decoder_attention_heads] {
            if !self.d_model.is_multiple_of(heads) {
                let expected = format_args!("a multiple of the {heads} attention heads");
                return invalid(path, "d_model", expected, self.d_model);
            }
        }
        let (source, target) = (self.vocab_size, self.target_vocab_size());
        if self.share_encoder_decoder_embeddings && source != target {
            let expected = format_args!("the {source} of vocab_size, as the embeddings are shared");
            return invalid(path, "decoder_vocab_size", expected, target);
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps >= 0.0) {
            return invalid(path, "layer_norm_eps", "a number from 0", self.layer_norm_eps);
        }
        for (field, value) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("activation_dropout", self.activation_dropout),
        ] {
            if !(0.0..1.0).contains(&value) {
                return invalid(path, field, "a number from 0 to below 1", value);
            }
        }
        for (field, id, rows) in [
            ("eos_token_id", self.eos_token_id, target),
            ("decoder_start_token_id", self.decoder_start_token_id, target),
        ] {
            if id as usize >= rows {
                return invalid(path, field, format_args!("below the {rows} tokens"), id);
            }
        }
        self.activation(path)?;
        for (field, found, supported) in [
            ("normalize_embedding", self.normalize_embedding, "false"),
            ("static_position_embeddings", !self.static_position_embeddings, "true"),
        ] {
            if found {
                let found = (supported == "false").to_string();
                return Err(Error::Unsupported { path: path.to_owned(), field, found, supported });
            }
        }
        Ok(())
    }

    /// Refuses what can run and cannot be trained, too: rows of one number have no gradient without ε.
    /// `path` is where it is from.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] and [`Error::Unsupported`], with the first field that is wrong.
    pub fn check_training(&self, path: &Path) -> Result<(), Error> {
        self.check(path)?;
        match self.layer_norm_eps {
            0.0 => invalid(path, "layer_norm_eps", "a number above 0", self.layer_norm_eps),
            _ => Ok(()),
        }
    }
}

/// Far beyond any sentence.
const MAX_POSITIONS: usize = 1 << 20;

/// 128 MiB: 32,768 places of the big model.
const MAX_TABLE: usize = 1 << 25;

/// The names of the fields (a test compares them with what is written).
const FIELDS: [&str; 30] = [
    "model_type",
    "architectures",
    "vocab_size",
    "decoder_vocab_size",
    "d_model",
    "encoder_layers",
    "decoder_layers",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "activation_function",
    "layer_norm_eps",
    "normalize_before",
    "add_final_layer_norm",
    "normalize_embedding",
    "max_position_embeddings",
    "static_position_embeddings",
    "position_layout",
    "scale_embedding",
    "share_encoder_decoder_embeddings",
    "tie_word_embeddings",
    "generator_bias",
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
];

#[cfg(test)]
mod tests;
