"""The workloads: which ids, in which shapes, and how they are padded for a peer."""

import numpy as np

SHAPES = ["1x16", "1x128", "32x128", "8x512"]
MIXED = list(range(8, 257, 8))  # 32 lengths, 4,224 tokens; 8,192 when padded


class Case:
    """One workload: the lengths of its sequences and the padded batches a peer runs.

    `name` is BATCHxLENGTH, `mixed` or `mixed-alone`. The id of the i-th real token,
    counted over all sequences, is 1000 + 7919 i mod 20000; Ferrite's program makes
    the same ones.
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


def calibration(masked, batches=64):
    """Batches to choose int8 scales by: random ids of the range of `Case`, [2, length] each.

    The lengths run from 16 to 512: attention spreads over the tokens there are, so scales from one
    length clip the attention of a shorter text. With `masked` the second sequence has a random
    length; each batch is what a peer's model takes: [ids] or [ids, mask].
    """
    random = np.random.default_rng(0)
    for number in range(batches):
        length = 16 << number % 6
        ids = 1000 + random.integers(0, 20000, (2, length))
        mask = np.arange(length) < np.array([[length], [random.integers(8, length)]])
        yield [ids * mask, mask.astype(np.int64)] if masked else [ids]
