//! AdamW: Adam (Kingma and Ba 2014) with decoupled weight decay (Loshchilov and Hutter 2017).

use crate::Level;
use crate::parallel::{rows_per_thread, share};
use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd, dispatch};

/// Threads take whole pages of parameters.
const PAGE: usize = 1024;

/// The optimizer's constants. With the means m of the gradients and v of their squares, a step is
///
/// - with bias correction, as `torch.optim.AdamW`: p -= lr (m' / (sqrt(v') + epsilon) + wd p), where
///   m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) at step t;
/// - without, as the optimizer of BERT (Devlin et al. 2018): the same with m' = m and v' = v. Its
///   first steps are longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// How much of m stays at each step: 0.9.
    pub beta1: f32,
    /// How much of v stays at each step: 0.999.
    pub beta2: f32,
    /// What is added to the root: 1e-8 in PyTorch, 1e-6 for BERT.
    pub epsilon: f32,
    /// The decay wd: 0.01.
    pub weight_decay: f32,
    /// Whether the means are corrected for their beginning at zero.
    pub bias_correction: bool,
}

/// The constants of one step, in the form in which each element needs them.
#[derive(Clone, Copy)]
struct Step {
    grad_scale: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    /// What m is multiplied by: the rate and the correction of m.
    rate: f32,
    /// What the root of v is multiplied by: the correction of v.
    root_scale: f32,
    epsilon: f32,
    /// What a parameter loses of itself: small beside one, so it is not subtracted from one here.
    decay: f32,
}

impl AdamW {
    /// Step `step` of the training, counted from 1, of parameters with these gradients and means,
    /// in one pass over the four; `m` and `v` begin as zeros.
    ///
    /// A gradient is multiplied by `grad_scale` before it is used: below one where gradients are
    /// clipped. `decays` says whether the weight decay applies to these parameters: not to biases
    /// and norms.
    ///
    /// As long as nothing underflows, m is within 4 u of the sum of the magnitudes of its two terms,
    /// v within 6 u, and p within 2 u |p| + 16 u times the step that p makes if the two terms of m do
    /// not cancel, u = 2^-24. The bits of a parameter depend on the level and its own numbers: threads
    /// share the parameters.
    ///
    /// # Panics
    /// If the lengths differ, or `step` is 0.
    #[track_caller]
    pub fn update(
        &self,
        level: Level,
        lr: f32,
        step: u64,
        grad_scale: f32,
        parameters: &mut [f32],
        gradients: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        decays: bool,
    ) {
        let n = parameters.len();
        assert!(
            gradients.len() == n && m.len() == n && v.len() == n,
            "AdamW: {n} parameters with {} gradients, {} of m, {} of v",
            gradients.len(),
            m.len(),
            v.len()
        );
        assert!(step > 0, "AdamW: steps are counted from 1");
        let constants = self.step(lr, step, grad_scale, decays);
        let work = ((parameters, gradients), (m, v));
        share(
            work,
            rows_per_thread(n, 1),
            PAGE,
            &|_, ((p, g), (m, v)): Operands<'_>| dispatch!(level, s => update_slice(s, constants, p, g, m, v)),
        );
    }

    fn step(&self, lr: f32, step: u64, grad_scale: f32, decays: bool) -> Step {
        let [lr, beta1, beta2] = [lr, self.beta1, self.beta2].map(f64::from);
        let corrections = if self.bias_correction {
            [beta1, beta2].map(|beta| 1.0 - beta.powf(step as f64))
        } else {
            [1.0, 1.0]
        };
        let decay = if decays { f64::from(self.weight_decay) } else { 0.0 };
        Step {
            grad_scale,
            beta1: self.beta1,
            rest1: (1.0 - beta1) as f32,
            beta2: self.beta2,
            rest2: (1.0 - beta2) as f32,
            rate: (lr / corrections[0]) as f32,
            root_scale: (1.0 / corrections[1].sqrt()) as f32,
            epsilon: self.epsilon,
            decay: (lr * decay) as f32,
        }
    }
}

/// Parameters, gradients, and both means.
type Operands<'a> = ((&'a mut [f32], &'a [f32]), (&'a mut [f32], &'a mut [f32]));

#[inline(always)]
fn update_slice<S: Simd>(s: S, c: Step, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    // One length for all, so that one check of the bounds serves for all.
    let n = p.len();
    let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
    let (beta1, beta2) = (s.splat(c.beta1), s.splat(c.beta2));
    let (rest1, rest2) = (s.splat(c.rest1), s.splat(c.rest2));
    let (grad_scale, rate, decay) = (s.splat(c.grad_scale), s.splat(c.rate), s.splat(c.decay));
    let (root_scale, epsilon) = (s.splat(c.root_scale), s.splat(c.epsilon));
    for_each_vector(
        s,
        n,
        #[inline(always)]
        |at| {
            let g = s.load_or(&g[at.clone()], 0.0) * grad_scale;
            let mean = beta1.mul_add(s.load_or(&m[at.clone()], 0.0), rest1 * g);
            let square = beta2.mul_add(s.load_or(&v[at.clone()], 0.0), rest2 * g * g);
            mean.store_prefix(&mut m[at.clone()]);
            square.store_prefix(&mut v[at.clone()]);
            let step = rate * mean / square.sqrt().mul_add(root_scale, epsilon);
            let p = &mut p[at];
            let before = s.load_or(p, 0.0);
            (before - before.mul_add(decay, step)).store_prefix(p);
        },
    );
}

#[cfg(test)]
mod tests;
