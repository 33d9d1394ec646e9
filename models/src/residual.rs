//! What is around a sub-layer: dropout, the sum with its input, and the norm (Attention Is All You
//! Need, sections 3.1 and 5.4), forward and backward.
//!
//! Post-norm is `LayerNorm(x + D(f(x)))`, pre-norm `x + D(f(LayerNorm(x)))`, where D is dropout.

use ferrite_kernels::{
    Activations, Arithmetic, Dropout, Level, Mat, MatMut, Matrix, elementwise, share_rows,
};
use ferrite_layers::{LayerNorm, LayerNormGradients};

/// The dropout of one sub-layer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SubLayerDropout {
    /// Inside: of the weights of attention, or of what the activation gives.
    pub inside: Option<Dropout>,
    /// Of its output, before the sum.
    pub output: Option<Dropout>,
}

/// The memory that backward passes work in: one for all layers.
#[derive(Debug, Default)]
pub(crate) struct ResidualScratch {
    d_sum: Matrix<f32>,
    d_dropped: Matrix<f32>,
}

/// `y = LayerNorm(x + D(f))`, where `sum` is f and becomes what is normalised. All are (n, d_model); y
/// becomes ready for products of `arithmetic`.
pub(crate) fn add_and_norm(
    arithmetic: Arithmetic,
    dropout: Option<Dropout>,
    x: Mat<'_>,
    sum: &mut Matrix<f32>,
    norm: &LayerNorm,
    y: &mut Activations,
) {
    drop_and_add(arithmetic.level(), dropout, x, sum.view_mut());
    y.resize(arithmetic, x.rows(), x.cols());
    norm.forward_from(sum.view(), y);
}

/// The way back through [`add_and_norm`]: `d` is the gradient of y, and becomes that of x as far as
/// it goes past f. Returns that of f.
pub(crate) fn add_and_norm_backward<'a>(
    level: Level,
    dropout: Option<Dropout>,
    sum: &Matrix<f32>,
    norm: &LayerNorm,
    d: &mut Matrix<f32>,
    gradients: LayerNormGradients<'_>,
    scratch: &'a mut ResidualScratch,
) -> Mat<'a> {
    let ResidualScratch { d_sum, d_dropped } = scratch;
    norm_backward(sum, norm, d, gradients, d_sum);
    dropped(level, dropout, d_sum, d_dropped)
}

/// `h = LayerNorm(x)` with x kept in `from`, for the way back; h becomes ready for products of
/// `arithmetic`.
pub(crate) fn norm_of(
    arithmetic: Arithmetic,
    x: Mat<'_>,
    from: &mut Matrix<f32>,
    norm: &LayerNorm,
    h: &mut Activations,
) {
    from.resize(x.rows(), x.cols());
    copy_to(x, from);
    h.resize(arithmetic, x.rows(), x.cols());
    norm.forward_from(from.view(), h);
}

/// The way back through [`norm_of`] of a sub-layer: `d_h` is the gradient of h; `d` is that of x as
/// far as it goes past the sub-layer, and becomes all of it.
pub(crate) fn norm_of_backward(
    level: Level,
    from: &Matrix<f32>,
    norm: &LayerNorm,
    d_h: &Matrix<f32>,
    d: &mut Matrix<f32>,
    gradients: LayerNormGradients<'_>,
    scratch: &mut ResidualScratch,
) {
    let d_x = &mut scratch.d_sum;
    d_x.resize(d.rows(), d.cols());
    norm.backward(from.view(), d_h.view(), d_x.view_mut(), gradients);
    drop_and_add(level, None, d_x.view(), d.view_mut());
}

/// `y = x + D(y)`.
pub(crate) fn drop_and_add(level: Level, dropout: Option<Dropout>, x: Mat<'_>, mut y: MatMut<'_>) {
    if let Some(dropout) = dropout {
        dropout.apply(level, y.reborrow());
    }
    share_rows(y, |first, mut y| {
        (0..y.rows()).for_each(|row| elementwise::add(level, y.row_mut(row), x.row(first + row)));
    });
}

/// The gradient of f, where `d` is that of D(f).
pub(crate) fn output_gradient<'a>(
    level: Level,
    dropout: Option<Dropout>,
    d: &'a Matrix<f32>,
    scratch: &'a mut ResidualScratch,
) -> Mat<'a> {
    dropped(level, dropout, d, &mut scratch.d_dropped)
}

/// D(d), in `copy` if anything is dropped.
fn dropped<'a>(
    level: Level,
    dropout: Option<Dropout>,
    d: &'a Matrix<f32>,
    copy: &'a mut Matrix<f32>,
) -> Mat<'a> {
    let Some(dropout) = dropout else { return d.view() };
    copy.resize(d.rows(), d.cols());
    copy_to(d.view(), copy);
    dropout.apply(level, copy.view_mut());
    copy.view()
}

/// Writes `from` to `to`, which has its shape.
pub(crate) fn copy_to(from: Mat<'_>, to: &mut Matrix<f32>) {
    share_rows(to.view_mut(), |first, mut to| {
        (0..to.rows()).for_each(|row| to.row_mut(row).copy_from_slice(from.row(first + row)));
    });
}

/// `x = LayerNorm(x)` after the last layer, with x kept in `from`, for the way back. Without a norm x
/// only becomes ready for products.
pub(crate) fn final_norm(norm: Option<&LayerNorm>, from: &mut Matrix<f32>, x: &mut Activations) {
    let Some(norm) = norm else { return x.convert() };
    from.resize(x.rows(), x.cols());
    copy_to(x.values(), from);
    norm.forward_from(from.view(), x);
}

/// The way back through [`final_norm`]: `d` is the gradient of what it gave, and becomes that of x.
pub(crate) fn final_norm_backward(
    norm: Option<&LayerNorm>,
    from: &Matrix<f32>,
    d: &mut Matrix<f32>,
    gradients: Option<LayerNormGradients<'_>>,
    scratch: &mut ResidualScratch,
) {
    let (Some(norm), Some(gradients)) = (norm, gradients) else { return };
    norm_backward(from, norm, d, gradients, &mut scratch.d_sum);
}

/// `d`, the gradient of a norm's output, becomes that of what it read; so does `d_x`.
fn norm_backward(
    from: &Matrix<f32>,
    norm: &LayerNorm,
    d: &mut Matrix<f32>,
    gradients: LayerNormGradients<'_>,
    d_x: &mut Matrix<f32>,
) {
    d_x.resize(d.rows(), d.cols());
    norm.backward(from.view(), d.view(), d_x.view_mut(), gradients);
    copy_to(d_x.view(), d);
}
