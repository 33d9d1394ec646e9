"""Time the decoding of a Transformer-base, Ferrite beside CTranslate2, in one run.

    python decoding.py --ferrite target/release/decoding [--rounds 3] [--json FILE]

The same random weights (seeded, saved once) and sources on both sides, the end suppressed, so that
all targets have the same length: greedy search and a beam of 4, without length penalty, from token
ids to token ids, the encoder included. Rounds are taken in turn; a round's ratio is taken within it.
CTranslate2 has no bf16 on x86; Ferrite's is compared with its f32. What is said is compared as well:
the part of the tokens, place by place, that are the same on both sides.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAYERS, D_MODEL, HEADS, D_FF, VOCABULARY, POSITIONS = 6, 512, 8, 2048, 32_000, 1024
STEPS = 30
CASES = [(shape, beam) for shape in ("1x25", "32x25") for beam in (1, 4)]
PRECISIONS = {"f32": "float32", "bf16": "float32", "int8": "int8_float32"}
SPECIAL = ["<pad>", "<s>", "</s>"]


def tensors():
    """{name: array} of a Transformer-base, by the names that Marian and BART models have."""
    import numpy as np

    random = np.random.default_rng(0)
    found = {}

    def linear(name, outputs, inputs):
        limit = (6 / (outputs + inputs)) ** 0.5
        found[f"{name}.weight"] = random.uniform(-limit, limit, (outputs, inputs)).astype(np.float32)
        found[f"{name}.bias"] = random.normal(0, 0.02, outputs).astype(np.float32)

    def norm(name):
        found[f"{name}.weight"] = np.ones(D_MODEL, np.float32)
        found[f"{name}.bias"] = np.zeros(D_MODEL, np.float32)

    table = random.normal(0, D_MODEL**-0.5, (VOCABULARY, D_MODEL)).astype(np.float32)
    # CTranslate2 may choose these two, Ferrite never does: nobody will.
    table[:2] = 0
    found["model.shared.weight"] = table
    for side, attentions in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"])):
        for layer in range(LAYERS):
            name = f"model.{side}.layers.{layer}"
            for attention in attentions:
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    linear(f"{name}.{attention}.{part}", D_MODEL, D_MODEL)
                norm(f"{name}.{attention}_layer_norm")
            linear(f"{name}.fc1", D_FF, D_MODEL)
            linear(f"{name}.fc2", D_MODEL, D_FF)
            norm(f"{name}.final_layer_norm")
    return found


def positions():
    """Sines and cosines in turn, as the paper has them."""
    import numpy as np

    angles = np.arange(POSITIONS)[:, None] / 10_000 ** (np.arange(0, D_MODEL, 2) / D_MODEL)
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(POSITIONS, D_MODEL).astype(np.float32)


def write_models(folder):
    """Save the model for both, unless it is there already."""
    import ctranslate2
    from safetensors.numpy import save_file

    if (folder / "ctranslate2").exists():
        return
    weights = tensors()
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "transformer", "vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors")

    spec = ctranslate2.specs.TransformerSpec.from_config(LAYERS, HEADS, pre_norm=False)
    vocabulary = SPECIAL + [f"t{id}" for id in range(len(SPECIAL), VOCABULARY)]
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.unk_token, spec.config.decoder_start_token = "<pad>", "<s>"

    def linear(of, *names):
        import numpy as np

        of.weight = np.concatenate([weights[f"{name}.weight"] for name in names])
        of.bias = np.concatenate([weights[f"{name}.bias"] for name in names])

    def norm(of, name):
        of.gamma, of.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def attention(of, name, groups):
        for linear_of, group in zip(of.linear, groups):
            linear(linear_of, *(f"{name}.{part}" for part in group))
        norm(of.layer_norm, f"{name}_layer_norm")

    for side, of in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        embeddings = of.embeddings[0] if isinstance(of.embeddings, list) else of.embeddings
        embeddings.weight = weights["model.shared.weight"]
        of.position_encodings.encodings = positions()
        for index, layer in enumerate(of.layer):
            name = f"model.{side}.layers.{index}"
            attention(layer.self_attention, f"{name}.self_attn", [("q_proj", "k_proj", "v_proj"), ("out_proj",)])
            if side == "decoder":
                attention(layer.attention, f"{name}.encoder_attn", [("q_proj",), ("k_proj", "v_proj"), ("out_proj",)])
            linear(layer.ffn.linear_0, f"{name}.fc1")
            linear(layer.ffn.linear_1, f"{name}.fc2")
            norm(layer.ffn.layer_norm, f"{name}.final_layer_norm")
    spec.decoder.projection.weight = weights["model.shared.weight"]
    spec.validate()
    spec.optimize()
    (folder / "ctranslate2").mkdir()
    spec.save(str(folder / "ctranslate2"))


def ctranslate2_turn(folder, shape, beam, precision, threads, runs):
    """Milliseconds of each run, and the tokens."""
    import ctranslate2

    kind = PRECISIONS[precision]
    translator = ctranslate2.Translator(
        str(folder / "ctranslate2"), device="cpu", compute_type=kind, intra_threads=threads, inter_threads=1
    )
    count, length = map(int, shape.split("x"))
    ids = [3 + 7919 * i % (VOCABULARY - 3) for i in range(count * length)]
    sources = [[f"t{id}" for id in ids[i * length : (i + 1) * length]] for i in range(count)]
    times = []
    for run in range(runs + 1):
        start = time.perf_counter()
        found = translator.translate_batch(
            sources, beam_size=beam, length_penalty=0, min_decoding_length=STEPS, max_decoding_length=STEPS
        )
        if run > 0:
            times.append((time.perf_counter() - start) * 1e3)
    tokens = [[int(token[1:]) if token[0] == "t" else SPECIAL.index(token) for token in one.hypotheses[0]] for one in found]
    return {"ms": times, "tokens": tokens}


def run(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def agreement(ours, theirs):
    """The part of the tokens that are the same, place by place."""
    pairs = [pair for a, b in zip(ours["tokens"], theirs["tokens"]) for pair in zip(a, b)]
    return sum(a == b for a, b in pairs) / max(len(pairs), 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ferrite", default="target/release/decoding")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ferrite-peers" / "transformer-base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--json")
    parser.add_argument("--shape", help="run CTranslate2 alone on this shape, in this process")
    parser.add_argument("--beam", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.shape:
        precision = arguments.precisions
        turn = ctranslate2_turn(
            arguments.work, arguments.shape, arguments.beam, precision, arguments.threads, arguments.runs
        )
        return print(json.dumps(turn))
    write_models(arguments.work)
    results = []
    for precision in arguments.precisions.split(","):
        for shape, beam in CASES:
            rounds, same = [], []
            for _ in range(arguments.rounds):
                common = ["--shape", shape, "--beam", str(beam), "--threads", str(arguments.threads),
                          "--runs", str(arguments.runs)]
                ours = run([arguments.ferrite, "--model", str(arguments.work), "--steps", str(STEPS),
                            "--precision", precision, *common], arguments.threads)
                theirs = run([sys.executable, __file__, "--work", str(arguments.work), "--precisions", precision,
                              *common], arguments.threads)
                rounds.append((min(ours["ms"]), min(theirs["ms"])))
                same.append(agreement(ours, theirs))
            ours, theirs = (statistics.median(side) for side in zip(*rounds))
            ratio = statistics.median(b / a for a, b in rounds)
            tokens = STEPS * int(shape.split("x")[0])
            results.append(
                {"precision": precision, "peer": PRECISIONS[precision], "shape": shape, "beam": beam,
                 "ferrite_ms": ours, "ctranslate2_ms": theirs, "ratio": ratio, "same_tokens": min(same),
                 "rounds": rounds}
            )
            print(f"{precision} {shape} beam {beam}: Ferrite {ours:.1f} ms ({tokens / ours * 1e3:.0f} tokens/s), "
                  f"CTranslate2 {PRECISIONS[precision]} {theirs:.1f} ms, x{ratio:.2f}, "
                  f"{min(same):.1%} of the tokens the same", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
