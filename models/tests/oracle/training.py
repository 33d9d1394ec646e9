"""Write what PyTorch computes when it trains the small BERT of `a-pretraining`.

    python training.py [DIR]        (default: the directory of this script)

Reads DIR/a-pretraining and writes DIR/a-pretraining/training.safetensors: the losses and
every gradient of one batch, in f64, and the losses of twenty steps of AdamW in f32's range,
computed in f64; the same for a classifier of sequences. Dropout is off. README.md has the names.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForPreTraining, BertForSequenceClassification

SEQUENCES = range(11)
IGNORED = -100
MASK, OTHER = 4, 20
LABELS = 3
STEPS = 20
PEAK = 1e-3
WARMUP = 5


def batch(expected):
    """The sequences of the dump, some tokens masked: a list of (ids, types, labels, next)."""
    generator = torch.Generator().manual_seed(7)
    rows = []
    for n in SEQUENCES:
        ids, types = expected[f"ids.{n}"].clone(), expected[f"type_ids.{n}"]
        # PyTorch keeps the row of [PAD] as it is, which here is a token like others: use another.
        ids[ids == 0] = OTHER
        labels = torch.full_like(ids, IGNORED)
        count = max(1, round(0.3 * len(ids)))
        chosen = torch.randperm(len(ids), generator=generator)[:count]
        labels[chosen] = ids[chosen]
        ids[chosen[: max(1, count - 1)]] = MASK
        following = torch.randint(2, (), generator=generator)
        rows.append((ids, types, labels, following))
    return rows


def pretraining_loss(model, rows):
    """The mean over all masked words plus the mean over all pairs; no padding."""
    words = sum(int((labels != IGNORED).sum()) for _, _, labels, _ in rows)
    masked, following = 0.0, 0.0
    for ids, types, labels, target in rows:
        out = model(input_ids=ids[None], token_type_ids=types[None])
        cross_entropy = torch.nn.functional.cross_entropy
        logits = out.prediction_logits[0]
        masked = masked + cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        following = following + cross_entropy(out.seq_relationship_logits, target[None])
    return masked / words, following / len(rows)


def classification_loss(model, rows):
    """The mean over all sequences; sequence n has the label n modulo 3."""
    total = 0.0
    for n, (ids, types, _, _) in enumerate(rows):
        logits = model(input_ids=ids[None], token_type_ids=types[None]).logits
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor([n % LABELS]))
    return total / len(rows)


def optimizer_of(model):
    """AdamW as for BERT: no decay of biases and of what a norm scales by."""
    exempt = lambda name: "bias" in name or "LayerNorm" in name
    named = list(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if not exempt(name)], "weight_decay": 0.01},
        {"params": [p for name, p in named if exempt(name)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.999), eps=1e-6)


def train(model, loss_of):
    """The losses of twenty steps: linear warm-up and decay, gradients clipped to a norm of one."""
    optimizer = optimizer_of(model)
    losses = []
    for step in range(STEPS):
        done = step + 1
        rate = done / WARMUP if done < WARMUP else (STEPS - step) / (STEPS - WARMUP + 1)
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(1.0, rate)
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def gradients(model, prefix, out):
    for name, parameter in model.named_parameters():
        name = name.removeprefix("bert.")
        out[f"{prefix}.{name}"] = parameter.grad.detach().clone()


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent) / "a-pretraining"
    rows = batch(load_file(folder / "expected.safetensors"))
    out = {}
    for n, (ids, types, labels, following) in zip(SEQUENCES, rows):
        out[f"ids.{n}"], out[f"type_ids.{n}"] = ids, types.clone()
        out[f"labels.{n}"], out[f"next.{n}"] = labels, following.reshape(1)

    model = BertForPreTraining.from_pretrained(folder, attn_implementation="eager").double().eval()
    masked, following = pretraining_loss(model, rows)
    (masked + following).backward()
    out["loss.masked"], out["loss.next"] = masked.detach().reshape(1), following.detach().reshape(1)
    gradients(model, "gradient", out)
    out["losses"] = train(model, lambda model: sum(pretraining_loss(model, rows)))

    config = BertConfig.from_pretrained(folder, num_labels=LABELS, attn_implementation="eager")
    model = BertForSequenceClassification.from_pretrained(folder, config=config).eval()
    generator = torch.Generator().manual_seed(8)
    for parameter in model.classifier.parameters():
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    out["classifier.weight"] = model.classifier.weight.detach().clone()
    out["classifier.bias"] = model.classifier.bias.detach().clone()
    model = model.double()
    loss = classification_loss(model, rows)
    loss.backward()
    out["classifier.loss"] = loss.detach().reshape(1)
    gradients(model, "classifier.gradient", out)
    out["classifier.losses"] = train(model, lambda model: classification_loss(model, rows))
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "training.safetensors")
    print(json.dumps({"masked": float(masked.detach()), "next": float(following.detach()), "tensors": len(out)}))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
