"""Pre-train the same small BERT with Ferrite and with PyTorch, and compare what they reach.

    python rust_docs.py corpus.txt
    python pretraining.py --corpus corpus.txt --work DIR [--seeds 1,2,3] [--steps 400]

Four layers, 256 wide. Ferrite trains by its program; PyTorch gets the very batches that Ferrite
reads (`batches`), its own initial weights and dropout, and the same recipe: AdamW with bias
correction, epsilon 1e-6, decay 0.01 but for biases and norms, linear warm-up over a tenth and decay,
gradients clipped to a norm of one, dropout 0.1, f32. Both are scored on the same held-out batches.
Seeds change initial weights and dropout; what they change is the yardstick for the difference between
the programs.
"""

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path

PEAK = 5e-4


def ferrite(arguments, seed):
    """The last evaluation of a run, and the seconds of its steps."""
    out = arguments.work / f"ferrite-{seed}"
    command = [arguments.bin / "ferrite", "pretrain", arguments.corpus, "--out", out,
               "--config", "mini", "--vocab", arguments.work / "vocab", "--format", "jsonl",
               "--steps", arguments.steps, "--batch", arguments.batch,
               "--max-length", arguments.max_length, "--rate", PEAK, "--seed", seed,
               "--data-seed", arguments.data_seed,
               "--threads", arguments.threads]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds = sum(json.loads(line).get("seconds", 0) for line in open(out / "log.jsonl"))
    return json.loads(done.stdout)["held_out"], seconds


def pytorch(arguments, seed):
    import torch
    from transformers import BertConfig, BertForPreTraining

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(seed)
    words = len((arguments.work / "vocab/vocab.txt").read_text().splitlines())
    config = BertConfig(vocab_size=words, hidden_size=256, num_hidden_layers=4,
                        num_attention_heads=4, intermediate_size=1024)
    model = BertForPreTraining(config)
    exempt = lambda name: "bias" in name or "LayerNorm" in name
    named = list(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if not exempt(name)], "weight_decay": 0.01},
        {"params": [p for name, p in named if exempt(name)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, eps=1e-6, fused=True)
    loss_of = torch.nn.functional.cross_entropy

    def losses(batch, reduction):
        length = max(map(len, batch["ids"]))
        pad = lambda rows: torch.tensor([row + [0] * (length - len(row)) for row in rows])
        mask = pad([[1] * len(row) for row in batch["ids"]])
        out = model.bert(pad(batch["ids"]), attention_mask=mask, token_type_ids=pad(batch["types"]))
        rows = torch.tensor(batch["positions"])
        hidden = out.last_hidden_state[mask.bool()][rows]
        logits = model.cls.predictions(hidden)
        pairs = model.cls.seq_relationship(out.pooler_output)
        targets, following = torch.tensor(batch["targets"]), torch.tensor(batch["next"])
        return (loss_of(logits, targets, reduction=reduction),
                loss_of(pairs, following, reduction=reduction),
                int((logits.argmax(1) == targets).sum()), int((pairs.argmax(1) == following).sum()))

    command = [arguments.bin / "batches", "--corpus", arguments.corpus,
               "--vocab", arguments.work / "vocab", "--batch", arguments.batch,
               "--max-length", arguments.max_length, "--seed", arguments.data_seed,
               "--steps", arguments.steps]
    batches = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    held_out, step, seconds, warmup = [], 0, 0.0, arguments.steps // 10
    for line in batches.stdout:
        batch = json.loads(line)
        if batch["part"] == "held_out":
            held_out.append(batch)
            continue
        start = time.perf_counter()
        fraction = step / warmup if step < warmup else (
            (arguments.steps - step) / max(1, arguments.steps - warmup))
        for group in optimizer.param_groups:
            group["lr"] = PEAK * fraction
        model.train()
        optimizer.zero_grad()
        masked, following, _, _ = losses(batch, "mean")
        (masked + following).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        seconds += time.perf_counter() - start
    model.eval()
    sums = [0.0] * 4
    with torch.no_grad():
        for batch in held_out:
            sums = [a + float(b) for a, b in zip(sums, losses(batch, "sum"))]
    words = sum(len(batch["targets"]) for batch in held_out)
    pairs = sum(len(batch["next"]) for batch in held_out)
    scores = {"masked_loss": sums[0] / words, "masked_accuracy": sums[2] / words,
              "next_loss": sums[1] / pairs, "next_accuracy": sums[3] / pairs}
    return scores, seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--bin", type=Path, default=Path("target/release"))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--data-seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    vocab = [arguments.bin / "ferrite", "vocab", "train", arguments.corpus, "--overwrite",
             "--out", arguments.work / "vocab", "--size", 8192]
    subprocess.run(list(map(str, vocab)), check=True)
    results = {"ferrite": [], "pytorch": []}
    for seed in map(int, arguments.seeds.split(",")):
        for name, train in (("ferrite", ferrite), ("pytorch", pytorch)):
            scores, seconds = train(arguments, seed)
            results[name].append({"seed": seed, "seconds": seconds, **scores})
            print(f"{name} seed {seed}: {json.dumps(scores)}, {seconds:.0f} s", flush=True)
    for name, runs in results.items():
        losses = [run["masked_loss"] for run in runs]
        print(f"{name}: masked loss {statistics.mean(losses):.4f}, from {min(losses):.4f} to {max(losses):.4f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
