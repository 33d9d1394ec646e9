//! The learning rate of each step.

use serde::{Deserialize, Serialize};

/// How the rate falls after the warm-up. In BERT's shapes it rises in equal steps from zero, and the
/// first step of all has the rate zero: it only moves the means of the optimizer. Without a warm-up the
/// first step has the peak, in any shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleShape {
    /// From the peak at the end of the warm-up to zero after the last step
    /// (`get_linear_schedule_with_warmup` of `transformers`).
    #[default]
    Linear,
    /// On the line from the peak before the first step to zero after the last, to which the warm-up
    /// jumps at its end (the reference code of BERT).
    Google,
    /// The peak from the end of the warm-up on.
    Constant,
    /// With the inverse square root of the step, counted from one: the last step of the warm-up has
    /// the peak, the first already a part of it (Attention Is All You Need, section 5.3).
    InverseSquareRoot,
}

/// A warm-up, and then a decay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f32,
    /// The steps of the warm-up; with 0 there is none.
    pub warmup: u64,
    /// The steps of all of the training.
    pub total: u64,
    /// How the rate falls.
    pub shape: ScheduleShape,
}

impl Schedule {
    /// That of Attention Is All You Need, section 5.3, for step s = 1, 2, ...:
    ///
    /// ```text
    /// rate = d_model^-0.5 min(s^-0.5, s warmup^-1.5)
    /// ```
    ///
    /// The paper has a warm-up of 4000 steps and 100,000 or 300,000 in all.
    pub fn transformer(d_model: usize, warmup: u64, total: u64) -> Schedule {
        let warmup = warmup.max(1);
        let peak = (d_model as f64 * warmup as f64).sqrt().recip() as f32;
        Schedule { peak, warmup, total, shape: ScheduleShape::InverseSquareRoot }
    }

    /// The rate of step `step`, counted from 0; beyond the last zero, or what the shape goes on with.
    pub fn at(&self, step: u64) -> f32 {
        let (done, warmup, total) = (step as f64, self.warmup as f64, self.total as f64);
        let fraction = match self.shape {
            ScheduleShape::InverseSquareRoot => {
                let (s, warmup) = (done + 1.0, warmup.max(1.0));
                (s / warmup).min((warmup / s).sqrt())
            }
            _ if step < self.warmup => done / warmup,
            ScheduleShape::Linear => (total - done).max(0.0) / (total - warmup).max(1.0),
            ScheduleShape::Google => (1.0 - done / total.max(1.0)).max(0.0),
            ScheduleShape::Constant => 1.0,
        };
        (f64::from(self.peak) * fraction) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(shape: ScheduleShape, warmup: u64) -> Vec<f32> {
        let schedule = Schedule { peak: 8.0, warmup, total: 8, shape };
        (0..10).map(|step| schedule.at(step)).collect()
    }

    #[test]
    fn shapes_are_the_published_ones() {
        let linear = [0.0, 2.0, 4.0, 6.0, 8.0, 6.0, 4.0, 2.0, 0.0, 0.0];
        assert_eq!(rates(ScheduleShape::Linear, 4), linear);
        let google = [0.0, 2.0, 4.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.0, 0.0];
        assert_eq!(rates(ScheduleShape::Google, 4), google);
        let constant = [0.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0];
        assert_eq!(rates(ScheduleShape::Constant, 2), constant);
    }

    #[test]
    fn without_a_warm_up_the_first_step_has_the_peak() {
        let linear = [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 0.0];
        assert_eq!(rates(ScheduleShape::Linear, 0), linear);
        assert_eq!(rates(ScheduleShape::Google, 0), linear);
        assert_eq!(rates(ScheduleShape::Constant, 0), [8.0; 10]);
        assert_eq!(
            rates(ScheduleShape::InverseSquareRoot, 0)[..4],
            [8.0, 5.656_854, 4.618_802, 4.0]
        );
    }

    #[test]
    fn the_transformers_schedule_is_the_papers() {
        let schedule = Schedule::transformer(512, 4000, 100_000);
        for s in [1u64, 2, 3999, 4000, 4001, 16_000, 99_999, 1_000_000] {
            let (step, warmup) = (s as f64, 4000f64);
            let expected = 512f64.powf(-0.5) * step.powf(-0.5).min(step * warmup.powf(-1.5));
            let rate = f64::from(schedule.at(s - 1));
            assert!((rate / expected - 1.0).abs() < 2e-7, "{s} {rate} {expected}");
        }
        assert_eq!(schedule.at(3999), schedule.peak);
    }

    #[test]
    fn degenerate_lengths_give_finite_rates() {
        for shape in [
            ScheduleShape::Linear,
            ScheduleShape::Google,
            ScheduleShape::Constant,
            ScheduleShape::InverseSquareRoot,
        ] {
            for (warmup, total) in [(0, 0), (0, 1), (5, 3), (3, 3)] {
                let schedule = Schedule { peak: 1.0, warmup, total, shape };
                for step in 0..8 {
                    assert!((0.0..=1.0).contains(&schedule.at(step)), "{schedule:?} {step}");
                }
            }
        }
    }
}
