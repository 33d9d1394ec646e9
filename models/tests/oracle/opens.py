"""Open a folder that `ferrite pretrain` wrote with transformers, and compare what both make of texts.

    python opens.py > pairs.jsonl
    cargo run --release -p ferrite-models --example pretraining_logits -- FOLDER < pairs.jsonl > ferrite.jsonl
    python opens.py FOLDER ferrite.jsonl

Without arguments it writes texts: every eighth of texts.jsonl, every third of those with the next as its
pair. With a folder and Ferrite's numbers it loads the model as itself and as a part of it, and the
tokenizer, and prints the largest difference of the scores to those in f64, beside PyTorch's own in
f32. It ends with 1 if an id differs, a tensor is missing or left over, or a score is off by more than
1e-4.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertForPreTraining,
    BertTokenizerFast,
    logging,
)

HERE = Path(__file__).parent
TOLERANCE = 1e-4


def write_texts():
    """Write the texts as the example reads them."""
    lines = (HERE / "texts.jsonl").read_text(encoding="utf-8").split("\n")
    texts = [json.loads(line)["text"] for line in lines if line][::8]
    for number, text in enumerate(texts):
        line, pair = {"text": text}, texts[(number + 1) % len(texts)]
        # To transformers an empty pair is none; to the tokenizers below it and to Ferrite it is one.
        if number % 3 == 0 and pair:
            line["pair"] = pair
        print(json.dumps(line))


def load(kind, folder, **options):
    """A model, and a complaint for each tensor that it misses or does not know."""
    model, info = kind.from_pretrained(folder, output_loading_info=True, attn_implementation="eager", **options)
    named = {name: sorted(tensors) for name, tensors in info.items() if tensors}
    return model.eval(), named


def scores(model, line):
    """The scores of both heads for the ids of a line."""
    ids, types = torch.tensor([line["ids"]]), torch.tensor([line["type_ids"]])
    with torch.inference_mode():
        out = model(input_ids=ids, token_type_ids=types, attention_mask=torch.ones_like(ids))
    return out.prediction_logits[0].double(), out.seq_relationship_logits[0].double()


def compare(folder, lines):
    """Compare all lines; whether all is well."""
    well = True
    model, named = load(BertForPreTraining, folder, dtype=torch.float32)
    if named:
        print(f"BertForPreTraining: {named}")
        well = False
    for kind in (AutoModelForMaskedLM, AutoModel):
        # These have no use for a head; nothing of theirs may be missing.
        _, named = load(kind, folder, dtype=torch.float32)
        print(f"{kind.__name__}: missing {named.get('missing_keys', [])}")
        well &= not named.get("missing_keys")
    limit = model.config.max_position_embeddings
    for tokenizer in (BertTokenizerFast.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)):
        wrong = []
        for line in lines:
            pair = [line["pair"]] if "pair" in line else []
            theirs = tokenizer(line["text"], *pair, truncation="longest_first", max_length=limit)
            if (theirs["input_ids"], theirs["token_type_ids"]) != (line["ids"], line["type_ids"]):
                wrong.append(line["text"])
        print(f"{type(tokenizer).__name__}: {len(wrong)} of {len(lines)} texts with other ids {wrong[:3]}")
        well &= not wrong
    narrow = [scores(model, line) for line in lines]
    model = model.double()
    largest = {"Ferrite": [0.0, 0.0], "PyTorch f32": [0.0, 0.0]}
    size = 0.0
    for line, theirs in zip(lines, narrow):
        exact = scores(model, line)
        ours = [torch.tensor(line[name], dtype=torch.float64) for name in ("words", "next")]
        size = max(size, *(part.abs().max().item() for part in exact))
        for name, found in (("Ferrite", ours), ("PyTorch f32", theirs)):
            for part in range(2):
                difference = (found[part] - exact[part]).abs().max().item()
                largest[name][part] = max(largest[name][part], difference)
    print(f"{len(lines)} texts; scores up to {size:.3g}")
    for name, (words, following) in largest.items():
        print(f"{name}: words off by {words:.2g} at most, next sentences by {following:.2g}")
    return well and max(largest["Ferrite"]) <= TOLERANCE


def main():
    """Write texts, or compare."""
    if len(sys.argv) == 1:
        write_texts()
        return 0
    logging.set_verbosity_error()
    folder, numbers = sys.argv[1:]
    with open(numbers, encoding="utf-8") as file:
        return 0 if compare(folder, [json.loads(line) for line in file]) else 1


if __name__ == "__main__":
    sys.exit(main())
