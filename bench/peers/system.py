"""What every measured system offers, and Ferrite, the one that is a program of its own.

A system has a `name`, a `precision` and a `key` of both, and the methods `output`
(last hidden states of a case), `turn` (milliseconds of some runs) and `evidence`
(in which precision its products really ran, in its own words).
"""

import json
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from cases import real_rows

PRECISIONS = ["f32", "bf16", "int8"]


class Unavailable(Exception):
    """The system is not there, or cannot run in this precision."""


class Peer:
    """A system called from Python; `load` gives the function that runs one batch.

    That function takes ids and mask, [batch, length], and returns hidden states as f32.
    """

    def __init__(self, folder, threads, precision):
        self.graphs = {}
        self.folder, self.threads, self.precision = folder, threads, precision
        self.key = f"{self.name} {precision}"

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


class Ferrite:
    """Ferrite's own program, started anew for each turn; it warms up by itself."""

    name = "ferrite"

    def __init__(self, command, folder, threads, precision):
        self.precision = precision
        self.key = f"{self.name} {precision}"
        self.command = shlex.split(command) + ["--model", str(folder), "--threads", str(threads)]
        if precision != "f32":
            self.command += ["--precision", precision]
        self.width = json.loads((folder / "config.json").read_text())["hidden_size"]

    def call(self, case, runs, *more):
        """Run the program; its last line of output is {"ms": [...], ...}."""
        command = self.command + case.ferrite + ["--runs", str(runs), *more]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(done.stderr.strip() or f"exit status {done.returncode}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def output(self, case):
        """What `--dump` writes: little-endian f32, [tokens, width]."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hidden"
            self.call(case, 1, "--dump", str(path))
            return np.fromfile(path, dtype="<f4").reshape(-1, self.width)

    def turn(self, case, runs):
        """Milliseconds of `runs` runs."""
        return self.call(case, runs)["ms"]

    def evidence(self, case):
        """All the program tells of itself beside times and sizes, such as its level."""
        told = self.call(case, 1)
        return ", ".join(f"{name} {told[name]}" for name in told if name not in ("ms", "threads", "tokens"))
