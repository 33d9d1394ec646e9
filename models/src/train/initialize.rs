//! Parameters that have learnt nothing yet.

use ferrite_layers::sinusoidal;
use rayon::prelude::*;

use crate::bert::{BertConfig, Parameters, Part};
use crate::data::{Purpose, Random};

/// The parameters that BERT begins with: weights and tables from a normal distribution of standard
/// deviation `initializer_range`, drawn again beyond two of them (the reference's truncated normal);
/// biases zero, norms γ = 1 and β = 0. Each tensor has random numbers of its own, so that it does
/// not depend on what else a model has; the same on every machine.
pub fn initialize(config: &BertConfig, parts: &[Part], seed: u64) -> Parameters {
    let mut parameters = Parameters::zeros(config, parts);
    let tensors = parameters.tensors().to_vec();
    let (mut rest, mut done) = (parameters.values_mut(), 0);
    let pieces = tensors.iter().map(|tensor| {
        let (_, others) = std::mem::take(&mut rest).split_at_mut(tensor.range.start - done);
        let (values, others) = others.split_at_mut(tensor.range.len());
        (rest, done) = (others, tensor.range.end);
        (tensor, values)
    });
    pieces.collect::<Vec<_>>().into_par_iter().for_each(|(tensor, values)| {
        if tensor.name.ends_with("LayerNorm.weight") {
            values.fill(1.0);
        } else if tensor.decays() {
            let mut random = Random::new(seed, Purpose::Weights, 0, name_hash(&tensor.name));
            values.fill_with(|| config.initializer_range * truncated_normal(&mut random));
        }
    });
    parameters
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
    let table = sinusoidal(tensor.shape[0], tensor.shape[1]);
    let values = &mut parameters.values_mut()[tensor.range];
    values.iter_mut().zip(table.as_slice()).for_each(|(value, &sine)| *value = scale * sine);
}

/// A number of the standard normal distribution within two standard deviations, by rejection: what
/// is returned was drawn, not computed, so a library's last bit cannot change it.
fn truncated_normal(random: &mut Random) -> f32 {
    loop {
        let x = 4.0 * random.fraction() - 2.0;
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
}
