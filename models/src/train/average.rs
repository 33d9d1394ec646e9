//! The mean of the parameters that a run had at several of its last steps.
//!
//! "For the base models, we used a single model obtained by averaging the last 5 checkpoints, which
//! were written at 10-minute intervals" (Vaswani et al. 2017, section 6.1). Minutes depend on the
//! machine, so here the intervals are steps, counted back from the last one; and the parameters are
//! kept by themselves, in `snapshots/`, so that checkpoints that are saved when a run is stopped do
//! not change the result.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::folder::{CHECKPOINTS, SNAPSHOTS};
use super::store::{self, StoreError};
use crate::data::DataError;
use crate::parameters::Parameters;

/// Which parameters the mean is taken of: those after the last step of the run, those `every` steps
/// before, and so on, `last` in all. Of a run that is not at its end yet, the latest that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Average {
    /// How many; at least 1.
    pub last: usize,
    /// Steps from one to the next; at least 1.
    pub every: u64,
}

impl Average {
    /// The steps after which a run of `total` steps that has come to `step` has parameters of the
    /// mean, ascending. What a run begins with is of no mean.
    fn steps(self, step: u64, total: u64) -> Vec<u64> {
        let older = |step: &u64| step.checked_sub(self.every).filter(|&step| step > 0);
        let newest = self.newest(step, total);
        let mut steps: Vec<u64> = std::iter::successors(newest, older).take(self.last).collect();
        steps.reverse();
        steps
    }

    /// The last of them.
    fn newest(self, step: u64, total: u64) -> Option<u64> {
        let until_due = if total >= step {
            (self.every - (total - step) % self.every) % self.every
        } else {
            (step - total) % self.every
        };
        step.checked_sub(until_due).filter(|&step| step > 0)
    }
}

/// The parameters of a run that a mean is taken of.
#[derive(Debug)]
pub(super) struct Snapshots {
    root: PathBuf,
    checkpoints: PathBuf,
    average: Average,
    total: u64,
}

const GROUP: &str = "model";

impl Snapshots {
    /// Those of a run of `total` steps in a folder.
    pub(super) fn new(folder: &Path, average: Average, total: u64) -> Result<Snapshots, DataError> {
        for (option, found) in
            [("average.last", average.last as u64), ("average.every", average.every)]
        {
            if found == 0 {
                let expected = "a number above 0";
                return Err(DataError::InvalidOption {
                    option,
                    expected,
                    found: found.to_string(),
                });
            }
        }
        let (root, checkpoints) = (folder.join(SNAPSHOTS), folder.join(CHECKPOINTS));
        Ok(Snapshots { root, checkpoints, average, total })
    }

    /// Removes what a run that has not come to a checkpoint has left: a new one may be another.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        store::clear(&self.root)
    }

    /// Keeps the parameters after `step` if they are of a mean. A run that is killed goes on from a
    /// checkpoint and takes the means of the steps behind it again: while there is one, none of those
    /// before goes but by [`Snapshots::prune`].
    pub(super) fn save(&self, step: u64, parameters: &Parameters) -> Result<(), StoreError> {
        if self.average.newest(step, self.total) != Some(step) {
            return Ok(());
        }
        let keep = match store::oldest(&self.checkpoints)? {
            Some(_) => usize::MAX,
            None => self.average.last,
        };
        let groups = [(GROUP, store::views(parameters))];
        store::save_last(&self.root, keep, step, &groups, &json!({}))?;
        Ok(())
    }

    /// Removes what is of no mean of any step from the oldest checkpoint on, when `saved` is safe.
    pub(super) fn prune(&self, saved: &Path) -> Result<(), StoreError> {
        let Some(oldest) = store::oldest(&self.checkpoints)? else { return Ok(()) };
        match self.average.steps(oldest, self.total).first() {
            Some(&first) => store::remove_before(&self.root, first, saved),
            None => Ok(()),
        }
    }

    /// The mean for a run that has come to `step`, with the shapes of `like`, and of how many
    /// parameters it is; nothing if there are none yet. Sums are of 64 bits and in the order of the
    /// steps.
    pub(super) fn mean(
        &self,
        step: u64,
        like: &Parameters,
    ) -> Result<Option<(Parameters, u64)>, StoreError> {
        let steps = self.average.steps(step, self.total);
        if steps.is_empty() {
            return Ok(None);
        }
        let all: Vec<_> =
            steps.iter().map(|&step| store::at(&self.root, step)).collect::<Result<_, _>>()?;
        let mut mean = like.zeros_like();
        let mut sums: Vec<f64> = Vec::new();
        for tensor in like.tensors() {
            let values = &mut mean.values_mut()[tensor.range.clone()];
            sums.clear();
            sums.resize(values.len(), 0.0);
            for one in &all {
                one.read(GROUP, &tensor.name, &tensor.shape, values)?;
                sums.iter_mut().zip(&*values).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            let count = all.len() as f64;
            values.iter_mut().zip(&sums).for_each(|(value, sum)| *value = (sum / count) as f32);
        }
        Ok(Some((mean, all.len() as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_a_mean_are_counted_back_from_the_last() {
        let naive = |average: Average, step: u64, total: u64| -> Vec<u64> {
            let is_due = |&one: &u64| total.abs_diff(one) % average.every == 0;
            let due: Vec<u64> = (1..=step).filter(is_due).collect();
            due[due.len().saturating_sub(average.last)..].to_vec()
        };
        for (last, every) in [(1, 1), (1, 4), (3, 1), (3, 4), (5, 7), (40, 3)] {
            let average = Average { last, every };
            for (step, total) in (0..30).flat_map(|step| (1..=25).map(move |total| (step, total))) {
                let expected = naive(average, step, total);
                assert_eq!(average.steps(step, total), expected, "{average:?} {step} {total}");
            }
        }
        assert_eq!(Average { last: 5, every: 10 }.steps(103, 103), [63, 73, 83, 93, 103]);
    }
}
