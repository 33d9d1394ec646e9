//! A model's name, and the folder it stands for.

use std::path::PathBuf;

use ferrite_models::bert::Bert;
use ferrite_models::hub::{HubEvent, HubOptions, resolve};
use ferrite_models::tokenizer::Tokenizer;

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

/// Says what is odd about the files of a tokenizer.
pub(crate) fn warn(tokenizer: &Tokenizer, console: &Console) {
    tokenizer.warnings().iter().for_each(|warning| console.note(warning));
}

/// Rejects a pair that the model has no segment for: in a batch, it would take the others with it.
pub(crate) fn check_pair(bert: &Bert, pair: Option<&str>) -> Result<(), String> {
    match pair {
        Some(_) if bert.config().type_vocab_size < 2 => {
            Err("a pair, but the model has one segment only".to_owned())
        }
        _ => Ok(()),
    }
}
