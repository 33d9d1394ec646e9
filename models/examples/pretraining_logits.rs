//! What a model that was pre-trained makes of texts: ids, and the scores of both heads.
//!
//! ```sh
//! cargo run --release -p ferrite-models --example pretraining_logits -- my-bert < texts.jsonl
//! ```
//!
//! Reads lines `{"text": ..., "pair": ...}`, the pair optional; writes for each a line with it, its
//! `ids` and `type_ids`, `words`, a row of scores for each token, and `next`, the two scores of the
//! next sentence; all before softmax. What does not fit the model's positions is cut off.

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};

use ferrite_models::bert::{Batch, Bert, Workspace};
use ferrite_models::tokenizer::{EncodeOptions, Tokenizer, Truncation};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("give the folder of a model")?;
    let bert = Bert::from_pretrained(&folder)?;
    let tokenizer = Tokenizer::from_pretrained(&folder)?;
    let (Some(words), Some(next)) = (bert.masked_lm(), bert.next_sentence()) else {
        return Err("the model has not both heads of pre-training".into());
    };
    let limit = bert.config().max_position_embeddings;
    let options =
        EncodeOptions { truncation: Some(Truncation::new(limit)), ..EncodeOptions::default() };
    let (mut batch, mut workspace) = (Batch::default(), Workspace::default());
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        let mut line: Value = serde_json::from_str(&line?)?;
        let text = line["text"].as_str().ok_or("a line without a text")?;
        let encoding = tokenizer.encode(text, line["pair"].as_str(), &options)?;
        batch.clear();
        batch.push(&encoding.ids, Some(&encoding.type_ids));
        let hidden = bert.encode(&batch, &mut workspace)?;
        let scores = words.forward(hidden);
        let rows: Vec<&[f32]> = (0..scores.rows()).map(|row| scores.row(row)).collect();
        let pooled = bert.pool(&batch, hidden).ok_or("the model has no pooler")?;
        line["ids"] = json!(encoding.ids);
        line["type_ids"] = json!(encoding.type_ids);
        line["words"] = json!(rows);
        line["next"] = json!(next.forward(pooled.view()).row(0));
        writeln!(out, "{line}")?;
    }
    Ok(())
}
