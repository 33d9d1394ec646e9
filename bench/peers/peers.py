"""Time BERT encoders of Ferrite, OpenVINO, ONNX Runtime and PyTorch side by side.

    python peers.py [--ferrite target/release/encoder] [--precision f32,bf16,int8] [--json out.json]

From token ids to the last hidden state, the same ids and weights for all.
In every round each system takes its turn on each shape, so that a slow moment
of the machine meets all of them. README.md says how to read the tables.
"""

import argparse
import datetime
import hashlib
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from cases import SHAPES, Case
from report import markdown
from system import PRECISIONS, Ferrite, Unavailable
from turns import measure
from weights import MODELS, write_model
from with_onnxruntime import OnnxRuntime
from with_openvino import OpenVino
from with_pytorch import CompiledPyTorch, PyTorch

PEERS = {peer.name: peer for peer in (PyTorch, OpenVino, OnnxRuntime, CompiledPyTorch)}
PACKAGES = ["torch", "transformers", "openvino", "nncf", "onnx", "onnxruntime"]
FLAGS = "fma avx2 f16c avx_vnni avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_bf16 amx_int8".split()


def systems(options, folder):
    """(systems that run, {system's key: evidence}); says which do not, and why."""
    found, evidence, case = [], {}, Case("1x16")
    for precision in options.precision.split(","):
        makers = [lambda p: Ferrite(options.ferrite, folder, options.threads, p)] if options.ferrite else []
        makers += [lambda p, peer=PEERS[name]: peer(folder, options.threads, p) for name in options.peers.split(",")]
        for make in makers:
            candidate = make(precision)
            try:
                evidence[candidate.key] = candidate.evidence(case)
                found.append(candidate)
            except (ImportError, Unavailable) as reason:
                print(f"{candidate.key} is not measured: {reason}", file=sys.stderr)
    return found, evidence


def compare(found, reference, case):
    """{system's key: how its output differs from the reference's}, over all real tokens."""
    right = reference.output(case)
    return {system.key: closeness(system.output(case), right) for system in found}


def closeness(output, right):
    """Largest difference, and the cosines of the rows of two arrays, [tokens, width]."""
    output, right = output.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(output, axis=1) * np.linalg.norm(right, axis=1)
    cosines = (output * right).sum(axis=1) / lengths
    return {
        "difference": float(np.abs(output - right).max()),
        "cosine": float(cosines.mean()),
        "least_cosine": float(cosines.min()),
    }


def machine(threads):
    """What the numbers were measured on, as /proc/cpuinfo (and so lscpu) names it."""
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].split("\n")
    info = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {
        "cpu": info.get("model name", "?"),
        "family": info.get("cpu family", "?"),
        "model": info.get("model", "?"),
        "stepping": info.get("stepping", "?"),
        "flags": [flag for flag in FLAGS if flag in info.get("flags", "").split()],
        "cpus": os.cpu_count(),
        "threads": threads,
        "load": os.getloadavg(),
    }


def versions(ferrite):
    """{package: version} of the peers, None if one is missing, and what is known of Ferrite's program.

    The commit is this checkout's, which the program need not be from: its hash tells it apart.
    """
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found["checkout"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found["checkout"] = None
    program = shutil.which(shlex.split(ferrite)[0]) if ferrite else None
    found["encoder sha256"] = hashlib.sha256(Path(program).read_bytes()).hexdigest()[:12] if program else None
    return found


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ferrite", help="command of Ferrite's `encoder` program; without it only the peers run")
    parser.add_argument("--precision", default=",".join(PRECISIONS))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--shapes", default=",".join(SHAPES), help="BATCHxLENGTH, mixed, mixed-alone")
    parser.add_argument("--peers", default="pytorch,openvino,onnxruntime", help="of " + ", ".join(PEERS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=1.5, help="seconds of a turn, about (3 to 30 runs)")
    parser.add_argument("--patience", type=float, default=20, help="seconds to wait for a quiet machine before a turn")
    parser.add_argument("--tries", type=int, default=4, help="how often a disturbed turn is taken, at most")
    parser.add_argument("--no-check", action="store_true", help="do not compare outputs (if --dump is missing)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ferrite-peers")
    parser.add_argument("--json", type=Path, help="also write all times there")
    parser.add_argument("--markdown", type=Path, help="also write the tables there")
    parser.add_argument("--from", type=Path, dest="source", help="measure nothing, make the tables of this JSON")
    return parser.parse_args()


def measured(options):
    """The report of a measurement of all models; shows each model's tables when it is done."""
    report = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(options.threads),
        "versions": versions(options.ferrite),
        "models": {},
    }
    cases = [Case(name) for name in options.shapes.split(",")]
    for model in options.models.split(","):
        folder = options.work / model
        folder.mkdir(parents=True, exist_ok=True)
        write_model(folder, MODELS[model])
        found, evidence = systems(options, folder)
        reference = PyTorch(folder, options.threads, "f32")
        agreement = {} if options.no_check else {case.name: compare(found, reference, case) for case in cases}
        turns = measure(found, cases, options.rounds, options.budget, options.patience, options.tries)
        report["models"][model] = {"evidence": evidence, "agreement": agreement, "turns": turns}
        # After each model, so that a run that is broken off is not lost.
        if options.json:
            options.json.write_text(json.dumps(report))
    return report


def main():
    """Measure, or read what was measured, and print the tables."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["KINETO_LOG_LEVEL"] = "99"
    options = arguments()
    for file in filter(None, (options.json, options.markdown)):
        file.parent.mkdir(parents=True, exist_ok=True)
    report = json.loads(options.source.read_text()) if options.source else measured(options)
    tables = markdown(report)
    print(tables)
    if options.markdown:
        options.markdown.write_text(tables)


if __name__ == "__main__":
    main()
