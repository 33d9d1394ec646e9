"""Time steps of pre-training BERT-base, Ferrite beside PyTorch, in one run.

    python training.py --ferrite target/release/training [--rounds 3] [--json FILE]

The same work on both sides: forward, backward, gradients clipped to a norm of one, AdamW; the
masked-LM head at the masked positions alone; dropout 0.1; no padding. PyTorch: scaled dot-product
attention, fused AdamW, bfloat16 by autocast. Rounds are taken in turn; a round's ratio is taken
within it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SHAPES = ["16x128", "6x384", "2x128"]
PRECISIONS = ["f32", "bf16"]
STEPS = 2


def pytorch(shape, precision, threads, steps):
    """Milliseconds of each step, and the loss of each."""
    import torch
    from transformers import BertConfig, BertForPreTraining

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    count, length = map(int, shape.split("x"))
    config = BertConfig(attn_implementation="sdpa")
    model = BertForPreTraining(config).train()
    exempt = lambda name: "bias" in name or "LayerNorm" in name
    named = list(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if not exempt(name)], "weight_decay": 0.01},
        {"params": [p for name, p in named if exempt(name)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, eps=1e-6, fused=True)
    tokens = count * length
    ids = (1000 + (7919 * torch.arange(tokens)) % 20_000).reshape(count, length)
    positions = torch.arange(3, length, 7)
    rows = (torch.arange(count)[:, None] * length + positions).flatten()
    targets = ids.flatten()[rows].clone()
    ids[:, positions] = 103
    following = torch.arange(count) % 2
    loss_of = torch.nn.functional.cross_entropy
    times, losses = [], []
    for step in range(steps + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            out = model.bert(input_ids=ids)
            hidden = out.last_hidden_state.reshape(tokens, -1)[rows]
            words = model.cls.predictions(hidden)
            pairs = model.cls.seq_relationship(out.pooler_output)
            loss = loss_of(words.float(), targets) + loss_of(pairs.float(), following)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if step > 0:
            times.append((time.perf_counter() - start) * 1e3)
    return times, losses


def child(arguments):
    times, losses = pytorch(arguments.shape, arguments.precision, arguments.threads, STEPS)
    print(json.dumps({"ms": times, "losses": losses}))


def run(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ferrite", default="target/release/training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--json")
    parser.add_argument("--shape", help="run PyTorch alone on this shape, in this process")
    parser.add_argument("--precision", default="f32")
    arguments = parser.parse_args()
    if arguments.shape:
        return child(arguments)
    results = []
    for precision in PRECISIONS:
        for shape in arguments.shapes.split(","):
            rounds = []
            for _ in range(arguments.rounds):
                threads = str(arguments.threads)
                common = ["--shape", shape, "--precision", precision, "--threads", threads]
                ours = run([arguments.ferrite, *common, "--steps", str(STEPS)], threads)
                theirs = run([sys.executable, __file__, *common], threads)
                rounds.append((min(ours["ms"]), min(theirs["ms"])))
            ours, theirs = (statistics.median(side) for side in zip(*rounds))
            ratio = statistics.median(b / a for a, b in rounds)
            results.append(
                {"precision": precision, "shape": shape, "ferrite_ms": ours, "pytorch_ms": theirs,
                 "ratio": ratio, "rounds": rounds}
            )
            print(f"{precision} {shape}: Ferrite {ours:.0f} ms, PyTorch {theirs:.0f} ms, x{ratio:.2f}",
                  flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
