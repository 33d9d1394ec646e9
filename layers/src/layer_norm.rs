//! Layer normalisation.

use ferrite_kernels::{
    Activations, ColumnScales, Level, Mat, MatMut, add_layer_norm, layer_norm, layer_norm_backward,
    layer_norm_in_place, share_rows,
};

/// `γ (x - mean) / √(variance + ε) + β` for each row x, with the variance of the row itself, not
/// an estimate of a population's (Ba et al., Layer Normalization, 2016).
#[derive(Clone, Debug)]
pub struct LayerNorm {
    level: Level,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    epsilon: f32,
    /// What the next product has columns divided by.
    columns: Option<ColumnScales>,
}

/// The gradients of a [`LayerNorm`]'s parameters, to which a backward pass adds.
#[derive(Debug)]
pub struct LayerNormGradients<'a> {
    /// dγ, d_model elements.
    pub gamma: &'a mut [f32],
    /// dβ, d_model elements.
    pub beta: &'a mut [f32],
}

impl LayerNorm {
    /// The layer with these parameters, each of d_model elements.
    ///
    /// # Panics
    /// If they differ in length.
    #[track_caller]
    pub fn new(level: Level, gamma: Vec<f32>, beta: Vec<f32>, epsilon: f32) -> LayerNorm {
        assert_eq!(gamma.len(), beta.len(), "elements of gamma and beta");
        LayerNorm { level, gamma, beta, epsilon, columns: None }
    }

    /// Has what it makes ready for int8 products with these weights, each (d_out, d_model), which are
    /// to be packed with [`LayerNorm::columns`]. Its columns have these magnitudes: those of
    /// [`Moments::magnitudes`](crate::Moments::magnitudes), if there are no data.
    ///
    /// # Panics
    /// If there are not d_model magnitudes, or a weight does not have d_model columns.
    #[track_caller]
    pub fn balance(&mut self, magnitudes: &[f32], weights: &[Mat<'_>]) {
        assert_eq!(magnitudes.len(), self.d_model(), "magnitudes of columns, and d_model");
        self.columns = Some(ColumnScales::balance(magnitudes, weights));
    }

    /// What the next product has columns divided by, in int8.
    pub fn columns(&self) -> Option<&ColumnScales> {
        self.columns.as_ref()
    }

    /// Takes these parameters in place of its own.
    ///
    /// # Panics
    /// If there are not d_model elements of each.
    #[track_caller]
    pub fn update(&mut self, gamma: &[f32], beta: &[f32]) {
        self.gamma.copy_from_slice(gamma);
        self.beta.copy_from_slice(beta);
    }

    /// γ, β and ε.
    pub(crate) fn parameters(&self) -> (&[f32], &[f32], f32) {
        (&self.gamma, &self.beta, self.epsilon)
    }

    /// The columns of x.
    pub fn d_model(&self) -> usize {
        self.gamma.len()
    }

    /// `x = LayerNorm(x)`; x: (n, d_model), in place.
    ///
    /// # Panics
    /// If x does not have d_model columns.
    #[track_caller]
    pub fn forward(&self, x: MatMut<'_>) {
        assert_eq!(x.cols(), self.d_model(), "columns that are normalised, and d_model");
        share_rows(x, |_, x| {
            layer_norm_in_place(self.level, x, &self.gamma, &self.beta, self.epsilon);
        });
    }

    /// `y = LayerNorm(x + y)`, "Add & Norm" in figure 1 of Attention Is All You Need; x and y: (n,
    /// d_model), y in place and ready for the next product. The bits are those of the sum followed by
    /// [`LayerNorm::forward`].
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward_sum(&self, x: Mat<'_>, y: &mut Activations) {
        assert_eq!(x.shape(), y.shape(), "shapes of the summands");
        assert_eq!(x.cols(), self.d_model(), "columns that are normalised, and d_model");
        y.scale_columns(self.columns());
        y.write_rows(|first, y| {
            let x = x.row_range(first..first + y.rows());
            add_layer_norm(self.level, y, x, &self.gamma, &self.beta, self.epsilon);
        });
    }

    /// `y = LayerNorm(x)`; x and y: (n, d_model), y overwritten and ready for the next product. For
    /// training: x is what [`LayerNorm::backward`] will need.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward_from(&self, x: Mat<'_>, y: &mut Activations) {
        assert_eq!(x.shape(), y.shape(), "shapes of the input and of the normalised");
        y.scale_columns(self.columns());
        y.write_rows(|first, y| {
            let x = x.row_range(first..first + y.rows());
            layer_norm(self.level, x, &self.gamma, &self.beta, self.epsilon, y);
        });
    }

    /// The gradients, where dy is that of `y = LayerNorm(x)`: dx is overwritten, the parameters'
    /// are added to what is there. x, dy and dx: (n, d_model).
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn backward(
        &self,
        x: Mat<'_>,
        dy: Mat<'_>,
        dx: MatMut<'_>,
        gradients: LayerNormGradients<'_>,
    ) {
        let LayerNormGradients { gamma, beta } = gradients;
        layer_norm_backward(self.level, x, &self.gamma, self.epsilon, dy, dx, gamma, beta);
    }
}

#[cfg(test)]
mod tests;
