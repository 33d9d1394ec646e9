//! A model's name, and the folder it stands for.

use std::path::PathBuf;

use ferrite_models::hub::{HubEvent, HubOptions, resolve};

use crate::console::Console;
use crate::outcome::Failure;

/// The model that embeds, tokenizes and is looked at if no other is named.
pub(crate) const SENTENCES: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// The model that fills masks if no other is named.
pub(crate) const WORDS: &str = "google-bert/bert-base-uncased";

const ADVICE: &str = "Any folder will do that has config.json, model.safetensors, and \
                      tokenizer.json or vocab.txt: --model DIR";

/// The folder of a model: itself, or one in the hub's cache, downloaded if need be.
pub(crate) fn resolve_model(name: &str, console: &Console) -> Result<PathBuf, Failure> {
    let mut progress = None;
    let mut notify = |event: HubEvent<'_>| match event {
        HubEvent::Message(text) => {
            progress = None;
            console.note(text);
        }
        HubEvent::Progress { file, done, total } => progress
            .get_or_insert_with(|| console.download(Some(total)))
            .update_download(file, done, total),
        _ => {}
    };
    resolve(name, &HubOptions::from_env(), &mut notify)
        .map_err(|error| Failure::Model(format!("--model {name}: {error}\n{ADVICE}")))
}
