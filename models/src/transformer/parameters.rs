//! The tensors of a Transformer within its [`Parameters`], by the names that Marian and BART models
//! have in `transformers`.
//!
//! Queries, keys and values are tensors of their own, and lie one below the other, so that a layer
//! takes them as one product. With pre-norm layers the norms have the same names; what is after the
//! last layer is `model.encoder.layer_norm`, as mBART has it.

use ferrite_layers::{
    AttentionGradients, CrossAttentionGradients, FeedForwardGradients, LayerNormGradients,
};

use super::TransformerConfig;
use crate::checkpoint::Names;
use crate::error::Error;
use crate::parameters::{
    AttentionOf, Cut, Exclusive, FeedForwardOf, LinearOf, List, NormOf, Parameters, Tensor,
};

/// One layer of the encoder.
pub(crate) struct EncoderLayerOf<C: Cut> {
    pub(crate) attention: AttentionOf<C>,
    pub(crate) attention_norm: NormOf<C>,
    pub(crate) feed_forward: FeedForwardOf<C>,
    pub(crate) feed_forward_norm: NormOf<C>,
}

/// Attention to a memory.
pub(crate) struct CrossAttentionOf<C: Cut> {
    pub(crate) q: LinearOf<C>,
    pub(crate) kv: LinearOf<C>,
    pub(crate) output: LinearOf<C>,
}

/// One layer of the decoder.
pub(crate) struct DecoderLayerOf<C: Cut> {
    pub(crate) self_attention: AttentionOf<C>,
    pub(crate) self_attention_norm: NormOf<C>,
    pub(crate) cross_attention: CrossAttentionOf<C>,
    pub(crate) cross_attention_norm: NormOf<C>,
    pub(crate) feed_forward: FeedForwardOf<C>,
    pub(crate) feed_forward_norm: NormOf<C>,
}

/// A whole model. What is absent is tied to what is there.
pub(crate) struct TransformerOf<C: Cut> {
    /// The table of source tokens, or of all.
    pub(crate) source: C::Matrix,
    /// The table of target tokens.
    pub(crate) target: Option<C::Matrix>,
    pub(crate) encoder: Vec<EncoderLayerOf<C>>,
    pub(crate) encoder_norm: Option<NormOf<C>>,
    pub(crate) decoder: Vec<DecoderLayerOf<C>>,
    pub(crate) decoder_norm: Option<NormOf<C>>,
    pub(crate) generator: Option<C::Matrix>,
    /// Of the generator, one row; absent where there is none.
    pub(crate) bias: Option<C::Matrix>,
}

impl TransformerConfig {
    /// The tensors of such a model, in the order in which they lie.
    pub fn tensors(&self) -> Vec<Tensor> {
        self.list().tensors()
    }

    /// Parameters for such a model, all zero.
    pub fn zeros(&self) -> Parameters {
        Parameters::of(self.list())
    }

    /// The same as a walk lists them.
    pub(super) fn list(&self) -> List {
        let mut list = List::default();
        TransformerOf::cut(self, &mut list);
        list
    }
}

impl Parameters {
    /// Reads all tensors of a checkpoint, of any model.
    ///
    /// # Errors
    /// The first fault of any tensor.
    pub fn read_all(&mut self, names: &Names<'_>) -> Result<(), Error> {
        self.read_but(names, |_| false).map(|_| ())
    }
}

impl<C: Cut> TransformerOf<C> {
    /// Cuts all tensors of a model.
    pub(crate) fn cut(config: &TransformerConfig, c: &mut C) -> TransformerOf<C> {
        let d_model = config.d_model;
        let source = (config.vocab_size, d_model);
        let target = (config.target_vocab_size(), d_model);
        let final_norm = config.add_final_layer_norm;
        let norm = |side: &str, c: &mut C| {
            final_norm.then(|| NormOf::cut(&format!("model.{side}.layer_norm"), d_model, c))
        };
        let shared = config.share_encoder_decoder_embeddings;
        let name = if shared { "model.shared" } else { "model.encoder.embed_tokens" };
        TransformerOf {
            source: c.matrix(&format!("{name}.weight"), source),
            target: (!shared).then(|| c.matrix("model.decoder.embed_tokens.weight", target)),
            encoder: (0..config.encoder_layers)
                .map(|layer| EncoderLayerOf::cut(config, layer, c))
                .collect(),
            encoder_norm: norm("encoder", c),
            decoder: (0..config.decoder_layers)
                .map(|layer| DecoderLayerOf::cut(config, layer, c))
                .collect(),
            decoder_norm: norm("decoder", c),
            generator: (!config.tie_word_embeddings).then(|| c.matrix("lm_head.weight", target)),
            bias: config.generator_bias.then(|| c.matrix("final_logits_bias", (1, target.0))),
        }
    }
}

impl<C: Cut> EncoderLayerOf<C> {
    fn cut(config: &TransformerConfig, layer: usize, c: &mut C) -> EncoderLayerOf<C> {
        let (d_model, d_ff) = (config.d_model, config.encoder_ffn_dim);
        let name = |part: &str| format!("model.encoder.layers.{layer}.{part}");
        EncoderLayerOf {
            attention: AttentionOf::cut(&name("self_attn"), d_model, c),
            attention_norm: NormOf::cut(&name("self_attn_layer_norm"), d_model, c),
            feed_forward: FeedForwardOf::cut(&name, d_model, d_ff, c),
            feed_forward_norm: NormOf::cut(&name("final_layer_norm"), d_model, c),
        }
    }
}

impl<C: Cut> DecoderLayerOf<C> {
    fn cut(config: &TransformerConfig, layer: usize, c: &mut C) -> DecoderLayerOf<C> {
        let (d_model, d_ff) = (config.d_model, config.decoder_ffn_dim);
        let name = |part: &str| format!("model.decoder.layers.{layer}.{part}");
        DecoderLayerOf {
            self_attention: AttentionOf::cut(&name("self_attn"), d_model, c),
            self_attention_norm: NormOf::cut(&name("self_attn_layer_norm"), d_model, c),
            cross_attention: CrossAttentionOf::cut(&name("encoder_attn"), d_model, c),
            cross_attention_norm: NormOf::cut(&name("encoder_attn_layer_norm"), d_model, c),
            feed_forward: FeedForwardOf::cut(&name, d_model, d_ff, c),
            feed_forward_norm: NormOf::cut(&name("final_layer_norm"), d_model, c),
        }
    }
}

impl<C: Cut> AttentionOf<C> {
    fn cut(name: &str, d_model: usize, c: &mut C) -> AttentionOf<C> {
        let qkv = ["q_proj", "k_proj", "v_proj"].map(|part| format!("{name}.{part}"));
        AttentionOf {
            qkv: LinearOf::cut_side_by_side(&qkv, d_model, d_model, c),
            output: LinearOf::cut(&format!("{name}.out_proj"), d_model, d_model, c),
        }
    }
}

impl<C: Cut> CrossAttentionOf<C> {
    fn cut(name: &str, d_model: usize, c: &mut C) -> CrossAttentionOf<C> {
        let kv = ["k_proj", "v_proj"].map(|part| format!("{name}.{part}"));
        CrossAttentionOf {
            q: LinearOf::cut(&format!("{name}.q_proj"), d_model, d_model, c),
            kv: LinearOf::cut_side_by_side(&kv, d_model, d_model, c),
            output: LinearOf::cut(&format!("{name}.out_proj"), d_model, d_model, c),
        }
    }
}

impl<C: Cut> FeedForwardOf<C> {
    fn cut(
        name: &impl Fn(&str) -> String,
        d_model: usize,
        d_ff: usize,
        c: &mut C,
    ) -> FeedForwardOf<C> {
        FeedForwardOf {
            inner: LinearOf::cut(&name("fc1"), d_ff, d_model, c),
            outer: LinearOf::cut(&name("fc2"), d_model, d_ff, c),
        }
    }
}

/// The gradients of the parameters of an encoder layer, to which a backward pass adds.
#[derive(Debug)]
pub struct EncoderLayerGradients<'a> {
    /// Of the first sub-layer.
    pub attention: AttentionGradients<'a>,
    /// Of its norm.
    pub attention_norm: LayerNormGradients<'a>,
    /// Of the second sub-layer.
    pub feed_forward: FeedForwardGradients<'a>,
    /// Of its norm.
    pub feed_forward_norm: LayerNormGradients<'a>,
}

impl<'a> From<EncoderLayerOf<Exclusive<'a>>> for EncoderLayerGradients<'a> {
    fn from(of: EncoderLayerOf<Exclusive<'a>>) -> Self {
        EncoderLayerGradients {
            attention: of.attention.into(),
            attention_norm: of.attention_norm.into(),
            feed_forward: of.feed_forward.into(),
            feed_forward_norm: of.feed_forward_norm.into(),
        }
    }
}

/// The gradients of the parameters of a decoder layer, to which a backward pass adds.
#[derive(Debug)]
pub struct DecoderLayerGradients<'a> {
    /// Of the first sub-layer.
    pub self_attention: AttentionGradients<'a>,
    /// Of its norm.
    pub self_attention_norm: LayerNormGradients<'a>,
    /// Of the second sub-layer.
    pub cross_attention: CrossAttentionGradients<'a>,
    /// Of its norm.
    pub cross_attention_norm: LayerNormGradients<'a>,
    /// Of the third sub-layer.
    pub feed_forward: FeedForwardGradients<'a>,
    /// Of its norm.
    pub feed_forward_norm: LayerNormGradients<'a>,
}

impl<'a> From<DecoderLayerOf<Exclusive<'a>>> for DecoderLayerGradients<'a> {
    fn from(of: DecoderLayerOf<Exclusive<'a>>) -> Self {
        let CrossAttentionOf { q, kv, output } = of.cross_attention;
        DecoderLayerGradients {
            self_attention: of.self_attention.into(),
            self_attention_norm: of.self_attention_norm.into(),
            cross_attention: CrossAttentionGradients {
                q: q.into(),
                kv: kv.into(),
                output: output.into(),
            },
            cross_attention_norm: of.cross_attention_norm.into(),
            feed_forward: of.feed_forward.into(),
            feed_forward_norm: of.feed_forward_norm.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PyTorch counts for the base model with a vocabulary of 37,000 and everything tied: 2 x 6
    /// layers, and the table of tokens once.
    #[test]
    fn the_base_model_has_its_well_known_size() {
        let config = TransformerConfig::base(37_000);
        let count: usize = config.tensors().iter().map(|tensor| tensor.range.len()).sum();
        let (d, f) = (512, 2048);
        let (attention, feed_forward, norm) = (4 * (d * d + d), 2 * d * f + f + d, 2 * d);
        let encoder = attention + feed_forward + 2 * norm;
        let decoder = 2 * attention + feed_forward + 3 * norm;
        assert_eq!(count, 37_000 * d + 6 * (encoder + decoder));
        // The paper's table 3 has 65 million with its some 37,000 tokens.
        assert!((62_000_000..66_000_000).contains(&count), "{count}");
    }

    #[test]
    fn what_is_cut_is_what_is_listed() {
        let config = TransformerConfig {
            vocab_size: 11,
            decoder_vocab_size: Some(7),
            d_model: 6,
            encoder_layers: 2,
            decoder_layers: 2,
            encoder_attention_heads: 2,
            decoder_attention_heads: 2,
            encoder_ffn_dim: 10,
            decoder_ffn_dim: 9,
            share_encoder_decoder_embeddings: false,
            tie_word_embeddings: false,
            generator_bias: true,
            add_final_layer_norm: true,
            ..TransformerConfig::default()
        };
        let mut parameters = config.zeros();
        let mut all = TransformerOf::cut(&config, &mut parameters.cut_mut(config.list()));
        all.target.as_mut().unwrap().row_mut(6).fill(1.0);
        all.encoder[1].attention.qkv.weight.row_mut(6).fill(2.0);
        all.decoder[0].cross_attention.kv.bias[6..].fill(3.0);
        all.decoder[1].feed_forward.inner.bias.fill(4.0);
        all.decoder_norm.as_mut().unwrap().beta.fill(5.0);
        all.bias.as_mut().unwrap().row_mut(0).fill(6.0);
        let tensor = |name: &str| parameters.get(name).unwrap();
        assert_eq!(tensor("model.decoder.embed_tokens.weight")[36..], [1.0; 6]);
        assert_eq!(tensor("model.encoder.layers.1.self_attn.k_proj.weight")[..6], [2.0; 6]);
        assert_eq!(tensor("model.decoder.layers.0.encoder_attn.v_proj.bias"), [3.0; 6]);
        assert_eq!(tensor("model.decoder.layers.1.fc1.bias"), [4.0; 9]);
        assert_eq!(tensor("model.decoder.layer_norm.bias"), [5.0; 6]);
        assert_eq!(tensor("final_logits_bias"), [6.0; 7]);
        let written = parameters.values().iter().filter(|&&x| x != 0.0).count();
        assert_eq!(written, 6 + 6 + 6 + 9 + 6 + 7);
    }
}
