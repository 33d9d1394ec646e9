//! The learning rate of each step.

use serde::{Deserialize, Serialize};

/// How the rate falls after the warm-up. In both shapes it rises in equal steps from zero, and the
/// first step of all has the rate zero: it only moves the means of the optimizer.
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
}

/// A warm-up, and then a decay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f32,
    /// The steps of the warm-up.
    pub warmup: u64,
    /// The steps of all of the training.
    pub total: u64,
    /// How the rate falls.
    pub shape: ScheduleShape,
}

impl Schedule {
    /// The rate of step `step`, counted from 0; beyond the last zero, or the peak of a constant one.
    pub fn at(&self, step: u64) -> f32 {
        let (done, warmup, total) = (step as f64, self.warmup as f64, self.total as f64);
        let fraction = if step < self.warmup {
            done / warmup
        } else {
            match self.shape {
                ScheduleShape::Linear => (total - done).max(0.0) / (total - warmup).max(1.0),
                ScheduleShape::Google => (1.0 - done / total.max(1.0)).max(0.0),
                ScheduleShape::Constant => 1.0,
            }
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
    fn degenerate_lengths_give_finite_rates() {
        for shape in [ScheduleShape::Linear, ScheduleShape::Google, ScheduleShape::Constant] {
            for (warmup, total) in [(0, 0), (0, 1), (5, 3), (3, 3)] {
                let schedule = Schedule { peak: 1.0, warmup, total, shape };
                for step in 0..8 {
                    assert!((0.0..=1.0).contains(&schedule.at(step)), "{schedule:?} {step}");
                }
            }
        }
    }
}
