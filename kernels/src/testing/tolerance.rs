//! Comparison with an exact result.

/// The unit roundoff of f32, 2^-24: one rounding errs by at most this factor.
pub const U: f64 = 1.0 / (1 << 24) as f64;

/// The distance between neighbouring f32 where `x` lies: its unit in the last place. Zero and
/// denormals have the smallest denormal, 2^-149; whatever overflows has the unit of the largest f32.
pub fn ulp(x: f64) -> f64 {
    let exponent = match x.abs() {
        x if x >= 2f64.powi(127) => 127,
        x if x < 2f64.powi(-126) => -126,
        x => (x.to_bits() >> 52) as i32 - 1023,
    };
    2f64.powi(exponent - 23)
}

/// Compares results with exact ones and remembers the worst.
///
/// ```
/// use ferrite_kernels::testing::{Tolerance, ulp};
///
/// let mut square = Tolerance::new("square");
/// for x in [0.1f32, 3.3] {
///     let exact = f64::from(x) * f64::from(x);
///     square.check(x * x, exact, ulp(exact), || format!("x = {x}"));
/// }
/// assert!(square.finish() <= 0.5);
/// ```
#[derive(Debug)]
#[must_use = "the verdict is `finish`"]
pub struct Tolerance {
    name: String,
    /// The largest ratio of an error to its limit, and what it is about.
    worst: f64,
    case: String,
    checked: usize,
}

impl Tolerance {
    /// A comparison that calls itself `name` in its report.
    pub fn new(name: impl Into<String>) -> Tolerance {
        Tolerance { name: name.into(), worst: 0.0, case: String::new(), checked: 0 }
    }

    /// Compares one result with the exact one; `limit` is the largest error allowed. An `exact`
    /// that is NaN or infinite (or rounds to infinity) must be met exactly.
    pub fn check(&mut self, actual: f32, exact: f64, limit: f64, input: impl FnOnce() -> String) {
        self.checked += 1;
        let ratio = error_ratio(actual, exact, limit);
        if ratio > self.worst {
            self.worst = ratio;
            self.case = format!("{}: {actual:e} for {exact:e}", input());
        }
    }

    /// The worst error as a fraction of its limit.
    ///
    /// # Panics
    /// If any error exceeded its limit: the message has the worst one and its input.
    #[track_caller]
    pub fn finish(self) -> f64 {
        let Tolerance { name, worst, case, checked } = self;
        println!("{name}: {worst:.3} of the limit at worst ({case}), {checked} checked");
        assert!(worst <= 1.0, "{name}: {worst:.3} of the limit ({case})");
        worst
    }
}

/// |actual - exact| / limit; infinite where only one of them is finite or a number.
fn error_ratio(actual: f32, exact: f64, limit: f64) -> f64 {
    let rounded = exact as f32;
    if exact.is_nan() || actual.is_nan() {
        return if exact.is_nan() && actual.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if actual.is_infinite() || exact.is_infinite() {
        return if actual == rounded { 0.0 } else { f64::INFINITY };
    }
    match (f64::from(actual) - exact).abs() {
        0.0 => 0.0,
        error => error / limit,
    }
}

/// Checks that `f` is within `limit` ULP of `exact` for all `inputs`, and returns the worst error
/// in ULP.
///
/// # Panics
/// If it is not, with the worst input.
#[track_caller]
pub fn max_ulps(
    name: &str,
    limit: f64,
    results: impl IntoIterator<Item = (f32, f32)>,
    exact: impl Fn(f64) -> f64,
) -> f64 {
    let mut tolerance = Tolerance::new(name);
    for (x, y) in results {
        let exact = exact(f64::from(x));
        tolerance.check(y, exact, limit * ulp(exact), || format!("x = {x:e} ({:#x})", x.to_bits()));
    }
    tolerance.finish() * limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulp_is_the_distance_to_the_next_float() {
        for x in [1.0f32, 1.5, 0.999, 3e38, 1.2e-38, 1e-40, 1e-45, f32::MIN_POSITIVE] {
            let next = f32::from_bits(x.to_bits() + 1);
            assert_eq!(ulp(f64::from(x)), f64::from(next) - f64::from(x), "{x:e}");
            assert_eq!(ulp(f64::from(-x)), ulp(f64::from(x)), "{x:e}");
        }
        assert_eq!(ulp(0.0), 2f64.powi(-149));
        assert_eq!(ulp(1e300), ulp(f64::from(f32::MAX)));
    }

    #[test]
    fn an_error_within_its_limit_passes() {
        let mut tolerance = Tolerance::new("half");
        tolerance.check(1.0, 1.0 + 0.5 * U, U, String::new);
        tolerance.check(0.0, 0.0, 0.0, String::new);
        tolerance.check(f32::INFINITY, 1e40, 0.0, String::new);
        tolerance.check(f32::NAN, f64::NAN, 0.0, String::new);
        assert_eq!(tolerance.finish(), 0.5);
    }

    fn fails(actual: f32, exact: f64, limit: f64) -> bool {
        let mut tolerance = Tolerance::new("must fail");
        tolerance.check(actual, exact, limit, || "this input".into());
        std::panic::catch_unwind(|| tolerance.finish()).is_err()
    }

    #[test]
    fn whatever_is_wrong_fails() {
        assert!(fails(1.0, 1.0 + 1.01 * U, U));
        assert!(fails(1e-45, 0.0, 0.99 * ulp(0.0)));
        assert!(fails(f32::NAN, 1.0, 1e9));
        assert!(fails(1.0, f64::NAN, 1e9));
        assert!(fails(f32::INFINITY, 1.0, 1e300));
        assert!(fails(f32::INFINITY, f64::NEG_INFINITY, 1.0));
        assert!(fails(f32::MAX, f64::INFINITY, 1e300));
        assert!(fails(1.0, 1.0 + 1e-12, 0.0));
    }

    #[test]
    #[should_panic(expected = "x = 2e0")]
    fn the_worst_input_is_named() {
        max_ulps("identity", 1.0, [(1.0, 1.000_001), (2.0, 2.1), (3.0, 3.0)], |x| x);
    }
}
