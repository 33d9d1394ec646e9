//! The linear layer.

use ferrite_kernels::{
    Activation, Activations, Arithmetic, Epilogue, Left, Mat, MatMut, Matrix, PackedMatrix, matmul,
    matmul_into,
};

/// `y = x Wᵀ + b`, with W of shape (d_out, d_in), as checkpoints store it, and b of d_out elements.
#[derive(Debug)]
pub struct Linear {
    weight: PackedMatrix,
    bias: Vec<f32>,
}

impl Linear {
    /// The layer with this weight, (d_out, d_in), and bias, d_out elements. A level alone stands for
    /// products in f32.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn new(arithmetic: impl Into<Arithmetic>, weight: Mat<'_>, bias: &[f32]) -> Linear {
        assert_eq!(bias.len(), weight.rows(), "elements of the bias of a linear layer");
        Linear { weight: PackedMatrix::new(arithmetic, weight), bias: bias.to_vec() }
    }

    /// Several layers with the same input as one, their outputs side by side: one pass over `x`
    /// in place of several, with the same bits. Each part has a weight, (its d_out, d_in), and a
    /// bias.
    ///
    /// # Panics
    /// If there is no part, or the shapes do not fit.
    #[track_caller]
    pub fn side_by_side(arithmetic: impl Into<Arithmetic>, parts: &[(Mat<'_>, &[f32])]) -> Linear {
        let d_in = parts.first().expect("a layer has at least one part").0.cols();
        let mut rows = Vec::new();
        let mut biases = Vec::new();
        for (weight, bias) in parts {
            assert_eq!(bias.len(), weight.rows(), "elements of the bias of a linear layer");
            rows.extend((0..weight.rows()).map(|row| weight.row(row)));
            biases.extend_from_slice(bias);
        }
        let weight = PackedMatrix::from_rows(arithmetic, rows.len(), d_in, |row| rows[row]);
        Linear { weight, bias: biases }
    }

    /// How its product is computed.
    pub fn arithmetic(&self) -> Arithmetic {
        self.weight.arithmetic()
    }

    /// The columns of x.
    pub fn d_in(&self) -> usize {
        self.weight.inputs()
    }

    /// The columns of y.
    pub fn d_out(&self) -> usize {
        self.weight.outputs()
    }

    /// `y = x Wᵀ + b`; x: (n, d_in), y: (n, d_out), overwritten.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward<'a>(&self, x: impl Into<Left<'a>>, y: MatMut<'_>) {
        matmul(x, &self.weight, Epilogue::Bias(&self.bias), y);
    }

    /// `y = f(x Wᵀ + b)`; x: (n, d_in), y: (n, d_out), overwritten.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward_activated<'a>(&self, x: impl Into<Left<'a>>, f: Activation, y: MatMut<'_>) {
        matmul(x, &self.weight, Epilogue::BiasActivation(&self.bias, f), y);
    }

    /// The same, y ready for the next product.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward_activated_into<'a>(
        &self,
        x: impl Into<Left<'a>>,
        f: Activation,
        y: &mut Activations,
    ) {
        matmul_into(x, &self.weight, Epilogue::BiasActivation(&self.bias, f), y);
    }

    /// The weight W, (d_out, d_in), unpacked.
    pub fn weight(&self) -> Matrix<f32> {
        self.weight.unpack()
    }

    /// The bias b.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }
}

#[cfg(test)]
mod tests;
