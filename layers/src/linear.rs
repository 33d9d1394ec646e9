//! The linear layer.

use ferrite_kernels::{
    Activation, Activations, Arithmetic, ColumnScales, Epilogue, Left, Mat, MatMut, Matrix,
    PackedMatrix, Precision, column_sums, matmul, matmul_into, transpose,
};

use crate::LayerNorm;

/// `y = x Wᵀ + b`, with W of shape (d_out, d_in), as checkpoints store it, and b of d_out elements.
#[derive(Debug)]
pub struct Linear {
    weight: PackedMatrix,
    bias: Vec<f32>,
    /// Wᵀ, of a layer that is trained.
    transposed: Option<PackedMatrix>,
}

/// The gradients of a [`Linear`]'s parameters, to which a backward pass adds.
#[derive(Debug)]
pub struct LinearGradients<'a> {
    /// dW, (d_out, d_in).
    pub weight: MatMut<'a>,
    /// db, d_out elements.
    pub bias: &'a mut [f32],
}

/// What becomes of the gradient of a layer's input.
#[derive(Debug)]
pub enum InputGradient<'a> {
    /// Nobody needs it.
    Unused,
    /// It is written, (n, d_in).
    Set(MatMut<'a>),
    /// It is added to what is there, (n, d_in): where the input goes another way as well.
    Add(MatMut<'a>),
}

/// The memory that the backward passes of linear layers work in: one for all of them.
#[derive(Debug, Default)]
pub struct LinearScratch {
    dy: Activations,
    dy_transposed: Activations,
    x: Option<PackedMatrix>,
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
        let weight = PackedMatrix::new(arithmetic, weight);
        Linear { weight, bias: bias.to_vec(), transposed: None }
    }

    /// Several layers with the same input as one, their outputs side by side: one pass over `x`
    /// in place of several, with the same bits. Each part has a weight, (its d_out, d_in), and a
    /// bias.
    ///
    /// # Panics
    /// If there is no part, or the shapes do not fit.
    #[track_caller]
    pub fn side_by_side(arithmetic: impl Into<Arithmetic>, parts: &[(Mat<'_>, &[f32])]) -> Linear {
        Linear::packed(arithmetic, None, parts)
    }

    /// The same, reading what `norm` gives: packed with its [`LayerNorm::columns`].
    ///
    /// # Panics
    /// As [`Linear::side_by_side`].
    #[track_caller]
    pub fn after(
        arithmetic: impl Into<Arithmetic>,
        norm: &LayerNorm,
        parts: &[(Mat<'_>, &[f32])],
    ) -> Linear {
        Linear::packed(arithmetic, norm.columns(), parts)
    }

    #[track_caller]
    fn packed(
        arithmetic: impl Into<Arithmetic>,
        columns: Option<&ColumnScales>,
        parts: &[(Mat<'_>, &[f32])],
    ) -> Linear {
        let d_in = parts.first().expect("a layer has at least one part").0.cols();
        let mut rows = Vec::new();
        let mut biases = Vec::new();
        for (weight, bias) in parts {
            assert_eq!(bias.len(), weight.rows(), "elements of the bias of a linear layer");
            rows.extend((0..weight.rows()).map(|row| weight.row(row)));
            biases.extend_from_slice(bias);
        }
        let row = |row: usize| rows[row];
        let weight = PackedMatrix::from_scaled_rows(arithmetic, columns, rows.len(), d_in, row);
        Linear { weight, bias: biases, transposed: None }
    }

    /// A layer to be trained: [`Linear::update`] gives it other parameters, [`Linear::backward`] its
    /// gradients. It keeps its weight twice.
    ///
    /// # Panics
    /// If the shapes do not fit, or the precision is int8, which has no gradients.
    #[track_caller]
    pub fn trainable(arithmetic: impl Into<Arithmetic>, weight: Mat<'_>, bias: &[f32]) -> Linear {
        let arithmetic = arithmetic.into();
        assert_ne!(arithmetic.precision(), Precision::Int8, "the precision of what is trained");
        let mut layer = Linear {
            weight: PackedMatrix::empty(arithmetic),
            bias: bias.to_vec(),
            transposed: Some(PackedMatrix::empty(arithmetic)),
        };
        layer.pack(weight, bias);
        layer
    }

    /// Takes these parameters in place of its own, of the same shapes; of a layer that is not
    /// trained as well.
    ///
    /// # Panics
    /// If the shapes are others.
    #[track_caller]
    pub fn update(&mut self, weight: Mat<'_>, bias: &[f32]) {
        assert_eq!(weight.shape(), (self.d_out(), self.d_in()), "shape of a weight");
        self.pack(weight, bias);
    }

    #[track_caller]
    fn pack(&mut self, weight: Mat<'_>, bias: &[f32]) {
        assert_eq!(bias.len(), weight.rows(), "elements of the bias of a linear layer");
        self.weight.repack(weight);
        if let Some(transposed) = &mut self.transposed {
            transposed.repack_transposed(weight);
        }
        self.bias.copy_from_slice(bias);
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

    /// The gradients, where dy is that of y: `dx = dy W`, and added to what is there `dW += dyᵀ x`
    /// and `db += Σ dy` over all rows. x: (n, d_in), dy: (n, d_out). Products are computed in the
    /// layer's own arithmetic; the bits depend on neither threads nor what was in memory.
    ///
    /// # Panics
    /// If the shapes do not fit, or the layer is not [`Linear::trainable`].
    #[track_caller]
    pub fn backward(
        &self,
        x: Mat<'_>,
        dy: Mat<'_>,
        dx: InputGradient<'_>,
        gradients: LinearGradients<'_>,
        scratch: &mut LinearScratch,
    ) {
        self.backward_input(dy, dx, scratch);
        self.backward_parameters(x, dy, gradients, scratch);
    }

    /// The first half of [`Linear::backward`]: `dx = dy W`.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn backward_input(&self, dy: Mat<'_>, dx: InputGradient<'_>, scratch: &mut LinearScratch) {
        let transposed = self.transposed.as_ref().expect("a layer that is trained");
        let (epilogue, dx) = match dx {
            InputGradient::Unused => return,
            InputGradient::Set(dx) => (Epilogue::Store, dx),
            InputGradient::Add(dx) => (Epilogue::Add, dx),
        };
        matmul(ready(self.arithmetic(), dy, &mut scratch.dy), transposed, epilogue, dx);
    }

    /// The second half of [`Linear::backward`]: `dW += dyᵀ x` and `db += Σ dy`.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn backward_parameters(
        &self,
        x: Mat<'_>,
        dy: Mat<'_>,
        gradients: LinearGradients<'_>,
        scratch: &mut LinearScratch,
    ) {
        let arithmetic = self.arithmetic();
        assert_eq!(x.shape(), (dy.rows(), self.d_in()), "shape of a layer's input");
        let LinearScratch { dy_transposed, x: packed_x, .. } = scratch;
        let packed_x = match packed_x {
            Some(packed) if packed.arithmetic() == arithmetic => packed,
            other => other.insert(PackedMatrix::empty(arithmetic)),
        };
        packed_x.repack_transposed(x);
        dy_transposed.resize(arithmetic, dy.cols(), dy.rows());
        transpose(dy, dy_transposed.values_mut());
        dy_transposed.convert();
        matmul(&*dy_transposed, packed_x, Epilogue::Add, gradients.weight);
        column_sums(arithmetic.level(), dy, gradients.bias);
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

/// `x` as products of `arithmetic` read it, converted once in memory that is reused.
fn ready<'a>(arithmetic: Arithmetic, x: Mat<'a>, copy: &'a mut Activations) -> Left<'a> {
    if arithmetic.precision() == Precision::F32 {
        return x.into();
    }
    copy.copy_from(arithmetic, x);
    (&*copy).into()
}

#[cfg(test)]
mod tests;
