//! The weights of an `nn.Transformer` of PyTorch.

use std::path::Path;

use ferrite_kernels::Arithmetic;

use super::{Transformer, TransformerConfig};
use crate::checkpoint::{Checkpoint, Names};
use crate::error::Error;
use crate::parameters::{Parameters, Tensor};

/// What the tensors of a model around an `nn.Transformer` are called. The module itself has neither
/// embeddings nor a generator, so that each program gives them names of its own.
///
/// ```
/// use ferrite_models::transformer::TorchNames;
///
/// let names = TorchNames { source: "src_embed.weight", ..TorchNames::default() };
/// assert_eq!(names.transformer, "transformer.");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TorchNames<'a> {
    /// What comes before `encoder.layers.0.self_attn.in_proj_weight`.
    pub transformer: &'a str,
    /// The table of source tokens, or of all.
    pub source: &'a str,
    /// The table of target tokens, where they have one of their own.
    pub target: &'a str,
    /// The weight of the generator, where it has one of its own.
    pub generator: &'a str,
    /// The bias of the generator, of shape (tokens,), where there is one.
    pub generator_bias: &'a str,
}

impl Default for TorchNames<'_> {
    fn default() -> Self {
        TorchNames {
            transformer: "transformer.",
            source: "source.weight",
            target: "target.weight",
            generator: "generator.weight",
            generator_bias: "generator.bias",
        }
    }
}

/// A tensor of PyTorch's that holds one of a Transformer's.
#[derive(Debug, PartialEq, Eq)]
struct Stored {
    name: String,
    shape: Vec<usize>,
    /// Which third of it, where Q, K and V are one.
    third: Option<usize>,
}

impl Transformer {
    /// The model of a folder's safetensors file that was saved from PyTorch, to run. An
    /// `nn.Transformer` has a norm after encoder and decoder whatever its layers are, so its
    /// configuration has `add_final_layer_norm`; what is not built by it may have none.
    ///
    /// # Errors
    /// The first fault of any file or tensor: see [`Error`].
    pub fn from_torch(
        arithmetic: impl Into<Arithmetic>,
        config: TransformerConfig,
        folder: impl AsRef<Path>,
        called: &TorchNames<'_>,
    ) -> Result<Transformer, Error> {
        let checkpoint = Checkpoint::open(folder.as_ref())?;
        let parameters = config.read_torch(&Names::new(&checkpoint), called)?;
        Transformer::new(arithmetic, config, &parameters)
    }
}

impl TransformerConfig {
    /// The parameters of such a model, from a checkpoint of PyTorch's: to train it further.
    ///
    /// # Errors
    /// The first fault of the configuration or of any tensor: see [`Error`].
    pub fn read_torch(
        &self,
        names: &Names<'_>,
        called: &TorchNames<'_>,
    ) -> Result<Parameters, Error> {
        self.check(Path::new("config.json"))?;
        // Shapes first: no memory is taken for a table that the file does not hold.
        let tensors = self.tensors();
        for tensor in &tensors {
            let stored = stored(tensor, called);
            names.find(&stored.name, &stored.shape)?;
        }
        let mut parameters = self.zeros();
        let mut whole = Vec::new();
        for tensor in &tensors {
            let Stored { name, shape, third } = stored(tensor, called);
            whole.resize(shape.iter().product(), 0.0);
            names.read(&name, &shape, &mut whole)?;
            let len = tensor.range.len();
            let from = third.unwrap_or(0) * len;
            let values = &mut parameters.values_mut()[tensor.range.clone()];
            values.copy_from_slice(&whole[from..from + len]);
        }
        Ok(parameters)
    }
}

/// Where PyTorch has a tensor.
fn stored(tensor: &Tensor, called: &TorchNames<'_>) -> Stored {
    let mut shape = tensor.shape.clone();
    let around = match tensor.name.as_str() {
        "model.shared.weight" | "model.encoder.embed_tokens.weight" => Some(called.source),
        "model.decoder.embed_tokens.weight" => Some(called.target),
        "lm_head.weight" => Some(called.generator),
        "final_logits_bias" => {
            shape.remove(0);
            Some(called.generator_bias)
        }
        _ => None,
    };
    if let Some(name) = around {
        return Stored { name: name.to_owned(), shape, third: None };
    }
    let name = tensor.name.strip_prefix("model.").unwrap_or(&tensor.name);
    let mut parts: Vec<&str> = name.split('.').collect();
    let kind = parts.pop().unwrap_or_default();
    let last = parts.pop().unwrap_or_default();
    let in_decoder = parts.first() == Some(&"decoder");
    for part in parts.iter_mut().filter(|part| **part == "encoder_attn") {
        *part = "multihead_attn";
    }
    let block = format!("{}{}.", called.transformer, parts.join("."));
    if let Some(third) = ["q_proj", "k_proj", "v_proj"].iter().position(|part| *part == last) {
        shape[0] *= 3;
        return Stored { name: format!("{block}in_proj_{kind}"), shape, third: Some(third) };
    }
    let last = match last {
        "self_attn_layer_norm" => "norm1",
        "encoder_attn_layer_norm" => "norm2",
        "final_layer_norm" if in_decoder => "norm3",
        "final_layer_norm" => "norm2",
        "layer_norm" => "norm",
        "fc1" => "linear1",
        "fc2" => "linear2",
        other => other,
    };
    Stored { name: format!("{block}{last}.{kind}"), shape, third: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_module() {
        let called = TorchNames { transformer: "t.", ..TorchNames::default() };
        let config = TransformerConfig {
            share_encoder_decoder_embeddings: false,
            generator_bias: true,
            ..TransformerConfig::tiny(50).pre_norm()
        };
        let tensors = config.tensors();
        let of = |name: &str| {
            let tensor = tensors.iter().find(|tensor| tensor.name == name).expect(name);
            let Stored { name, shape, third } = stored(tensor, &called);
            (name, shape, third)
        };
        for (name, torch, shape, third) in [
            ("model.encoder.embed_tokens.weight", "source.weight", vec![50, 128], None),
            ("model.decoder.embed_tokens.weight", "target.weight", vec![50, 128], None),
            ("final_logits_bias", "generator.bias", vec![50], None),
            (
                "model.encoder.layers.1.self_attn.k_proj.weight",
                "t.encoder.layers.1.self_attn.in_proj_weight",
                vec![384, 128],
                Some(1),
            ),
            (
                "model.decoder.layers.0.encoder_attn.v_proj.bias",
                "t.decoder.layers.0.multihead_attn.in_proj_bias",
                vec![384],
                Some(2),
            ),
            (
                "model.decoder.layers.0.encoder_attn.out_proj.bias",
                "t.decoder.layers.0.multihead_attn.out_proj.bias",
                vec![128],
                None,
            ),
            (
                "model.encoder.layers.0.final_layer_norm.weight",
                "t.encoder.layers.0.norm2.weight",
                vec![128],
                None,
            ),
            (
                "model.decoder.layers.0.encoder_attn_layer_norm.bias",
                "t.decoder.layers.0.norm2.bias",
                vec![128],
                None,
            ),
            (
                "model.decoder.layers.0.final_layer_norm.bias",
                "t.decoder.layers.0.norm3.bias",
                vec![128],
                None,
            ),
            (
                "model.decoder.layers.1.fc2.weight",
                "t.decoder.layers.1.linear2.weight",
                vec![128, 512],
                None,
            ),
            ("model.encoder.layer_norm.weight", "t.encoder.norm.weight", vec![128], None),
            ("model.decoder.layer_norm.bias", "t.decoder.norm.bias", vec![128], None),
        ] {
            assert_eq!(of(name), (torch.to_owned(), shape, third), "{name}");
        }
    }
}
