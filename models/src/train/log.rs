//! What a run says of itself, one object of JSON a line.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::export::replace_file;
use super::{Chart, Curve, RunError, Scores, Task};

/// What a step gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord<S = Scores> {
    /// The number of the step, from 1.
    pub step: u64,
    /// The losses and accuracies before it.
    #[serde(flatten)]
    pub scores: S,
    /// The learning rate.
    pub rate: f32,
    /// The norm of the gradients; `null` in the file if it is infinite or not a number.
    pub norm: Option<f64>,
    /// Whether it was skipped, because a gradient was not finite.
    pub skipped: bool,
    /// The tokens of its batches.
    pub tokens: u64,
    /// How long it took.
    pub seconds: f64,
}

/// What a model makes of data that it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation<S = Scores> {
    /// After how many steps.
    pub step: u64,
    /// Of how many parameters the model has the mean, if it has that of several: see
    /// [`Average`](super::Average).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub averaged: Option<u64>,
    /// The losses and accuracies.
    pub held_out: S,
    /// e to the loss of a word: among how many words the model still has to choose.
    #[serde(deserialize_with = "null_is_nan")]
    pub perplexity: f64,
}

/// What is infinite or not a number is `null` in the file, and read as NaN.
pub(super) fn null_is_nan<'de, D: Deserializer<'de>>(json: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or(f64::NAN))
}

/// The file `log.jsonl` of a run.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// The step of the last evaluation in it, and of the last one of a mean.
    evaluated: [Option<u64>; 2],
}

impl Log {
    /// The log of a run that goes on after `step`, where what was written after it goes; that of a new
    /// run has nothing of another one.
    pub(super) fn open(path: &Path, step: Option<u64>) -> Result<Log, RunError> {
        let kept = match (step, File::open(path)) {
            (Some(step), Ok(file)) => lines_until(file, step).map_err(RunError::io(path))?,
            (Some(_), Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(RunError::io(path)(error));
            }
            _ => Vec::new(),
        };
        let evaluated = [false, true].map(|is_mean| {
            kept.iter().rev().find_map(|line| {
                let record: Value = serde_json::from_str(line).ok()?;
                let is_it = is_evaluation(&record) && record.get("averaged").is_some() == is_mean;
                record["step"].as_u64().filter(|_| is_it)
            })
        });
        replace_file(path, |file| kept.iter().try_for_each(|line| writeln!(file, "{line}")))?;
        let file = OpenOptions::new().append(true).open(path).map_err(RunError::io(path))?;
        Ok(Log { path: path.to_owned(), file, evaluated })
    }

    pub(super) fn write(&mut self, record: &impl Serialize) -> Result<(), RunError> {
        let mut line = serde_json::to_vec(record).expect("numbers");
        line.push(b'\n');
        self.file.write_all(&line).map_err(RunError::io(&self.path))
    }

    /// The same for an evaluation, if there is none of this step yet: a run that is complete may be
    /// evaluated again.
    pub(super) fn write_evaluation<S: Serialize>(
        &mut self,
        evaluation: &Evaluation<S>,
    ) -> Result<(), RunError> {
        let kind = usize::from(evaluation.averaged.is_some());
        if self.evaluated[kind] == Some(evaluation.step) {
            return Ok(());
        }
        self.write(evaluation)?;
        self.evaluated[kind] = Some(evaluation.step);
        Ok(())
    }

    /// Waits until what was written has arrived on the disk.
    pub(super) fn sync(&self) -> Result<(), RunError> {
        self.file.sync_all().map_err(RunError::io(&self.path))
    }

    /// The losses of all steps, and those of the evaluations, but for those of means.
    pub(super) fn chart<T: Task>(&self) -> Result<Chart, RunError> {
        let file = File::open(&self.path).map_err(RunError::io(&self.path))?;
        let (mut training, mut held_out) = (Vec::new(), Vec::new());
        for line in BufReader::new(file).lines() {
            let line = line.map_err(RunError::io(&self.path))?;
            if let Ok(record) = serde_json::from_str::<StepRecord<T::Scores>>(&line) {
                training.push((record.step as f64, T::loss(&record.scores)));
            } else if let Ok(record) = serde_json::from_str::<Evaluation<T::Scores>>(&line)
                && record.averaged.is_none()
            {
                held_out.push((record.step as f64, T::loss(&record.held_out)));
            }
        }
        let curve = |name: &str, points| Curve { name: name.to_owned(), points };
        Ok(Chart {
            title: T::TITLE.to_owned(),
            unit: T::UNIT.to_owned(),
            curves: vec![curve("training", training), curve("held out", held_out)],
        })
    }
}

fn is_evaluation(record: &Value) -> bool {
    record.get("held_out").is_some()
}

/// The lines of steps up to this one. A line that was cut off is none.
fn lines_until(file: File, step: u64) -> std::io::Result<Vec<String>> {
    let mut kept = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let Ok(line) = String::from_utf8(line?) else { continue };
        let Ok(Value::Object(record)) = serde_json::from_str(&line) else { continue };
        if record.get("step").and_then(Value::as_u64).is_some_and(|number| number <= step) {
            kept.push(line);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::pretraining::Pretraining;

    #[test]
    fn what_is_no_number_is_read_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(&folder.path().join("log.jsonl"), None).unwrap();
        let mut scores =
            Scores { masked_loss: 2.5, masked_accuracy: 0.5, next_loss: 0.7, next_accuracy: 0.5 };
        let mut record = StepRecord {
            step: 1,
            scores,
            rate: 0.1,
            norm: Some(1.0),
            skipped: false,
            tokens: 7,
            seconds: 0.5,
        };
        log.write(&record).unwrap();
        scores.masked_loss = f64::NAN;
        (scores.next_loss, scores.next_accuracy) = (f64::INFINITY, f64::NAN);
        record = StepRecord { step: 2, scores, norm: None, skipped: true, ..record };
        log.write(&record).unwrap();
        let evaluation =
            Evaluation { step: 2, averaged: None, held_out: scores, perplexity: f64::INFINITY };
        log.write_evaluation(&evaluation).unwrap();
        let text = std::fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let read: StepRecord = serde_json::from_str(lines[1]).unwrap();
        assert!(read.scores.masked_loss.is_nan() && read.scores.next_loss.is_nan());
        assert_eq!((read.step, read.scores.masked_accuracy, read.skipped), (2, 0.5, true));
        let read: Evaluation = serde_json::from_str(lines[2]).unwrap();
        assert!(read.perplexity.is_nan() && read.held_out.next_accuracy.is_nan());
        let points = |chart: &Chart| chart.curves.iter().map(|c| c.points.len()).sum::<usize>();
        let chart = log.chart::<Pretraining>().unwrap();
        assert_eq!(points(&chart), 3);
        assert!(!chart.to_svg().contains("NaN"));
        // A value that is missing is no value that is null.
        assert!(serde_json::from_str::<Evaluation>(r#"{"step": 1, "perplexity": 2.0}"#).is_err());
    }
}
