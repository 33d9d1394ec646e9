"""Write the small seeded BERTs and the numbers PyTorch computes with them.

    python dump.py [OUT_DIR]        (default: the directory of this script)

Each case is a folder laid out as `transformers` or `sentence-transformers`
publish models, plus an `expected.safetensors` with what the same f32 weights
give in f64. README.md describes the cases and the names of the tensors.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    BertTokenizer,
)

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = """the a of and to in is was it on cat dog bird fish sat ran ate mat tree house river
stone red blue green small old new one two three we you she he they said saw not over under
##s ##ed ##ing ##er ##est ##ly""".split()
PUNCTUATION = list(".,?!-'")

# (first text, second text or None): the encoded sequences that carry their text along.
TEXTS = [
    ("the cat sat on the mat .", None),
    ("The OLD dog ran under trees, not over it!", None),
    ("she said [MASK] saw a small bird", "they [MASK] not"),
    ("a river", "two stones and three older houses in the green tree ?"),
]
# Lengths of the sequences of random ids, and of the random pairs (with their first part).
LENGTHS = [1, 2, 17, 64]
PAIR_LENGTHS = [(5, 2), (17, 9), (64, 30)]
LONGEST = 64


def vocabulary():
    """The tokens of the tiny WordPiece vocabulary, in id order."""
    letters = list(LETTERS) + ["##" + letter for letter in LETTERS]
    words = [word for word in WORDS if word not in letters]
    return SPECIALS + PUNCTUATION + letters + words


def randomise(model, seed):
    """Draw every parameter anew, LayerNorm gains, biases and the pad row included.

    A fresh `transformers` model has zero biases and unit gains, so that a
    forgotten bias would go unseen.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = 0.2 * torch.randn(parameter.shape, generator=generator)
        gain = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        parameter.data.copy_(noise + gain)
    return model.eval()


def config(vocab_size, **changes):
    """The configuration shared by the cases, but for `changes`."""
    fields = dict(
        vocab_size=vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=LONGEST,
        initializer_range=0.2,
        attn_implementation="eager",
    )
    return BertConfig(**(fields | changes))


def write_vocabulary(folder):
    """Write `vocab.txt`."""
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")


def write_json(path, value):
    """Write `value` indented, as the published folders do."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def bert_tokenizer():
    """The tokenizer of the tiny vocabulary, as `transformers` builds it."""
    ids = {token: i for i, token in enumerate(vocabulary())}
    return BertTokenizer(vocab=ids, model_max_length=LONGEST)


def sequences(vocab_size, seed):
    """Inputs of every case: a list of dicts with `ids`, `type_ids`, `text`, `pair`.

    First the encoded TEXTS, then random ids of LENGTHS with segment 0, then
    random ids of PAIR_LENGTHS whose rest is segment 1.
    """
    tokenizer = bert_tokenizer()
    inputs = []
    for text, pair in TEXTS:
        encoded = tokenizer(text, pair)
        inputs.append(dict(ids=encoded["input_ids"], type_ids=encoded["token_type_ids"], text=text, pair=pair))
    generator = torch.Generator().manual_seed(seed)
    for length, first in [(n, n) for n in LENGTHS] + PAIR_LENGTHS:
        ids = torch.randint(0, vocab_size, (length,), generator=generator).tolist()
        inputs.append(dict(ids=ids, type_ids=[0] * first + [1] * (length - first), text=None, pair=None))
    return inputs


def forward(model, sequence):
    """Run one sequence without padding; return {name: tensor} of what the model gives."""
    batch = {
        "input_ids": torch.tensor([sequence["ids"]]),
        "token_type_ids": torch.tensor([sequence["type_ids"]]),
        "attention_mask": torch.ones(1, len(sequence["ids"]), dtype=torch.long),
    }
    with torch.inference_mode():
        encoder = getattr(model, "bert", model)
        encoded = encoder(**batch, output_hidden_states=True, output_attentions=True)
        out = {f"hidden.{layer}": h[0] for layer, h in enumerate(encoded.hidden_states)}
        out |= {f"attentions.{layer}": a[0] for layer, a in enumerate(encoded.attentions)}
        if encoded.pooler_output is not None:
            out["pooler"] = encoded.pooler_output[0]
        if isinstance(model, BertForPreTraining):
            heads = model(**batch)
            out["mlm"] = heads.prediction_logits[0]
            out["nsp"] = heads.seq_relationship_logits[0]
        elif isinstance(model, BertForMaskedLM):
            out["mlm"] = model(**batch).logits[0]
    return out


def expected(model, inputs):
    """All outputs in f64, and the largest f32 error of the same model by kind of output.

    Attention maps are kept for the sequences of 17 tokens alone: they would
    make up most of the file otherwise.
    """
    arrays, texts, f32_error = {}, {}, {}
    narrow = [forward(model, sequence) for sequence in inputs]
    model.double()
    for n, (sequence, approximate) in enumerate(zip(inputs, narrow)):
        arrays[f"ids.{n}"] = np.array(sequence["ids"], dtype=np.int64)
        arrays[f"type_ids.{n}"] = np.array(sequence["type_ids"], dtype=np.int64)
        if sequence["text"] is not None:
            texts[str(n)] = [sequence["text"], sequence["pair"]]
        for name, exact in forward(model, sequence).items():
            kind = name.split(".")[0]
            error = (exact - approximate[name].double()).abs().max().item()
            f32_error[kind] = max(error, f32_error.get(kind, 0.0))
            if kind != "attentions" or len(sequence["ids"]) == 17:
                arrays[f"{name}.{n}"] = exact.numpy()
    return arrays, texts, f32_error


def save_expected(folder, arrays, texts, f32_error):
    """Write `expected.safetensors`; one metadata entry, since several have no stable order."""
    sequences = sum(name.startswith("ids.") for name in arrays)
    info = dict(sequences=sequences, texts=texts, pytorch_f32_max_error=f32_error)
    save_arrays(arrays, folder / "expected.safetensors", {"info": json.dumps(info)})


def write_expected(folder, model, seed):
    """Write `expected.safetensors` and say how far PyTorch's own f32 is from it."""
    inputs = sequences(len(vocabulary()), seed)
    arrays, texts, f32_error = expected(model, inputs)
    save_expected(folder, arrays, texts, f32_error)
    largest = max(np.abs(a).max() for a in arrays.values() if a.dtype == np.float64)
    print(f"{folder.name}: largest value {largest:.2f}, PyTorch f32 max error", f32_error)


def fresh(out, name):
    """An empty folder `out/name`."""
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def pretraining(out):
    """Case a: all heads, exact GELU, prefix `bert.`, tied decoder dropped."""
    folder = fresh(out, "a-pretraining")
    model = randomise(BertForPreTraining(config(len(vocabulary()))), seed=6)
    model.save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    write_vocabulary(folder)
    write_expected(folder, model, seed=11)


def base(out):
    """Case b: the bare encoder without prefix, tanh GELU, sizes that no vector length divides.

    The embedding table has five rows more than the vocabulary has tokens, and
    `tokenizer.json` is of the older kind: BertProcessing, with fixed padding
    and truncation left in it.
    """
    folder = fresh(out, "b-base")
    sizes = dict(hidden_size=36, num_attention_heads=3, intermediate_size=50, hidden_act="gelu_new")
    model = randomise(BertModel(config(len(vocabulary()) + 5, **sizes)), seed=2)
    model.save_pretrained(folder)
    write_vocabulary(folder)
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocabulary())}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding(length=32)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_expected(folder, model, seed=12)


def masked_lm(out):
    """Case c: the masked-LM head alone, no pooler, ReLU, in shards, `vocab.txt` alone."""
    folder = fresh(out, "c-masked-lm-sharded")
    model = randomise(BertForMaskedLM(config(len(vocabulary()), hidden_act="relu")), seed=7)
    model.save_pretrained(folder, max_shard_size="40KB")
    write_vocabulary(folder)
    write_expected(folder, model, seed=13)


def old_names(out):
    """Case d: the weights of case a as old checkpoints have them.

    LayerNorm.gamma/beta, the position_ids buffer, the tied decoder written
    out, and a configuration with the keys of that time. What it must give is
    case a's `expected.safetensors`, so it has none of its own.
    """
    folder = fresh(out, "d-old-names")
    weights = load_file(out / "a-pretraining" / "model.safetensors")
    weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"].clone()
    weights["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"].clone()
    weights["bert.embeddings.position_ids"] = torch.arange(LONGEST)[None].contiguous()
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in weights.items()
    }
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    old_config = {
        "architectures": ["BertForPreTraining"],
        "attention_probs_dropout_prob": 0.1,
        "directionality": "bidi",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 32,
        "initializer_range": 0.2,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": LONGEST,
        "model_type": "bert",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "pooler_type": "first_token_transform",
        "type_vocab_size": 2,
        "vocab_size": len(vocabulary()),
    }
    write_json(folder / "config.json", old_config)
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True})
    write_vocabulary(folder)
    check_old_names(out, folder)


def check_old_names(out, folder):
    """`transformers` must read case d as case a."""
    new = BertForPreTraining.from_pretrained(out / "a-pretraining").state_dict()
    old = BertForPreTraining.from_pretrained(folder).state_dict()
    assert new.keys() == old.keys()
    assert all(torch.equal(new[name], old[name]) for name in new)


SENTENCES = [
    "the cat sat on the mat",
    "two older birds",
    "",
    "   ",
    "fish",
    "she saw the small red stone under the tree and said it was not the blue one of the old house",
]
SENTENCE_LIMIT = 16


def sentence_transformer(out, name, seed, pooling_config, normalise, new_format):
    """Cases e: an encoder with pooling modules, and the embeddings of SENTENCES.

    `new_format` lets sentence-transformers write the folder as it does today;
    otherwise the module files are the ones of its first years, which most
    published models have.
    """
    folder = fresh(out, name)
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    sizes["max_position_embeddings"] = 24
    # A missing pooler would be drawn at random by the loading and then saved.
    encoder = randomise(BertModel(config(len(vocabulary()), **sizes), add_pooling_layer=new_format), seed)
    encoder.save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    write_vocabulary(folder)
    modules = ["Transformer", "Pooling"] + ["Normalize"] * normalise
    paths = ["", "1_Pooling", "2_Normalize"]
    prefix = "sentence_transformers.models."
    listed = [dict(idx=i, name=str(i), path=paths[i], type=prefix + m) for i, m in enumerate(modules)]
    write_json(folder / "modules.json", listed)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": SENTENCE_LIMIT, "do_lower_case": False})
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", pooling_config)
    model = SentenceTransformer(str(folder), device="cpu")
    if new_format:
        fresh(out, name)
        model.save(str(folder), create_model_card=False)
        write_vocabulary(folder)
    write_sentences(folder, SentenceTransformer(str(folder), device="cpu"))


def write_sentences(folder, model):
    """Write the embeddings of SENTENCES, each computed alone, in f64."""
    single = {"convert_to_tensor": True, "show_progress_bar": False}
    narrow = [model.encode(text, **single) for text in SENTENCES]
    model.double()
    arrays, worst = {}, 0.0
    for n, text in enumerate(SENTENCES):
        exact = model.encode(text, **single)
        assert exact.dtype == torch.float64
        ids = model.tokenizer(text, truncation=True, max_length=SENTENCE_LIMIT)["input_ids"]
        worst = max(worst, (exact - narrow[n].double()).abs().max().item())
        arrays[f"ids.{n}"] = np.array(ids, dtype=np.int64)
        arrays[f"embedding.{n}"] = exact.numpy()
    texts = {str(n): [text, None] for n, text in enumerate(SENTENCES)}
    save_expected(folder, arrays, texts, {"embedding": worst})
    print(f"{folder.name}: PyTorch f32 max error {worst:.2e}")


def old_pooling(mode):
    """`1_Pooling/config.json` of the early format, with one mode on."""
    modes = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"]
    return {"word_embedding_dimension": 16} | {f"pooling_mode_{m}": m == mode for m in modes}


def main():
    """Write all cases under the directory given, or next to this script."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    torch.set_num_threads(1)
    pretraining(out)
    base(out)
    masked_lm(out)
    old_names(out)
    sentence_transformer(out, "e-cls", 4, old_pooling("cls_token"), normalise=False, new_format=False)
    sentence_transformer(out, "e-max", 5, old_pooling("max_tokens"), normalise=True, new_format=True)


if __name__ == "__main__":
    main()
