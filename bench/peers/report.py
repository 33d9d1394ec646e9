"""The report as Markdown: one table per model and precision, made from the JSON alone."""

import statistics

from system import PRECISIONS
from turns import quiet


def markdown(report):
    """All of a report: what it was measured on, each model's tables, and what ran in them."""
    machine, versions = report["machine"], report["versions"]
    lines = [
        f"# {machine['cpu']}, {report['date']}",
        "",
        f"{machine['cpus']} processors, family {machine['family']}, model {machine['model']}, "
        f"stepping {machine['stepping']}, flags {', '.join(machine['flags'])}; {machine['threads']} threads.",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in versions.items() if number) + ".",
        "",
        "Median in ms (minimum) and the ratio of the medians to Ferrite's, or to the fastest's without Ferrite.",
        "Figures with more than a few per cent of others' load are worth nothing.",
    ]
    for model, measured in report["models"].items():
        for precision in PRECISIONS:
            lines += times(model, precision, measured["turns"])
        lines += agreement(model, measured["agreement"])
        lines += [f"What {model} ran with, as each system tells:", ""]
        lines += [f"- {key}: {told}" for key, told in measured["evidence"].items()]
        lines.append("")
    return "\n".join(lines)


def times(model, precision, turns):
    """The quiet turns of one model and precision; nothing if no system ran in it."""
    keys = [key for key in next(iter(turns.values())) if key.endswith(" " + precision)]
    if not keys:
        return []
    names = [key.split(" ")[0] for key in keys]
    lines = ["", f"| {model}, {precision} | {' | '.join(names)} | others' load |", "|---" * (len(keys) + 2) + "|"]
    for case, per_system in turns.items():
        counted = {key: quiet(per_system[key]) for key in keys}
        runs = {key: [ms for turn in taken for ms in turn["ms"]] for key, taken in counted.items()}
        medians = {key: statistics.median(ms) for key, ms in runs.items()}
        unit = medians.get(f"ferrite {precision}", min(medians.values()))
        cells = [f"{medians[k]:.2f} ({min(runs[k]):.2f}) x{medians[k] / unit:.2f}" for k in keys]
        load = max(turn["others"] for taken in counted.values() for turn in taken)
        lines.append(f"| {case} | {' | '.join(cells)} | {load:.0%} |")
    return lines


def agreement(model, compared):
    """How near each system's output is to PyTorch's in f32."""
    keys = list(next(iter(compared.values()), {}))
    if not keys:
        return [""]
    lines = ["", f"| {model}, against PyTorch f32 | {' | '.join(compared)} |", "|---" * (len(compared) + 1) + "|"]
    for key in keys:
        cells = [near(key, of_case[key]) for of_case in compared.values()]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return lines + [""]


def near(key, figures):
    """The largest difference for f32; for the others the cosine of a token's two rows, mean (minimum).

    With random weights a largest difference says nothing of bf16 and int8.
    """
    if key.endswith(" f32"):
        return f"{figures['difference']:.1e}"
    return f"{figures['cosine']:.6f} ({figures['least_cosine']:.6f})"
