//! Layers of parameters: made of them, and given others.

use ferrite_kernels::{Arithmetic, Mat, Matrix};
use ferrite_layers::{
    Activation, CrossAttention, Embedding, FeedForward, LayerNorm, Linear, Mask, SelfAttention,
};

use crate::parameters::{AttentionOf, FeedForwardOf, LinearOf, NormOf, Shared};
use crate::residual::copy_to;
use crate::transformer::CrossAttentionOf;

/// How the layers of a model are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assembly {
    /// Of the products.
    pub(crate) arithmetic: Arithmetic,
    /// Whether the layers are to be trained, or only to run.
    pub(crate) trained: bool,
    /// The ε of the norms.
    pub(crate) epsilon: f32,
}

impl Assembly {
    pub(crate) fn linear(&self, of: LinearOf<Shared<'_>>) -> Linear {
        if self.trained {
            Linear::trainable(self.arithmetic, of.weight, of.bias)
        } else {
            Linear::new(self.arithmetic, of.weight, of.bias)
        }
    }

    pub(crate) fn norm(&self, of: NormOf<Shared<'_>>) -> LayerNorm {
        let (gamma, beta) = (of.gamma.to_vec(), of.beta.to_vec());
        LayerNorm::new(self.arithmetic.level(), gamma, beta, self.epsilon)
    }

    pub(crate) fn embedding(&self, table: Mat<'_>) -> Embedding {
        let mut copy = Matrix::zeros(table.rows(), table.cols());
        copy_to(table, &mut copy);
        Embedding { table: copy }
    }

    pub(crate) fn self_attention(
        &self,
        of: AttentionOf<Shared<'_>>,
        heads: usize,
        mask: Mask,
    ) -> SelfAttention {
        SelfAttention { qkv: self.linear(of.qkv), output: self.linear(of.output), heads, mask }
    }

    pub(crate) fn cross_attention(
        &self,
        of: CrossAttentionOf<Shared<'_>>,
        heads: usize,
    ) -> CrossAttention {
        let [q, kv, output] = [of.q, of.kv, of.output].map(|of| self.linear(of));
        CrossAttention { q, kv, output, heads }
    }

    pub(crate) fn feed_forward(
        &self,
        of: FeedForwardOf<Shared<'_>>,
        activation: Activation,
    ) -> FeedForward {
        FeedForward { inner: self.linear(of.inner), outer: self.linear(of.outer), activation }
    }
}

pub(crate) fn update_linear(layer: &mut Linear, of: LinearOf<Shared<'_>>) {
    layer.update(of.weight, of.bias);
}

pub(crate) fn update_norm(layer: &mut LayerNorm, of: NormOf<Shared<'_>>) {
    layer.update(of.gamma, of.beta);
}

pub(crate) fn update_attention(layer: &mut SelfAttention, of: AttentionOf<Shared<'_>>) {
    update_linear(&mut layer.qkv, of.qkv);
    update_linear(&mut layer.output, of.output);
}

pub(crate) fn update_cross_attention(layer: &mut CrossAttention, of: CrossAttentionOf<Shared<'_>>) {
    update_linear(&mut layer.q, of.q);
    update_linear(&mut layer.kv, of.kv);
    update_linear(&mut layer.output, of.output);
}

pub(crate) fn update_feed_forward(layer: &mut FeedForward, of: FeedForwardOf<Shared<'_>>) {
    update_linear(&mut layer.inner, of.inner);
    update_linear(&mut layer.outer, of.outer);
}
