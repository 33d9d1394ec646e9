"""PyTorch: eager in f32, bf16 and int8, and compiled in f32 and bf16."""

import collections
import os
import tempfile

from system import Peer, Unavailable
from weights import torch_model

PRODUCTS = ("addmm", "mm", "linear", "bmm", "attention")
WRAPPERS = ("aten::linear", "aten::scaled_dot_product_attention")  # they call what does the work


class PyTorch(Peer):
    """PyTorch in eager mode, with its fused attention.

    bf16 is a model of bf16 weights, not autocast, which converts the weights in each run.
    int8 is dynamic quantisation of the linear layers; attention stays in f32.
    """

    name = "pytorch"

    def model(self):
        """The module in this precision."""
        import torch

        model = torch_model(self.folder, "sdpa")
        if self.precision == "bf16":
            return model.to(torch.bfloat16)
        if self.precision == "int8":
            return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
        return model

    def load(self, masked):
        import torch

        torch.set_num_threads(self.threads)
        model = self.model()

        def run(ids, mask):
            with torch.inference_mode():
                inputs = [torch.from_numpy(ids)] + ([torch.from_numpy(mask)] if masked else [])
                return model(*inputs).float().numpy()

        return run

    def evidence(self, case):
        """The operators of products, counted, and what oneDNN says it ran them with."""
        import torch

        self.output(case)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            self.output(case)
        operators = {
            event.key: event.count
            for event in profile.key_averages()
            if any(word in event.key for word in PRODUCTS) and event.key not in WRAPPERS
        }
        kernels = collections.Counter(filter(None, map(kernel, self.onednn_log(case))))
        return "; ".join(
            [counted(operators), "oneDNN: " + (counted(kernels) or "no products (so MKL or FBGEMM)")]
        )

    def onednn_log(self, case):
        """The lines oneDNN prints of one run; it writes to the process's own standard output."""
        import torch

        with tempfile.TemporaryFile() as log:
            stdout = os.dup(1)
            os.dup2(log.fileno(), 1)
            try:
                with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                    self.output(case)
            finally:
                os.dup2(stdout, 1)
                os.close(stdout)
            log.seek(0)
            return log.read().decode().splitlines()


class CompiledPyTorch(PyTorch):
    """PyTorch compiled for each shape, with frozen weights; needs a C++ compiler.

    The first run of a shape compiles for up to a minute, and after eight shapes it gives up.
    """

    name = "pytorch-compiled"

    def model(self):
        import torch
        import torch._inductor.config

        if self.precision == "int8":
            raise Unavailable("dynamic quantisation is of eager mode")
        torch._inductor.config.freezing = True
        return torch.compile(super().model(), dynamic=False)


def kernel(line):
    """Implementation and type of weights of a product in oneDNN's log; None of other lines."""
    fields = line.split(",")
    if len(fields) < 9 or fields[3] != "exec" or fields[5] not in ("matmul", "inner_product"):
        return None
    types = [part.split(":")[1] for part in fields[8].split() if part.startswith(("src", "wei"))]
    return f"{fields[6]} {'*'.join(types)}"


def counted(counts):
    """'36 this, 6 that'."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
