//! How the program ends.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use ferrite_models::Error;
use ferrite_models::train::replace_file;

/// An end with results. The numbers are the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Done = 0,
    /// Some lines were rejected.
    SomeRejected = 3,
    /// `inspect` found that the model is not valid.
    InvalidModel = 4,
    /// The user stopped it with Ctrl-C, and can go on.
    Interrupted = 130,
}

/// An end before the end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads the output any more. That is no fault.
    PipeClosed,
    /// Anything that no other variant is for.
    Other(String),
    /// Wrong use of the program.
    Usage(String),
    /// The model cannot be had, or is not valid.
    Model(String),
}

impl Failure {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::PipeClosed => 0,
            Failure::Other(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Model(_) => 4,
        }
    }

    /// What to tell the user.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Failure::PipeClosed => None,
            Failure::Other(message) | Failure::Usage(message) | Failure::Model(message) => {
                Some(message)
            }
        }
    }

    /// For `map_err`: what the system says of a file or a folder.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Failure + '_ {
        move |error| Failure::Other(format!("{}: {error}", path.display()))
    }

    /// For `map_err`: an error that says all there is to say.
    pub(crate) fn other(error: impl Display) -> Failure {
        Failure::Other(error.to_string())
    }

    /// For `map_err`: a model that was asked for as `name` cannot be loaded.
    pub(crate) fn model(name: &str) -> impl FnOnce(Error) -> Failure + '_ {
        move |error| {
            let advice = match &error {
                Error::NoHead { .. } => "Take a model that was trained to guess words, such as \
                     google-bert/bert-base-uncased."
                    .to_owned(),
                _ => format!("`ferrite inspect --model {name}` lists all that is wrong with it."),
            };
            Failure::Model(format!("{error}\n{advice}"))
        }
    }
}

/// Writes a file of text in place of one of its name, in one step.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), Failure> {
    replace_file(path, |file| file.write_all(text.as_bytes())).map_err(Failure::other)
}

/// Makes a folder to write to, and sees to it that none of these files is lost.
pub(crate) fn prepare<'a>(
    out: &Path,
    names: impl IntoIterator<Item = &'a str>,
    overwrite: bool,
) -> Result<(), Failure> {
    std::fs::create_dir_all(out).map_err(Failure::file(out))?;
    match names.into_iter().map(|name| out.join(name)).find(|path| path.exists()) {
        Some(path) if !overwrite => {
            let path = path.display();
            Err(Failure::Other(format!("{path} is already there (--overwrite replaces it)")))
        }
        _ => Ok(()),
    }
}
