"""Train the same small Transformer with Ferrite and with PyTorch, and compare what they reach and how fast.

    python catalogues.py DATA
    python translation.py --data DATA --work DIR [--seeds 1,2,3] [--steps 1200] [--json FILE]
    python translation.py --data DATA --work DIR --speed

Post-norm layers, ReLU, sinusoids, one matrix for both embeddings and the generator, dropout of
embeddings and of what sub-layers give. One recipe for both: Glorot-uniform weights and normal tables of
variance 1 / d_model, Adam (0.9, 0.98, 1e-9), the paper's warm-up and decay, label smoothing, the mean of
the last parameters. Ferrite trains by its program. PyTorch gets the very batches that Ferrite reads
(`pair_batches`), checked by the tokens of each step, padded and masked; its logits are of real target
tokens alone, and the decoder's self-attention needs no mask of padding, which comes last. Seeds change
the order of the batches, initial weights and dropout.

Both are scored by `ferrite translate evaluate` on the held-out pairs, in f32: the loss of a token without
label smoothing, and BLEU by sacreBLEU of what the paper's beam search of 4 says. PyTorch's own loss of
the same pairs is told as well, as the check that its weights arrived. With --speed nothing is
scored: short runs in turn, and the ratio of tokens per second within each round.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

SIZES = {"tiny": (2, 128, 512, 4), "small": (3, 256, 1024, 4), "base": (6, 512, 2048, 8)}
HIGHEST_RATE = 1e-3  # that of the program
AVERAGED = 5  # parameters of the last steps, a fiftieth of all steps apart
POSITIONS = 512
SETTLED = 5  # steps that count in no speed


def build(layers, d_model, d_ff, heads, words, dropout):
    """The Transformer as a module whose tensors have Ferrite's names, but for `model.` before them."""
    import torch
    from torch import nn
    from torch.nn import functional as f

    def linear(inputs, outputs):
        of = nn.Linear(inputs, outputs)
        nn.init.xavier_uniform_(of.weight)
        nn.init.zeros_(of.bias)
        return of

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                setattr(self, name, linear(d_model, d_model))

        def forward(self, x, memory, **mask):
            def split(y):
                return y.unflatten(2, (heads, -1)).transpose(1, 2)

            q, k, v = split(self.q_proj(x)), split(self.k_proj(memory)), split(self.v_proj(memory))
            y = f.scaled_dot_product_attention(q, k, v, **mask)
            return self.out_proj(y.transpose(1, 2).flatten(2))

    class Layer(nn.Module):
        def __init__(self, in_decoder):
            super().__init__()
            self.self_attn, self.self_attn_layer_norm = Attention(), nn.LayerNorm(d_model)
            if in_decoder:
                self.encoder_attn, self.encoder_attn_layer_norm = Attention(), nn.LayerNorm(d_model)
            self.fc1, self.fc2 = linear(d_model, d_ff), linear(d_ff, d_model)
            self.final_layer_norm = nn.LayerNorm(d_model)

        def forward(self, x, memory=None, mask=None):
            def drop(y):
                return f.dropout(y, dropout, self.training)

            own = {"is_causal": True} if memory is not None else {"attn_mask": mask}
            x = self.self_attn_layer_norm(x + drop(self.self_attn(x, x, **own)))
            if memory is not None:
                y = self.encoder_attn(x, memory, attn_mask=mask)
                x = self.encoder_attn_layer_norm(x + drop(y))
            return self.final_layer_norm(x + drop(self.fc2(f.relu(self.fc1(x)))))

    class Side(nn.Module):
        def __init__(self, in_decoder):
            super().__init__()
            self.layers = nn.ModuleList(Layer(in_decoder) for _ in range(layers))

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Embedding(words, d_model)
            nn.init.normal_(self.shared.weight, std=d_model**-0.5)
            self.encoder, self.decoder = Side(False), Side(True)
            angles = torch.arange(POSITIONS)[:, None] / 10_000 ** (torch.arange(0, d_model, 2) / d_model)
            table = torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
            self.register_buffer("positions", table, persistent=False)

        def embed(self, ids):
            x = self.shared(ids) * math.sqrt(d_model) + self.positions[: ids.shape[1]]
            return f.dropout(x, dropout, self.training)

        def forward(self, source, inputs, real):
            """The logits of the real target tokens, [tokens, words]."""
            mask = (source != 0)[:, None, None, :]  # True where attended; [PAD] is 0
            memory, x = self.embed(source), self.embed(inputs)
            for layer in self.encoder.layers:
                memory = layer(memory, mask=mask)
            for layer in self.decoder.layers:
                x = layer(x, memory, mask)
            return x[real] @ self.shared.weight.T

    return Transformer()


def batches(arguments, part, steps):
    """What `pair_batches` writes: sources and targets, each sentence with its end."""
    command = [arguments.bin / "pair_batches", "--pairs", arguments.data / f"{part}.tsv",
               "--vocab", arguments.work / "vocab", "--tokens", arguments.batch_tokens,
               "--max-length", arguments.max_length, "--seed", arguments.seed, "--steps", steps]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        yield from map(json.loads, process.stdout)
    if process.returncode:
        raise SystemExit("pair_batches failed")


def pytorch_child(arguments):
    """Train in this process; writes the model's folder, and one line of results."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)  # as Ferrite
    torch.manual_seed(arguments.seed)
    vocabulary = (arguments.work / "vocab/vocab.txt").read_text(encoding="utf-8").splitlines()
    assert vocabulary[0] == "[PAD]"
    start = vocabulary.index("[CLS]")
    model = build(*SIZES[arguments.config], len(vocabulary), arguments.dropout).train()
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9, fused=True)
    peak = min((SIZES[arguments.config][1] * arguments.warmup) ** -0.5, HIGHEST_RATE)

    def pad(rows):
        length = max(map(len, rows))
        return torch.tensor([row + [0] * (length - len(row)) for row in rows])

    def loss_of(batch, precision, **how):
        """The loss of all real target tokens, and the positions with padding."""
        source, outputs = pad(batch["sources"]), pad(batch["targets"])
        inputs = pad([[start, *row[:-1]] for row in batch["targets"]])
        real = outputs != 0
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(source, inputs, real)
        return cross_entropy(logits.float(), outputs[real], **how), source.numel() + outputs.numel()

    every = max(1, arguments.steps // 50)
    kept = [step for back in range(AVERAGED) if (step := arguments.steps - every * back) > 0]
    sums = [torch.zeros_like(p, dtype=torch.float64) for p in model.parameters()]
    log, positions = [], 0
    for step, batch in enumerate(batches(arguments, "train", arguments.steps), 1):
        begun = time.perf_counter()
        rate = peak * min(step / arguments.warmup, math.sqrt(arguments.warmup / step))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss, padded = loss_of(batch, arguments.precision, label_smoothing=arguments.label_smoothing)
        loss.backward()
        optimizer.step()
        loss = float(loss.detach())
        seconds = time.perf_counter() - begun
        tokens = sum(len(row) for side in ("sources", "targets") for row in batch[side])
        log.append({"tokens": tokens, "seconds": seconds, "loss": loss})
        positions += padded
        if step in kept:
            for total, p in zip(sums, model.parameters()):
                total += p.detach()
    results = {"log": log, "padding": 1 - sum(entry["tokens"] for entry in log) / positions}
    if not arguments.speed:
        model.eval()
        with torch.no_grad():
            for total, p in zip(sums, model.parameters()):
                p.copy_(total / len(kept))
            nll, tokens = 0.0, 0
            for batch in batches(arguments, "held-out", 0):
                nll += float(loss_of(batch, "f32", reduction="sum")[0])
                tokens += sum(map(len, batch["targets"]))
        results["own_nll"] = nll / tokens
        save(arguments, model, vocabulary)
    print(json.dumps(results))


def save(arguments, model, vocabulary):
    """Write PyTorch's model as a folder that Ferrite opens."""
    from safetensors.torch import save_file

    out = folder_of(arguments, "pytorch", arguments.precision, arguments.seed)
    shutil.copytree(arguments.work / "vocab", out, dirs_exist_ok=True)
    layers, d_model, d_ff, heads = SIZES[arguments.config]
    config = {"model_type": "transformer", "vocab_size": len(vocabulary), "d_model": d_model,
              "max_position_embeddings": POSITIONS, "pad_token_id": 0,
              "eos_token_id": vocabulary.index("[SEP]"),
              "decoder_start_token_id": vocabulary.index("[CLS]")}
    for side in ("encoder", "decoder"):
        config |= {f"{side}_layers": layers, f"{side}_attention_heads": heads, f"{side}_ffn_dim": d_ff}
    (out / "config.json").write_text(json.dumps(config))
    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, out / "model.safetensors")


def folder_of(arguments, system, precision, seed):
    return arguments.work / f"{system}-{precision}-{seed}"


def run(command, threads):
    """What a program writes to stdout; the run ends if it fails."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def common_options(arguments, precision, seed, steps):
    return ["--config", arguments.config, "--batch-tokens", arguments.batch_tokens,
            "--max-length", arguments.max_length, "--steps", steps, "--warmup", arguments.warmup,
            "--label-smoothing", arguments.label_smoothing, "--dropout", arguments.dropout,
            "--precision", precision, "--seed", seed, "--threads", arguments.threads]


def ferrite(arguments, precision, seed, steps):
    """A run of Ferrite: {"log": [...]}; its model is in its folder."""
    out = folder_of(arguments, "ferrite", precision, seed)
    shutil.rmtree(out, ignore_errors=True)
    run([arguments.ferrite, "translate", "train", "--pairs", arguments.data / "train.tsv",
         "--held-out", arguments.data / "held-out.tsv", "--vocab", arguments.work / "vocab",
         "--average", AVERAGED, "--save-every", steps, "--evaluate-every", steps, "--out", out,
         *common_options(arguments, precision, seed, steps)], arguments.threads)
    lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return {"log": [{name: line[name] for name in ("tokens", "seconds", "loss")}
                    for line in lines if "seconds" in line]}


def pytorch(arguments, precision, seed, steps):
    """The same of PyTorch, in a process of its own."""
    command = [sys.executable, __file__, "--data", arguments.data, "--work", arguments.work,
               "--bin", arguments.bin, "--child", *common_options(arguments, precision, seed, steps)]
    return json.loads(run(command + ["--speed"] * arguments.speed, arguments.threads).splitlines()[-1])


SYSTEMS = {"ferrite": ferrite, "pytorch": pytorch}


def speed(log):
    """Tokens per second, the first steps left out."""
    counted = log[SETTLED:] or log
    return sum(entry["tokens"] for entry in counted) / sum(entry["seconds"] for entry in counted)


def check_batches(ours, theirs):
    """Refuses runs that were not of the same batches."""
    if [entry["tokens"] for entry in ours["log"]] != [entry["tokens"] for entry in theirs["log"]]:
        raise SystemExit("the systems had different batches")


def scores(arguments, system, precision, seed):
    """Loss and BLEU of the held-out pairs."""
    from sacrebleu import corpus_bleu

    folder, pairs = folder_of(arguments, system, precision, seed), arguments.data / "held-out.tsv"
    found = folder / "translations.txt"
    told = json.loads(run([arguments.ferrite, "translate", "evaluate", "--model", folder, "--pairs", pairs,
                           "--beam", 4, "--translations", found, "--format", "jsonl",
                           "--threads", arguments.threads], arguments.threads))
    if told["rejected"]:
        raise SystemExit(f"{told['rejected']} held-out pairs were left out")
    targets = [line.split("\t")[1] for line in pairs.read_text(encoding="utf-8").split("\n")[:-1]]
    bleu = corpus_bleu(found.read_text(encoding="utf-8").split("\n")[:-1], [targets]).score
    return {"nll": told["loss"], "accuracy": told["accuracy"], "bleu": bleu, "ferrites_bleu": told["bleu"]}


def compare_speed(arguments, precisions):
    results = []
    for precision in precisions:
        rounds = []
        for number in range(arguments.rounds):
            names = list(SYSTEMS) if number % 2 == 0 else list(reversed(SYSTEMS))
            runs = {name: SYSTEMS[name](arguments, precision, 1, arguments.steps) for name in names}
            check_batches(*(runs[name] for name in SYSTEMS))
            rounds.append({name: speed(runs[name]["log"]) for name in SYSTEMS})
            losses = {name: [runs[name]["log"][at]["loss"] for at in (0, -1)] for name in SYSTEMS}
            print(f"{precision} round {number + 1}: {rounds[-1]} tokens/s, first and last loss {losses}, "
                  f"padding {runs['pytorch']['padding']:.1%}", file=sys.stderr, flush=True)
        ratio = statistics.median(one["ferrite"] / one["pytorch"] for one in rounds)
        middle = {name: statistics.median(one[name] for one in rounds) for name in SYSTEMS}
        results.append({"precision": precision, "tokens_per_second": middle, "ratio": ratio, "rounds": rounds})
        print(f"{precision}: Ferrite {middle['ferrite']:.0f} tokens/s, PyTorch {middle['pytorch']:.0f}, "
              f"x{ratio:.2f}", flush=True)
    return results


def compare_training(arguments, precisions):
    results = []
    for precision in precisions:
        of = {name: [] for name in SYSTEMS}
        for seed in map(int, arguments.seeds.split(",")):
            runs = {}
            for name, train in SYSTEMS.items():
                begun = time.perf_counter()
                runs[name] = train(arguments, precision, seed, arguments.steps)
                wall = time.perf_counter() - begun
                log = runs[name]["log"]
                entry = {"seed": seed, "seconds": sum(step["seconds"] for step in log), "wall": wall,
                         "tokens_per_second": speed(log), "first_loss": log[0]["loss"],
                         "last_loss": log[-1]["loss"], **scores(arguments, name, precision, seed)}
                entry |= {key: runs[name][key] for key in ("own_nll", "padding") if key in runs[name]}
                of[name].append(entry)
                print(f"{precision} {name}: {json.dumps(entry)}", flush=True)
            check_batches(*(runs[name] for name in SYSTEMS))
        for name, runs in of.items():
            told = [f"{precision} {name}"]
            for key in ("nll", "bleu", "seconds", "wall", "tokens_per_second"):
                values = [run[key] for run in runs]
                told.append(f"{key} {statistics.mean(values):.4g} ({min(values):.4g} to {max(values):.4g})")
            print(", ".join(told), flush=True)
        results.append({"precision": precision, **of})
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="the folder that catalogues.py wrote")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--bin", type=Path, default=Path("target/release"))
    parser.add_argument("--ferrite", type=Path, help="by default ferrite in --bin")
    parser.add_argument("--config", choices=SIZES, default="small")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--batch-tokens", type=int, default=1500, help="of sources and of targets each")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--steps", type=int, help="1200, or 25 with --speed")
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--label-smoothing", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--precisions", default="f32,bf16")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--rounds", type=int, default=3, help="of --speed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--speed", action="store_true", help="short runs in turn, scored by nothing")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help="train PyTorch alone, in this process")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.ferrite = arguments.ferrite or arguments.bin / "ferrite"
    arguments.steps = arguments.steps or (25 if arguments.speed else 1200)
    if arguments.child:
        return pytorch_child(arguments)
    if not (arguments.work / "vocab").exists():
        run([arguments.ferrite, "vocab", "train", arguments.data / "train.tsv", "--cased",
             "--size", arguments.vocab_size, "--out", arguments.work / "vocab"], arguments.threads)
    compare = compare_speed if arguments.speed else compare_training
    results = compare(arguments, arguments.precisions.split(","))
    if arguments.json:
        settings = {name: str(value) for name, value in vars(arguments).items()}
        arguments.json.write_text(json.dumps({"settings": settings, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
