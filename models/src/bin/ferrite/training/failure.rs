//! What can be done about an error of a run.

use ferrite_models::data::DataError;
use ferrite_models::train::RunError;
use ferrite_models::train::store::StoreError;

use crate::outcome::Failure;

/// An error of the run, and what can be done about it.
pub(crate) fn failure(error: impl Into<RunError>) -> Failure {
    let error = error.into();
    let advice = match &error {
        RunError::AlreadyThere { .. } => "\n--resume goes on with it; or take another --out.",
        RunError::ModelThere { .. } => "\nTake another --out.",
        RunError::OtherRecipe { setting, .. } if setting == "level" => {
            "\nFERRITE_LEVEL asks for the one that it was begun with, if the machine has it."
        }
        RunError::OtherRecipe { setting, .. } if setting.starts_with("held_out") => {
            "\nGive the held-out data that it was begun with."
        }
        RunError::OtherRecipe { .. } => "\nGive the options that it was begun with.",
        RunError::Data(DataError::OtherData { .. }) => {
            "\nGive the texts and the vocabulary that it was begun with."
        }
        RunError::Data(DataError::NoDocuments { .. } | DataError::NoInstances { .. }) => {
            "\nGive files with text."
        }
        RunError::Data(DataError::EmptyPart { .. }) => {
            "\nA larger --held-out helps, or more documents: blank lines, or files, end them."
        }
        RunError::Data(DataError::EmptyPairs { .. }) => {
            "\nA larger --held-out helps, or more pairs, or a file of others for --held-out."
        }
        RunError::Store(StoreError::NoneWhole { .. }) => "\nTake another --out to begin anew.",
        RunError::NothingToResume { .. } => "\nWithout --resume a new run begins.",
        RunError::Diverged { .. } => "\nA lower --rate or a longer --warmup helps, in a new run.",
        _ => "",
    };
    Failure::Other(format!("{error}{advice}"))
}
