//! Every level in turn.

use crate::Level;

/// The environment variable that names a level without which the tests must fail, such as
/// `avx512`: for machines that are known to have it.
pub const REQUIRE_LEVEL_VARIABLE: &str = "FERRITE_REQUIRE_LEVEL";

/// Runs `test` at every level this machine has, and prints which ran and which are missing.
///
/// # Panics
/// If the level named by [`REQUIRE_LEVEL_VARIABLE`] is missing.
pub fn for_each_level(mut test: impl FnMut(Level)) {
    let required = std::env::var(REQUIRE_LEVEL_VARIABLE).unwrap_or_default();
    let levels = Level::available();
    check_required(&required, &levels);
    for &level in &levels {
        test(level);
    }
    let names: Vec<_> = levels.iter().map(|level| level.name()).collect();
    println!("levels run: {names:?}; missing here: {:?}", Level::missing());
}

fn check_required(required: &str, levels: &[Level]) {
    let here = required.is_empty() || levels.iter().any(|level| level.name() == required);
    assert!(here, "{REQUIRE_LEVEL_VARIABLE}={required}, but this machine has only {levels:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_runs_once() {
        let mut ran = Vec::new();
        for_each_level(|level| ran.push(level));
        assert_eq!(ran, Level::available());
    }

    #[test]
    #[should_panic(expected = "has only")]
    fn a_missing_level_fails_where_it_is_required() {
        check_required("avx512", &Level::available()[..1]);
    }
}
