//! BERTs with random weights: what a layer computes costs the same whatever the numbers are.

use std::error::Error;
use std::path::Path;

use ferrite_models::bert::{Batch, BertConfig, Part};
use safetensors::tensor::{Dtype, TensorView};

use crate::uniform;

/// The `config.json` of BERT-base.
pub const BERT_BASE: &str = r#"{"model_type": "bert", "vocab_size": 30522, "hidden_size": 768,
    "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
    "layer_norm_eps": 1e-12, "pad_token_id": 0, "position_embedding_type": "absolute"}"#;

/// The `config.json` of MiniLM-L6-H384.
pub const MINILM_L6: &str = r#"{"model_type": "bert", "vocab_size": 30522, "hidden_size": 384,
    "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536,
    "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
    "layer_norm_eps": 1e-12, "pad_token_id": 0, "position_embedding_type": "absolute"}"#;

/// Writes a folder with this configuration and random weights for the encoder, as large as trained
/// ones are.
///
/// # Errors
/// If it is no configuration, or the files cannot be written.
pub fn write(config: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::write(folder.join("config.json"), config)?;
    let mut tensors = Vec::new();
    for (seed, wanted) in
        BertConfig::from_json_str(config)?.tensors(Part::Encoder).iter().enumerate()
    {
        let elements: usize = wanted.shape.iter().product();
        let is_gain = wanted.name.ends_with("LayerNorm.weight");
        let values = uniform(1, elements, seed as u64 + 1);
        let values = values.as_slice().iter().map(|x| 0.05 * x + if is_gain { 1.0 } else { 0.0 });
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        tensors.push((wanted.name.clone(), wanted.shape.clone(), bytes));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>()?;
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors"))?;
    Ok(())
}

/// A batch of sequences of these lengths, with the ids that `bench/peers/peers.py` uses:
/// 1000 + (7919 i mod 20000), counted through the batch.
pub fn batch(lengths: &[usize]) -> Batch {
    let mut ids = (0u64..).map(|i| 1000 + (7919 * i % 20_000) as u32);
    let mut batch = Batch::default();
    for &length in lengths {
        batch.push(&ids.by_ref().take(length).collect::<Vec<_>>(), None);
    }
    batch
}
