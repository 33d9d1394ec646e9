"""OpenVINO: its CPU plugin on a model converted from PyTorch, for int8 quantised by NNCF."""

import collections

from cases import calibration
from system import Peer
from weights import example, torch_model

PRODUCTS = ("FullyConnected", "MatMul", "ScaledDotProductAttention", "MHA", "Subgraph")


class OpenVino(Peer):
    """OpenVINO with its latency hint.

    int8 is NNCF's post-training quantisation for transformers, static scales for activations;
    what it leaves is in bf16 where the processor has it.
    """

    name = "openvino"

    def model(self, masked):
        """The graph to compile; the quantised one is kept, since making it takes a minute."""
        import openvino

        quantised = self.folder / ("int8-masked.xml" if masked else "int8.xml")
        if self.precision == "int8" and quantised.exists():
            return openvino.Core().read_model(quantised)
        converted = openvino.convert_model(torch_model(self.folder, "sdpa"), example_input=example(masked))
        if self.precision != "int8":
            return converted
        import nncf

        dataset = nncf.Dataset(list(calibration(masked)))
        result = nncf.quantize(converted, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=64)
        openvino.save_model(result, quantised, compress_to_fp16=False)
        return result

    def load(self, masked):
        import openvino

        core = openvino.Core()
        short = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision != "f32" and short else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
        }
        request = core.compile_model(self.model(masked), "CPU", hints).create_infer_request()

        def run(ids, mask):
            request.infer([ids, mask] if masked else [ids], share_inputs=True)
            return request.get_output_tensor().data

        run.compiled = request.get_compiled_model()
        return run

    def evidence(self, case):
        """Kind, precision and kernel of the products (and fused subgraphs) of the executed graph."""
        self.output(case)
        found = collections.Counter()
        for node in self.graph(False).compiled.get_runtime_model().get_ops():
            kind, precision, kernel = (
                str(node.get_rt_info()[name].value) for name in ("layerType", "runtimePrecision", "primitiveType")
            )
            if kind in PRODUCTS:
                found[f"{kind} in {precision} ({kernel})"] += 1
        return ", ".join(f"{count} {what}" for what, count in sorted(found.items()))
