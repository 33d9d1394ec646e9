"""Write the prose of the books that come with the Rust toolchain as a corpus for pre-training.

    python rust_docs.py OUT.txt       (the toolchain's component rust-docs has to be installed)

A paragraph a line, a page a document. A paragraph that was there before is left out: pages share
their headers and notes. The text is the Rust project's, and is not part of this repository.
"""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

BOOKS = ["book", "reference", "nomicon", "rust-by-example", "cargo", "rustc", "embedded-book",
         "edition-guide", "rustdoc", "clippy"]
BLOCKS = {"p", "li", "h1", "h2", "h3", "h4", "td"}
SKIPPED = {"script", "style", "pre", "nav"}


class Prose(HTMLParser):
    """The paragraphs inside <main>."""

    def __init__(self):
        super().__init__()
        self.paragraphs, self.text, self.in_main, self.skipped = [], "", False, 0

    def handle_starttag(self, tag, attributes):
        self.in_main |= tag == "main"
        self.skipped += tag in SKIPPED
        if tag in BLOCKS:
            self.flush()

    def handle_endtag(self, tag):
        self.skipped -= tag in SKIPPED
        if tag in BLOCKS or tag == "main":
            self.flush()
        self.in_main &= tag != "main"

    def handle_data(self, data):
        if self.in_main and not self.skipped:
            self.text += data

    def flush(self):
        text, self.text = " ".join(self.text.split()), ""
        if text:
            self.paragraphs.append(text)


def main():
    root = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True)
    html = Path(root.stdout.strip()) / "share/doc/rust/html"
    seen, documents = set(), 0
    with open(sys.argv[1], "w") as out:
        for book in BOOKS:
            for page in sorted((html / book).rglob("*.html")):
                old = any("edition" in part for part in page.relative_to(html / book).parts)
                if page.name in ("print.html", "toc.html", "404.html") or old and book == "book":
                    continue
                prose = Prose()
                prose.feed(page.read_text(errors="replace"))
                fresh = [p for p in prose.paragraphs if len(p) > 20 and p not in seen]
                seen.update(fresh)
                if len(fresh) >= 3:
                    out.write("\n".join(fresh) + "\n\n")
                    documents += 1
    print(f"{documents} documents, {Path(sys.argv[1]).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
