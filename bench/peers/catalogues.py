"""Write English-German pairs from the message catalogues of installed programs, and a held-out part.

    python catalogues.py OUT [--pairs 25000] [--held-out 0.04] [--packages a,b | --packages ""]

OUT becomes a folder with train.tsv and held-out.tsv, "English, tab, German" a line. Catalogues are the
machine's own (/usr/share/locale/de), and, since a bare machine has few, those of Debian packages, which
`apt-get download` fetches and `dpkg-deb -x` unpacks into a cache folder; nothing is installed. The
messages are their projects', under their licences, and no part of this repository.

What becomes a pair:
- The singular of a message with plurals, and no context; names of languages, places and coins (ISO) are
  none. White space is one space, lines are joined, and the mark of a menu's key (_File, &File) goes.
- Both sides have a word of three letters, 1 to 50 words and at most 400 characters, and are different;
  the longer has at most three times the characters of the shorter and 20 more. Messages with control
  characters or with something like a special token ([SEP]) are left out.
- Of pairs whose English has the same letters in the same order, the first one is kept, in the order of
  the catalogues' names.
- Of all pairs the `--pairs` with the least hashes of these letters are taken, and of those the hash
  says which are held out. So the same catalogues give the same files, and what becomes of a pair does
  not depend on the others.
"""

import argparse
import hashlib
import re
import struct
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

LOCALES = Path("/usr/share/locale")
PACKAGES = [
    "aptitude-common", "coreutils", "dpkg", "e2fsprogs-l10n", "gcc-12-locales", "gettext", "git",
    "gnucash-common", "gnumeric-common", "gnupg-l10n", "libc-l10n", "libvirt-l10n", "subversion",
    "util-linux-locales",
]
WORD = re.compile(r"[^\W\d_]{3}")
NOT_LETTERS = re.compile(r"[\W\d_]+")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
SPECIAL = re.compile(r"\[(PAD|UNK|CLS|SEP|MASK)\]", re.IGNORECASE)
KEY_MARK = {mark: re.compile(rf"[^{mark}]*{mark}\w[^{mark}]*") for mark in "_&"}
LABEL = re.compile(r"[\w\s&.,…:?()/-]*")
MAX_WORDS, MAX_CHARACTERS = 50, 400


def fetched(packages, cache):
    """The folder with the files of these packages, which are fetched unless they are there."""
    for package in packages:
        unpacked = cache / "unpacked" / package
        if unpacked.exists():
            continue
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            done = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True)
            found = list(Path(folder).glob("*.deb"))
            if done.returncode or len(found) != 1:
                raise SystemExit(f"{package} cannot be fetched: {done.stderr.strip()}")
            files = Path(folder) / "files"
            subprocess.run(["dpkg-deb", "-x", found[0], files], check=True)
            unpacked.parent.mkdir(exist_ok=True)
            files.rename(unpacked)
    return [cache / "unpacked" / package for package in packages]


def catalogues(roots):
    """{name: path} of the German catalogues under some folders; of a name that comes twice, the first."""
    found = {}
    for root in roots:
        for path in sorted(root.glob("**/de/LC_MESSAGES/*.mo")):
            if not re.match(r"iso[_-]?\d", path.stem):
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def messages(path):
    """(message, translation) of a catalogue, the singular of those with plurals.

    The format is in the manual of GNU gettext, "The Format of GNU MO Files".
    """
    data = path.read_bytes()
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(data[:4])
    if order is None:
        raise SystemExit(f"{path}: not a catalogue")
    count, *tables = struct.unpack_from(f"{order}3I", data, 8)

    def text(table, number):
        length, start = struct.unpack_from(f"{order}2I", data, table + 8 * number)
        return data[start:start + length]

    both = [tuple(text(table, number) for table in tables) for number in range(count)]
    header = next((target for source, target in both if not source), b"")
    charset = re.search(rb"charset=([\w-]+)", header)
    charset = charset[1].decode() if charset else "utf-8"
    for source, target in both:
        if source:
            source, target = (side.split(b"\0")[0].decode(charset, "replace") for side in (source, target))
            yield source.split("\x04")[-1], target


def without_key_mark(source, target):
    """A menu's label without the mark before the letter that chooses it."""
    for mark, once in KEY_MARK.items():
        if LABEL.fullmatch(source) and once.fullmatch(source) and once.fullmatch(target):
            return source.replace(mark, ""), target.replace(mark, "")
    return source, target


def letters(text):
    """What pairs are told apart by."""
    return NOT_LETTERS.sub(" ", text.casefold()).strip()


def cleaned(source, target):
    """Both sides as they are written, or why they are no pair."""
    if CONTROL.search(source + target) or SPECIAL.search(source + target):
        return None, "control characters or special tokens"
    source, target = (" ".join(side.split()) for side in (source, target))
    source, target = without_key_mark(source, target)
    if not WORD.search(source) or not WORD.search(target):
        return None, "no word"
    if letters(source) == letters(target):
        return None, "the same on both sides"
    if max(len(side.split()) for side in (source, target)) > MAX_WORDS:
        return None, "too many words"
    shorter, longer = sorted((len(source), len(target)))
    if longer > MAX_CHARACTERS:
        return None, "too many characters"
    if longer > 3 * shorter + 20:
        return None, "lengths that do not fit"
    return (source, target), None


def fraction(text):
    """A number from 0 to 1 that follows from a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=25_000)
    parser.add_argument("--held-out", type=float, default=0.04)
    parser.add_argument("--packages", default=",".join(PACKAGES))
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "ferrite-catalogues")
    arguments = parser.parse_args()
    packages = fetched([name for name in arguments.packages.split(",") if name], arguments.cache)
    kept, refused, sizes = {}, Counter(), Counter()
    for name, path in catalogues([LOCALES, *packages]).items():
        for source, target in messages(path):
            pair, fault = cleaned(source, target)
            if pair is None:
                refused[fault] += 1
            elif letters(pair[0]) in kept:
                refused["seen before"] += 1
            else:
                kept[letters(pair[0])] = pair
                sizes[name] += 1
    chosen = sorted(kept, key=fraction)[:arguments.pairs]
    # The hash that chose them is small; the part is one of another text.
    held_out = {key for key in chosen if fraction(f"part {key}") < arguments.held_out}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, keys in (("train", [key for key in chosen if key not in held_out]),
                       ("held-out", [key for key in chosen if key in held_out])):
        lines = ["\t".join(kept[key]) + "\n" for key in keys]
        (arguments.out / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
        print(f"{name}: {len(lines)} pairs")
    print("pairs of", ", ".join(f"{name} {count}" for name, count in sizes.most_common()))
    print("left out:", ", ".join(f"{fault} {count}" for fault, count in refused.most_common()))


if __name__ == "__main__":
    main()
