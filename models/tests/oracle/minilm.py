"""Embed texts.jsonl with all-MiniLM-L6-v2 in f64, as sentence-transformers would.

    python minilm.py MODEL_DIR      writes minilm_embeddings.safetensors next to this script

One text at a time, without padding: tokenizer.json truncated at 256 tokens,
encoder, mean over the tokens, division by the L2 norm. It also says how far
PyTorch's own f32 is from the f64 numbers.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import BertModel

HERE = Path(__file__).parent


def read_texts():
    """The texts of texts.jsonl."""
    lines = (HERE / "texts.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line)["text"] for line in lines if line]


def token_ids(folder, texts):
    """Ids of each text, special tokens included, and how many needed truncation."""
    limit = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    encodings = [tokenizer.encode(text) for text in texts]
    truncated = sum(bool(encoding.overflowing) for encoding in encodings)
    return [encoding.ids for encoding in encodings], truncated


def embed(model, ids):
    """The unit-length mean of the last hidden states of one sequence."""
    batch = torch.tensor([ids])
    with torch.inference_mode():
        hidden = model(input_ids=batch, attention_mask=torch.ones_like(batch)).last_hidden_state[0]
        return torch.nn.functional.normalize(hidden.mean(0), dim=0)


def embed_all(model, sequences):
    """Embeddings of all sequences, [texts, hidden]."""
    return torch.stack([embed(model, ids) for ids in sequences])


def main():
    """Write the embeddings and print PyTorch's f32 errors."""
    folder = Path(sys.argv[1])
    sequences, truncated = token_ids(folder, read_texts())
    eager = BertModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    sdpa = BertModel.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32).eval()
    narrow = {"eager": embed_all(eager, sequences), "sdpa": embed_all(sdpa, sequences)}
    exact = embed_all(eager.double(), sequences)
    errors = {kind: (exact - e.double()).abs().max().item() for kind, e in narrow.items()}
    counts = [len(ids) for ids in sequences]
    arrays = {
        "embeddings": exact.numpy().astype(np.float32),
        "token_counts": np.array(counts, dtype=np.int64),
        "ids": np.array([i for ids in sequences for i in ids], dtype=np.int32),
    }
    save_file(arrays, HERE / "minilm_embeddings.safetensors", {"info": json.dumps({"pytorch_f32_max_error": errors})})
    print(f"{len(counts)} texts, {sum(counts)} tokens, {truncated} truncated; PyTorch f32 max error {errors}")


if __name__ == "__main__":
    main()
