"""Time BERT encoders of Ferrite, OpenVINO, ONNX Runtime and PyTorch side by side.

    python peers.py [--ferrite target/release/encoder] [--rounds 3] [--json out.json]

From token ids to the last hidden state, f32, the same ids and weights for all.
In every round each system takes its turn on each shape, so that a slow moment
of the machine meets all of them. README.md says how to read the table.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

MODELS = {
    "bert-base": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072),
    "minilm-l6": dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
}
SHAPES = ["1x16", "1x128", "8x128", "32x128", "8x512", "mixed", "mixed-alone"]
MIXED = list(range(8, 257, 8))  # 32 lengths, 4,224 tokens; 8,192 when padded
QUIET = 0.05  # a turn during which others used more of the machine is tried again,
TRIES = 4  # so often at most; the quietest counts
PAUSE = 0.3  # seconds before a turn, in which the threads of the one before go to sleep


class Case:
    """One workload: the lengths of its sequences and the padded batches a peer runs.

    The id of the i-th real token, counted over all sequences, is
    1000 + 7919 i mod 20000; Ferrite's program makes the same ones.
    """

    def __init__(self, name):
        self.name = name
        mixed = name.startswith("mixed")
        if mixed:
            self.lengths = MIXED
        else:
            batch, length = map(int, name.split("x"))
            self.lengths = [length] * batch
        ids = 1000 + 7919 * np.arange(sum(self.lengths), dtype=np.int64) % 20000
        sequences = np.split(ids, np.cumsum(self.lengths)[:-1])
        groups = [[s] for s in sequences] if name == "mixed-alone" else [sequences]
        self.batches = [padded(group) for group in groups]
        self.ferrite = ["--lengths", ",".join(map(str, self.lengths))] if mixed else ["--shape", name]


def padded(sequences):
    """(ids, mask) of one batch, both [batch, longest]; mask is None if nothing was padded."""
    longest = max(map(len, sequences))
    ids = np.stack([np.pad(s, (0, longest - len(s))) for s in sequences])
    mask = np.stack([np.arange(longest) < len(s) for s in sequences]).astype(np.int64)
    return ids, None if mask.all() else mask


def real_rows(hidden, mask):
    """A copy of hidden states [batch, longest, width] without the padding: [tokens, width]."""
    return hidden[np.ones(hidden.shape[:2], bool) if mask is None else mask.astype(bool)]


class Peer:
    """A system called from Python; `load` gives the function that runs one batch."""

    def __init__(self, folder, threads):
        self.graphs = {}
        self.folder, self.threads = folder, threads

    def graph(self, masked):
        """The model with or without a mask as its input, loaded when first asked for."""
        if masked not in self.graphs:
            self.graphs[masked] = self.load(masked)
        return self.graphs[masked]

    def output(self, case):
        """Last hidden states of all real tokens, [tokens, width]."""
        rows = [real_rows(self.graph(mask is not None)(ids, mask), mask) for ids, mask in case.batches]
        return np.concatenate(rows)

    def turn(self, case, runs):
        """Milliseconds of `runs` runs, after one that is not counted."""
        calls = [(self.graph(mask is not None), ids, mask) for ids, mask in case.batches]
        times = []
        for _ in range(runs + 1):
            start = time.perf_counter()
            for run, ids, mask in calls:
                run(ids, mask)
            times.append(1e3 * (time.perf_counter() - start))
        return times[1:]


class PyTorch(Peer):
    """PyTorch in eager mode, with its fused attention."""

    name = "pytorch"

    def load(self, masked):
        import torch

        torch.set_num_threads(self.threads)
        model = torch_model(self.folder, "sdpa")

        def run(ids, mask):
            with torch.inference_mode():
                return model(torch.from_numpy(ids), *([torch.from_numpy(mask)] if masked else [])).numpy()

        return run


class OpenVino(Peer):
    """OpenVINO's CPU plugin on a model converted from PyTorch."""

    name = "openvino"

    def load(self, masked):
        import openvino

        model = torch_model(self.folder, "sdpa")
        converted = openvino.convert_model(model, example_input=example(masked))
        hints = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
        }
        request = openvino.Core().compile_model(converted, "CPU", hints).create_infer_request()

        def run(ids, mask):
            request.infer([ids, mask] if masked else [ids], share_inputs=True)
            return request.get_output_tensor().data

        return run


class OnnxRuntime(Peer):
    """ONNX Runtime on an export with plain attention, which it runs faster than the fused one."""

    name = "onnxruntime"

    def load(self, masked):
        import onnxruntime
        import torch

        names = ["input_ids", "attention_mask"][: 1 + masked]
        path = self.folder / ("masked.onnx" if masked else "plain.onnx")
        if not path.exists():
            torch.onnx.export(
                torch_model(self.folder, "eager"),
                tuple(example(masked).values()),
                path,
                input_names=names,
                output_names=["last_hidden_state"],
                dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
                opset_version=17,
                dynamo=False,
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda ids, mask: session.run(None, dict(zip(names, (ids, mask))))[0]


class Ferrite:
    """Ferrite's own program, started anew for each turn; it warms up by itself."""

    name = "ferrite"

    def __init__(self, command, folder, threads):
        self.command = shlex.split(command) + ["--model", str(folder), "--threads", str(threads)]
        self.width = json.loads((folder / "config.json").read_text())["hidden_size"]

    def call(self, case, runs, *more):
        """Run the program; its last line of output is {"ms": [...]}."""
        command = self.command + case.ferrite + ["--runs", str(runs), *more]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout.strip().splitlines()[-1])["ms"]

    def output(self, case):
        """What `--dump` writes: little-endian f32, [tokens, width]."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hidden"
            self.call(case, 1, "--dump", str(path))
            return np.fromfile(path, dtype="<f4").reshape(-1, self.width)

    def turn(self, case, runs):
        """Milliseconds of `runs` runs."""
        return self.call(case, runs)


def write_model(folder, sizes):
    """Save a BERT with random weights, unless it is there already."""
    import torch
    from transformers import BertConfig, BertModel

    if not (folder / "model.safetensors").exists():
        torch.manual_seed(0)
        BertModel(BertConfig(**sizes), add_pooling_layer=False).save_pretrained(folder)


def torch_model(folder, attention):
    """The saved model as a module from ids and perhaps a mask to the last hidden state."""
    import torch
    from transformers import BertModel

    class Encoder(torch.nn.Module):
        """Only the tensor that is compared."""

        def __init__(self, bert):
            super().__init__()
            self.bert = bert

        def forward(self, input_ids, attention_mask=None):
            return self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    bert = BertModel.from_pretrained(
        folder, attn_implementation=attention, add_pooling_layer=False, dtype=torch.float32
    )
    return Encoder(bert).eval()


def example(masked):
    """Inputs to trace the model with."""
    import torch

    ids = torch.arange(64).reshape(2, 32)
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    return {"input_ids": ids, "attention_mask": mask} if masked else {"input_ids": ids}


class Load:
    """How much of the processors others used meanwhile, from /proc/stat."""

    def __init__(self):
        self.start = self.read()

    @staticmethod
    def read():
        """(busy seconds of the machine, our own, seconds of all processors together)."""
        fields = [int(f) for f in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        tick = os.sysconf("SC_CLK_TCK")
        return (sum(fields) - fields[3] - fields[4]) / tick, sum(os.times()[:4]), sum(fields) / tick

    def others(self):
        """The share of all processors, 0 to 1, that was busy with something else."""
        busy, own, total = (now - then for now, then in zip(self.read(), self.start))
        return max(0.0, busy - own) / max(total, 1e-9)


def systems(names, ferrite, folder, threads):
    """The systems that are there; says which are not, and why."""
    found = [Ferrite(ferrite, folder, threads)] if ferrite else []
    for peer in (PyTorch, OpenVino, OnnxRuntime):
        if peer.name not in names:
            continue
        try:
            candidate = peer(folder, threads)
            candidate.output(Case("1x16"))
            found.append(candidate)
        except ImportError as error:
            print(f"{peer.name} is missing ({error}): not measured", file=sys.stderr)
    return found


def differences(found, case):
    """{system: largest difference of its output from that of the first peer}."""
    outputs = {system.name: system.output(case) for system in found}
    reference = outputs.get("pytorch", next(iter(outputs.values())))
    return {name: float(np.abs(out - reference).max()) for name, out in outputs.items()}


def await_quiet(patience):
    """Wait until nobody else uses the machine, at most `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        load = Load()
        time.sleep(PAUSE)
        if load.others() < QUIET or time.monotonic() > end:
            return


def quiet_turn(system, case, runs, patience):
    """(milliseconds, others' load) of the quietest of a few turns; one turn if nobody disturbs it."""
    best = None
    for _ in range(TRIES):
        await_quiet(patience)
        load = Load()
        turn = system.turn(case, runs), load.others()
        if best is None or turn[1] < best[1]:
            best = turn
        if best[1] < QUIET:
            break
    return best


def measure(found, cases, rounds, budget, patience):
    """The systems in turn: {case: {system: [{"ms": [...], "others": load} of each turn]}}."""
    turns = {case.name: {system.name: [] for system in found} for case in cases}
    for round_number in range(rounds):
        # Another one begins in each round, so that nobody always follows the same one.
        shift = round_number % len(found)
        for case in cases:
            for system in found[shift:] + found[:shift]:
                so_far = [ms for taken in turns[case.name].values() for turn in taken for ms in turn["ms"]]
                estimate = statistics.median(so_far) if so_far else sum(case.lengths) / 4
                runs = int(min(30, max(3, budget * 1e3 / estimate)))
                ms, load = quiet_turn(system, case, runs, patience)
                turns[case.name][system.name].append({"ms": ms, "others": load})
                told = f"{statistics.median(ms):.2f} ms, others used {load:.0%} of the processors"
                print(f"round {round_number + 1}, {case.name}, {system.name}: {told}", file=sys.stderr)
    return turns


def quiet(turns):
    """The turns nobody disturbed, or the least disturbed one if there are none."""
    undisturbed = [turn for turn in turns if turn["others"] < QUIET]
    return undisturbed or [min(turns, key=lambda turn: turn["others"])]


def table(model, turns, errors):
    """The quiet turns as Markdown: median, minimum, and how often Ferrite's (or the fastest's) time that is."""
    names = list(next(iter(turns.values())))
    lines = [f"| {model} | {' | '.join(names)} | others' load | max. difference |", "|---" * (len(names) + 3) + "|"]
    for case, per_system in turns.items():
        counted = {name: quiet(taken) for name, taken in per_system.items()}
        times = {name: [ms for turn in taken for ms in turn["ms"]] for name, taken in counted.items()}
        medians = {name: statistics.median(ms) for name, ms in times.items()}
        unit = medians.get("ferrite", min(medians.values()))
        cells = [f"{medians[n]:.2f} ({min(times[n]):.2f}) x{medians[n] / unit:.2f}" for n in names]
        load = max(turn["others"] for taken in counted.values() for turn in taken)
        lines.append(f"| {case} | {' | '.join(cells)} | {load:.0%} | {max(errors[case].values()):.1e} |")
    return "\n".join(lines)


def machine(threads):
    """What the numbers were measured on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in info.split("\n") if line.startswith("model name")), "?")
    flags = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile") if f" {flag}" in info]
    return {"cpu": model, "cpus": os.cpu_count(), "flags": flags, "threads": threads, "load": os.getloadavg()}


def versions():
    """{package: version} of the peers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("torch", "transformers", "openvino", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ferrite", help="command of Ferrite's `encoder` program; without it only the peers run")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--peers", default="pytorch,openvino,onnxruntime")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=1.5, help="seconds of a turn, about (3 to 30 runs)")
    parser.add_argument("--patience", type=float, default=20, help="seconds to wait for a quiet machine before a turn")
    parser.add_argument("--no-check", action="store_true", help="do not compare outputs (if --dump is missing)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ferrite-peers")
    parser.add_argument("--json", type=Path, help="also write all times there")
    return parser.parse_args()


def main():
    """Measure each model and print its table."""
    warnings.filterwarnings("ignore")
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    options = arguments()
    report = {"machine": machine(options.threads), "versions": versions(), "models": {}}
    print(json.dumps({key: report[key] for key in ("machine", "versions")}))
    cases = [Case(name) for name in options.shapes.split(",")]
    for model in options.models.split(","):
        folder = options.work / model
        write_model(folder, MODELS[model])
        found = systems(options.peers.split(","), options.ferrite, folder, options.threads)
        skip = dict.fromkeys((system.name for system in found), float("nan"))
        errors = {case.name: skip if options.no_check else differences(found, case) for case in cases}
        turns = measure(found, cases, options.rounds, options.budget, options.patience)
        print("\n" + table(model, turns, errors), flush=True)
        report["models"][model] = {"turns": turns, "differences": errors}
    if options.json:
        options.json.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
