"""Write what sacreBLEU says of made-up translations.

    python bleu.py > bleu.json

Needs sacrebleu and nothing else of `requirements.txt`. The same file on every
run: the texts come from the generator of `texts.py`, and are awkward as those are. README.md
has the names.
"""

import json
import logging
import sys
import unicodedata

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.version import __version__

import texts

TOKENIZED = 330
CORPORA = 48
SENTENCES = 140
# What `str.split` takes for a space. Four of them are none to Unicode: U+001C to U+001F.
SPACES = [" "] * 60 + ["  ", "\t", "\n", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0",
                       "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff"]
# What the rules of the tokenizer are about.
SPECIAL = ["&amp;", "&quot;", "&lt;", "&gt;", "&amp;lt;", "&amp;amp;quot;", "&nbsp;", "&", "<skipped>", "<skip<skipped>ped>",
           "-\n", "--\n", "1-\n2", "...", "..", ",.,", ".,", "a.b", ".5", "5.", "1.2.3", "1,000.50", "3.14,", "$5.00.",
           "1-2", "1-", "-1", "1--2", "2-3-4", "x-1", "1-x", "U.S.A.", "e.g.,", "don't", "'quoted'", "\"so\"", "(hi)",
           "[x]", "a/b", "a\\b", "^", "_", "`", "~", "{}", "|", "*", "+", "=", "<>", "?!", "#1", "100%", "@me", ":-)",
           "٣.٤", "１,２", "1．2", "½.", "²-", "'", "!", "(", ")", ".", ",", "-", "a\x00.", "\x7f-", "e\u0301.", "\u0301,"]
# Cases by more than the table of one letter to one: final sigma, dotted I, sharp s, ligatures.
CASED = ["ΟΔΟΣ", "ΣΑΣ", "Σ", "ΑΣ.", "ΑΣ'", "İSTANBUL", "I", "STRASSE", "STRAẞE", "ÀÉÎ", "DŽ", "ЁЛКА", "ﬁ", "ΌΣΟΣ", "K"]
# References of equal worth: of the first two nothing matches, of the next two as much.
EQUALS = [("abc def", ["12 34 5", "6"]), ("ghi", ["7", "89 10"]), ("the cat", ["the dog", "the pig"]), ("a b", ["a b"])]


def word(random):
    """A word of some script, a mark, a number, an emoji, or one of the special ones."""
    kind = random.below(20)
    if kind < 9:
        return random.pick(texts.WORDS[random.pick(list(texts.WORDS))])
    if kind < 12:
        return random.pick(texts.WORDS["english"]) + random.pick([".", ",", "!", "-", "'s", ")", ":", "..", ""])
    if kind < 17:
        return random.pick(SPECIAL)
    if kind < 18:
        return random.pick(CASED)
    return random.pick([texts.number, texts.marked, texts.punctuation, texts.emoji])(random)[:20]


def line(random):
    """Words with spaces of all kinds between and around them."""
    words = random.some([word(random) for _ in range(8)], 0, 9)
    inside = "".join(w + random.pick(SPACES + ["", "", ""]) for w in words)
    return random.pick([""] * 8 + SPACES) + inside


def text(random):
    """What is tokenized alone: lines, and texts as `texts.py` makes them."""
    kinds = [line] * 12 + [texts.nothing, texts.one_character, texts.url, texts.code, texts.with_controls,
                           texts.random_characters, texts.sentence, texts.number]
    return random.pick(kinds)(random)[:90]


def translation(random, reference, changes):
    """The reference with words changed, moved, left out, added or in capitals; or the same, another, nothing."""
    kind = random.below(24)
    if kind < 2:
        return reference
    if kind < 3:
        return line(random)
    if kind < 4:
        return random.pick(["", " ", "\x1f", "."])
    words = reference.split(" ")
    for _ in range(random.between(0, changes)):
        at = random.below(len(words) + 1)
        change = random.below(5)
        if change == 0:
            words.insert(at, word(random))
        elif at < len(words):
            if change == 1:
                words[at] = word(random)
            elif change == 2:
                words.append(words.pop(at))
            elif change == 4:
                words[at] = words[at].upper()
            elif len(words) > 1:
                words.pop(at)
    return " ".join(words)


def longer(random):
    """Words of few kinds, so that some come twice and n-grams of all orders are found."""
    pool = [word(random) for _ in range(random.between(1, 12))]
    return " ".join(random.some(pool, 1, 14))


def pairs(random, count):
    """`count` translations, each with its references."""
    sources = [longer(random) if random.below(12) else line(random) for _ in range(count)]
    references = random.between(1, 3) if random.below(3) == 0 else 1
    ragged = random.below(4) == 0
    changes = random.pick([1, 4, 8, 20, 60])
    made = []
    for source in sources:
        others = random.between(1, 3) if ragged else references
        references_of_it = [source] + [translation(random, source, 4) for _ in range(others - 1)]
        made.append((translation(random, source, changes), references_of_it))
    return made


def corpus(metric, made):
    """The score of translations. Where there are fewer references than elsewhere, None stands for them."""
    most = max(len(references) for _, references in made)
    streams = [[references[n] if n < len(references) else None for _, references in made] for n in range(most)]
    return metric.corpus_score([hypothesis for hypothesis, _ in made], streams)


def options(random):
    """How BLEU is computed: as by default half of the time."""
    if random.below(2) == 0:
        return {}
    smooth = random.pick([{"smooth_method": "none"}, {"smooth_method": "exp"},
                          {"smooth_method": "floor"}, {"smooth_method": "floor", "smooth_value": 0.015},
                          {"smooth_method": "add-k"}, {"smooth_method": "add-k", "smooth_value": 0.375}])
    return smooth | {"lowercase": random.below(2) == 1, "effective_order": random.below(2) == 1}


def bleu(made, arguments):
    """What BLEU says."""
    metric = BLEU(**arguments)
    score = corpus(metric, made)
    signature = str(metric.get_signature())
    found = {"score": score.score, "precisions": score.precisions, "penalty": score.bp,
             "lengths": [score.sys_len, score.ref_len], "text": score.format(signature=signature)}
    # Smoothing adds to the counts themselves.
    if arguments.get("smooth_method") != "add-k":
        found |= {"matches": score.counts, "totals": score.totals}
    return {"options": arguments} | found


def chrf(made, arguments):
    """What chrF says."""
    metric = CHRF(**arguments)
    score = corpus(metric, made)
    return {"options": arguments, "score": score.score, "text": score.format(signature=str(metric.get_signature()))}


def scores(random, made, arguments):
    """Some translations, and what is said of them."""
    variants = [{}, {"word_order": 2}]
    if random.below(3) == 0:
        variants.append({"word_order": random.pick([0, 2]), "lowercase": True, "eps_smoothing": random.below(2) == 1})
    return {"pairs": [[hypothesis, *references] for hypothesis, references in made],
            "bleu": bleu(made, arguments), "chrf": [chrf(made, variant) for variant in variants]}


def as_json(case):
    """JSON with letters as they are, and `\\u` escapes for what a reader or an editor could not show."""
    hidden = "Cc Cf Co Cn Zl Zp Zs Mn Me".split()
    plain = lambda c: c == " " or unicodedata.category(c) not in hidden
    return "".join(c if plain(c) else json.dumps(c)[1:-1] for c in json.dumps(case, ensure_ascii=False))


def main():
    """Print the cases."""
    logging.disable(logging.WARNING)
    random = texts.Random(2018)
    tokenizer = Tokenizer13a()
    # Trailing spaces are cut before, by BLEU itself.
    lines = [""] + SPECIAL + [text(random) for _ in range(TOKENIZED - len(SPECIAL) - 1)]
    tokenized = [[one, tokenizer(one.rstrip())] for one in lines]
    lowered = [[one, one.lower()] for one in CASED]
    corpora = [scores(random, EQUALS, {})]
    for _ in range(CORPORA):
        made = pairs(random, random.between(1, 8))
        corpora.append(scores(random, made, options(random)))
    sentences = []
    for _ in range(SENTENCES):
        sentences.append(scores(random, pairs(random, 1), {"effective_order": True}))
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    parts = {"tokenized": tokenized, "lowered": lowered, "corpora": corpora, "sentences": sentences}
    print('{"version": ' + json.dumps(__version__), end="")
    for name, cases in parts.items():
        print(f',\n"{name}": [\n' + ",\n".join(map(as_json, cases)) + "\n]", end="")
    print("}")


if __name__ == "__main__":
    main()
