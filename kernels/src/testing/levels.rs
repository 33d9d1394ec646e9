//! Every level in turn.

use crate::{Arithmetic, Level, Precision};

/// The environment variable that names a level without which the tests must fail, such as
/// `avx512`: for machines that are known to have it.
pub const REQUIRE_LEVEL_VARIABLE: &str = "FERRITE_REQUIRE_LEVEL";

/// Runs `test` at every level this machine has, but once for levels of the same lanes, which differ
/// in their products alone, and prints which ran and which are missing.
///
/// # Panics
/// If the level named by [`REQUIRE_LEVEL_VARIABLE`] is missing.
pub fn for_each_level(mut test: impl FnMut(Level)) {
    let required = std::env::var(REQUIRE_LEVEL_VARIABLE).unwrap_or_default();
    let mut levels = Level::available();
    check_required(&required, &levels);
    levels.dedup_by_key(|level| level.lanes());
    for &level in &levels {
        test(level);
    }
    let names: Vec<_> = levels.iter().map(|level| level.name()).collect();
    println!("levels run: {names:?}; missing here: {:?}", Level::missing());
}

/// Runs `test` with every kernel of products that this machine has, and prints which ran and which
/// levels are missing.
pub fn for_each_arithmetic(mut test: impl FnMut(Arithmetic)) {
    let all = Arithmetic::available();
    for &arithmetic in &all {
        test(arithmetic);
    }
    let names: Vec<_> = all.iter().map(|one| format!("{one} ({})", one.instruction())).collect();
    println!("products run: {names:?}; levels missing here: {:?}", Level::missing());
}

/// Every kernel of products that there is, but those of levels that this machine does not have and
/// that cannot be emulated. An emulated instruction takes a hundred thousand times as long: this is
/// for small models and few products.
pub fn all_arithmetics() -> Vec<Arithmetic> {
    let mut all = Arithmetic::available();
    all.extend(emulated_arithmetics());
    all
}

/// The kernels of the tile unit, if the machine does not have it but it can be emulated.
pub fn emulated_arithmetics() -> Vec<Arithmetic> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if Level::missing().contains(&"amx")
        && let Some(level) = Level::emulated_amx()
    {
        println!("levels emulated: [\"amx\"]");
        return Precision::ALL.map(|precision| Arithmetic::new(level, precision)).to_vec();
    }
    Vec::new()
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
        let lanes: Vec<_> = ran.iter().map(|level| level.lanes()).collect();
        let mut expected: Vec<_> = Level::available().iter().map(|level| level.lanes()).collect();
        expected.dedup();
        assert_eq!(lanes, expected);
    }

    #[test]
    #[should_panic(expected = "has only")]
    fn a_missing_level_fails_where_it_is_required() {
        check_required("avx512", &Level::available()[..1]);
    }
}
