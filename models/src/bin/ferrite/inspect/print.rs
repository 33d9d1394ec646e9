//! The report of `ferrite inspect`, to be read.

use std::fmt::Write;

use ferrite_models::bert::BertConfig;

use super::cost::{Cost, ProductBytes};
use super::{Report, Sentence, Tensor, Vocabulary};
use crate::console::printable;

/// The whole report: what there is, then the tensors, and in the end what is wrong.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(out, "{name:<10} {}", printable(&value)).expect("a string takes everything");
    };
    line("folder", report.folder.display().to_string());
    if let Some(config) = &report.config {
        line("model", model(config));
        line("tables", tables(config));
    }
    if let (Some(parameters), Some(bytes)) = (report.parameters, report.bytes) {
        line("parts", report.parts.join(", "));
        line("weights", format!("{} parameters, {} bytes", count(parameters), count(bytes)));
    }
    if let Some(ProductBytes { f32, bf16, int8 }) = report.product_bytes {
        let [f32, bf16, int8] = [f32, bf16, int8].map(count);
        line("products", format!("read about {f32} bytes in f32, {bf16} in bf16, {int8} in int8"));
    }
    if let (Some(cost), Some(config)) = (&report.cost, &report.config) {
        costs(cost, config).into_iter().for_each(|(name, value)| line(name, value));
    }
    if let Some(Vocabulary { file, tokens, special }) = &report.tokenizer {
        let special = special.join(" ");
        line("tokenizer", format!("{} tokens from {file}, {special}", count(*tokens)));
    }
    if let Some(sentence) = &report.sentence {
        line("sentences", sentences(sentence));
    }
    let machine = &report.machine;
    let levels = machine.levels.join(", ");
    let plural = if machine.threads == 1 { "" } else { "s" };
    line("machine", format!("{} (of {levels}), {} thread{plural}", machine.level, machine.threads));
    if !report.tensors.is_empty() {
        line("tensors", tensor_counts(&report.tensors));
    }
    out.push_str(&tensors(&report.tensors));
    for (what, list) in [("warning", &report.warnings), ("fault", &report.faults)] {
        for entry in list {
            writeln!(out, "{what:<10} {}", printable(entry)).expect("a string takes everything");
        }
    }
    let verdict = match report.faults.len() {
        0 => "valid".to_owned(),
        1 => "not valid: 1 fault".to_owned(),
        n => format!("not valid: {n} faults"),
    };
    writeln!(out, "{:<10} {verdict}", "verdict").expect("a string takes everything");
    out
}

fn model(config: &BertConfig) -> String {
    format!(
        "{}, {} layers, width {}, {} heads of {}, feed-forward {} ({})",
        config.model_type,
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.head_size(),
        config.intermediate_size,
        serde_json::to_string(&config.hidden_act).unwrap_or_default().trim_matches('"'),
    )
}

fn tables(config: &BertConfig) -> String {
    format!(
        "{} words, {} positions, {} segments",
        count(config.vocab_size),
        config.max_position_embeddings,
        config.type_vocab_size
    )
}

fn costs(cost: &Cost, config: &BertConfig) -> Vec<(&'static str, String)> {
    let longest = config.max_position_embeddings;
    let mut lines = vec![
        ("cost", format!("{} FLOP a token in linear layers", count(cost.linear_flops_per_token))),
        (
            "",
            format!(
                "+ {} FLOP a token in attention, times the length of the sequence",
                count(cost.attention_flops_per_token_and_length)
            ),
        ),
        ("", format!("= {} FLOP a token at length {longest}", count(cost.per_token(longest)))),
    ];
    for (flops, what) in [
        (cost.pooler_flops_per_sequence, "sequence in the pooler and what is on it"),
        (cost.masked_lm_flops_per_mask, "mask in the masked-LM head"),
    ] {
        if flops > 0 {
            lines.push(("", format!("{} FLOP a {what}", count(flops))));
        }
    }
    lines
}

fn sentences(Sentence { pooling, normalize, max_length }: &Sentence) -> String {
    let normalize = if *normalize { "length 1" } else { "not normalised" };
    let limit = max_length.map_or(String::new(), |limit| format!(", at most {limit} tokens"));
    format!("{} of the tokens, {normalize}{limit}", pooling.join(" + "))
}

/// How many tensors had which fate.
fn tensor_counts(tensors: &[Tensor]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for tensor in tensors {
        match counts.iter_mut().find(|(fate, _)| *fate == tensor.fate) {
            Some((_, count)) => *count += 1,
            None => counts.push((tensor.fate, 1)),
        }
    }
    counts.iter().map(|(fate, count)| format!("{count} {fate}")).collect::<Vec<_>>().join(", ")
}

/// A line for each tensor, in columns.
fn tensors(tensors: &[Tensor]) -> String {
    let files: std::collections::BTreeSet<_> =
        tensors.iter().filter_map(|tensor| tensor.file.as_deref()).collect();
    let width = |column: &dyn Fn(&Tensor) -> usize| tensors.iter().map(column).max().unwrap_or(0);
    let shapes = width(&|tensor| format!("{:?}", tensor.shape).len());
    let names = width(&|tensor| printable(&tensor.name).chars().count());
    let mut out = String::new();
    for tensor in tensors {
        let shape = format!("{:?}", tensor.shape);
        let dtype = tensor.dtype.as_deref().unwrap_or("-");
        let file = match &tensor.file {
            Some(file) if files.len() > 1 => format!(" ({})", printable(file)),
            _ => String::new(),
        };
        writeln!(
            out,
            "  {dtype:<4} {shape:<shapes$}  {:<names$}  {}{file}",
            printable(&tensor.name),
            printable(&tensor.remark)
        )
        .expect("a string takes everything");
    }
    out
}

/// A number with its thousands set apart.
fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (22_713_216, "22,713,216")]
        {
            assert_eq!(count(number), text);
        }
    }
}
