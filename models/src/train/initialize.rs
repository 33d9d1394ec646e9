//! Parameters that have learnt nothing yet.

use ferrite_layers::{SinusoidLayout, sinusoidal};
use rayon::prelude::*;

use crate::bert::{BertConfig, Part};
use crate::data::{Purpose, Random};
use crate::parameters::{Parameters, Tensor};
use crate::transformer::TransformerConfig;

/// The parameters that BERT begins with: weights and tables from a normal distribution of standard
/// deviation `initializer_range`, drawn again beyond two of them (the reference's truncated normal);
/// biases zero, norms γ = 1 and β = 0. Each tensor has random numbers of its own, so that it does
/// not depend on what else a model has; the same on every machine.
pub fn initialize(config: &BertConfig, parts: &[Part], seed: u64) -> Parameters {
    let mut parameters = Parameters::zeros(config, parts);
    for_each_weight(&mut parameters, seed, |_, values, random| {
        values.fill_with(|| config.initializer_range * normal_within(2.0, random));
    });
    parameters
}

/// The parameters that a Transformer begins with, as tensor2tensor has them: weights uniform within
/// √(6 / (inputs + outputs)) (Glorot and Bengio 2010), tables of tokens and the generator's weight
/// from a normal distribution of variance 1 / d_model, so that what leaves the scaled embeddings and
/// the generator is about as large as one; biases zero, norms γ = 1 and β = 0. Random numbers as for
/// BERT.
pub fn initialize_transformer(config: &TransformerConfig, seed: u64) -> Parameters {
    let mut parameters = config.zeros();
    let sigma = (config.d_model as f64).sqrt().recip() as f32;
    for_each_weight(&mut parameters, seed, |tensor, values, random| {
        let is_table = !tensor.name.contains(".layers.");
        if is_table {
            // Six deviations: all but one of a thousand million.
            values.fill_with(|| sigma * normal_within(6.0, random));
        } else {
            let limit = (6.0 / tensor.shape.iter().sum::<usize>() as f64).sqrt();
            values.fill_with(|| (limit * (2.0 * random.fraction() - 1.0)) as f32);
        }
    });
    parameters
}

/// Calls `fill` for every tensor that is neither a bias nor of a norm, in parallel; sets the γ of
/// norms to one. Each tensor has random numbers of its own.
fn for_each_weight(
    parameters: &mut Parameters,
    seed: u64,
    fill: impl Fn(&Tensor, &mut [f32], &mut Random) + Sync,
) {
    let tensors = parameters.tensors().to_vec();
    let (mut rest, mut done) = (parameters.values_mut(), 0);
    let pieces = tensors.iter().map(|tensor| {
        let (_, others) = std::mem::take(&mut rest).split_at_mut(tensor.range.start - done);
        let (values, others) = others.split_at_mut(tensor.range.len());
        (rest, done) = (others, tensor.range.end);
        (tensor, values)
    });
    pieces.collect::<Vec<_>>().into_par_iter().for_each(|(tensor, values)| {
        if tensor.is_of_norm() && !tensor.is_bias() {
            values.fill(1.0);
        } else if tensor.decays() {
            let mut random = Random::new(seed, Purpose::Weights, 0, name_hash(&tensor.name));
            fill(tensor, values, &mut random);
        }
    });
}

/// Lets a model's positions begin as the sinusoids of Attention Is All You Need, section 3.5, times
/// `scale`; they are learnt all the same. What stands next to a token is then the same rotation at
/// every position, where tables drawn at random have to learn it for each: in short trainings of
/// small models this saves a good part of the steps. (In `ferrite quickstart`, after 800 steps, the
/// held-out loss of masked words was 3.0 instead of 3.6 nats.)
///
/// # Panics
/// If the model has no table of positions.
#[track_caller]
pub fn sinusoidal_positions(parameters: &mut Parameters, scale: f32) {
    let name = "embeddings.position_embeddings.weight";
    let tensor = parameters.tensors().iter().find(|tensor| tensor.name.ends_with(name));
    let tensor = tensor.expect("a table of positions").clone();
    let table = sinusoidal(tensor.shape[0], tensor.shape[1], SinusoidLayout::Interleaved);
    let values = &mut parameters.values_mut()[tensor.range];
    values.iter_mut().zip(table.as_slice()).for_each(|(value, &sine)| *value = scale * sine);
}

/// A number of the standard normal distribution within some standard deviations, by rejection: what
/// is returned was drawn, not computed, so a library's last bit cannot change it.
fn normal_within(deviations: f64, random: &mut Random) -> f32 {
    loop {
        let x = 2.0 * deviations * random.fraction() - deviations;
        let (u, exponent) = (random.fraction(), 0.5 * x * x);
        // e^-t is at least 1 - t, which mostly decides.
        if u < 1.0 - exponent || u < (-exponent).exp() {
            return x as f32;
        }
    }
}

/// FNV-1a, of 64 bits.
fn name_hash(name: &str) -> u64 {
    let prime = 0x0000_0100_0000_01b3;
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(prime))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> BertConfig {
        BertConfig {
            vocab_size: 500,
            hidden_size: 64,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 128,
            ..BertConfig::default()
        }
    }

    #[test]
    fn weights_are_truncated_normals_and_the_rest_is_neutral() {
        let parameters = initialize(&config(), &Part::ALL, 3);
        let table = parameters.get("embeddings.word_embeddings.weight").unwrap();
        let sigma = 0.02f64;
        assert!(table.iter().all(|x| f64::from(x.abs()) <= 2.0 * sigma));
        let mean = table.iter().map(|&x| f64::from(x)).sum::<f64>() / table.len() as f64;
        let square = table.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / table.len() as f64;
        // The variance of a normal cut at two standard deviations is 0.7737 of the whole.
        assert!(mean.abs() < 5.0 * sigma / (table.len() as f64).sqrt(), "{mean}");
        assert!((square / sigma.powi(2) - 0.7737).abs() < 0.03, "{square}");
        for tensor in parameters.tensors() {
            let values = parameters.tensor(tensor);
            let expected = match () {
                () if tensor.name.ends_with("LayerNorm.weight") => Some(1.0),
                () if tensor.name.contains("bias") => Some(0.0),
                () => None,
            };
            match expected {
                Some(expected) => assert!(values.iter().all(|&x| x == expected), "{}", tensor.name),
                None => assert!(values.iter().any(|&x| x != values[0]), "{}", tensor.name),
            }
        }
    }

    #[test]
    fn positions_may_begin_as_sinusoids_and_nothing_else_changes() {
        let drawn = initialize(&config(), &Part::ALL, 3);
        let mut parameters = drawn.clone();
        sinusoidal_positions(&mut parameters, 0.5);
        for tensor in drawn.tensors() {
            let (before, after) = (drawn.tensor(tensor), parameters.tensor(tensor));
            if tensor.name == "embeddings.position_embeddings.weight" {
                // sin 0, cos 0, ..., sin 1, cos 1.
                assert_eq!(after[..4], [0.0, 0.5, 0.0, 0.5]);
                assert_eq!(after[64..66], [0.5 * 1f64.sin() as f32, 0.5 * 1f64.cos() as f32]);
            } else {
                assert_eq!(before, after, "{}", tensor.name);
            }
        }
    }

    #[test]
    fn seeds_differ_and_parts_do_not_matter() {
        let all = initialize(&config(), &Part::ALL, 3);
        let encoder = initialize(&config(), &[Part::Encoder], 3);
        let name = "encoder.layer.0.attention.self.key.weight";
        assert_eq!(all.get(name), encoder.get(name));
        assert_ne!(all.get(name), initialize(&config(), &Part::ALL, 4).get(name));
        assert_ne!(all.get(name), all.get(&name.replace("key", "value")));
    }

    #[test]
    fn a_transformer_begins_as_the_papers_say() {
        let config = TransformerConfig {
            generator_bias: true,
            tie_word_embeddings: false,
            ..TransformerConfig::tiny(500).pre_norm()
        };
        let parameters = initialize_transformer(&config, 3);
        let variance =
            |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / x.len() as f64;
        for tensor in parameters.tensors() {
            let (name, values) = (&tensor.name, parameters.tensor(tensor));
            if name.contains("bias") {
                assert!(values.iter().all(|&x| x == 0.0), "{name}");
            } else if name.contains("layer_norm") {
                assert!(values.iter().all(|&x| x == 1.0), "{name}");
            } else if name.contains(".layers.") {
                let limit = (6.0 / (tensor.shape[0] + tensor.shape[1]) as f64).sqrt();
                assert!(values.iter().all(|&x| f64::from(x.abs()) <= limit), "{name}");
                let relative = variance(values) / (limit * limit / 3.0);
                assert!((relative - 1.0).abs() < 0.05, "{name}: {relative}");
            } else {
                let relative = variance(values) * config.d_model as f64;
                assert!((relative - 1.0).abs() < 0.05, "{name}: {relative}");
                let far = values.iter().filter(|x| f64::from(x.abs()) > 2.0 / 128f64.sqrt());
                let share = far.count() as f64 / values.len() as f64;
                assert!((share - 0.0455).abs() < 0.005, "{name}: {share} beyond two deviations");
            }
        }
    }
}
