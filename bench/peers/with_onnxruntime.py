"""ONNX Runtime: its CPU provider on an export from PyTorch, for int8 dynamically quantised."""

import collections
import json
import os
import tempfile

from system import Peer, Unavailable
from weights import example, torch_model

PRODUCTS = ("MatMul", "Gemm", "Attention")


class OnnxRuntime(Peer):
    """ONNX Runtime on an export with plain attention, which it runs faster than the fused one.

    int8 is its dynamic quantisation of the products with weights, a scale per output channel;
    attention stays in f32. It has no bf16 products on x86.
    """

    name = "onnxruntime"

    def exported(self, masked):
        """Path of the f32 graph, written when first asked for."""
        import torch

        path = self.folder / ("masked.onnx" if masked else "plain.onnx")
        if not path.exists():
            names = input_names(masked)
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
        return path

    def quantised(self, masked):
        """Path of the int8 graph, written when first asked for."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        path = self.folder / ("masked-int8.onnx" if masked else "plain-int8.onnx")
        if not path.exists():
            quantize_dynamic(self.exported(masked), path, per_channel=True, weight_type=QuantType.QInt8)
        return path

    def session(self, masked, **settings):
        """The graph of this precision in a session with the given options."""
        import onnxruntime

        if self.precision == "bf16":
            raise Unavailable("ONNX Runtime has no bf16 products on x86")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        for name, value in settings.items():
            setattr(options, name, value)
        path = self.quantised(masked) if self.precision == "int8" else self.exported(masked)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def load(self, masked):
        session, names = self.session(masked), input_names(masked)
        return lambda ids, mask: session.run(None, dict(zip(names, (ids, mask))))[0]

    def evidence(self, case):
        """The operators of products in a profile of one run, counted."""
        with tempfile.TemporaryDirectory() as folder:
            settings = {"enable_profiling": True, "profile_file_prefix": os.path.join(folder, "profile")}
            session = self.session(False, **settings)
            session.run(None, {"input_ids": case.batches[0][0]})
            with open(session.end_profiling()) as file:
                events = json.load(file)
        nodes = [event["args"] for event in events if event["name"].endswith("_kernel_time")]
        found = collections.Counter(node["op_name"] for node in nodes)
        return ", ".join(
            f"{count} {name}" for name, count in sorted(found.items()) if any(word in name for word in PRODUCTS)
        )


def input_names(masked):
    """The graph's inputs."""
    return ["input_ids", "attention_mask"][: 1 + masked]
