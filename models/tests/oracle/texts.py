"""Print the 1,000 texts of the MiniLM comparison, one `{"text": ...}` a line.

    python texts.py > texts.jsonl

The same texts on every run and every Python, since the random numbers come from
the generator below (which characters are escaped in the file depends on Python's
Unicode version). The texts are made to be awkward, not to be read.
"""

import json
import sys
import unicodedata

COUNT = 1000


class Random:
    """SplitMix64: a few lines, and the same numbers everywhere."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        """A number in 0..n."""
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return (z ^ (z >> 31)) % n

    def between(self, low, high):
        """A number in low..=high."""
        return low + self.below(high - low + 1)

    def pick(self, items):
        """One of `items`."""
        return items[self.below(len(items))]

    def some(self, items, low, high):
        """A list of low..=high of `items`, repetitions allowed."""
        return [self.pick(items) for _ in range(self.between(low, high))]


# Words by script. Latin ones with and without accents, composed as typed here.
WORDS = {
    "english": """time window harbour kettle lantern museum quietly running forgotten engineers breakfast
        seventeen mountain carefully electricity because through without photosynthesis neighbour's
        unbelievable queue rhythm strengths yesterday's moon paper bicycle orchestra and the of a in""".split(),
    "french": "été déjà garçon cœur naïve où hôtel Noël façade l'œuvre être aiguë ça".split(),
    "german": "Straße über Mädchen Größe schön Fußgängerübergang Äpfel Öl Rindfleischetikett".split(),
    "spanish": "niño ¿dónde? ¡claro! pingüino mañana corazón señorita árbol".split(),
    "polish": "zażółć gęślą jaźń łódź źdźbło święto pięć".split(),
    "czech": "příliš žluťoučký kůň řeka šťastný měsíc".split(),
    "turkish": "İstanbul ığdır çiçek şeker güneş IŞIK öğrenci".split(),
    "vietnamese": "tiếng Việt người được những phố nước cà phê trời".split(),
    "icelandic": "þjóð ævintýri veður Ísland öxl ðú".split(),
    "greek": "καλημέρα θάλασσα ΟΔΟΣ φιλοσοφία ψυχή ἄνθρωπος ᾠδή ημέρα".split(),
    "russian": "привет ёлка подъезд Москва счастье ещё щука объявление".split(),
    "ukrainian": "їжак ґанок Київ п'ять єдність".split(),
    "arabic": "السلام كتاب مدرسة العَرَبِيَّة شمس لا إله قهوة".split(),
    "persian": "می‌خواهم گربه چای پنجره ژاله".split(),
    "hebrew": "שלום סֵפֶר ירושלים מים לחם".split(),
    "hindi": "नमस्ते किताब हिन्दी क्षत्रिय ज्ञान पानी शक्ति".split(),
    "bengali": "বাংলা নদী আকাশ বিজ্ঞান".split(),
    "tamil": "தமிழ் மழை வணக்கம் நூல்".split(),
    "thai": "สวัสดี น้ำ ภาษาไทย กรุงเทพ ฝนตกหนัก".split(),
    "georgian": "გამარჯობა მთა თბილისი წყალი".split(),
    "armenian": "բարեւ արեւ Երեւան գիրք".split(),
    "amharic": "ሰላም ውሃ ፀሐይ መጽሐፍ".split(),
    "chinese": "你好 世界 图书馆 電腦 春天来了 龍 我们在学习 北京".split(),
    "japanese": "こんにちは カタカナ 東京タワー 食べる ﾊﾝｶｸ がぎぐげご 雨が降る".split(),
    "korean": "안녕하세요 도서관 서울 물 읽었다 각".split(),
}

# Made-up words are put together of these; they reach pieces all over the vocabulary.
STARTS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kn l m n p ph pl pr qu r s sc sh sl sp st str t th tr v w y z".split()
MIDDLES = "a e i o u ai au ea ee ie oa oo ou y ar er ir or ur".split()
ENDS = " b ck d ft g l ll m n nd ng nt p r rd s ss st t tion x ment able ous ly ism ing ed est ity ology ville berg".split(" ")

EMOJI = "😀 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 🇯🇵 ❤️ 🧑🏿‍🚀 ☕ 1️⃣ 🤷‍♀️ ✈︎ 🫠".split()
PUNCTUATION = list(".,;:!?-–—…'\"()[]{}<>/\\|@#$%^&*_+=~`«»“”‘’„¿¡§¶†•′″‹›、。「」！？（）・،؛؟।॥")
SYMBOLS = list("€£¥₹₿©®™°±×÷≤≥≠∞∑√∫∂∈∀∃→←⇒⌘☃★♫½¾²³⁴₂ⅣⅷαΩµ") + ["№", "℃", "ﬁ", "ﬀ", "ǆ", "㎏", "①"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u2009", "\u3000", "\u202f", "\u1680", "\u2028", "\u0085"]
CONTROLS = ["\x00", "\x01", "\x07", "\x1b[0m", "\x7f", "\x9f", "\u200b", "\u200d", "\u200e", "\u202e", "\u2060",
            "\ufeff", "\u00ad", "\ufffd", "\ue000", "\U000e0041", "\x1f", "\x0b", "\x0c"]
MARKS = ["\u0301", "\u0308", "\u0327", "\u0323", "\u20dd", "\u0303", "\u0338", "\u3099"]
SPECIALS = ["[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[mask]", "[ MASK ]", "[MASK", "MASK]", "##ing", "[unused1]"]
CODE = [
    "fn main() { println!(\"{}\", 1 << 7); }",
    "for (int i = 0; i < n; ++i) a[i] += b[i] * 0x1F;",
    "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name;",
    "if (x != null && !y.isEmpty()) { return x->z; }",
    "<div class=\"box\"><a href='#top'>&nbsp;up</a></div>",
    "{\"key\": [1, 2.5e-3, null, true], \"k2\": \"\\u00e9\"}",
    "let re = /^[a-z_][\\w-]{2,31}$/i;",
    "grep -rn --include='*.rs' 'unsafe' src | wc -l",
    "E = m·c², a² + b² = c²; \\frac{\\partial f}{\\partial x}",
    "def area(r): return 3.14159 * r ** 2  # circle",
    "snake_case camelCase kebab-case SCREAMING_CASE T::<'a>",
]
HOSTS = ["example.org", "www.example.com", "sub.domain.test", "localhost:8080", "192.0.2.17", "bücher.example"]
# Blocks to draw code points from, assigned since long.
BLOCKS = [(0x21, 0x7E), (0xA1, 0xFF), (0x100, 0x17F), (0x1E00, 0x1EF9), (0x391, 0x3C9), (0x410, 0x44F),
          (0x5D0, 0x5EA), (0x621, 0x64A), (0x905, 0x939), (0xE01, 0xE30), (0x10A0, 0x10C5), (0x13A0, 0x13F4),
          (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2460, 0x24FF), (0x2500, 0x257F), (0x3041, 0x3096),
          (0x30A1, 0x30FA), (0x4E00, 0x9FA5), (0x3400, 0x4DB5), (0xAC00, 0xD7A3), (0xF900, 0xFA2D),
          (0xFF01, 0xFF9D), (0x10330, 0x1034A), (0x1D400, 0x1D454), (0x1F300, 0x1F5FF), (0x20000, 0x2A6D6)]


def nothing(random):
    """No token at all, or hardly one: spaces, controls, marks without a letter."""
    return "".join(random.some(random.pick([SPACES, CONTROLS, MARKS]), 1, 6))


def one_character(random):
    """A single character of any block."""
    return chr(random.between(*random.pick(BLOCKS)))


def in_one_script(random):
    """Words of one script."""
    return " ".join(random.some(WORDS[random.pick(list(WORDS))], 1, 14))


def in_many_scripts(random):
    """A word each of several scripts, with spaces of all kinds between, or none."""
    words = [random.pick(WORDS[random.pick(list(WORDS))]) for _ in range(random.between(2, 12))]
    return "".join(word + random.pick(SPACES + [" "] * 8 + ["", ""]) for word in words)


def sentence(random):
    """English words with punctuation and capitals."""
    words = random.some(WORDS["english"], 3, 30)
    text = " ".join(w.upper() if random.below(9) == 0 else w + random.pick(["", "", "", ",", ";"]) for w in words)
    return text[:1].upper() + text[1:] + random.pick([".", "!", "?", "...", "?!", ""])


def made_up_words(random):
    """Words of one to three syllables that no dictionary has, and some that it has."""
    syllable = lambda: random.pick(STARTS) + random.pick(MIDDLES) + random.pick(ENDS)
    words = ["".join(syllable() for _ in range(random.between(1, 3))) for _ in range(random.between(1, 25))]
    return " ".join(w.capitalize() if random.below(5) == 0 else w for w in words)


def emoji(random):
    """Emoji, joined ones and flags among them, alone or after words."""
    return random.pick(["", " "]).join(random.some(EMOJI + WORDS["english"], 1, 10) + [random.pick(EMOJI)])


def punctuation(random):
    """Runs of punctuation and symbols."""
    return random.pick(["", " "]).join(random.some(PUNCTUATION + SYMBOLS, 1, 20))


def marked(random):
    """Letters with combining marks piled on, or words in decomposed form."""
    if random.below(2):
        words = random.some([w for script in WORDS.values() for w in script], 1, 8)
        return unicodedata.normalize("NFD", " ".join(words))
    return "".join(letter + "".join(random.some(MARKS, 0, 3)) for letter in random.some("aeiouncsAEOÅがк", 1, 15))


def with_controls(random):
    """Words with control and invisible characters inside and between."""
    words = random.some(WORDS["english"] + WORDS["french"], 1, 8)
    return "".join(w[: len(w) // 2] + random.pick(CONTROLS) + w[len(w) // 2 :] + random.pick(SPACES) for w in words)


def number(random):
    """Numbers as people write them, in several digit systems."""
    digits = "".join(str(random.below(10)) for _ in range(random.between(1, 12)))
    forms = [digits, f"{digits[:3]}.{digits[3:]}", f"-{digits}%", f"1,{digits}", f"€{digits}.99", f"{digits}e-{digits[:2]}",
             f"2{digits[:3]}-0{digits[:1]}-17T12:30:00Z", f"0x{int(digits):x}", f"+49 ({digits[:3]}) {digits[3:]}"]
    zero = random.pick([0x30] * 4 + [0x660, 0x966, 0xE50, 0xFF10, 0x1D7D8])
    text = " ".join(random.some(forms, 1, 5))
    return "".join(chr(zero + ord(c) - 0x30) if "0" <= c <= "9" else c for c in text)


def url(random):
    """An address, a mail address or a path, often within words."""
    host = random.pick(HOSTS)
    path = "/".join(random.some(WORDS["english"] + WORDS["german"] + ["%20x", "a.b", "~me"], 1, 5))
    forms = [f"https://{host}/{path}?q={number(random)}&x=#top", f"{random.pick(WORDS['english'])}.x+y@{host}",
             f"C:\\{path}\\file.txt", f"/usr/{path}.tar.gz", f"git@{host}:{path}.git"]
    return " ".join(random.some(WORDS["english"], 0, 4) + [random.pick(forms)])


def code(random):
    """Lines of program text."""
    return "\n    ".join(random.some(CODE, 1, 3))


def special_tokens(random):
    """Special tokens, and what looks like them, in the text."""
    return random.pick(["", " ", " "]).join(random.some(SPECIALS + WORDS["english"], 1, 10))


def repeated(random):
    """One word or character many times."""
    word = random.pick(WORDS["english"] + WORDS["chinese"] + EMOJI + ["a", "!", "é", "##", "un"])
    return random.pick(["", " "]).join([word] * random.between(2, 60))


def long_word(random):
    """A word around the 100 characters beyond which it becomes unknown."""
    length = random.pick([20, 50, 99, 100, 101, 150, 400])
    alphabet = random.pick(["abcdefgh", "é", "щы", "ก", "xyz123", "ß", "İ"])
    word = "".join(random.some(alphabet, length, length))
    return " ".join(random.some(WORDS["english"], 0, 3) + [word] + random.some(WORDS["english"], 0, 3))


def random_characters(random):
    """Characters of one block, or of all blocks mixed."""
    block = random.pick(BLOCKS)
    draw = (lambda: chr(random.between(*block))) if random.below(2) else (lambda: one_character(random))
    return "".join(draw() + (" " if random.below(6) == 0 else "") for _ in range(random.between(2, 40)))


def near_the_limit(random):
    """English of about 240 to 275 tokens: the limit is 256 with the two special tokens."""
    return " ".join(random.some(["moon", "paper", "time", "the", "of", "and", "in", "window"], 240, 275))


def beyond_the_limit(random):
    """Anything, over and over, until it is far too long; where it stops differs."""
    parts, length, goal = [], 0, random.between(900, 2200)
    kinds = random.some(SHORT, 1, 3)
    while length < goal:
        parts.append(random.pick(kinds)(random))
        length += len(parts[-1].encode()) + 1
    return " ".join(parts)


SHORT = [in_one_script, made_up_words, in_many_scripts, sentence, emoji, punctuation, marked, with_controls, number, url,
         code, special_tokens, random_characters]
# How often each kind appears in 100.
SHARES = [(nothing, 4), (one_character, 5), (in_one_script, 12), (made_up_words, 6), (in_many_scripts, 8),
          (sentence, 7), (emoji, 5), (punctuation, 4), (marked, 5), (with_controls, 4), (number, 5), (url, 4), (code, 3), (special_tokens, 4),
          (repeated, 4), (long_word, 3), (random_characters, 4), (near_the_limit, 4), (beyond_the_limit, 9)]
FIXED = ["", " ", "\n", "\t \r\n", "\u3000", "\x00", "\u200b", "\u0301", "[MASK]", "[CLS]", "[SEP]", "a", "A", "é",
         "e\u0301", "ß", "İ", "ﬁ", "中", "한", "ก", "😀", "👩‍👩‍👧‍👦", ".", "##", "1", "\ufffd", "The cat sat on the mat."]


def texts():
    """The list of all texts: FIXED, then the kinds in turn."""
    random = Random(2018)
    kinds = [kind for kind, share in SHARES for _ in range(share)]
    assert len(kinds) == 100
    made = [kinds[n % 100](random) for n in range(COUNT - len(FIXED))]
    return FIXED + made


def as_json(text):
    """JSON with letters as they are, and `\\u` escapes for what a reader or an editor could not show."""
    hidden = "Cc Cf Co Cn Zl Zp Zs Mn Me".split()
    plain = lambda c: c == " " or unicodedata.category(c) not in hidden
    body = "".join(c if plain(c) and c not in '"\\' else json.dumps(c)[1:-1] for c in text)
    return '{"text": "' + body + '"}'


def main():
    """Print the texts; each line reads back as the text it was made from."""
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for text in texts():
        line = as_json(text)
        assert json.loads(line) == {"text": text} and "\n" not in line
        print(line)


if __name__ == "__main__":
    main()
