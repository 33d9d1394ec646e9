"""Write what PyTorch computes for small Transformers, and when it trains them.

    python transformer.py [DIR]     (default: the directory of this script)

Writes DIR/transformer/NAME/ for three models: config.json, model.safetensors (f32) and
expected.safetensors. Layers are PyTorch's own, in f64, one pair of sentences at a time, without
padding and dropout. README.md has the names.
"""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

D_MODEL = 32
STEPS = 20
WARMUP = 100
EOS, START = 2, 1
LENGTHS = [(5, 4), (1, 7), (12, 1), (9, 9), (3, 12), (7, 5)]

BASE = {
    "model_type": "transformer",
    "vocab_size": 37,
    "decoder_vocab_size": 37,
    "d_model": D_MODEL,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "activation_function": "relu",
    "layer_norm_eps": 1e-5,
    "normalize_before": False,
    "add_final_layer_norm": False,
    "max_position_embeddings": 16,
    "position_layout": "interleaved",
    "scale_embedding": True,
    "share_encoder_decoder_embeddings": True,
    "tie_word_embeddings": True,
    "generator_bias": False,
    "eos_token_id": EOS,
    "decoder_start_token_id": START,
}

# name: (configuration, label smoothing)
MODELS = {
    "paper": (BASE, 0.1),
    "pre-norm": (
        BASE
        | {
            "decoder_vocab_size": 41,
            "encoder_layers": 1,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 40,
            "decoder_ffn_dim": 56,
            "activation_function": "gelu",
            "normalize_before": True,
            "add_final_layer_norm": True,
            "position_layout": "halves",
            "share_encoder_decoder_embeddings": False,
            "tie_word_embeddings": False,
            "generator_bias": True,
        },
        0.0,
    ),
    "torch": (
        BASE
        | {
            "decoder_vocab_size": 35,
            "add_final_layer_norm": True,
            "position_layout": "tensor2tensor",
            "scale_embedding": False,
            "share_encoder_decoder_embeddings": False,
            "generator_bias": True,
        },
        0.05,
    ),
}


def positions(length, layout):
    """The table of positions, in f64 of the f32 that a model has."""
    place = torch.arange(length, dtype=torch.float64)[:, None]
    half = D_MODEL // 2
    power = torch.arange(half, dtype=torch.float64) / (half - 1 if layout == "tensor2tensor" else half)
    angle = place / 10_000**power
    if layout == "interleaved":
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float().double()
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float().double()


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = self.config = config
        norm = lambda: nn.LayerNorm(D_MODEL, c["layer_norm_eps"]) if c["add_final_layer_norm"] else None
        options = dict(dropout=0.0, activation=c["activation_function"], batch_first=True,
                       layer_norm_eps=c["layer_norm_eps"], norm_first=c["normalize_before"])
        encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(D_MODEL, c["encoder_attention_heads"], c["encoder_ffn_dim"], **options),
            c["encoder_layers"], norm(), enable_nested_tensor=False)
        decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(D_MODEL, c["decoder_attention_heads"], c["decoder_ffn_dim"], **options),
            c["decoder_layers"], norm())
        self.transformer = nn.Transformer(D_MODEL, custom_encoder=encoder, custom_decoder=decoder, batch_first=True)
        table = lambda rows: nn.Parameter(torch.empty(rows, D_MODEL))
        self.source = table(c["vocab_size"])
        if not c["share_encoder_decoder_embeddings"]:
            self.target = table(c["decoder_vocab_size"])
        if not c["tie_word_embeddings"]:
            self.generator = table(c["decoder_vocab_size"])
        if c["generator_bias"]:
            self.bias = nn.Parameter(torch.empty(c["decoder_vocab_size"]))
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for name, p in self.named_parameters():
                noise = torch.randn(p.shape, generator=generator)
                if p.dim() == 1:
                    gain = "norm" in name and name.endswith("weight")
                    p.copy_(0.2 * noise + (1.0 if gain else 0.0))
                else:
                    p.copy_(noise * D_MODEL**-0.5)

    def embed(self, table, ids):
        scale = math.sqrt(D_MODEL) if self.config["scale_embedding"] else 1.0
        x = scale * table[ids] + positions(len(ids), self.config["position_layout"]).to(table.dtype)
        return x[None]

    def forward(self, source, target):
        """The encoder's output, and logits for each place of the target."""
        start = torch.tensor([START])
        inputs = torch.cat([start, target[:-1]])
        table = getattr(self, "target", self.source)
        mask = nn.Transformer.generate_square_subsequent_mask(len(inputs), dtype=table.dtype)
        memory = self.transformer.encoder(self.embed(self.source, source))
        hidden = self.transformer.decoder(self.embed(table, inputs), memory, tgt_mask=mask)
        logits = nn.functional.linear(hidden, getattr(self, "generator", table), getattr(self, "bias", None))
        return memory[0], logits[0]


def loss_of(model, pairs, smoothing):
    """The mean over all target tokens."""
    total = 0.0
    for source, target in pairs:
        _, logits = model(source, target)
        total = total + nn.functional.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")
    return total / sum(len(target) for _, target in pairs)


def train(model, pairs, smoothing):
    """The losses of twenty steps of the paper's Adam (section 5.3), with a warm-up of 100 steps."""
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9)
    losses = []
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = D_MODEL**-0.5 * min(step**-0.5, step * WARMUP**-1.5)
        optimizer.zero_grad()
        loss = loss_of(model, pairs, smoothing)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def marian_names(config, name, tensor):
    """The tensors that one of PyTorch's is in files of Marian and BART models."""
    tables = {
        "source": "model.shared.weight" if config["share_encoder_decoder_embeddings"] else "model.encoder.embed_tokens.weight",
        "target": "model.decoder.embed_tokens.weight",
        "generator": "lm_head.weight",
    }
    if name in tables:
        return {tables[name]: tensor}
    if name == "bias":
        return {"final_logits_bias": tensor[None]}
    side, _, rest = name.removeprefix("transformer.").partition(".")
    if rest.startswith("norm."):
        return {f"model.{side}.layer_norm.{rest[5:]}": tensor}
    _, layer, part = rest.split(".", 2)
    norms = ["self_attn_layer_norm", "final_layer_norm"]
    if side == "decoder":
        norms.insert(1, "encoder_attn_layer_norm")
    for old, new in [("multihead_attn", "encoder_attn"), ("linear1", "fc1"), ("linear2", "fc2")] + [
        (f"norm{i + 1}", norm) for i, norm in enumerate(norms)
    ]:
        part = part.replace(old + ".", new + ".")
    prefix = f"model.{side}.layers.{layer}."
    if "in_proj_" in part:
        block, kind = part.split(".in_proj_")
        parts = zip("qkv", tensor.chunk(3))
        return {f"{prefix}{block}.{which}_proj.{kind}": third for which, third in parts}
    return {prefix + part: tensor}


def by_name(model, tensors):
    """`tensors`, (name in PyTorch, tensor), by the names of Marian."""
    named = {}
    for name, tensor in tensors:
        named |= marian_names(model.config, name, tensor.detach())
    return {name: tensor.float().clone().contiguous() for name, tensor in named.items()}


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent) / "transformer"
    for kind, (config, smoothing) in MODELS.items():
        out = folder / kind
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        model = Model(config)
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        if kind != "torch":
            weights = by_name(model, weights.items())
        save_file(weights, out / "model.safetensors", {"format": "pt"})

        generator = torch.Generator().manual_seed(5)
        ids = lambda n, rows: torch.cat([torch.randint(3, rows, (n - 1,), generator=generator), torch.tensor([EOS])])
        pairs = [(ids(s, config["vocab_size"]), ids(t, config["decoder_vocab_size"])) for s, t in LENGTHS]
        single = [model(*pair)[1].detach() for pair in pairs]
        model = model.double()
        expected, error = {"label_smoothing": torch.tensor([smoothing], dtype=torch.float64)}, 0.0
        for n, (source, target) in enumerate(pairs):
            memory, logits = model(source, target)
            expected |= {f"source.{n}": source, f"target.{n}": target}
            expected |= {f"memory.{n}": memory.detach().clone(), f"logits.{n}": logits.detach().clone()}
            error = max(error, float((single[n] - logits.detach()).abs().max()))
        loss = loss_of(model, pairs, smoothing)
        loss.backward()
        expected["loss"] = loss.detach().reshape(1)
        gradients = by_name(model, ((name, p.grad) for name, p in model.named_parameters()))
        expected |= {f"gradient.{name}": tensor for name, tensor in gradients.items()}
        expected["losses"] = train(model, pairs, smoothing)
        save_file(expected, out / "expected.safetensors")
        losses = [float(loss) for loss in expected["losses"]]
        print(json.dumps({"model": kind, "loss": losses[0], "last": losses[-1], "pytorch_f32_max_error": error}))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    main()
