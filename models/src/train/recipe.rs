//! What decides about the results of a run, so that one that goes on can be held to it.

use ferrite_kernels::Arithmetic;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{OptimizerOptions, TrainerOptions};

/// The settings that runs of every task have.
pub(super) fn common(
    arithmetic: Arithmetic,
    config: &impl Serialize,
    trainer: &TrainerOptions,
    accumulate: usize,
) -> Map<String, Value> {
    // Label smoothing is the business of the tasks that have any.
    let TrainerOptions { optimizer, schedule, seed, label_smoothing: _ } = trainer;
    let OptimizerOptions { adamw, max_norm } = optimizer;
    let value = json!({
        "level": arithmetic.level().name(),
        "precision": arithmetic.precision().name(),
        "config": serde_json::to_value(config).expect("strings and numbers"),
        "optimizer": {
            "beta1": adamw.beta1,
            "beta2": adamw.beta2,
            "epsilon": adamw.epsilon,
            "weight_decay": adamw.weight_decay,
            "bias_correction": adamw.bias_correction,
            "max_norm": max_norm,
        },
        "schedule": schedule,
        "seed": seed,
        "accumulate": accumulate,
    });
    match value {
        Value::Object(settings) => settings,
        _ => unreachable!("it is an object"),
    }
}

/// The name of the first setting that differs, such as `schedule.total`, as it was and as it is.
pub(super) fn difference(saved: &Value, now: &Value) -> Option<(String, String, String)> {
    let Value::Object(settings) = now else {
        let differ = saved != now;
        return differ.then(|| (String::new(), saved.to_string(), now.to_string()));
    };
    // What was there and is not now counts, too.
    let gone = saved.as_object().into_iter().flatten().map(|(name, _)| name);
    let mut names: Vec<&String> = settings.keys().chain(gone).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().find_map(|name| {
        let (inner, saved, now) = difference(&saved[name], &now[name])?;
        let dot = if inner.is_empty() { "" } else { "." };
        Some((format!("{name}{dot}{inner}"), saved, now))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_with_its_place() {
        let saved = json!({"a": 1, "b": {"c": [1, 2], "d": 0.1}, "e": "x"});
        assert_eq!(difference(&saved, &saved), None);
        for (now, expected) in [
            (json!({"a": 1, "b": {"c": [1, 3], "d": 0.1}, "e": "x"}), ("b.c", "[1,2]", "[1,3]")),
            (json!({"a": 1, "b": {"c": [1, 2]}, "e": "y"}), ("b.d", "0.1", "null")),
            (json!({"a": 1, "b": 7, "e": "x"}), ("b", "{\"c\":[1,2],\"d\":0.1}", "7")),
            (json!({"a": 1, "b": {"c": [1, 2], "d": 0.1}, "e": {"f": 2}}), ("e.f", "null", "2")),
        ] {
            let (name, saved, now) = difference(&saved, &now).unwrap();
            assert_eq!((&*name, &*saved, &*now), expected);
        }
        assert_eq!(difference(&Value::Null, &json!({"a": 1})).unwrap().0, "a");
    }
}
